"""The page "Systems": what each network costs beside what its paper says, and the papers' counts of their data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reidlib.data import cuhk03, dukemtmc, market1501, msmt17
from reidlib.pages.deviations import in_order, title
from reidlib.pages.standins import TITLES
from reidlib.pages.tables import Page, _cell, _line, _table
from reidlib.spec import Settings, Table, value_of
from reidlib.training.cost import Cost, cost

DEVIATES = 0.02
"""A number that a paper rounds agrees with a counted one within this share; anything beyond is marked."""


@dataclass(frozen=True)
class System:
    """A network to be counted: the paper it belongs to, what it is called here, and its settings for the paper."""

    paper: str
    name: str
    settings: Settings


def systems(tables: Mapping[str, Table], baselines: Sequence[tuple[str, str]] = ()) -> list[System]:
    """The system of each paper and every other model class that a row of it trains, then the named baselines.

    baselines: (slug of a table, label of a row) of rows that a switch makes out of the system itself.
    """
    found: dict[tuple, System] = {}
    for slug, table in tables.items():
        rows = [("", table.base), *((row.label, table.settings(row, "full")) for row in table.rows if row.model)]
        for label, settings in rows:
            if value_of(settings.recipe.epochs) == 0:
                continue  # descriptors that learn nothing
            key = (table.paper, settings.model, str(settings.recipe.resolved()["size"]))
            name = settings.model.__name__ + (f" ({slug.split('/')[1]}: {label})" if label else "")
            found.setdefault(key, System(table.paper, name, settings))
    listed = list(found.values())
    for slug, label in baselines:
        row = next(row for row in tables[slug].rows if row.label == label)
        name = f"{slug.split('/')[1]}: {label}"
        listed.append(System(tables[slug].paper, name, tables[slug].settings(row, "full")))
    order = in_order([system.paper for system in listed])
    return sorted(listed, key=lambda system: order.index(system.paper))


def banner() -> Page:
    return Page(
        '<div class="standin-banner"><strong>No image.</strong> Nothing on this page was measured on pictures, neither '
        "real ones nor stand-ins: the networks are counted, and the counts of the data sets are the papers' own.</div>"
    )


def costs(listed: Sequence[System], said: pd.DataFrame, identities: int) -> Page:
    """Weights, multiply-adds and descriptor of each system, and the numbers that its paper gives.

    said: results/system-statistics.tsv: paper, model, quantity (a field of `Cost`), value, kind, line, words, how.
    """
    head = ["network", "input", "weights", "without classifiers", "multiply-adds", "descriptor"]
    body, paper = [], ""
    for system in listed:
        if system.paper != paper:
            paper = system.paper
            body.append(_line([_cell(title(paper), css="state", colspan=len(head))]))
        counted = cost(system.settings, identities)
        height, width = system.settings.recipe.resolved()["size"]
        cells = [_cell(system.name, css="label"), _cell(f"{height}×{width}")]
        cells += [
            _cell(f"{counted.parameters / 1e6:.2f} M"),
            _cell(f"{(counted.parameters - counted.classifiers) / 1e6:.2f} M"),
            _cell(f"{counted.multiply_adds / 1e9:.2f} G"),
            _cell(f"{counted.embedding:,}"),
        ]
        body.append(_line(cells))
        for sentence in _paper_says(system, counted, said):
            body.append(_line([_cell(f"The paper: {sentence}", css="quote reported", colspan=len(head))]))
    return _table([_line([_cell(text) for text in head])], body, css="comparison")


def _paper_says(system: System, counted: Cost, said: pd.DataFrame) -> list[str]:
    own = said[(said["paper"] == system.paper) & (said["model"] == system.settings.model.__name__)]
    if ": " in system.name and "(" not in system.name:
        return []  # a switch turned: the paper's number is of the system as it is
    sentences = []
    for line in own.itertuples():
        value, here = float(line.value), getattr(counted, line.quantity)
        shown = f"{value / 1e9:g} G multiply-adds" if line.quantity == "multiply_adds" else f"descriptor {value:,.0f}"
        agrees = "=" if here == value else "≈" if abs(here - value) <= DEVIATES * value else "≠"
        sentences.append(f"{agrees} {shown}, {line.kind} ({line.line}): {line.how}")
    return sentences


# --- data sets --------------------------------------------------------------------------------------------------------

MARKET, DUKE, CUHK03, MSMT17 = TITLES
THREE_PAIRS, NEW = f"{CUHK03}, first three pairs of cameras (classic protocol)", f"{CUHK03}, new protocol"


def published() -> dict[str, dict[str, int]]:
    """What the loaders hold against a real set: data set, then quantity, as results/dataset-statistics.tsv names them.

    Sums are made here: Market-1501 counts its 3,368 queries, drawn by hand, apart from its 32,668 images.
    """
    market, duke, msmt = market1501.PUBLISHED, dukemtmc.PUBLISHED, msmt17.PUBLISHED
    new = {boxes: cuhk03.PUBLISHED["np", boxes] for boxes in cuhk03.BOXES}
    classic = cuhk03.PUBLISHED["classic3", "detected"]
    both = {name: duke[f"{name} images"] for name in ("train", "query", "gallery")}
    found = {
        MARKET: {"images": market["train images"] + market["gallery images"]}
        | {"identities": market["train identities"] + market["query identities"]}
        | {"cameras": _cameras(market1501)}
        | market,
        DUKE: {"images": sum(both.values())}
        | {"identities, distractors counted": duke["train identities"] + duke["gallery identities"]}
        | {"identities, distractors left out": duke["train identities"] + duke["query identities"]}
        | {"cameras": _cameras(dukemtmc), "query and gallery images": both["query"] + both["gallery"]}
        | duke,
        CUHK03: {"images, labeled boxes": cuhk03.IMAGES["classic", "labeled"]}
        | {"images, detected boxes": cuhk03.IMAGES["classic", "detected"]}
        | {"identities": new["labeled"]["train identities"] + new["labeled"]["query identities"]},
        THREE_PAIRS: {"images, labeled boxes": cuhk03.IMAGES["classic3", "labeled"]}
        | {"images, detected boxes": cuhk03.IMAGES["classic3", "detected"]}
        | {"identities": classic["train identities"] + classic["gallery identities"]}
        | {"train identities": classic["train identities"], "test identities": classic["gallery identities"]},
        NEW: {f"{split} identities": new["labeled"][f"{split} identities"] for split in ("train", "query")}
        | {
            f"{split} images, {boxes}": new[boxes][f"{split} images"]
            for split in ("train", "query", "gallery")
            for boxes in cuhk03.BOXES
        },
        MSMT17: {"images": sum(msmt[f"{split} images"] for split in ("train", "query", "gallery"))}
        | {"identities": msmt["train identities"] + msmt["query identities"], "cameras": _cameras(msmt17)}
        | {"query and gallery images": msmt["query images"] + msmt["gallery images"]}
        | msmt,
    }
    return found


def _cameras(loader) -> int:
    """The number of cameras, from the loader's words on file names: "cameras 1 to 6"."""
    return int(re.search(r"cameras \d+ to (\d+)", loader.LAYOUT.expected)[1])


def disagreements(printed: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """(paper, data set, quantity, printed value) wherever a paper and the published count differ."""
    counts = published()
    return [
        (line.paper, line.dataset, line.quantity, line.value)
        for line in printed.itertuples()
        if line.quantity in counts[line.dataset] and not _same(line.value, counts[line.dataset][line.quantity])
    ]


def datasets(printed: pd.DataFrame) -> Page:
    """Each count that a paper prints, with its line, beside the published one; ≠ marks what differs.

    printed: results/dataset-statistics.tsv: dataset, quantity, paper, value, line, words; all as text.
    """
    counts = published()
    papers = in_order(printed["paper"])
    body = []
    for dataset, expected in counts.items():
        own = printed[printed["dataset"] == dataset]
        names = dict.fromkeys([*expected, *own["quantity"]])
        for number, quantity in enumerate(name for name in names if (own["quantity"] == name).any()):
            cells = [_cell(_titled(dataset) if number == 0 else "", css="label"), _cell(quantity, css="label")]
            wanted = expected.get(quantity)
            cells.append(_cell(f"{wanted:,}" if wanted is not None else "–"))
            for paper in papers:
                lines = own[(own["quantity"] == quantity) & (own["paper"] == paper)]
                shown = "; ".join(_printed(line, wanted) for line in lines.itertuples())
                cells.append(_cell(shown, css="reported", note=", ".join(lines["line"])))
            body.append(_line(cells))
    head = ["", "", "published", *(title(paper) for paper in papers)]
    return _table([_line([_cell(text) for text in head])], body, css="comparison")


def _printed(line, wanted: int | None) -> str:
    shown = f"{int(line.value):,}" if line.value.isdigit() else line.value
    differs = " ≠" if wanted is not None and not _same(line.value, wanted) else ""
    return f"{shown}{differs}"


def _same(value: str, wanted: int) -> bool:
    return value == str(wanted)


def _titled(dataset: str) -> str:
    first, comma, rest = dataset.partition(",")
    return TITLES[first] + comma + rest
