"""Notebooks by papermill: parameters checked before anything runs, executed copies moved into place only when whole.

There are three kinds. A chapter, notebooks/<paper>/<table>.ipynb, trains what its table lacks; `reid run` executes it.
So does a figure of pictures, notebooks/<paper>/<figure>.ipynb, which is no table of its own: its parameter `table`
names the one whose rows it draws, and it needs only those. A page of the study, notebooks/study/<name>.ipynb, belongs
to no table and trains nothing; `reid book` executes it.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from reidlib import papers, paths
from reidlib.runs import locks
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError

PAGES = "study"
"""The folder of the pages that belong to no table, among the folders of the papers."""


def pages() -> list[str]:
    """The pages of the study, each as "study/<name>"."""
    return [f"{PAGES}/{file.stem}" for file in sorted((paths.home() / "notebooks" / PAGES).glob("*.ipynb"))]


def template(slug: str) -> Path:
    """The notebook of a table, notebooks/<paper>/<table>.ipynb, or of a page of the study."""
    file = paths.home() / "notebooks" / f"{slug}.ipynb"
    if not file.is_file():
        raise ReidError(f"{file}: no notebook for {slug}; `reid list` shows the tables there are")
    return file


def table_of(slug: str) -> str:
    """The table whose records a notebook reads: for a figure of pictures the one that its parameter `table` names.

    A slug without a notebook comes back as it is.
    """
    paper, _, name = slug.partition("/")
    if slug in papers.tables() or not has_template(slug):
        return slug
    return f"{paper}/{_defaults(template(slug)).get('table', name)}"


def pictures() -> dict[str, str]:
    """The figures of pictures, each with the table whose networks it draws."""
    files = sorted((paths.home() / "notebooks").glob("*/*.ipynb"))
    slugs = [f"{file.parent.name}/{file.stem}" for file in files if file.parent.name != PAGES]
    return {slug: table for slug in slugs if (table := table_of(slug)) != slug}


def executed_copy(slug: str, *, source: str, dataset: str, budget: str) -> Path:
    """Where the executed copy of a table's notebook goes."""
    return paths.results() / "notebooks" / source / dataset / budget / f"{slug}.ipynb"


def executed_page(slug: str) -> Path:
    """Where the executed copy of a page of the study goes."""
    return paths.results() / "notebooks" / f"{slug}.ipynb"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def made_from(slug: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """What an executed copy depends on, as it stands now: template, parameters, code, printed numbers, records.

    A figure of pictures is drawn from weights, which are in no checkout: its executed copy may be committed, and
    stands for its template and its records, whatever became of the code since.
    """
    inputs, missing = _all_records() if slug in pages() else _records_of_table(slug, parameters)
    if table_of(slug) == slug:
        inputs += sorted((paths.home() / "reidlib").rglob("*.py")) + sorted((paths.home() / "results").glob("*.tsv"))
    together = hashlib.sha256("".join(digest(file) for file in inputs).encode()).hexdigest()
    return {
        "slug": slug,
        "template_sha256": digest(template(slug)),
        "parameters": parameters,
        "inputs_sha256": together,
        "missing": missing,
    }


def _records_of_table(slug: str, parameters: dict[str, Any]) -> tuple[list[Path], list[str]]:
    """The record files of a notebook's table that are there, and the runs that have no finished one.

    A chapter stands for all rows of its table, a figure for those that it draws.
    """
    asked = {name: parameters[name] for name in ("budget", "dataset", "source", "seeds")}
    again, table = parameters["again"], table_of(slug)
    rows = parameters["rows"] if table != slug else []
    runs = runs_of(table, rows=rows, **asked)
    runs += runs_of(table, rows=again, again=again, **asked) if again else []
    missing = [f"{run.row.label} (seed {run.seed})" for run in runs if run.state() != "finished"]
    return [run.record_file for run in runs if run.record_file.exists()], missing


def _all_records() -> tuple[list[Path], list[str]]:
    """Every record and benchmark, for a page of the study may read any; it says itself which of them it misses."""
    folders = (paths.results() / name for name in ("records", "benchmarks"))
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()), []


def stale(copy: Path) -> str | None:
    """Why this executed copy is not what its template would give today, in words; None where it is current."""
    try:
        made = nbformat.read(copy, as_version=4).metadata["reid"]
        now = made_from(made["slug"], made["parameters"])
    except (OSError, KeyError, ValueError, nbformat.reader.NotJSONError) as fault:
        return f"it does not say what it was made from ({type(fault).__name__})"
    changed = [name.removesuffix("_sha256") for name in now if made.get(name) != now[name]]
    if changed:
        return f"{' and '.join(changed)} changed since it was executed"
    return f"it lacks the record of {now['missing'][0]}" if now["missing"] else None


def check_parameters(file: Path, given: dict[str, Any]) -> None:
    """Holds what is given against the one tagged cell: unknown or unread names stop before anything runs."""
    cells = nbformat.read(file, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ReidError(f"{file}: {len(tagged)} cells are tagged 'parameters'; tag exactly one")
    known = []
    for statement in ast.parse(tagged[0].source).body:
        single = isinstance(statement, ast.Assign) and len(statement.targets) == 1
        if not single or not isinstance(statement.targets[0], ast.Name):
            raise ReidError(f"{file}: parameters cell, line {statement.lineno}: write one plain assignment a line")
        known.append(statement.targets[0].id)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ReidError(f"{file}: unknown parameter {unknown[0]!r}; its parameters are {', '.join(known)}")
    others = "\n".join(
        cell.source for cell in cells if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    )
    read = {node.id for node in ast.walk(ast.parse(others)) if isinstance(node, ast.Name)}
    unread = [name for name in known if name not in read]
    if unread:
        raise ReidError(f"{file}: parameter {unread[0]!r} is never read; remove it or use it")


def has_template(slug: str) -> bool:
    return (paths.home() / "notebooks" / f"{slug}.ipynb").is_file()


def with_defaults(slug: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """All parameters of a notebook: those given, and what stands in it for the others."""
    return {**_defaults(template(slug)), **parameters}


def _defaults(file: Path) -> dict[str, Any]:
    """The literals of the parameters cell."""
    cells = nbformat.read(file, as_version=4).cells
    tagged = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged.source).body}


def execute(slug: str, parameters: dict[str, Any], *, quiet: bool = False) -> Path:
    """Runs the notebook of a table with these parameters and returns its executed copy.

    A copy that is current stays as it is. A failing notebook is kept under failed/ beside the copies and raised as a
    ReidError; the copy from before stays.
    """
    check_parameters(template(slug), parameters)
    parameters = with_defaults(slug, parameters)
    return _up_to_date(_copy_of(slug, parameters), slug, parameters, quiet)


def is_current(slug: str, parameters: dict[str, Any]) -> bool:
    """Whether there is an executed copy with these parameters, made from what is there now."""
    parameters = with_defaults(slug, parameters)
    now = made_from(slug, parameters)
    return not now["missing"] and _was_made_from(_copy_of(slug, parameters)) == now


def _copy_of(slug: str, parameters: dict[str, Any]) -> Path:
    return executed_copy(slug, **{name: parameters[name] for name in ("source", "dataset", "budget")})


def refresh(slug: str, *, source: str, dataset: str, budget: str) -> None:
    """Brings the executed copy of a chapter up to date, with its own parameters, where every record is there.

    Nothing is trained, and pictures are left alone: where a record or a copy is missing, the book says so.
    """
    place = dict(source=source, dataset=dataset, budget=budget)
    made = _was_made_from(executed_copy(slug, **place)) or {}
    parameters = {**_defaults(template(slug)), **place, **made.get("parameters", {})}
    if table_of(slug) == slug and not made_from(slug, parameters)["missing"]:
        execute(slug, parameters, quiet=True)


def execute_page(slug: str, *, quiet: bool = False) -> Path:
    """The same for a page of the study, with the parameters that stand in it."""
    check_parameters(template(slug), {})
    return _up_to_date(executed_page(slug), slug, _defaults(template(slug)), quiet)


def _up_to_date(copy: Path, slug: str, parameters: dict[str, Any], quiet: bool) -> Path:
    """The executed copy, made now unless it is there and stands for the template, the code and the records of today."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ReidError(
            f"{copy.parent}: results folder cannot be written ({fault.strerror}); set REID_RESULTS"
        ) from fault
    # Who comes second waits, and finds the copy of the first; its own kernel would write the same files.
    name = copy.relative_to(paths.results()).with_suffix(".lock")
    with locks.locked(paths.cache() / name, wait=True):
        now = made_from(slug, parameters)
        if not now["missing"] and _was_made_from(copy) == now:
            return copy
        return _executed(copy, slug, parameters, quiet)


def _executed(copy: Path, slug: str, parameters: dict[str, Any], quiet: bool) -> Path:
    """The executed copy, made anew and moved into place when it is whole; a failed one is kept apart."""
    partial, failed = copy.with_suffix(".partial.ipynb"), copy.parent / "failed" / copy.name
    try:
        _papermill(template(slug), partial, parameters, quiet)
    except PapermillExecutionError as fault:
        failed.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(failed)
        reason = f"{fault.ename}: {fault.evalue}" if fault.ename != "ReidError" else fault.evalue
        raise ReidError(f"{reason} (cell {fault.exec_count} of {slug}; the failed notebook is {failed})") from fault
    except (RuntimeError, TimeoutError) as fault:  # nbclient's, where the kernel has died or does not answer
        reason = (str(fault) or type(fault).__name__).splitlines()[0]
        raise ReidError(f"{slug}: its kernel has ended ({reason}); it may have run out of memory") from fault
    notebook = _tidy(nbformat.read(partial, as_version=4))
    notebook.metadata["reid"] = made_from(slug, parameters)  # again, for a chapter has trained what was missing
    nbformat.write(notebook, partial)
    partial.replace(copy)
    failed.unlink(missing_ok=True)
    return copy


def _was_made_from(copy: Path) -> dict[str, Any] | None:
    """What an executed copy says it was made from; None where there is none, or none that can be read."""
    try:
        return nbformat.read(copy, as_version=4).metadata.get("reid")
    except (OSError, ValueError, nbformat.reader.NotJSONError):
        return None


def _papermill(source: Path, target: Path, parameters: dict[str, Any], quiet: bool) -> None:
    # The kernel is this very Python, whatever kernels the person has installed.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    papermill.execute_notebook(
        source,
        target,
        parameters=parameters,
        kernel_name="python3",
        cwd=str(paths.home()),
        progress_bar=False,
        log_output=False,
        stdout_file=None if quiet else sys.stdout,
        stderr_file=None if quiet else sys.stderr,
    )


def _tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook as readers get it."""
    # The defaults of the template did not hold here: only the parameters that did are shown, folded away.
    notebook.cells = [cell for cell in notebook.cells if "parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("hide-input")
    # papermill writes the paths of this machine and its clock into the copy; a reader needs neither.
    notebook.metadata.pop("papermill", None)
    # Nor do the lines of a training help: they name folders of this machine, and the log of the run keeps them.
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stdout"]
    return notebook
