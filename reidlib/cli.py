"""The command line, `reid list | run | train | reproduce | status | clean | …`: each a call or two.

Nothing heavy is imported here: each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reidlib.spec import ReidError

if TYPE_CHECKING:
    from reidlib.book.chapters import Chapter
    from reidlib.runs.batch import Plan
    from reidlib.runs.devices import Place


def parser() -> argparse.ArgumentParser:
    """The whole command line, so that a test can compare the README with it."""
    top = argparse.ArgumentParser(prog="reid", description="A reproducibility study of person re-identification.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    line = commands.add_parser("list", help="the tables and data sets, or the rows of some, and what has a record")
    line.add_argument(
        "table", nargs="?", default="", help="a paper or a table, such as hamr or hamr/table6; default all"
    )
    line.add_argument("--json", action="store_true", help="as JSON, for programs")
    line.set_defaults(run=list_rows)

    line = commands.add_parser("run", help="train what a table lacks and execute its notebook (papermill)")
    line.add_argument("table", help="paper and table, such as safenet/table5, or a figure, such as safenet/figure3")
    line.add_argument("--budget", required=True, help="smoke, small, medium or full")
    line.add_argument("--rows", nargs="+", default=[], metavar="LABEL", help="train only these rows; default all")
    line.add_argument("--again", nargs="+", default=[], metavar="LABEL", help="repeat these rows' records here")
    line.add_argument("--dataset", default=None, help="default: the table's first")
    line.add_argument("--source", default="stand-in", help="stand-in or real (REID_DATA)")
    line.add_argument("--seeds", type=_numbers, default=[0], metavar="0,1,2")
    _threads(line)
    line.set_defaults(run=run_table)

    line = commands.add_parser("train", help="train and test the rows of a table that have no record; no notebook")
    line.add_argument("table", help="paper and table, such as safenet/table5")
    line.add_argument("--row", nargs="+", default=[], metavar="LABEL", help="only these rows; default all")
    line.add_argument("--variant", default=None, help="only this variant of the rows; default all")
    line.add_argument("--dataset", default=None, help="default: the table's first")
    line.add_argument("--source", default="stand-in", help="stand-in or real (REID_DATA)")
    line.add_argument("--budget", required=True, help="smoke, small, medium or full")
    line.add_argument("--seed", type=int, default=0)
    line.add_argument("--again", action="store_true", help="repeat the rows' records; the repeats go into the cache")
    _places(line)
    line.set_defaults(run=train_rows)

    line = commands.add_parser("reproduce", help="the batch: train all that tables lack, then execute their notebooks")
    _what(line)
    _places(line)
    line.add_argument(
        "--for",
        dest="minutes",
        type=_minutes,
        metavar="MINUTES",
        help="start no run that is not expected to end in this time, and execute no notebooks",
    )
    line.add_argument("--time-limit", type=_minutes, metavar="MINUTES", help="stop a run that is silent for this long")
    line.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")
    line.add_argument("--json", action="store_true", help="with --dry-run: the plan as JSON, for programs")
    line.set_defaults(run=reproduce)

    line = commands.add_parser("pack", help="write the records made here, with their numbers per query, into one file")
    line.add_argument("file", type=Path, help="the archive, such as records.zip")
    line.add_argument("--since", metavar="COMMIT", help="the records made since this commit; default all made here")
    line.set_defaults(run=pack)

    line = commands.add_parser("merge", help="check and take in the records of an archive of `reid pack`")
    line.add_argument("file", type=Path)
    line.set_defaults(run=merge)

    line = commands.add_parser("status", help="which runs are done, running, failed or missing, and how to redo each")
    _what(line)
    line.set_defaults(run=status)

    line = commands.add_parser("clean", help="show what is in the cache, or remove some of it")
    line.add_argument("kinds", nargs="*", metavar="KIND", help="kinds of files that `reid clean` lists, or all")
    line.set_defaults(run=clean)

    line = commands.add_parser("show", help="print a record")
    line.add_argument("record", type=Path, help="its file, its key, or the beginning of its key")
    line.set_defaults(run=show_record)

    line = commands.add_parser("render", help="render a stand-in data set")
    line.add_argument("dataset", help="such as market1501")
    line.add_argument(
        "--scale", type=float, default=0.05, help="share of the real training part (1 = published counts)"
    )
    line.add_argument("--seed", type=int, default=0)
    line.add_argument("--out", type=Path, default=None, help="default: the cache, where a budget looks for it")
    line.add_argument("--workers", type=int, default=None, help="processes; default one a core")
    line.add_argument("--device", default="cpu", help="where the rays are cast; default cpu")
    line.add_argument(
        "--truth", action=argparse.BooleanOptionalAction, default=True, help="part masks and factors beside the images"
    )
    line.add_argument("--boxes", default=None, help="all boxes tight, detected, or shift=0.2 (of the box)")
    line.add_argument("--occlusion", type=float, default=None, metavar="0..1", help="share of people occluded")
    line.add_argument("--resolution", type=float, default=None, metavar="FACTOR", help="of the images, up to 1")
    line.add_argument("--same-clothes", type=float, default=None, metavar="SHARE", help="of identities that look alike")
    line.set_defaults(run=render)

    line = commands.add_parser("data", help="read a data set, print its split sizes and checks")
    line.add_argument("dataset", help="such as market1501, cuhk03-np-labeled, cuhk03-classic-detected-01")
    line.add_argument("--root", type=Path, default=None, help="its folder; default: looked for under REID_DATA")
    line.set_defaults(run=describe_data)

    line = commands.add_parser("evaluate", help="score anybody's features, with or without re-ranking")
    line.add_argument("query", metavar="QUERY.npz", help="holds features (N×D), ids and cameras")
    line.add_argument("gallery", metavar="GALLERY.npz", help="the same of the gallery")
    line.add_argument("--multi", metavar="MULTI.npz", help="multi-query: a query is the mean of its images here")
    line.add_argument(
        "--protocol", metavar="NAME", help="whose rules hold; default Market-1501's (junk −1, distractor 0)"
    )
    line.add_argument("--rerank", choices=("k-reciprocal", "ecn"), help="re-rank first; junk takes no part")
    line.add_argument("--k1", type=int, help="k-reciprocal: neighbourhood; default 20")
    line.add_argument("--k2", type=int, help="k-reciprocal: query expansion; default 6")
    line.add_argument(
        "--lambda", type=float, dest="lambda_", help="k-reciprocal: share of the old distance; default 0.3"
    )
    line.add_argument("--k", type=int, help="ecn: length of the rank lists; default 25")
    line.add_argument("--t", type=int, help="ecn: first neighbours; default 3")
    line.add_argument("--q", type=int, help="ecn: neighbours of each; default 8")
    line.add_argument("--distance", choices=("rank-list", "original"), help="ecn: default rank-list")
    line.add_argument("--metric", choices=("euclidean", "cosine"), help="default euclidean, as given; ecn: cosine")
    line.add_argument("--json", action="store_true", help="as JSON, for programs")
    line.set_defaults(run=evaluate)

    line = commands.add_parser(
        "book", help="execute what changed and needs no training, build the book, check every page"
    )
    line.set_defaults(run=build_book)
    return top


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        if 0 < (minutes := float(text)) < float("inf"):
            return minutes
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")


def _threads(line: argparse.ArgumentParser) -> None:
    line.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="CPU threads of each run; default 1, and beside GPUs an equal share of the cores",
    )


def _places(line: argparse.ArgumentParser) -> None:
    """The options that say where and how runs are trained."""
    line.add_argument("--gpus", default="all", help="all (default), or some by number: 0,1")
    line.add_argument("--per-gpu", type=_positive, default=1, metavar="N", help="runs that share a GPU; default 1")
    line.add_argument(
        "--at-once", type=_positive, metavar="N", help="at most N runs at once; default: one a core or GPU"
    )
    _threads(line)
    line.add_argument(
        "--deterministic", action="store_true", help="the same bits in every run of one machine, on a GPU too; slower"
    )


def _what(line: argparse.ArgumentParser) -> None:
    """The arguments that name a batch."""
    line.add_argument("tables", nargs="*", metavar="PAPER[/TABLE]", help="papers, tables or figures; default all")
    line.add_argument("--budget", required=True, help="smoke, small, medium or full")
    line.add_argument("--dataset", nargs="+", default=[], metavar="NAME", help="only these; default all of each table")
    line.add_argument("--source", default="stand-in", help="stand-in or real (REID_DATA)")
    line.add_argument("--seeds", type=_numbers, default=[0], metavar="0,1,2")


def list_rows(given: argparse.Namespace) -> None:
    from reidlib import papers
    from reidlib.book import notebooks
    from reidlib.data import cuhk03
    from reidlib.runs.run import overview

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
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for words, states in shown.items():
        text = [f"{word:<{width}}" for word, width in zip(words, widths, strict=True)]
        for budget in states[0]:
            found = [state[budget] for state in states]
            done, one = found.count("finished"), given.table and len(found) == 1
            text.append(f"{budget} {found[0] if one else f'{done}/{len(found)}'}")
        print("  ".join(text if given.table else [*text, papers.table(words[0]).title]))
    for figure, table in notebooks.image_figures().items():
        if given.table in ("", figure, figure.partition("/")[0]):
            print(f"{figure:<{widths[0]}}  draws images from networks of {table}")


def run_table(given: argparse.Namespace) -> None:
    from reidlib import papers
    from reidlib.book import notebooks
    from reidlib.runs import engine

    table = papers.table(notebooks.table_of(given.table))
    asked = dict(budget=given.budget, dataset=given.dataset, source=given.source, seeds=given.seeds)
    parameters = asked | {"rows": given.rows, "again": given.again}
    if table.slug == given.table:
        parameters["dataset"] = given.dataset or table.datasets[0]
    # A figure names its data set and its rows itself: what is not given here is taken from the notebook.
    parameters = {name: value for name, value in parameters.items() if value}
    notebooks.check_parameters(notebooks.template(given.table), parameters)
    wanted = notebooks.with_defaults(given.table, parameters)
    asked = {name: wanted[name] for name in ("budget", "dataset", "source", "seeds", "rows", "again")}
    engine.ensure(table.paper, table.name, **asked, threads=given.threads)
    print(f"executed notebook: {notebooks.execute(given.table, parameters)}")


def train_rows(given: argparse.Namespace) -> None:
    from reidlib.runs import engine
    from reidlib.runs.run import runs_of

    if given.again and not given.row:
        raise ReidError(f"{given.table}: --again repeats the rows named by --row (`reid list` shows them)")
    again = given.row if given.again else ()
    asked: dict[str, Any] = dict(budget=given.budget, dataset=given.dataset, source=given.source, seeds=(given.seed,))
    runs = runs_of(given.table, rows=given.row, again=again, **asked)
    chosen = [run for run in runs if given.variant in (None, run.row.variant)]
    if not chosen:
        known = ", ".join(dict.fromkeys(run.row.variant for run in runs))
        raise ReidError(f"{given.table}: unknown variant {given.variant!r} of these rows; choose one of {known}")
    missing = [run for run in chosen if not run.is_made()]
    for run in chosen:
        if run not in missing:
            print(f"finished already: {run.record_file}")
    places = _found_places(given) if missing else []
    engine.train_runs(missing, places, deterministic=given.deterministic)


def _found_places(given: argparse.Namespace) -> list[Place]:
    from reidlib.runs import devices

    return devices.places(given.gpus, per_gpu=given.per_gpu, threads=given.threads)[: given.at_once]


def _plan(given: argparse.Namespace) -> tuple[Plan, list[Chapter] | None]:
    """The batch that the arguments name, and its notebooks; None without papermill, which executes them."""
    options = dict(budget=given.budget, source=given.source, seeds=given.seeds, datasets=given.dataset)
    if all(map(importlib.util.find_spec, ("papermill", "nbformat"))):
        from reidlib.book import chapters

        return chapters.plan(given.tables, **options)
    from reidlib.runs import batch

    return batch.plan(given.tables, **options), None


def reproduce(given: argparse.Namespace) -> None:
    from reidlib.runs import batch, engine, live

    if given.json and not given.dry_run:
        raise ReidError("--json is the plan for programs: add --dry-run")
    plan, notebooks = _plan(given)
    places = _found_places(given)
    plan = replace(plan, jobs=tuple(batch.estimated(plan.jobs, places)))
    if given.json:
        print(json.dumps(_as_json(plan, notebooks), indent=1, ensure_ascii=False))
        return
    print("\n".join(batch.describe(plan, places)), flush=True)
    if given.dry_run:
        return
    limit = 60 * given.time_limit if given.time_limit else None
    with live.Table(len(places), len(plan.jobs)) as table:
        ways: dict[str, Any] = dict(minutes=given.minutes, time_limit=limit, deterministic=given.deterministic)
        result = engine.train(plan.jobs, places, **ways, say=table.say, watch=table.watch)
    if result.left:
        print(f"{batch.many(len(result.left), 'run')} left for another call:")
        print("\n".join(f"  {job.name}, about {batch.duration(job.estimate.seconds)}" for job in result.left))
    unexecuted = _execute(plan, notebooks, given)
    if result.failed or unexecuted or result.stopped:
        raise ReidError(
            f"{len(result.failed)} runs failed, {len(result.stopped)} were stopped, {unexecuted} notebooks were not "
            "executed; `reid status` names each run with its command, and a second call goes on"
        )
    if not result.left:
        print("All runs have their records. `reid book` builds the pages.")


def _execute(plan: Plan, notebooks: list[Chapter] | None, given: argparse.Namespace) -> int:
    """Executes the notebooks; returns how many could not be executed."""
    if notebooks is None or given.minutes:
        why = "papermill is not installed (pip install '.[book]')" if notebooks is None else "of --for"
        print(f"Notebooks are not executed, because {why}.")
        return 0
    from reidlib.book import chapters

    left = chapters.write(notebooks)
    for chapter, why in left:
        print(f"notebook {chapter.slug} ({chapter.dataset}) not executed: {why}")
    for page in chapters.not_in_the_book(plan, notebooks):
        print(f"to have it in the book, add to _toc.yml: {page}")
    return len(left)


def _as_json(plan: Plan, notebooks: list[Chapter] | None) -> dict:
    if notebooks is None:
        from reidlib.runs import batch

        return {"budget": plan.budget, "source": plan.source, "jobs": batch.groups(plan), "chapters": []}
    from reidlib.book import chapters

    return chapters.as_json(plan, notebooks)


def pack(given: argparse.Namespace) -> None:
    from reidlib.runs import archive

    print(f"{given.file}: {len(archive.pack(given.file, since=given.since))} records")


def merge(given: argparse.Namespace) -> None:
    from reidlib.runs import archive

    print(archive.merge(given.file))


def status(given: argparse.Namespace) -> None:
    from reidlib.runs import status

    plan, _ = _plan(given)
    found = status.states(plan)
    print("\n".join(status.overview(plan, found)))
    for one in found:
        if given.tables or one.what in ("running", "failed"):
            print(one.line())
    if not given.tables:
        print("`reid status PAPER/TABLE` names every run, each with its command.")
    for file in status.orphans(plan):
        print(f"of another version of the code, never used: {file}")


def clean(given: argparse.Namespace) -> None:
    from reidlib import paths
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


def show_record(given: argparse.Namespace) -> None:
    from reidlib.runs.run import show_record

    print(show_record(given.record))


def render(given: argparse.Namespace) -> None:
    from reidlib import standin
    from reidlib.runs import datasets

    variant = standin.Variant(given.boxes, given.occlusion, given.resolution, given.same_clothes)
    folder = given.out or datasets.standin_folder(given.dataset, given.scale, given.seed, variant)
    standin.render(
        given.dataset,
        scale=given.scale,
        seed=given.seed,
        out=folder,
        workers=given.workers,
        device=given.device,
        variant=variant,
        truth=given.truth,
    )
    print(f"{given.dataset} stand-in, scale {given.scale:g}, seed {given.seed}: {folder}")


def describe_data(given: argparse.Namespace) -> None:
    from reidlib.data import cuhk03, table
    from reidlib.runs import datasets
    from reidlib.spec import check_choice

    if given.dataset not in datasets.LOADERS:
        check_choice(
            "reid data", "data set", given.dataset, list(dict.fromkeys(map(cuhk03.all_splits, datasets.LOADERS)))
        )
    print(table.describe(datasets.LOADERS[given.dataset](given.root)))


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
    names = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "rank20": "R20", "mAP": "mAP", "mINP": "mINP"}
    names["mAP_trapezoid"] = "mAP by trapezoids"
    print("  ".join(f"{name} {answer[key]:.2f}" for key, name in names.items()))
    print(f"{answer['queries']:,} queries, {answer['excluded_queries']:,} more without a match left out, ", end="")
    print(f"{answer['seconds']:.1f} s")


def build_book(given: argparse.Namespace) -> None:
    from reidlib import paths
    from reidlib.book import build as book
    from reidlib.book import notebooks

    for page in notebooks.pages():
        notebooks.execute_page(page, quiet=True)
    for chapter in book.chapters(paths.home()):
        notebooks.refresh(**chapter)
    print(f"Open {book.build(root=paths.home(), stale=notebooks.stale)} in a browser.")


CHECKOUT = ("list", "run", "train", "reproduce", "status", "book", "pack", "merge")
"""The commands that need the files of a checkout beside the library."""


def main(line: list[str] | None = None) -> int:
    """Runs one command. A ReidError becomes one line on stderr and its exit status; a signal its own status."""
    given = parser().parse_args(line)
    try:
        with _signals():
            if given.command in CHECKOUT:
                _check_home()
            given.run(given)
            sys.stdout.flush()
    except ReidError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.status
    except KeyboardInterrupt as stop:
        print("stopped; the next call goes on from the last checkpoint", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    except OSError as fault:
        if fault.filename is not None or fault.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python's own last flush does not fail
        if fault.errno == errno.ENOSPC:
            print(f"error: the output cannot be written ({fault.strerror})", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _signals() -> Generator[None]:
    """Has SIGTERM, and SIGHUP unless nohup ignores it, end the command like Ctrl-C, which stops what it has started."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    ours = [signal.SIGTERM, signal.SIGHUP] if threading.current_thread() is threading.main_thread() else []
    before = {number: signal.signal(number, stop) for number in ours if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_home() -> None:
    from reidlib import paths

    if not (paths.home() / "notebooks").is_dir():
        raise ReidError(f"{paths.home()} is no checkout of this study: set REID_HOME to the folder of one")


if __name__ == "__main__":
    sys.exit(main())
