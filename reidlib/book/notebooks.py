"""Execution of notebooks with papermill: parameters are checked first, and an executed copy is replaced as a whole.

- A chapter, `notebooks/<paper>/<table>.ipynb`, shows the records of its table. `reid run` executes it.
- An image figure, `notebooks/<paper>/<figure>.ipynb`, draws images from trained networks, those of the table that its
  parameter `table` names. `reid run` executes it.
- A page of the study, `notebooks/study/<name>.ipynb`, belongs to no table. `reid book` executes it.
- A method, `notebooks/<paper>/method.ipynb`, goes through a paper equation by equation and trains a tiny network
  itself. It reads no record. `reid book` executes it.

A notebook is named by its slug, "paper/table", "study/name" or "paper/method". Training needs neither papermill nor
nbformat.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from reidlib import ROOMS, papers, paths
from reidlib.book import kernel
from reidlib.runs import locks
from reidlib.runs.devices import cores
from reidlib.runs.run import recorded_seeds, runs_of
from reidlib.spec import ReidError

PAGES = "study"  #: the folder of the pages that belong to no table; others in notebooks/ are named after papers
CODE = {".py", ".toml", ".tsv", ".json", ".jinja"}  #: suffixes of the files on which an executed copy depends
FINDS_ITS_MODULES = "reidlib/papers"  #: imports every file of its folder without naming it
METHOD = "method"  #: the name of the notebook in a paper's folder that explains its method
SHOWN_BY_METHODS = {
    *(room for level in ROOMS[: ROOMS.index(("papers",))] for room in level),
    "pages/heatmaps.py",
    "pages/method.py",
}
"""What a method's executed copy depends on: all that a training needs, and what these notebooks share."""


def _slugs(pattern: str) -> list[str]:
    files = sorted((paths.home() / "notebooks").glob(f"{pattern}.ipynb"))
    return [f"{file.parent.name}/{file.stem}" for file in files]


def pages() -> list[str]:
    """The pages of the study, each as "study/<name>"."""
    return _slugs(f"{PAGES}/*")


def methods() -> list[str]:
    """The methods, each as "<paper>/method"."""
    return _slugs(f"*/{METHOD}")


def template(slug: str) -> Path:
    """The notebook of a table, notebooks/<paper>/<table>.ipynb, or of a page of the study."""
    folder = paths.home() / "notebooks"
    if not folder.is_dir():
        raise ReidError(f"{folder} is missing: set REID_HOME to the folder of the checkout")
    file = folder / f"{slug}.ipynb"
    if not file.is_file():
        raise ReidError(f"{file}: no notebook for {slug}; `reid list` shows all tables and figures")
    return file


def has_template(slug: str) -> bool:
    return (paths.home() / "notebooks" / f"{slug}.ipynb").is_file()


def table_of(slug: str) -> str:
    """The table whose records a notebook reads: itself, or the one that an image figure's parameter `table` names."""
    paper, _, name = slug.partition("/")
    if slug in papers.tables() or not has_template(slug):
        return slug
    return f"{paper}/{_defaults(template(slug)).get('table', name)}"


def image_figures() -> dict[str, str]:
    """The slugs of the image figures, each with the table whose networks it draws."""
    slugs = [slug for slug in _slugs("*/*") if not slug.startswith(f"{PAGES}/")]
    return {slug: table for slug in slugs if (table := table_of(slug)) != slug}


def executed_copy(slug: str, *, source: str, dataset: str, budget: str) -> Path:
    """The file of the executed copy of a chapter or an image figure."""
    return paths.results() / "notebooks" / source / dataset / budget / f"{slug}.ipynb"


def copy_of(slug: str, parameters: dict[str, Any]) -> Path:
    """The file of the executed copy of any notebook."""
    if slug in (*pages(), *methods()):
        return paths.results() / "notebooks" / f"{slug}.ipynb"
    return executed_copy(slug, **{name: parameters[name] for name in ("source", "dataset", "budget")})


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def made_from(slug: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """What an executed copy depends on today: template, parameters, code, printed numbers and records.

    An image figure is drawn from weights, which no checkout contains, so its executed copy may be committed: a change
    of the code does not make it stale. `missing`: the runs without a finished record.
    """
    is_method, missing = slug in methods(), []
    if is_method:
        inputs = _inputs_of_method()
    elif slug in pages():  # it may read any record or benchmark, and itself names those it lacks
        folders = (paths.results() / name for name in ("records", "benchmarks"))
        inputs = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
        inputs += [file for name in ("_toc.yml", "CITATION.cff") if (file := paths.home() / name).is_file()]
    else:
        inputs, missing = _records_of_table(slug, parameters)
    if table_of(slug) == slug and not is_method:
        inputs += [*imported(template(slug)), *sorted((paths.home() / "results").glob("*.tsv"))]
    together = hashlib.sha256("".join(digest(file) for file in inputs).encode()).hexdigest()
    parameters = {name: value for name, value in parameters.items() if name != "train"}
    own = dict(slug=slug, template_sha256=digest(template(slug)), parameters=parameters)
    return own | dict(inputs_sha256=together, missing=missing)


def imported(file: Path) -> list[Path]:
    """The files of reidlib that a notebook imports, that those import, and the data in their folders. An import inside
    a function counts, too."""
    code = "\n".join(cell["source"] for cell in _read(file)["cells"] if cell["cell_type"] == "code")
    _parsed(file, code)
    home = paths.home()
    found, left = set[Path](), [*_imports(code, home, home)]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += _imports(one.read_text(encoding="utf-8"), one.parent, home)
            left += one.parent.glob("*.py") if one.parent == home / FINDS_ITS_MODULES else ()
    folders = {one.parent for one in found} - {home / "reidlib"}
    data = (one for folder in folders for one in folder.rglob("*") if one.suffix in CODE - {".py"})
    return sorted({*found, *data})


@cache
def _imports(code: str, folder: Path, home: Path) -> frozenset[Path]:
    """The files of reidlib that this code imports, with those of the packages above them. folder: of the code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder.relative_to(home).parts if node.level else ()
            module = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == "reidlib"]
    places = {home.joinpath(*part[:end]) for part in parts for end in range(1, len(part) + 1)}
    return frozenset(f for one in places for f in (one.with_suffix(".py"), one / "__init__.py") if f.is_file())


def _inputs_of_method() -> list[Path]:
    """The code of a training, and the digest of the weights where networks start."""
    parts = [paths.home() / "reidlib" / name for name in SHOWN_BY_METHODS]
    files = [file for part in parts for file in (part, part.with_suffix(".py"), *part.rglob("*")) if file.is_file()]
    files += (paths.home() / "results" / "start").glob("*.sha256")
    return sorted({file for file in files if file.suffix in {*CODE, ".sha256"}})


def _records_of_table(slug: str, parameters: dict[str, Any]) -> tuple[list[Path], list[str]]:
    """The records that a chapter or a figure shows; its runs without a finished record.

    A chapter also depends on all records of its paper at this budget, whose claims are decided together, and on those
    of the study's own tables (floors).
    """
    asked = {name: parameters[name] for name in ("budget", "dataset", "source", "seeds")}
    again, table = parameters["again"], table_of(slug)
    runs = runs_of(table, rows=parameters["rows"] if table != slug else [], **asked)
    runs += runs_of(table, rows=again, again=again, **asked) if again else []
    missing = [f"{run.row.label} (seed {run.seed})" for run in runs if run.state() != "finished"]
    found = [file for run in runs if (file := run.found_file).exists()]
    if table == slug:
        folder, papers_ = paths.results() / "records" / asked["source"], (slug.partition("/")[0], "standins")
        found += chain.from_iterable(folder.glob(f"*/{asked['budget']}/{paper}/*.json") for paper in papers_)
        found = sorted(set(found))
    return found, missing


def stale(copy: Path) -> str | None:
    """Why this executed copy differs from what its template would give today; None if it does not."""
    try:
        made = _was_made_from(copy) or {}
        now = made_from(made["slug"], made["parameters"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        return f"it does not say what it was made from ({type(error).__name__})"
    changed = [name.removesuffix("_sha256") for name in now if made.get(name) != now[name]]
    return f"{' and '.join(changed)} changed since it was executed" if changed else None


def _read(file: Path) -> dict[str, Any]:
    """A notebook, the source of each cell as one string. Raises ReidError for a file that is missing or holds none."""
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            if not (isinstance(cell["cell_type"], str) and isinstance(_tags(cell), list)):
                raise TypeError("a cell without type or tags")
        if not isinstance(notebook["metadata"], dict):
            raise TypeError("metadata")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{file}: no notebook, or a damaged one ({type(error).__name__}: {error})"
        raise ReidError(f"{what}; restore it, or delete it if it is an executed copy") from None
    return notebook


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def check_parameters(file: Path, given: dict[str, Any]) -> None:
    """Raises ReidError unless the notebook has one parameters cell that knows all given names and reads its own."""
    known = _defaults(file)
    if unknown := sorted(set(given) - set(known)):
        raise ReidError(f"{file}: unknown parameter {unknown[0]!r}; its parameters are {', '.join(known)}")
    cells = [cell for cell in _read(file)["cells"] if cell["cell_type"] == "code" and "parameters" not in _tags(cell)]
    others = "\n".join(cell["source"] for cell in cells)
    read = {node.id for top in _parsed(file, others) for node in ast.walk(top) if isinstance(node, ast.Name)}
    if unread := [name for name in known if name not in read]:
        raise ReidError(f"{file}: parameter {unread[0]!r} is never read; remove it or use it")


def with_defaults(slug: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """All parameters of a notebook: the given ones, and the notebook's own values for the others."""
    return {**_defaults(template(slug)), **parameters}


def _defaults(file: Path) -> dict[str, Any]:
    """The names and values of a notebook's parameters. Raises ReidError unless one cell has them, and nothing else."""
    tagged = [cell for cell in _read(file)["cells"] if "parameters" in _tags(cell)]
    if len(tagged) != 1:
        raise ReidError(f"{file}: {len(tagged)} cells are tagged 'parameters'; tag exactly one")
    found = {}
    for statement in _parsed(file, tagged[0]["source"]):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            raise ReidError(f"{file}: parameters cell, line {statement.lineno}: write one plain assignment a line")
        try:
            found[statement.targets[0].id] = ast.literal_eval(statement.value)
        except (ValueError, TypeError) as error:
            raise ReidError(f"{file}: parameters cell: {error}; write plain values") from None
    return found


def _parsed(file: Path, source: str) -> list[ast.stmt]:
    """The statements of a notebook's code. Raises ReidError where it is no Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise ReidError(f"{file}: its code cannot be read ({error}); restore it") from None


def is_current(slug: str, parameters: dict[str, Any]) -> bool:
    """Whether a copy executed with these parameters exists, nothing has changed since, and nothing is left to train."""
    parameters = with_defaults(slug, parameters)
    now = made_from(slug, parameters)
    trains = now["missing"] and parameters.get("train", True)
    return not trains and _was_made_from(copy_of(slug, parameters)) == now


def refresh(slug: str, *, source: str, dataset: str, budget: str) -> None:
    """Executes a table's chapter, if its copy is not current: all rows and recorded seeds, and the repeats made here.
    Nothing is trained: rows without a record are shown as missing. Image figures stay."""
    if table_of(slug) != slug:
        return
    place: dict[str, Any] = dict(source=source, dataset=dataset, budget=budget)
    seeds = recorded_seeds(slug, **place)
    labels = [row.label for row in papers.table(slug).rows]
    repeated = [run.row.label for run in runs_of(slug, again=labels, seeds=seeds, **place) if run.is_made()]
    parameters = {"train": False, "seeds": seeds, "again": list(dict.fromkeys(repeated))}
    execute(slug, place | parameters, quiet=True)


def refresh_all(chapters: Sequence[Mapping[str, str]]) -> None:
    """Executes the pages of the study, the methods and these chapters (`refresh`) that are not current: one a core. The
    first fault is raised when those that have begun have ended; the others are not begun."""
    # One thread each: kernels on all cores, with threads on all cores each, wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with kernel.termination_raises(), ThreadPoolExecutor(cores()) as pool:
        begun: list[Future] = [pool.submit(execute, slug, {}, quiet=True) for slug in (*methods(), *pages())]
        begun += [pool.submit(refresh, **chapter) for chapter in chapters]
        try:
            for one in begun:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def execute(slug: str, parameters: dict[str, Any], *, quiet: bool = False) -> Path:
    """Executes a notebook with these parameters, unless its executed copy is current, and returns the copy's file. A
    notebook that fails is kept in the folder failed/ beside the copy, which stays as it was; ReidError is raised."""
    check_parameters(template(slug), parameters)
    parameters = with_defaults(slug, parameters)
    copy = copy_of(slug, parameters)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{copy.parent}: results folder cannot be written ({error.strerror})"
        raise ReidError(f"{what}; set REID_RESULTS") from error
    # A second process waits here and then finds the copy of the first: two kernels would write the same files.
    with locks.locked(paths.cache() / copy.relative_to(paths.results()).with_suffix(".lock"), wait=True):
        return copy if is_current(slug, parameters) else _executed(copy, slug, parameters, quiet)


def _executed(copy: Path, slug: str, parameters: dict[str, Any], quiet: bool) -> Path:
    """Executes the notebook and moves the result to `copy` when it is complete."""
    import nbformat
    from papermill.exceptions import PapermillExecutionError

    partial, failed = copy.with_suffix(".partial.ipynb"), copy.parent / "failed" / copy.name
    try:
        kernel.execute(template(slug), partial, parameters, cwd=paths.home(), quiet=quiet)
    except PapermillExecutionError as error:
        failed.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(failed)
        reason = f"{error.ename}: {error.evalue}" if error.ename != "ReidError" else error.evalue
        raise ReidError(f"{reason} (cell {error.exec_count} of {slug}; the failed notebook is {failed})") from error
    except (RuntimeError, TimeoutError) as error:  # from nbclient: the kernel has died or does not answer
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ReidError(f"{slug}: its kernel has ended ({reason}); it may have run out of memory") from error
    notebook = nbformat.read(partial, as_version=4)
    _tidy(notebook, stdout=slug in methods())
    notebook.metadata["reid"] = made_from(slug, parameters)  # computed again: the notebook may have trained a network
    nbformat.write(notebook, partial)
    partial.replace(copy)
    failed.unlink(missing_ok=True)
    return copy


def _was_made_from(copy: Path) -> dict[str, Any] | None:
    """What an executed copy says it was made from; None if it cannot be read or does not say it."""
    with suppress(ReidError):
        made = _read(copy)["metadata"].get("reid")
        if isinstance(made, dict) and isinstance(made.get("slug"), str) and isinstance(made.get("parameters"), dict):
            return made
    return None


def _tidy(notebook: Any, *, stdout: bool) -> None:
    """Removes from an executed notebook, in place, what readers do not need. stdout: whether to keep what it prints."""
    # The template's own values were replaced by the injected ones, which are kept but folded.
    own = [cell for cell in notebook.cells if "parameters" in _tags(cell)]
    is_hidden = any("remove-input" in _tags(cell) for cell in own)
    notebook.cells = [cell for cell in notebook.cells if cell not in own]
    # papermill writes paths of this machine and the time of each cell into the copy.
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if "injected-parameters" in _tags(cell):
            cell.metadata.tags.append("remove-input" if is_hidden else "hide-input")
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                output["data"].pop("image/png", None)  # the same figure
        # Printed lines of a training name folders of this machine; its log keeps them.
        if cell.cell_type == "code" and not stdout:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stdout"]
