"""The page "Systems": what each network costs beside what its paper says, and the papers' counts of their data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from reidlib.data import cuhk03, dukemtmc, market1501, msmt17
from reidlib.pages.formatting import DATASETS, count, in_order, paper_title
from reidlib.pages.render import Cell, Column, TableView, table
from reidlib.runs.run import STUDY
from reidlib.spec import Settings, Table, value_of
from reidlib.training.cost import Cost, cost

DEVIATES = 0.02
"""A number that a paper rounds agrees with a counted one within this share; anything beyond is marked."""


@dataclass(frozen=True)
class System:
    """A network to be counted: its paper, what it is called here, its settings, and whether a switch made it."""

    paper: str
    name: str
    settings: Settings
    switched: bool = False


def systems(tables: Mapping[str, Table], baselines: Sequence[tuple[str, str]] = ()) -> list[System]:
    """The system of each paper and every other model class that a row of it trains, then the named baselines.

    Tables without budget "full" train again what others declare.
    baselines: (slug of a table, label of a row) of rows that a switch makes out of the system itself.
    """
    found: dict[tuple, System] = {}
    for own in (own for own in tables.values() if "full" in own.budgets):
        rows = [("", own.base), *((row.label, own.settings(row, "full")) for row in own.rows if row.model or row.base)]
        for label, settings in rows:
            if value_of(settings.recipe.epochs) == 0:
                continue  # descriptors that learn nothing
            key = (own.paper, settings.model, str(settings.recipe.resolved()["size"]))
            of = f"{own.name}: {label}" if label else own.name if own.paper == STUDY else ""
            name = settings.model.__name__ + (f" ({of})" if of else "")
            found.setdefault(key, System(own.paper, name, settings))
    for slug, label in baselines:
        own = tables[slug]
        settings = next(own.settings(row, "full") for row in own.rows if row.label == label)
        found[slug, label] = System(own.paper, f"{own.name}: {label}", settings, switched=True)
    order = in_order([system.paper for system in found.values()])
    return sorted(found.values(), key=lambda system: order.index(system.paper))


def costs(listed: Sequence[System], said: pd.DataFrame, identities: int) -> TableView:
    """Weights, multiply-adds and descriptor of each system, and the numbers that its paper gives.

    said: results/system-statistics.tsv: paper, model, quantity (a field of `Cost`), value, kind, line, words, how.
    """
    columns = ["network", "input", "weights", "without classifiers", "multiply-adds", "descriptor"]
    lines: list[list[str | int]] = []
    blank = [""] * (len(columns) - 1)
    for paper, systems_ in groupby(listed, key=lambda system: system.paper):
        lines.append([Cell(paper_title(paper), state=True, across=True), *blank])
        for system in systems_:
            counted = cost(system.settings, identities)
            height, width = system.settings.recipe.resolved()["size"]
            millions = [f"{n / 1e6:.2f} M" for n in (counted.parameters, counted.parameters - counted.classifiers)]
            cells = [f"{height}×{width}", *millions, f"{counted.multiply_adds / 1e9:.2f} G", counted.embedding]
            lines.append([system.name, *cells])
            says = _paper_says(system, counted, said)
            lines += [[Cell(f"The paper: {words}", across=True, grey=True), *blank] for words in says]
    return table(columns, lines, f"Counted sizes of the networks, with {identities} classes")


def _paper_says(system: System, counted: Cost, said: pd.DataFrame) -> list[str]:
    """What the paper says of a system; nothing of one that a switch made: its numbers are of the system as it is."""
    if system.switched:
        return []
    own = said[(said["paper"] == system.paper) & (said["model"] == system.settings.model.__name__)]
    sentences = []
    for line in own.itertuples():
        value, here = float(line.value), getattr(counted, line.quantity)
        shown = f"{value / 1e9:g} G multiply-adds" if line.quantity == "multiply_adds" else f"descriptor {value:,.0f}"
        agrees = "=" if here == value else "≈" if abs(here - value) <= DEVIATES * value else "≠"
        sentences.append(f"{agrees} {shown}, {line.kind} ({line.line}): {line.how}")
    return sentences


# --- data sets --------------------------------------------------------------------------------------------------------

MARKET, DUKE, CUHK03, MSMT17 = DATASETS
THREE_PAIRS, NEW = f"{CUHK03}, first three pairs of cameras (classic protocol)", f"{CUHK03}, new protocol"


def published() -> dict[str, dict[str, int]]:
    """What the loaders hold against a real set: data set, then quantity, as results/dataset-statistics.tsv names them.
    Sums are made here: Market-1501 counts its 3,368 queries, drawn by hand, apart from its 32,668 images."""
    market, duke, msmt = market1501.PUBLISHED, dukemtmc.PUBLISHED, msmt17.PUBLISHED
    new = {boxes: cuhk03.PUBLISHED["np", boxes] for boxes in cuhk03.BOXES}
    classic = cuhk03.PUBLISHED["classic3", "detected"]
    splits = ("train", "query", "gallery")
    duke_images, msmt_images = ([of[f"{split} images"] for split in splits] for of in (duke, msmt))

    def identities(of: Mapping[str, int], other: str) -> int:
        return of["train identities"] + of[f"{other} identities"]

    def boxes_of(protocol: str) -> dict[str, int]:
        return {f"images, {boxes} boxes": cuhk03.IMAGES[protocol, boxes] for boxes in ("labeled", "detected")}

    found = {
        MARKET: {"images": market["train images"] + market["gallery images"], "identities": identities(market, "query")}
        | {"cameras": 6, **market},
        DUKE: {"images": sum(duke_images)}
        | {"identities, distractors counted": identities(duke, "gallery")}
        | {"identities, distractors left out": identities(duke, "query")}
        | {"cameras": 8, "query and gallery images": sum(duke_images[1:]), **duke},
        CUHK03: boxes_of("classic") | {"identities": identities(new["labeled"], "query")},
        THREE_PAIRS: boxes_of("classic3")
        | {"identities": identities(classic, "gallery")}
        | {"train identities": classic["train identities"], "test identities": classic["gallery identities"]},
        NEW: {f"{split} identities": new["labeled"][f"{split} identities"] for split in ("train", "query")},
        MSMT17: {"images": sum(msmt_images), "identities": identities(msmt, "query"), "cameras": 15}
        | {"query and gallery images": sum(msmt_images[1:]), **msmt},
    }
    for split in splits:
        found[NEW] |= {f"{split} images, {boxes}": new[boxes][f"{split} images"] for boxes in cuhk03.BOXES}
    return found


def datasets(printed: pd.DataFrame) -> TableView:
    """Each count that a paper prints, with its line, beside the published one; ≠ marks what differs.

    printed: results/dataset-statistics.tsv: dataset, quantity, paper, value, line, words; all as text.
    """
    papers = in_order(printed["paper"].tolist())
    columns = [Column("data set", "label"), Column("count", "label"), "published"]
    columns += [Column(paper_title(paper), reported=True) for paper in papers]
    lines = []
    for dataset, expected in published().items():
        own = printed[printed["dataset"] == dataset]
        first, comma, rest = dataset.partition(",")
        known = set(own["quantity"])
        for quantity in dict.fromkeys([name for name in expected if name in known] + own["quantity"].tolist()):
            wanted = expected.get(quantity)
            cells: list[str] = [DATASETS[first] + comma + rest, quantity, count(wanted)]
            for paper in papers:
                found = own[(own["quantity"] == quantity) & (own["paper"] == paper)]
                shown = "; ".join(_printed(value, wanted) for value in found["value"])
                cells.append(Cell(shown, note=", ".join(found["line"])))
            lines.append(cells)
    lost = "MSGWDP prints its counts in its Table 1, the numbers of which our copy of the paper has lost."
    caption = "Counts of the data sets, as published and as the papers print them"
    return table(columns, lines, caption, merged=1, below=[lost])


def _printed(value: str, wanted: int | None) -> str:
    shown = f"{int(value):,}" if value.isdigit() else value
    return shown if wanted is None or value == str(wanted) else f"{shown} ≠"
