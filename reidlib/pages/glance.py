"""The first page, "Results at a glance": what the records say of the five papers: numbers, one figure, five cards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from reidlib import papers, paths
from reidlib.evaluation.statistics import Interval
from reidlib.pages import contents, figures, hours, progress
from reidlib.pages.claims import NOT_TESTABLE, TESTED, UNDECIDED, Decision, decisions, seeds_a_side, signed
from reidlib.pages.formatting import change, number, paper_title, plural
from reidlib.pages.render import Banner, Fragment, Link, Page, Piece, Strong, Text, buttons, cards, listing, tiles
from reidlib.pages.tables import NOT_RUN, PAPER, PUBLISHED
from reidlib.papers import standins
from reidlib.runs.run import Runs, reported_numbers
from reidlib.spec import Table

SYSTEMS = {whole.paper: (baseline, (whole, final)) for baseline, (whole, final) in standins.SYSTEMS.values()}
"""Of each paper its own baseline and its final system, as table and label."""

WAITING = "without a verdict"
IMAGES = {"stand-in": "rendered images", "real": "photographs"}
ARCHIVE, CITATION = "_static/records.zip", "_static/CITATION.cff"
"""What the book's build puts beside the pages: all finished records, and how to cite the study."""


# --- claims -----------------------------------------------------------------------------------------------------------


def verdicts(found: Sequence[Decision]) -> Counter[str]:
    """Claims by what the records say: `TESTED`, `NOT_TESTABLE` or `WAITING`. A claim is of one verdict where all data
    sets on which it is tested say the same; where they differ it is undecided."""
    of: dict[Any, set[str]] = {}
    for one in found:
        of.setdefault(one.claim, set()).add(one.verdict)
    return Counter(map(_together, of.values()))


def _together(said: set[str]) -> str:
    tested = said & set(TESTED)
    if not tested:
        return NOT_TESTABLE if said == {NOT_TESTABLE} else WAITING
    return tested.pop() if len(tested) == 1 else UNDECIDED


def sentence(found: Sequence[Decision], source: str) -> Text:
    """What a person could quote."""
    said, many = verdicts(found), len({one.claim.paper for one in found})
    claims = f"{said.total()} claims of {'five' if many == 5 else many} person re-identification papers"
    tested = sum(said[word] for word in TESTED)
    if not tested:
        if not any(one.records for one in found):
            return Text(f"Nothing has been run yet: {claims} wait to be tested on {IMAGES[source]}.", css="lead")
        return Text(f"None of {claims} has been decided on {IMAGES[source]} yet.", css="lead")
    seeds = seeds_a_side([one for one in found if one.verdict in TESTED])
    before = f"Of {claims}, {tested} have been tested on {IMAGES[source]} with {seeds} a side: "
    supported, contradicted, undecided = (said[word] for word in TESTED)
    words = f"{supported} are supported, {contradicted} contradicted, {undecided} undecided"
    return Text(before, Strong(words), ".", css="lead")


def results(paper: str, found: Sequence[Decision], source: str) -> Text:
    """Of the summary page of a paper: how many of its claims are decided, and how the claim of its final system against
    its own baseline is."""
    own = [one for one in found if one.claim.paper == paper]
    said, images = verdicts(own), IMAGES[source]
    if not (tested := sum(said[word] for word in TESTED)):
        return Text(f"None of {plural(said.total(), 'claim')} has been decided on {images} yet.")
    words = ", ".join(f"{said[word]} {word}" for word in TESTED)
    parts = [f"Of {plural(said.total(), 'claim')}, {tested} have been tested on {images}: ", Strong(words), "."]
    main = headline(found, paper)
    if main.here is not None:
        rows = f" The whole system against its own baseline ({main.claim.better} against {main.claim.worse}): "
        said_of_it = f"{change(main.here)} points of mAP, {seeds_a_side([main])} a side"
        hidden = main.verdict == UNDECIDED and main.here.low * main.here.high > 0
        because = ", because the verdict is corrected for all claims of the paper" if hidden else ""
        parts.append(f"{rows}{said_of_it}, {main.verdict}{because}.")
    return Text(*parts)


def glued(paper: str) -> dict[str, dict[str, str]]:
    """Metadata of the output `results`, under whose name the summary page shows it by MyST-NB's directive `glue`."""
    return {"scrapbook": {"name": f"{paper}-results"}}


def counts(found: Sequence[Decision]) -> Fragment:
    """The same as numbers in large print."""
    said = verdicts(found)
    tested = {"tested": str(sum(said[word] for word in TESTED))}
    return tiles(tested | {signed(word): str(said[word]) for word in (*TESTED, NOT_TESTABLE, WAITING)})


def limits(source: str, budget: str) -> Banner:
    """One sentence, and the link to all of them."""
    every = Link("All limits", f"{contents.address('book/reading')}#limits")
    if source == "real":
        return Banner("real", f"Measured on photographs, at budget {budget}. ", every)
    words = f" Everything measured here comes from rendered people at budget {budget}: it says how networks compare on "
    words += "those, and nothing about scores on photographs. "
    return Banner("stand-in", Strong("Stand-in images."), words, every)


# --- gains ------------------------------------------------------------------------------------------------------------


def decided(*, budget: str, source: str = "stand-in") -> list[Decision]:
    """Every claim of the five papers, with what the records say of it."""
    return [one for paper in SYSTEMS for one in decisions(paper, budget=budget, source=source)]


def headline(found: Sequence[Decision], paper: str) -> Decision:
    """What the records say of the claim in which a paper sets its final system against its own baseline, in mAP. The
    claim may be about another table than `SYSTEMS` names: its two rows are the same networks."""
    baseline, (whole, final) = SYSTEMS[paper]
    wanted = [_network(whole, final), _network(*baseline)]
    place = (paper, "mAP", whole.datasets[0])
    for one in (one for one in found if (one.claim.paper, one.claim.metric, one.dataset) == place):
        own = papers.table(f"{paper}/{one.claim.table}")
        if [_network(own, one.claim.better), _network(own, one.claim.worse)] == wanted:
            return one
    raise LookupError(f"no claim sets {final} of {paper} against its baseline")


def _network(own: Table, label: str) -> tuple[dict[str, Any], ...] | None:
    """What a row as published trains and tests; None where the table does not have it."""
    found = (row for row in own.rows if (row.label, row.variant) == (label, PUBLISHED))
    made = next(((row.base or own.base).but(row) for row in found), None)
    return (made.trained(), made.tested()) if made else None


def gains(found: Sequence[Decision]) -> pd.DataFrame:
    """Of each paper the gain of its final system over its own baseline, in points of mAP, a line a paper.

    printed: NaN where our copy of the paper has lost it (lost is True). here: an `Interval`, or None.
    """
    lines = []
    for paper in SYSTEMS:
        one = headline(found, paper)
        own = papers.table(f"{paper}/{one.claim.table}")
        printed = reported_numbers(own, one.dataset).get("mAP", pd.Series(dtype=float))
        gain = printed.get(one.claim.better, np.nan) - printed.get(one.claim.worse, np.nan)
        lines.append({"paper": paper_title(paper), "printed": gain, "lost": own.numbers_lost, "here": one.here})
    return pd.DataFrame(lines).set_index("paper").astype({"here": object})


def figure(known: pd.DataFrame, source: str) -> Figure:
    """`gains`, a line a paper: printed as an open square, measured as a dot with its interval."""
    heights = np.arange(len(known))[::-1]
    drawn, axes = figures.panel(figures.PHONE, 3.4)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.plot(known["printed"], heights + 0.16, "s", mfc="white", mec="0.35", label=PAPER)
    label = f"here, {IMAGES[source]}, 95 % interval"
    for height, (_, line) in zip(heights, known.iterrows(), strict=True):
        if line["lost"]:
            words = axes.text(0.3, height + 0.16, "printed numbers lost", va="center", fontsize=9, color="0.35")
            words.set_bbox(dict(facecolor="white", edgecolor="none", pad=0.5))  # on the lines of the grid
        here = line["here"]
        if here is None:
            axes.text(0.3, height - 0.16, NOT_RUN, va="center", fontsize=9, style="italic", color="0.35")
            continue
        axes.plot([here.low, here.high], [height - 0.16] * 2, "-", color="C0", linewidth=2, alpha=0.6)
        axes.plot(here.mean, height - 0.16, "o", color="C0", label=label)
        label = ""
    axes.set(xlabel="gain in mAP over own baseline, points", yticks=heights, yticklabels=known.index)
    axes.tick_params(labelsize=9.5)
    axes.margins(x=0.08, y=0.12)
    axes.grid(axis="y", visible=False)
    drawn.legend(loc="outside upper left", fontsize=9, frameon=False)
    return figures.finished(drawn)


def in_words(known: pd.DataFrame) -> Text:
    """The figure in words."""
    said = []
    for paper, line in known.iterrows():
        here, printed = line["here"], number(line["printed"], sign=True)
        measured = change(here) if isinstance(here, Interval) else NOT_RUN
        said.append(f"{paper} printed {'lost' if line['lost'] else printed}, here {measured}")
    words = "Final system against own baseline, points of mAP; intervals over seeds and persons: "
    last = "Printed and measured gains are of different images. An interval is of one claim; a verdict is corrected "
    last += "for all claims of its paper."
    return Text(f"{words}{'; '.join(said)}. {last}", css="caption")


# --- cards ------------------------------------------------------------------------------------------------------------


def five(found: Sequence[Decision], known: Sequence[str], *, budget: str, source: str) -> Fragment:
    """A card for each paper: its network, its main claim, the verdict and the page of the table."""
    made = []
    for paper in SYSTEMS:
        one, name = headline(found, paper), paper_title(paper)
        slug = f"{paper}/{one.claim.table}"
        page = contents.page_of(slug, known, budget=budget, source=source) or f"book/{paper}/method"
        verdict = Text(Strong(signed(one.verdict)), css="verdict")
        where = re.sub(r"\bL(?=\d)", "line ", one.claim.where.partition(":")[0])
        body = [verdict, Text(f"“{one.claim.quote}” ({where})")]
        if one.here is not None:
            words = f": {change(one.here)} points of mAP, {seeds_a_side([one])} a side."
            body.append(Text(f"{one.claim.better} against {one.claim.worse}{words}"))
        picture, alt = contents.address(f"_static/{paper}.svg"), f"Block diagram of {name}'s network"
        own = len({other.claim for other in found if other.claim.paper == paper})
        body.append(Text(f"One of {plural(own, 'claim')} of this paper."))
        table = re.sub(r"(?=\d)", " ", one.claim.table.capitalize(), count=1)  # "table5" as "Table 5"
        link = Link(f"{name}, {table}", contents.address(page))
        made.append(dict(title=name, picture=picture, alt=alt, body=body, link=link))
    return cards(made)


# --- where it stands --------------------------------------------------------------------------------------------------


def standing(found: Sequence[progress.Part]) -> Page:
    """Tables done, device hours, images, seeds and the day of the newest record."""
    made = [entry for part in found for entry in part.made]
    pieces: list[Piece] = [progress.summary(found)]
    if not made:
        return Page(pieces)
    read = [Runs(tuple(run for run, _ in part.made)) for part in found if part.made]
    trained = hours.once(hours.spent(read))
    images = {record.data["digest"]: sum(record.data["images"].values()) for _, record in made}
    facts = {
        "records": f"{len({run.key for run, _ in made}):,}",
        "device hours": f"{trained['seconds'].sum() / 3600:.1f}",
        "images": f"{sum(images.values()):,}",
        "seeds": str(len({run.seed for run, _ in made})),
        "newest record": max(record.finished for _, record in made)[:10],
    }
    return Page([*pieces, tiles(facts)])


def ways(known: Sequence[str], *, has_records: bool) -> Fragment:
    """Where to go from here: compare, run it again, download, cite."""
    pages = {"Compare the five": "results/notebooks/study/compared", "What has run": "results/notebooks/study/status"}
    pages |= {"Run it again": "book/reproduce"}
    links = [Link(text, contents.address(page)) for text, page in pages.items() if page in known]
    links += [Link("Download all records", contents.address(ARCHIVE))] if has_records else []
    return buttons([*links, Link("Cite", "#cite")])


def citation() -> Page:
    """How to cite the study, from CITATION.cff."""
    file = paths.home() / "CITATION.cff"
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    authors = " and ".join(f"{{{author['name']}}}" for author in said["authors"])
    fields = {"author": authors} | {name: said[name] for name in ("title", "version", "doi") if said.get(name)}
    lines = [f"  {name} = {{{text}}}," for name, text in fields.items()]
    other = Text(said["message"], " ", Link("CITATION.cff", contents.address(CITATION)))
    return Page([other, listing("\n".join(["@software{reid,", *lines, "}"]))])
