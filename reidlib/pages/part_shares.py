"""Which parts of a person a map lies on: shares of its energy, by the part masks that the stand-ins' renderer writes.

The energy of a cell is the square of its value, spread evenly over the cell. A map without preference has the energy
of a part in proportion to the part's area. Most people stand in the middle of their box, so that a map can lie on the
trunk by its place alone; what the mean map of all images gives on the same masks is therefore measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from reidlib.evaluation import statistics
from reidlib.pages.formatting import change, number
from reidlib.pages.render import Cell, Piece, Text, table
from reidlib.spec import ReidError
from reidlib.standin import parts

PARTS: dict[str, tuple[int, ...]] = {
    "head": (parts.HEAD, parts.HAIR, parts.HAT),
    "trunk": (parts.TORSO,),
    "arms": (parts.ARM,),
    "legs": (parts.LEG,),
    "shoes": (parts.SHOE,),
    "bags": (parts.BAG,),
    "background": (parts.BACKGROUND, parts.OCCLUDER, parts.OTHER, parts.SCENERY),
}
"""Name of a part: what pixels of the masks show. Together they are all pixels; other people are background."""

AREA = "area of the part"
CHUNK = 256
"""Images whose masks are taken apart at a time: bounds the memory."""


def measure(maps: Tensor, masks: Tensor) -> np.ndarray:
    """Shares in percent of every part of `PARTS`, image by image: float32, B × P × 3: area, energy, energy by place.

    maps:    B × h × w. masks: uint8, B × H × W, numbers of `standin.parts`.
    By place: the same of the mean map of all images (each with an energy of 1). NaN: a part that the image does not
    show; the energy of a map that is zero everywhere.
    """
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks):
        shapes = f"maps {tuple(maps.shape)}, masks {tuple(masks.shape)}"
        raise ReidError(f"{shapes}; give B×h×w and B×H×W of the same images")
    energy = maps.detach().double().cpu().square()
    total = energy.sum((1, 2), keepdim=True)
    energy = torch.where(total > 0, energy / total, torch.nan)
    place = energy.nanmean(0)
    found = []
    for masks_, energy_ in zip(masks.cpu().split(CHUNK), energy.split(CHUNK), strict=True):
        shown = torch.stack([torch.isin(masks_, torch.tensor(numbers)) for numbers in PARTS.values()], dim=1)
        cover = adaptive_avg_pool2d(shown.double(), (maps.shape[1], maps.shape[2]))  # B × P × h × w: share of each cell
        lines = [cover.mean((2, 3)), (cover * energy_[:, None]).sum((2, 3)), (cover * place).sum((2, 3))]
        shares = torch.stack(lines, dim=2)  # B × P × 3
        shares[~shown.flatten(2).any(2)] = torch.nan
        found.append(100 * shares)
    return torch.cat(found).float().numpy()


def summary(measured: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A line for each map and part, shares in percent, means over the images that show the part.

    measured: title: what `measure` gives. Columns: map, part, images, area, energy, spread (standard deviation of the
    energy's share from image to image), by_place, difference (`Interval` of energy − area, paired by image).
    """
    lines = []
    for title, shares in measured.items():
        differences = _differences(shares[..., 1], shares[..., 0])
        for part, values in zip(PARTS, shares.swapaxes(0, 1).astype(np.float64), strict=True):
            values = values[np.isfinite(values).all(1)]
            if part in differences:
                area, energy, place = values.T
                line = {"map": title, "part": part, "images": len(values), "area": area.mean(), "energy": energy.mean()}
                line |= {"spread": energy.std(ddof=1) if len(values) > 1 else 0.0, "by_place": place.mean()}
                lines.append(line | {"difference": differences[part]})
    return pd.DataFrame(lines)


def shares_table(measured: Mapping[str, np.ndarray]) -> Piece:
    """`summary` with a line for each map and a column for each part; grey where a share may be that of the area."""
    if not measured:
        return _photographs()
    frame = summary(measured)
    names = [part for part in PARTS if part in set(frame["part"])]
    first = frame.drop_duplicates("part").set_index("part")
    cells = {}
    for line in frame.to_dict("records"):
        text, note = f"{number(line['energy'])} ± {number(line['spread'])}", f"by place {number(line['by_place'])}"
        cells[line["map"], line["part"]] = Cell(text, note=note, grey=line["difference"].holds_zero)
    lines = [[AREA, *(number(first["area"][part]) for part in names)]]
    for title in dict.fromkeys(frame["map"]):
        lines.append([" ".join(title.split()), *(cells.get((title, part), "–") for part in names)])
    shown = ", ".join(f"{part} {first['images'][part]}" for part in names)
    below = (
        "Mean and standard deviation over the images that show the part; grey: cannot be told from the share of the "
        "area. By place: the mean map of all images on the same masks, which is what the place alone gives.",
        f"Images: {shown}. Arms and trunk are apart; other people and what stands before a person are background.",
    )
    queries = len(next(iter(measured.values())))
    if lost := queries - int(first["images"].max()):
        below = (*below, f"A map that is zero everywhere has no shares: {lost} of the {queries} are left out.")
    columns = ["share of the energy, %", *names]
    return table(columns, lines, f"On which parts the maps lie, {queries} queries", below=below)


def said(measured: Mapping[str, np.ndarray], title: str, other: str = "") -> Text:
    """In one sentence: the parts on which a map has more energy, and less, than their area, or than another map has."""
    if not measured:
        return _photographs()
    name = " ".join(title.split())
    against = " ".join(other.split()) or "the share of the area"
    differences = _differences(measured[title][..., 1], measured[other][..., 1] if other else measured[title][..., 0])
    sides: dict[str, list[str]] = {"more": [], "less": [], "same": []}
    for part, found in differences.items():
        side = "same" if found.holds_zero else "more" if found.mean > 0 else "less"
        sides[side].append(part if found.holds_zero else f"{part} ({change(found)} points)")
    words = []
    for side, on in sides.items():
        before = f"{side} energy" if side != "same" else "no difference that can be told"
        words += [f"{before} on {' and '.join(filter(None, [', '.join(on[:-1]), on[-1]]))}"] if on else []
    return Text(f"{name} against {against}: {'; '.join(words)}.")


def _differences(first: np.ndarray, second: np.ndarray) -> dict[str, statistics.Interval]:
    """first − second in percent (B × P each), part by part, paired over the images where both have a value; a single
    image says nothing of others."""
    found = {}
    for part, *pair in zip(PARTS, first.T, second.T, strict=True):
        one, other = (values[np.isfinite(pair).all(0)].astype(np.float64) / 100 for values in pair)
        if len(one) == 1:
            found[part] = statistics.Interval(100 * float(one[0] - other[0]), np.inf, 1.0, 1)
        elif len(one):
            found[part] = statistics.difference([one], [other], np.arange(len(one)))
    return found


def _photographs() -> Text:
    return Text("Photographs come without masks of the parts: only the stand-ins can be measured so.")
