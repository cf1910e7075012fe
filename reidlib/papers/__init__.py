"""One file a paper: its tables as data, its recipe with the source of each value, its claims.

Whatever stands in this package as a `Table` is a table of the study: no registry, no list to keep.
"""

from __future__ import annotations

import importlib
import pkgutil

from reidlib.spec import Claim, ReidError, Row, Table

MEDIUM_LIMIT = (
    "so that the five headline tables take 40 minutes from three seeds on a device of 60 TFLOP/s; a guess, "
    "for no GPU was at hand"
)
"""Why budget `medium` has the epochs that it has.

With them the five tables on Market-1501 are 112 PFLOP, and 96 processes start.
"""


def tables() -> dict[str, Table]:
    """Every declared table by its slug ("safenet/table5"), in the order of declaration."""
    found = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Table):
                found[value.slug] = value
    return found


def claims() -> list[Claim]:
    """Every declared claim, paper by paper."""
    modules = (importlib.import_module(module.name) for module in pkgutil.iter_modules(__path__, f"{__name__}."))
    return [claim for module in modules for claim in getattr(module, "CLAIMS", ())]


def table(slug: str) -> Table:
    known = tables()
    if slug not in known:
        own = [name for name in known if name.partition("/")[0] == slug.partition("/")[0]]
        raise ReidError(f"unknown table {slug!r}; choose one of {', '.join(own or known)} (`reid list` shows them)")
    return known[slug]


def rows(table: Table, labels: list[str] | None = None) -> list[Row]:
    """The rows with these labels, or all rows; an unknown label names the known ones."""
    if not labels:
        return list(table.rows)
    known = {row.label for row in table.rows}
    unknown = [label for label in labels if label not in known]
    if unknown:
        choices = "; ".join(row.label for row in table.rows)
        raise ReidError(f"{table.slug}: unknown row {unknown[0]!r}; choose from: {choices}")
    return [row for row in table.rows if row.label in labels]
