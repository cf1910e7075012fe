"""One file for each paper: its recipe, with the source of each value, and its tables as data.

Every `Table` in a module of this package is a table of the study: there is no registry to keep. What the papers claim
and which of their printed rows are not retrained is in results/claims.tsv and results/not-retrained.tsv.
"""

from __future__ import annotations

import csv
import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reidlib import paths
from reidlib.spec import Assumed, Claim, ReidError, Row, Stated, Table, check_choice

SMALL_LIMIT = "shortened until one core trains a row in minutes; `standins/shorter` asks what half of them costs"
"""Why budget `small` has so few epochs."""

MEDIUM_LIMIT = (
    "so that the five headline tables take 40 minutes from three seeds on a device of 60 TFLOP/s; chosen "
    "before a GPU could be used"
)
"""Why budget `medium` has the epochs that it has.

With them the five tables on Market-1501 are 112 PFLOP, and 96 processes start.
"""

PROTOCOLS = {
    "market1501": "market1501-single-query",
    "dukemtmc": "dukemtmc-single-query",
    "cuhk03-np-labeled": "cuhk03-new",
    "cuhk03-np-detected": "cuhk03-new",
    "msmt17": "msmt17",
    "start": "start",
    "market-to-duke": "market-to-duke",
    "duke-to-market": "duke-to-market",
}
"""The usual test of each data set."""

SMOKE = dict(
    start=Assumed("scratch", because="tests run offline"),
    size=Assumed((128, 64), because="the smallest input that every network can train on"),
    epochs=Assumed(1, because="tests take seconds"),
    batch=Assumed(8, because="the smoke stand-in has few images, of few identities"),
)
"""What budget `smoke` changes in the recipe of every paper."""

START = Assumed(
    "start",
    because="all papers start from ImageNet, whose weights a clean machine does not have; a network that has learned "
    "persons is nearer to that than random weights",
)

SMALL = dict(
    start=START,
    size=Assumed((192, 64), because="the input that two cores train in minutes"),
    schedule=Assumed("cosine", because="a schedule this short has no room for steps"),
    warmup=Assumed(0.1, because="the new layers are random, and their first steps the least certain"),
)
"""What budget `small` changes in every paper that does not say otherwise."""

MEDIUM = dict(
    start=START,
    schedule=Assumed("cosine", because="a shortened schedule"),
    warmup=Assumed(0.05, because="the new layers are random, and their first steps the least certain"),
)
"""The same for budget `medium`."""


def reranked(name: str | Stated, because: str, **options: Any) -> dict[str, Any]:
    """Test settings with this re-ranking, whose options are all assumed, for one reason."""
    assumed = {option: Assumed(value, because) for option, value in options.items()}
    return dict(reranking=name, reranking_options=assumed)


@cache
def tables() -> dict[str, Table]:
    """Every declared table by its slug ("safenet/table5"), in the order of declaration."""
    modules = [importlib.import_module(found.name) for found in pkgutil.iter_modules(__path__, f"{__name__}.")]
    return {value.slug: value for module in modules for value in vars(module).values() if isinstance(value, Table)}


def table(slug: str) -> Table:
    """The table of this slug; an unknown one is a ReidError that names the known ones."""
    known = tables()
    if slug not in known:
        own = [name for name in known if name.partition("/")[0] == slug.partition("/")[0]]
        raise ReidError(f"unknown table {slug!r}; choose one of {', '.join(own or known)} (`reid list` shows them)")
    return known[slug]


def rows(table: Table, labels: list[str] | None = None) -> list[Row]:
    """The rows with these labels, or all rows; an unknown label is a ReidError that names the known ones."""
    known = [row.label for row in table.rows]
    if unknown := [label for label in labels or () if label not in known]:
        raise ReidError(f"{table.slug}: unknown row {unknown[0]!r}; choose from: {'; '.join(known)}")
    return [row for row in table.rows if not labels or row.label in labels]


def claims(paper: str = "") -> list[Claim]:
    """The claims of one paper ("safenet"), or of all, in the order of results/claims.tsv."""
    columns = ("paper", "table", "better", "worse", "metric", "datasets", "quote", "where", "untestable", "control")
    effects = importlib.import_module(f"{__name__}.standins").EFFECTS.values()
    controls = [row for steps in effects for row, _ in steps]
    found = []
    for place, line in _read("claims.tsv", columns, may_be_empty=(*columns[2:6], *columns[8:])):
        check_choice(place, "metric", line["metric"], ("rank1", "rank5", "rank10", "rank20", "mAP", ""))
        check_choice(place, "control", line["control"], (*controls, ""))
        line["datasets"] = tuple(filter(None, line["datasets"].split(",")))
        try:
            found.append(Claim(**line))
        except ValueError as fault:
            raise ReidError(f"{place}: {fault}; correct the line") from fault
    return [claim for claim in found if paper in ("", claim.paper)]


def not_retrained(table: Table) -> dict[str, str]:
    """The rows of results/reported.tsv that this table does not train again (other methods), each with the reason."""
    lines = _read("not-retrained.tsv", ("paper", "table", "row", "reason"))
    return {
        line["row"]: line["reason"] for _, line in lines if (line["paper"], line["table"]) == (table.paper, table.name)
    }


def _read(name: str, columns: tuple[str, ...], may_be_empty: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a table in results/ that is part of the declaration, each with "file, line n" for messages.

    A missing file, another header, or a line with a column too few, too many or empty is a ReidError.
    """
    file: Path = paths.home() / "results" / name
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            head, *lines = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    except (OSError, ValueError) as fault:
        raise ReidError(f"{file}: cannot be read ({fault}); set REID_HOME to a checkout of this study") from fault
    if tuple(head) != columns:
        raise ReidError(f"{file}: columns {head}, not {list(columns)}; restore the file from the repository")
    found = []
    for number, line in enumerate(lines, 2):
        place = f"{file}, line {number}"
        if len(line) != len(columns):
            raise ReidError(f"{place}: {len(line)} columns, not {len(columns)}; separate them by single tabs")
        entry: dict[str, Any] = dict(zip(columns, line, strict=True))
        empty = [column for column, text in entry.items() if not text.strip() and column not in may_be_empty]
        if empty:
            raise ReidError(f"{place}: nothing in column {empty[0]!r}; fill it in or delete the line")
        found.append((place, entry))
    return found
