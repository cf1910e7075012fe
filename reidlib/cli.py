"""The command line, `reid list | run | train | reproduce | status | clean | …`: each a call or two."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reidlib.spec import ReidError


def parser() -> argparse.ArgumentParser:
    """The whole command line, so that a test can hold the README against it."""
    from reidlib.runs import status, worker

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
    line.set_defaults(run=run_table)

    line = commands.add_parser("train", help="train and test one row in this process, or all rows one after the other")
    worker.arguments(line)
    line.set_defaults(run=train_row)

    line = commands.add_parser("reproduce", help="the batch: train all that tables lack, then execute their notebooks")
    _what(line)
    line.add_argument("--gpus", default="all", help="all (default), or some by number: 0,1")
    line.add_argument(
        "--per-gpu",
        type=_positive,
        default=None,
        metavar="N",
        help="runs that share a device; default: as many as are fastest, measured once",
    )
    line.add_argument(
        "--time-limit", type=_minutes, metavar="MINUTES", help="without a line of its log, until a run is stopped"
    )
    line.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")
    line.add_argument("--json", action="store_true", help="with --dry-run: the plan as JSON, for programs")
    worker.deterministic(line)
    line.set_defaults(run=reproduce)

    line = commands.add_parser("status", help="which runs are done, running, failed or missing, and how to redo each")
    _what(line)
    line.set_defaults(run=status)

    line = commands.add_parser("clean", help="show what lies in the cache, or remove some of it")
    line.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(status.KEPT)}, or all")
    line.set_defaults(run=clean)

    line = commands.add_parser("show", help="print a record")
    line.add_argument("record", type=Path, help="its file, its key, or the beginning of its key")
    line.set_defaults(run=show_record)

    line = commands.add_parser("render", help="render a stand-in data set")
    line.add_argument("dataset", help="such as market1501")
    line.add_argument("--scale", type=float, default=0.05, help="share of the real set's size (1 = published counts)")
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
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _minutes(text: str) -> float:
    """In seconds."""
    try:
        if (minutes := float(text)) > 0:
            return 60 * minutes
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")


def _what(line: argparse.ArgumentParser) -> None:
    """What names a batch."""
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
    from reidlib.runs.run import runs_of

    table = papers.table(notebooks.table_of(given.table))
    asked = dict(budget=given.budget, dataset=given.dataset, source=given.source, seeds=given.seeds)
    # every word is checked before a kernel starts
    runs_of(table.slug, rows=given.rows, again=given.again, **asked)
    parameters = asked | {"rows": given.rows, "again": given.again}
    if table.slug == given.table:
        parameters["dataset"] = given.dataset or table.datasets[0]
    # What is not given stands in the notebook: a figure names its data set and its rows there.
    parameters = {name: value for name, value in parameters.items() if value}
    copy = notebooks.execute(given.table, parameters)
    print(f"executed notebook: {copy}")


def train_row(given: argparse.Namespace) -> None:
    from reidlib.runs import engine, worker

    if given.row or given.again or given.variant != "as-published":
        worker.start(given)
        return
    if given.lease or given.deterministic:
        raise ReidError(f"{given.table}: --lease and --deterministic are for one row (--row), or `reid reproduce`")
    paper, _, table = given.table.partition("/")
    asked = dict(budget=given.budget, dataset=given.dataset, source=given.source, seeds=(given.seed,))
    engine.ensure(paper, table, **asked)


def _plan(given: argparse.Namespace):
    from reidlib.runs import batch

    asked = dict(budget=given.budget, source=given.source, seeds=given.seeds, datasets=given.dataset)
    return batch.plan(given.tables, **asked)


def reproduce(given: argparse.Namespace) -> None:
    from reidlib.runs import batch, devices, runner

    if given.json and not given.dry_run:
        raise ReidError("--json is the plan for programs: add --dry-run")

    def aside(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    plan, found = _plan(given), tuple(devices.devices(given.gpus))
    machine = batch.Machine(found, given.per_gpu or 1, given.gpus, given.deterministic)
    if given.per_gpu is None and not given.json:
        machine = batch.shared(plan, machine, aside)
    plan = batch.predicted(plan, machine, aside)
    if given.json:
        print(json.dumps(batch.as_json(plan), indent=1, ensure_ascii=False))
        return
    print("\n".join(batch.describe(plan, machine)), flush=True)
    if given.dry_run:
        return
    result = runner.train(plan, machine, time_limit=given.time_limit)
    left = runner.write_chapters(plan, aside)
    for chapter, why in left:
        print(f"notebook {chapter.slug} ({chapter.dataset}) not executed: {why}")
    for page in runner.pages(plan):
        print(f"to have it in the book, add to _toc.yml: {page}")
    if result.failed or left:
        raise ReidError(
            f"{len(result.failed)} runs failed, {len(left)} notebooks were not executed; `reid status` names each with "
            "its command, and a second call goes on"
        )
    print("All runs have their records and all notebooks are executed. `reid book` builds the pages.")


def status(given: argparse.Namespace) -> None:
    from reidlib.runs import status

    plan = _plan(given)
    found = status.states(plan)
    print("\n".join(status.overview(plan, found)))
    for one in found:
        if given.tables or one.what in ("running", "failed"):
            print(one.line())
    if not given.tables:
        print("`reid status PAPER/TABLE` names every run, each with its command.")
    for file in status.strangers(plan):
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
    if status.at_work():
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
    asked = dict(multi=given.multi, protocol=given.protocol, metric=given.metric, rerank=rerank)
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


def main(line: list[str] | None = None) -> int:
    """Runs one command. A ReidError becomes one line on stderr and its exit status, 1 or 75 (busy)."""
    given = parser().parse_args(line)
    try:
        given.run(given)
    except ReidError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.status
    except KeyboardInterrupt:
        print("stopped; the next call goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
