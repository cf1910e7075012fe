"""The command line, `reid list | run | train | reproduce | status | clean | …`: each a call or two.

Nothing heavy is imported here: each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import errno
import glob
import importlib.util
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from reidlib import paths
from reidlib.book.kernel import termination_raises
from reidlib.spec import ReidError, check_choice, printable

if TYPE_CHECKING:
    from reidlib.book.chapters import Chapter
    from reidlib.runs.batch import Job, Plan
    from reidlib.runs.devices import Place


class _Parser(argparse.ArgumentParser):
    """Its messages are one printable line after the usage, whatever the words were."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """The whole command line, so that a test can compare the README with it."""
    top = _Parser(prog="reid", description="A reproducibility study of person re-identification.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    budget, dataset, seeds, threads, batch, places, as_json = _shared()

    def command(name: str, run: Callable, help: str, *shared: _Parser) -> Callable:
        line = commands.add_parser(name, help=help, parents=shared)
        line.set_defaults(run=run)
        return line.add_argument

    option = command("list", list_rows, "tables and data sets, or rows of a table, and which have a record", as_json)
    option("table", nargs="?", default="", help="a paper or a table, such as hamr or hamr/table6; default all")

    shared = (budget, dataset, seeds, threads)
    option = command("run", run_table, "train the rows without a record, then execute the notebook", *shared)
    option("table", help="paper and table, such as safenet/table5, or a figure, such as safenet/figure3")
    option("--rows", nargs="+", default=[], metavar="LABEL", help="train only these rows; default all")
    option("--again", nargs="+", default=[], metavar="LABEL", help="train these rows again; compares with the records")

    shared = (budget, dataset, places, threads)
    option = command("train", train_rows, "train and test the rows without a record; no notebook", *shared)
    option("table", help="paper and table, such as safenet/table5")
    option("--row", nargs="+", default=[], metavar="LABEL", help="only these rows; default all")
    option("--variant", help="only this variant of the rows; default all")
    option("--seed", type=_whole, default=0)
    option("--again", action="store_true", help="train rows with a record again; the repeats go into the cache")

    shared = (budget, seeds, batch, places, threads, as_json)
    option = command("reproduce", reproduce, "train all rows without a record, then execute the notebooks", *shared)
    text = "start no run that is not expected to end in this time, and execute no notebooks"
    option("--for", dest="minutes", type=_minutes, metavar="MINUTES", help=text)
    option("--time-limit", type=_minutes, metavar="MINUTES", help="stop a run that reports nothing for so long")
    option("--dry-run", action="store_true", help="show the plan and start nothing")

    option = command("pack", pack, "write the records made here, with their numbers per query, into one file")
    option("file", type=Path, help="the archive, such as records.zip")
    option("--since", metavar="COMMIT", help="the records made since this commit; default all made here")
    option = command("merge", merge, "check the records in an archive of `reid pack` and add them")
    option("file", type=Path, help="the archive")

    shared = (budget, seeds, batch)
    command("status", status, "which runs are done, running, failed or missing, and how to redo each", *shared)
    option = command("clean", clean, "show what is in the cache, or remove some of it")
    option("kinds", nargs="*", metavar="KIND", help="kinds of files that `reid clean` lists, or all")
    option = command("claims", show_claims, "what the records say of each claim of the papers", as_json)
    option("paper", nargs="?", default="", help="such as hamr; default all")
    option("--budget", default="small", help="default small")
    option("--source", default="stand-in", help="stand-in or real (REID_DATA)")
    key = "its file, its key, or the beginning of its key"
    option = command("show", show_record, "print a record: settings, metrics, curve, time and machine")
    option("record", type=Path, help=key)
    option = command("export", export, "write the ResNet-50 of a finished run as the start of other networks")
    option("record", type=Path, help=key)
    option("file", nargs="?", type=Path, help="default: results/start/resnet50.safetensors of the checkout")

    option = command("render", render, "render a stand-in data set")
    option("dataset", help="such as market1501")
    option("--scale", type=_real, default=0.05, help="share of the real training part (1 = published counts)")
    option("--seed", type=_whole, default=0)
    option("--out", type=Path, help="default: the cache, where a budget looks for it")
    option("--workers", type=_whole, help="processes; default one a core")
    option("--device", default="cpu", help="device that renders; default cpu")
    option("--truth", action=argparse.BooleanOptionalAction, default=True, help="write part masks and factors too")
    option("--boxes", help="all boxes tight, detected, or shifted: shift=0.2 (of the box)")
    option("--occlusion", type=_real, metavar="0..1", help="share of people occluded")
    option("--resolution", type=_real, metavar="FACTOR", help="of the images, up to 1")
    option("--same-clothes", type=_real, metavar="SHARE", help="of identities that look alike")

    option = command("data", describe_data, "read a data set, print its split sizes and checks")
    option("dataset", help="such as market1501, cuhk03-np-labeled, cuhk03-classic-detected-01")
    option("--root", type=Path, help="its folder; default: looked for under REID_DATA")
    option("--images", action="store_true", help="read every image file too, and name the first that is damaged")

    option = command("evaluate", evaluate, "score features from files, with or without re-ranking", as_json)
    text = "features (N×D), ids and cameras: .npz, .safetensors, .mat, or .npy beside NAME_ids.npy and NAME_cameras.npy"
    option("query", metavar="QUERY", help=text)
    option("gallery", metavar="GALLERY", nargs="?", help="the same of the gallery, unless one file holds both")
    option("--multi", metavar="MULTI", help="multi-query: a query is the mean of its images here")
    option("--protocol", metavar="NAME", help="rules of the test; default Market-1501's (junk −1, distractor 0)")
    option("--rerank", choices=("k-reciprocal", "ecn"), help="re-rank first; junk takes no part")
    option("--k1", type=_whole, help="k-reciprocal: neighbourhood; default 20")
    option("--k2", type=_whole, help="k-reciprocal: query expansion; default 6")
    option("--lambda", type=_real, dest="lambda_", help="k-reciprocal: share of the old distance; default 0.3")
    option("--k", type=_whole, help="ecn: length of the rank lists; default 25")
    option("--t", type=_whole, help="ecn: first neighbours; default 3")
    option("--q", type=_whole, help="ecn: neighbours of each; default 8")
    option("--distance", choices=("rank-list", "original"), help="ecn: default rank-list")
    option("--metric", choices=("euclidean", "cosine"), help="default euclidean, as given; ecn: cosine")

    command("book", build_book, "execute what changed and needs no training, build the book, check every page")
    return top


def _shared() -> list[_Parser]:
    """The options that several commands have: budget, data set, seeds, threads, batch, places, JSON."""
    all_of_them = [_Parser(add_help=False) for _ in range(7)]
    budget, dataset, seeds, threads, batch, places, as_json = (line.add_argument for line in all_of_them)
    budget("--budget", required=True, help="smoke, small, medium or full")
    budget("--source", default="stand-in", help="stand-in or real (REID_DATA)")
    dataset("--dataset", help="default: the table's first")
    seeds("--seeds", type=_numbers, default=[0], metavar="0,1,2")
    threads("--threads", type=_positive, metavar="N", help="CPU threads of each run; default 1, or a share beside GPUs")
    batch("tables", nargs="*", metavar="PAPER[/TABLE]", help="papers, tables or figures; default all")
    batch("--dataset", nargs="+", default=[], metavar="NAME", help="only these; default all of each table")
    places("--gpus", default="all", help="all (default), or some by number: 0,1")
    places("--per-gpu", type=_positive, metavar="N", help="runs that share a GPU; default: by its memory and the cores")
    places("--at-once", type=_positive, metavar="N", help="at most N runs at once; default: one a core or GPU")
    places("--deterministic", action="store_true", help="the same bits in every run of one machine; slower on a GPU")
    as_json("--json", action="store_true", help="as JSON, for programs (reproduce: the plan, with --dry-run)")
    return all_of_them


def _reader(pattern: str, kind: Callable[[str], Any], wanted: str, most: float = float("inf")) -> Callable[[str], Any]:
    """Reads words of this pattern as numbers up to `most`; of other words argparse says what is wanted instead."""

    def read(text: str) -> Any:
        if re.fullmatch(pattern, text) and kind(text) <= most:
            return kind(text)
        raise argparse.ArgumentTypeError(f"{_short(text)} is not {wanted}")

    return read


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


_WHOLE, _REAL = "[0-9]{1,15}", r"([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})(e-?[0-9]{1,2})?"
_whole = _reader(f"-?{_WHOLE}", int, "a whole number of at most 15 digits; give one such as 7")
_real = _reader(f"-?{_REAL}", float, "a number; give one such as 0.5")
_positive = _reader("0*[1-9][0-9]{0,3}", int, "a whole number from 1 to 1024; give one", 1024)
_minutes = _reader(rf"(?=[0.]*[1-9]){_REAL}", float, "a number of minutes above 0; give one such as 50")


def _numbers(text: str) -> list[int]:
    """Different whole numbers, in their order."""
    if not re.fullmatch(f"-?{_WHOLE}(,-?{_WHOLE})*", text):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a list of whole numbers; give one such as 0,1,2")
    return list(dict.fromkeys(map(int, text.split(","))))


def list_rows(given: argparse.Namespace) -> None:
    from reidlib import papers
    from reidlib.data import cuhk03
    from reidlib.runs.run import columns, overview

    lines = overview(given.table)
    if given.json:
        print(json.dumps(lines, indent=1, ensure_ascii=False))
        return
    shown: dict[tuple[str, ...], list[dict]] = {}  # the words of a line of text -> the states that it sums up
    for line in lines:
        words = [f"{line['paper']}/{line['table']}", cuhk03.all_splits(line["dataset"])]
        if given.table:
            words += [line["row"], line["variant"].replace("as-published", "")]
        shown.setdefault(tuple(words), []).append(line["state"])
    rows, known = [], paths.has_results()
    for words, states in shown.items():
        text = []
        for budget in states[0]:
            found = [state[budget] for state in states]
            done = found[0] if given.table and len(found) == 1 else f"{found.count('finished')}/{len(found)}"
            text.append(f"{budget} {done if known else len(found)}")
        rows.append([*words, "  ".join(text if given.table else [*text, papers.table(words[0]).title])])
    print("\n".join(columns(rows)))
    if not known:
        print("Set REID_HOME to a checkout, or REID_RESULTS, to see which rows have a record.")
    if not paths.checkout():  # figures are notebooks
        return
    from reidlib.book import notebooks

    for figure, table in notebooks.image_figures().items():
        if given.table in ("", figure, figure.partition("/")[0]):
            print(f"{figure}  draws images from networks of {table}")


def run_table(given: argparse.Namespace) -> None:
    from reidlib import papers
    from reidlib.book import notebooks
    from reidlib.runs import engine

    table = papers.table(notebooks.table_of(given.table))
    names = ("budget", "dataset", "source", "seeds", "rows", "again")
    parameters = {name: getattr(given, name) for name in names}
    if table.slug == given.table:
        parameters["dataset"] = given.dataset or table.datasets[0]
    # A figure names its data set and its rows itself: what is not given here is taken from the notebook.
    parameters = {name: value for name, value in parameters.items() if value}
    notebooks.check_parameters(notebooks.template(given.table), parameters)
    wanted = notebooks.with_defaults(given.table, parameters)
    engine.ensure(table.paper, table.name, threads=given.threads, **{name: wanted[name] for name in names})
    print(f"executed notebook: {notebooks.execute(given.table, parameters)}")


def train_rows(given: argparse.Namespace) -> None:
    from reidlib.runs import batch, engine
    from reidlib.runs.run import runs_of

    if given.again and not given.row:
        raise ReidError(f"{given.table}: --again repeats the rows named by --row; give one (`reid list` shows them)")
    asked: dict[str, Any] = dict(budget=given.budget, dataset=given.dataset, source=given.source, seeds=(given.seed,))
    runs = runs_of(given.table, rows=given.row, again=given.row if given.again else (), **asked)
    if given.variant:
        check_choice(given.table, "variant", given.variant, list(dict.fromkeys(run.row.variant for run in runs)))
    missing = []
    for run in (run for run in runs if given.variant in (None, run.row.variant)):
        if run.is_made():
            print(f"finished already: {run.found_file}")
        else:
            missing.append(run)
    if missing:
        engine.train_runs(missing, _found_places(given, batch.jobs_of(missing)), deterministic=given.deterministic)


def _found_places(given: argparse.Namespace, jobs: Sequence[Job]) -> list[Place]:
    from reidlib.runs import batch, devices

    shared = given.per_gpu or batch.per_gpu(jobs[: given.at_once], devices.devices(given.gpus), given.threads or 1)
    return devices.places(given.gpus, per_gpu=shared, threads=given.threads)[: given.at_once]


def _has_papermill() -> bool:
    return all(map(importlib.util.find_spec, ("papermill", "nbformat")))


def _plan(given: argparse.Namespace) -> tuple[Plan, list[Chapter]]:
    """The batch that the arguments name, and its notebooks; none without papermill, which executes them."""
    from reidlib.book import chapters
    from reidlib.runs import batch

    options = dict(budget=given.budget, source=given.source, seeds=given.seeds, datasets=given.dataset)
    return chapters.plan(given.tables, **options) if _has_papermill() else (batch.plan(given.tables, **options), [])


def reproduce(given: argparse.Namespace) -> None:
    from reidlib.book import chapters
    from reidlib.runs import batch, devices, engine, live

    if given.json and not given.dry_run:
        raise ReidError("--json is the plan for programs: add --dry-run")
    plan, notebooks = _plan(given)
    places = _found_places(given, plan.jobs)
    plan = replace(plan, jobs=tuple(batch.estimated(plan.jobs, places)))
    if given.json:
        print(json.dumps(chapters.as_json(plan, notebooks), indent=1, ensure_ascii=False))
        return
    print("\n".join(batch.describe(plan, places)), flush=True)
    if given.dry_run:
        return
    ways: dict[str, Any] = dict(minutes=given.minutes, deterministic=given.deterministic)
    ways["time_limit"] = given.time_limit and 60 * given.time_limit
    with closing(live.LiveTable(len(places), len(plan.jobs))) as table:
        result = engine.train(plan.jobs, places, **ways, say=table.say, watch=table.watch)
    if result.left:
        print(f"{devices.many(len(result.left), 'run')} left for another call:")
        print("\n".join(f"  {job.run.name}, about {batch.duration(job.estimate.seconds)}" for job in result.left))
    unexecuted = _execute(plan, notebooks, given)
    if result.failed or unexecuted or result.stopped:
        counts = f"{len(result.failed)} runs failed, {len(result.stopped)} were stopped, {unexecuted} notebooks"
        remedy = "`reid status` names each run with its command, and a second call goes on"
        raise ReidError(f"{counts} were not executed; {remedy}")
    if not result.left:
        print("All runs have their records. `reid book` builds the pages.")


def _execute(plan: Plan, notebooks: list[Chapter], given: argparse.Namespace) -> int:
    """Executes the notebooks; returns how many could not be executed."""
    from reidlib.book import chapters

    if given.minutes or not _has_papermill():
        why = "of --for" if given.minutes else "papermill is not installed (pip install '.[book]')"
        print(f"Notebooks are not executed, because {why}.")
        return 0
    left = chapters.write(notebooks)
    for chapter, why in left:
        print(f"notebook {chapter.slug} ({chapter.dataset}) not executed: {why}")
    for page in chapters.not_in_the_book(plan, notebooks):
        print(f"to have it in the book, add to _toc.yml: {page}")
    return len(left)


def pack(given: argparse.Namespace) -> None:
    from reidlib.runs import archive, devices

    packed = archive.pack(given.file, since=given.since)
    if not packed:
        what = f"no finished record in {paths.results()} that is not in commit {given.since or 'HEAD'} already"
        raise ReidError(f"{given.file} is not written: {what}; make records, or name an earlier commit with --since")
    print(f"{given.file}: {devices.many(len(packed), 'record')}")


def merge(given: argparse.Namespace) -> None:
    from reidlib.runs import archive

    merged = archive.merge(given.file)
    print(merged)
    if many := len(merged.refused):
        raise ReidError(f"{given.file}: {many} of its records were refused, as said above; pack them again")


def status(given: argparse.Namespace) -> None:
    from reidlib.runs import status

    plan, _ = _plan(given)
    found = [status.state(run) for run in plan.runs]
    shown = [one.line() for one in found if given.tables or one.what in ("running", "failed")]
    print("\n".join([*status.overview(plan, found), *shown]))
    if not given.tables:
        print("`reid status PAPER/TABLE` names every run, each with its command.")
    for file in status.orphans(plan):
        print(f"of another version of the code, never used: {file}")


def clean(given: argparse.Namespace) -> None:
    from reidlib.runs import status

    if given.kinds:
        for kind, size in status.clean(given.kinds).items():
            print(f"{kind}: {size:,.0f} MiB removed")
        return
    print(f"{paths.cache()}:")
    for kind, files in status.kept().items():
        print(f"  {kind:<12}{status.size_mb(files):>10,.0f} MiB  {status.KEPT[kind]}")
    if status.running():
        print("  runs are at work: what is theirs, and all stand-ins, logs and repeats, is not counted and stays")
    print("`reid clean KIND …` removes these kinds, but for runs at work; records and notebooks are never touched.")


def _record(given: Path) -> Path:
    """The file of a record given by its file, its key, or the beginning of its key."""
    if given.suffix == ".json" and given.exists():
        return given
    found = sorted(paths.results().glob(f"records/**/{glob.escape(given.name)}*.json"))
    if len(found) != 1:
        what = f"{given} is no .json file, and {len(found)} records under {paths.results()} have a key that begins so"
        raise ReidError(f"{what}; give the file of a record, or more of its key")
    return found[0]


def show_claims(given: argparse.Namespace) -> None:
    from reidlib import papers
    from reidlib.pages import claims
    from reidlib.pages.formatting import change, in_order, p_value
    from reidlib.runs.datasets import STANDIN_SCALE
    from reidlib.runs.run import columns

    check_choice("reid claims", "budget", given.budget, list(STANDIN_SCALE))
    names = in_order([claim.paper for claim in papers.claims()])
    if given.paper:
        check_choice("reid claims", "paper", given.paper, names)
    chosen = [given.paper] if given.paper else names
    found = [one for name in chosen for one in claims.decisions(name, budget=given.budget, source=given.source)]
    if given.json:
        print(json.dumps([one.plain() for one in found], indent=1, ensure_ascii=False))
        return
    lines = []
    for one in found:
        p = f"p {p_value(one.p)}" if one.verdict in claims.TESTED else ""
        said = [change(one.here), p, f"seeds {len(one.better)}/{len(one.worse)}"] if one.here else [""] * 3
        place = [f"{one.claim.paper}/{one.claim.table}", one.dataset, one.claim.comparison]
        lines.append([*place, one.verdict + (f" ({one.note})" if one.note else ""), *said])
    print("\n".join(columns(lines)))


def show_record(given: argparse.Namespace) -> None:
    from reidlib.runs import records

    for name, value in asdict(records.read(_record(given.record))).items():
        if name != "curve":
            print(f"{name}: {json.dumps(value, ensure_ascii=False)}")


def export(given: argparse.Namespace) -> None:
    from reidlib.models.backbone import start_file
    from reidlib.runs import records, trained

    file = given.file or start_file()
    print(f"{file}: {trained.export(records.read(_record(given.record)), file)}")


def render(given: argparse.Namespace) -> None:
    from reidlib import standin
    from reidlib.runs import datasets

    variant = standin.Variant(given.boxes, given.occlusion, given.resolution, given.same_clothes)
    folder = given.out or datasets.standin_folder(given.dataset, given.scale, given.seed, variant)
    how = {name: getattr(given, name) for name in ("scale", "seed", "workers", "device", "truth")}
    standin.render(given.dataset, out=folder, variant=variant, **how)
    print(f"{given.dataset} stand-in, scale {given.scale:g}, seed {given.seed}: {folder}")


def describe_data(given: argparse.Namespace) -> None:
    from reidlib.data import cuhk03, table
    from reidlib.runs import datasets

    if given.dataset not in datasets.LOADERS:
        known = list(dict.fromkeys(map(cuhk03.all_splits, datasets.LOADERS)))
        check_choice("reid data", "data set", given.dataset, known)
    data = datasets.LOADERS[given.dataset](given.root)
    print(table.describe(data))
    if given.images:
        from reidlib.data import images

        print(f"images  all {images.check(data):,} can be read")


def evaluate(given: argparse.Namespace) -> None:
    from reidlib import evaluation

    options = {name: getattr(given, name) for name in ("k1", "k2", "lambda_", "k", "t", "q", "distance")}
    rerank = evaluation.reranking(given.rerank, **options)
    asked: dict[str, Any] = dict(multi=given.multi, protocol=given.protocol, metric=given.metric, rerank=rerank)
    answer = evaluation.evaluate_files(given.query, given.gallery, **asked)
    if given.json:
        print(json.dumps(answer))
        return
    print(evaluation.PROTOCOLS[answer["protocol"]].title)
    print(f"distance: {given.metric or (rerank.metric if rerank else 'euclidean')}; re-ranking: {rerank or 'none'}")
    names = {f"rank{k}": f"R{k}" for k in (1, 5, 10, 20)} | {"mAP": "mAP", "mINP": "mINP"}
    names["mAP_trapezoid"] = "mAP by trapezoids"
    print("  ".join(f"{name} {answer[key]:.2f}" for key, name in names.items()))
    left_out = f"{answer['excluded_queries']:,} more without a match left out"
    print(f"{answer['queries']:,} queries, {left_out}, {answer['seconds']:.1f} s")
    if ties := answer["ties"]:
        share = f"{ties:.1f} % of the true matches are tied with a wrong image, which ranks first"
        print(f"{share} ({evaluation.TIE_RULE})")


def build_book(given: argparse.Namespace) -> None:
    from reidlib.book import build as book
    from reidlib.book import notebooks

    notebooks.refresh_all(book.chapters(paths.home()))
    print(f"Open {book.build(root=paths.home(), stale=notebooks.stale)} in a browser.")


CHECKOUT = ("claims", "export", "run", "train", "reproduce", "status", "book", "pack", "merge")
"""The commands that need the files of a checkout beside the library."""


def main(line: list[str] | None = None) -> int:
    """Runs one command. A ReidError becomes one line on stderr and its exit status, as does what the machine refuses
    (a file, memory); a signal has its own status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name or sign that the terminal's encoding has not
    words, top = sys.argv[1:] if line is None else line, parser()
    if empty := [word for word in words if not word or re.fullmatch("--[a-z-]+=", word)]:
        top.error(f"argument {empty[0]!r} is empty; give it a value, or leave it out")
    given = top.parse_args(words)
    try:
        with termination_raises():
            needed = given.command in CHECKOUT or (given.command == "list" and paths.checkout())
            if needed and not (paths.home() / "notebooks").is_dir():
                raise ReidError(f"{paths.home()} is no checkout of this study: set REID_HOME to the folder of one")
            given.run(given)
            sys.stdout.flush()
    except ReidError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.status
    except (KeyboardInterrupt, SystemExit) as stop:
        print("stopped; the next call goes on from the last checkpoint", file=sys.stderr)
        return stop.args[0] if stop.args else 128 + signal.SIGINT
    except (MemoryError, RuntimeError) as fault:
        if isinstance(fault, RuntimeError) and "allocate memory" not in str(fault):  # torch says it so
            raise
        what = f"reid {given.command}: memory has run out ({str(fault) or type(fault).__name__})"
        print(f"error: {printable(what)}; give less, or free some", file=sys.stderr)
        return 1
    except OSError as fault:
        if fault.filename is not None:
            what = printable(f"{fault.filename}: {fault.strerror or fault}")
            print(f"error: {what}; fix its permissions, free some space, or give another place", file=sys.stderr)
            return 1
        if fault.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python's own last flush does not fail
        if fault.errno == errno.ENOSPC:
            print(f"error: the output cannot be written ({fault.strerror})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
