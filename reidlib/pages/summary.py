"""The results on the summary page of a paper: two sentences, which the page "Claims" makes and the summary shows."""

from __future__ import annotations

from collections.abc import Sequence

from reidlib.pages import glance
from reidlib.pages.claims import TESTED, Decision
from reidlib.pages.formatting import change, plural
from reidlib.pages.render import Strong, Text

SUPPORTED, CONTRADICTED, UNDECIDED = TESTED


def name(paper: str) -> dict[str, dict[str, str]]:
    """Metadata of an output, under whose name another page shows it by MyST-NB's directive `glue`."""
    return {"scrapbook": {"name": f"{paper}-results"}}


def results(paper: str, found: Sequence[Decision], source: str) -> Text:
    """How many claims of a paper are decided, and how the claim of its final system against its own baseline is."""
    own = [one for one in found if one.claim.paper == paper]
    said, images = glance.verdicts(own), glance.IMAGES[source]
    if not (tested := sum(said[word] for word in TESTED)):
        return Text(f"None of {plural(said.total(), 'claim')} has been decided on {images} yet.")
    words = f"{said[SUPPORTED]} supported, {said[CONTRADICTED]} contradicted, {said[UNDECIDED]} undecided"
    parts = [f"Of {plural(said.total(), 'claim')}, {tested} have been tested on {images}: ", Strong(words), "."]
    main = glance.headline(found, paper)
    if main.here is not None:
        verdict = "undecided" if main.verdict == UNDECIDED else main.verdict
        rows = f" The whole system against its own baseline ({main.claim.better} against {main.claim.worse}): "
        parts.append(f"{rows}{change(main.here)} points of mAP, {plural(main.here.seeds, 'seed')} a side, {verdict}.")
    return Text(*parts)
