"""The banner of each page: whose images its numbers come from. The book is not built with a page that has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reidlib.pages.render import Banner, Code, Strong
from reidlib.runs.run import Runs

STANDIN = Strong("Stand-in images.")


def chapter(runs: Runs) -> Banner:
    """Of a table or a figure."""
    first = runs.runs[0]
    if first.source == "real":
        return Banner("real", f"Real images of {first.dataset}.")
    return Banner(
        "stand-in",
        STANDIN,
        f" Everything measured on this page comes from rendered figures in the layout of {first.dataset}, at budget ",
        Code(first.budget),
        ". It says how the rows compare on those images. It says nothing about scores on photographs, and none of it "
        "may be set beside a score of the paper.",
    )


def claims(read: Mapping[str, Sequence[Runs]]) -> Banner:
    """Of the page "Claims", with the data sets that have any record. read: the runs of each table by its slug."""
    every = [runs for sets in read.values() for runs in sets]
    first = every[0].runs[0]
    used = list(dict.fromkeys(runs.runs[0].dataset for runs in every if runs.records()))
    layouts = f"in the layout of {', '.join(used)}" if used else "of which no record is here yet"
    if first.source == "real":
        return Banner("real", f"Real images {layouts}, budget {first.budget}.")
    return Banner(
        "stand-in",
        STANDIN,
        f" Every verdict on this page comes from rendered figures {layouts}, at budget ",
        Code(first.budget),
        ". It says how rows compare on those images. It does not say whether the paper was right on photographs.",
    )


def deviations() -> Banner:
    """Of the page "Deviations"."""
    return Banner(
        "stand-in",
        Strong("No measurement."),
        " Everything on this page is read from the declarations that the runs are made from. The budgets it names "
        "train on stand-in images.",
    )


def hours(source: str) -> Banner:
    """Of the page "What it took"."""
    if source == "real":
        return Banner("real", "Hours of trainings on real images.")
    return Banner(
        "stand-in",
        "Hours of trainings on rendered stand-in images, as many as each budget has; the real sets take longer.",
    )


def protocols(runs: Runs) -> Banner:
    """Of the page "Protocols and metrics", whose other examples are made up."""
    first = runs.runs[0]
    images = "the real images of" if first.source == "real" else "rendered figures in the layout of"
    return Banner(
        first.source,
        Strong("Real images" if first.source == "real" else "Stand-in images"),
        " and points made up. The numbers of our own networks on this page come from "
        f"{images} {first.dataset}, at budget ",
        Code(first.budget),
        ". All other examples are a few points without any image behind them.",
    )


def standins(titles: Sequence[str]) -> Banner:
    """Of the page "The stand-ins". titles: of its data sets."""
    return Banner(
        "stand-in",
        STANDIN,
        f" Every image on this page was rendered by the study, in the layouts of {', '.join(titles)}. None is a "
        "photograph, none shows a real person, and no number here may be set beside a score of a paper.",
    )


def systems() -> Banner:
    """Of the page "Systems"."""
    return Banner(
        "stand-in",
        Strong("No image."),
        " Nothing on this page was measured on images, neither real ones nor stand-ins: the networks are counted, and "
        "the counts of the data sets are the papers' own.",
    )
