"""The banner of each page: whose images its numbers come from. The book is not built with a page that has none."""

from __future__ import annotations

from collections.abc import Sequence

from reidlib.pages.render import Banner, Code, Strong
from reidlib.runs.run import Runs

STANDIN = Strong("Stand-in images.")
NOTHING = "It says nothing about scores on photographs"


def chapter(runs: Runs) -> Banner:
    """Of a table or a figure."""
    first = runs.runs[0]
    says = f"how the rows compare on those images. {NOTHING}, and none of it may be set beside a score of the paper."
    return _measured(first.source, first.budget, first.dataset, says)


def claims(source: str, budget: str, names: Sequence[str]) -> Banner:
    """Of the page "Claims". names: of the data sets that have any record."""
    used = ", ".join(dict.fromkeys(names)) or "data sets of which no record is here yet"
    says = "how rows compare on those images. It does not say whether the paper was right on photographs."
    return _measured(source, budget, used, says, what="Every verdict")


def compared(source: str, budget: str, names: Sequence[str]) -> Banner:
    """Of the page "The five compared". names: of its data sets."""
    return _measured(source, budget, ", ".join(names), f"how the systems compare on those images. {NOTHING}.")


def controls(source: str, budget: str, names: Sequence[str]) -> Banner:
    """Of the page "Positive controls". names: of its data sets."""
    return _measured(source, budget, ", ".join(names), f"which effects these images show. {NOTHING}.")


def _measured(source: str, budget: str, names: str, says: str, what: str = "Everything measured") -> Banner:
    if source == "real":
        return Banner("real", f"Real images of {names}, at budget ", Code(budget), ".")
    words = f" {what} on this page comes from rendered figures in the layout of {names}, at budget "
    return Banner("stand-in", STANDIN, words, Code(budget), f". It says {says}")


def deviations() -> Banner:
    """Of the page "Deviations"."""
    words = " Everything on this page is read from the declarations that the runs are made from. The budgets it names "
    return Banner("stand-in", Strong("No measurement."), f"{words}train on stand-in images.")


def hours(source: str) -> Banner:
    """Of the page "What it took"."""
    if source == "real":
        return Banner("real", "Hours of trainings on real images.")
    words = "Hours of trainings on rendered stand-in images, as many as each budget has; the real sets take longer."
    return Banner("stand-in", words)


def status(source: str) -> Banner:
    """Of the page "Status"."""
    if source == "real":
        return Banner("real", "Runs on real images.")
    return Banner("stand-in", STANDIN, " All runs listed here are of rendered images; the real sets take longer.")


def protocols(runs: Runs) -> Banner:
    """Of the page "Protocols and metrics", whose other examples are made up."""
    first = runs.runs[0]
    images = "the real images of" if first.source == "real" else "rendered figures in the layout of"
    words = f" and made-up points. The numbers of our own networks on this page come from {images} {first.dataset}, at "
    others = ". All other examples are a few points without any image behind them."
    title = Strong("Real images" if first.source == "real" else "Stand-in images")
    return Banner(first.source, title, f"{words}budget ", Code(first.budget), others)


def standins(titles: Sequence[str]) -> Banner:
    """Of the page "The stand-ins". titles: of its data sets."""
    words = f" Every image on this page was rendered by the study, in the layouts of {', '.join(titles)}. None is a "
    words += "photograph, none shows a real person, and no number here may be set beside a score of a paper."
    return Banner("stand-in", STANDIN, words)


def systems() -> Banner:
    """Of the page "Systems"."""
    words = " Nothing on this page was measured on images, neither real ones nor stand-ins: the networks are counted, "
    return Banner("stand-in", Strong("No image."), f"{words}and the counts of the data sets are the papers' own.")


def method(budget: str) -> Banner:
    """Of the page that explains a paper's method. budget: whose stand-in it uses."""
    words = "A tiny network is trained on a few of them for some seconds: a demonstration, and no result of the study."
    return Banner(
        "stand-in", STANDIN, " The people on this page are rendered, those of budget ", Code(budget), f". {words}"
    )
