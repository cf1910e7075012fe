"""The page "The stand-ins": sheets of rendered images, part masks, factors and sizes, read from disk and from truth.

Which image is shown is decided by a rule from the seed, never by eye: a page of chosen images would flatter.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from random import Random
from textwrap import fill
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy.io import loadmat

from reidlib import standin
from reidlib.data import cuhk03, dukemtmc, market1501, msmt17, start
from reidlib.data.table import DISTRACTOR, read_manifest
from reidlib.pages.figures import PHONE, finished
from reidlib.pages.formatting import DATASETS, count
from reidlib.pages.render import Column, TableView, table
from reidlib.spec import ReidError
from reidlib.standin import groundtruth, parts, write
from reidlib.standin.plan import ImageSpec, counts, plan

AGAIN = ("gt_bbox", "labeled/")
"""Folders whose images show moments of the other folders once more, in boxes drawn by hand."""

COLOURS = {
    "background": (24, 26, 32),
    "scenery": (66, 71, 82),
    "head": (250, 190, 150),
    "hair": (150, 92, 40),
    "hat": (255, 70, 160),
    "torso": (70, 130, 230),
    "arms": (110, 205, 245),
    "legs": (60, 165, 90),
    "shoes": (175, 225, 70),
    "bag": (245, 205, 45),
    "occluder": (225, 50, 45),
    "other person": (160, 95, 215),
}
"""Red, green and blue of each part in every mask of the book."""

SMALLEST = 40
"""A part of fewer pixels is not counted as shown when masks are chosen."""


@dataclass(frozen=True, eq=False)
class Found:
    """A stand-in on disk with the truth of all its folders joined, folder after folder."""

    name: str
    folder: Path
    manifest: dict
    truth: standin.Truth

    @property
    def title(self) -> str:
        return DATASETS[self.name]

    def factor(self, name: str) -> np.ndarray:
        return self.truth.factors[name]

    def image(self, place: int) -> np.ndarray:
        """The image at this place of the truth, H×W×3."""
        with Image.open(self.folder / self.truth.names[place]) as file:
            return np.asarray(file.convert("RGB"))

    @cached_property
    def people(self) -> pd.DataFrame:
        """The images of people by their place in the truth: name, and each factor that is one value. Each moment is
        there once; junk and distractors that show nobody are left out."""
        single = {name: values for name, values in self.truth.factors.items() if values.ndim == 1}
        frame = pd.DataFrame({"name": self.truth.names.astype(str), **single})
        return frame[~frame["name"].str.startswith(AGAIN) & (frame["kind"] == "person")]

    def shuffled(self, items: list, purpose: str) -> list:
        """In an order drawn from the set's own seed, another one for each purpose."""
        order = list(items)
        Random(f"{self.manifest['seed']}/page/{self.name}/{purpose}").shuffle(order)
        return order


def read(name: str, folder: Path) -> Found:
    """A stand-in that `reid render` has finished, and its truth. Raises ReidError where either is not whole."""
    manifest = read_manifest(folder, name)
    if manifest is None:
        raise ReidError(f"{folder} holds no stand-in of {name}; make it with `reid render {name} --out {folder}`")
    pieces = [standin.truth(folder, split) for split in manifest["counts"]]
    names, masks = (np.concatenate([getattr(piece, part) for piece in pieces]) for part in ("names", "parts"))
    factors = {key: np.concatenate([piece.factors[key] for piece in pieces]) for key in standin.FACTORS}
    return Found(name, folder, manifest, standin.Truth(names, masks, factors))


# --- sheets of images -----------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """One image of a sheet, H×W×3, and the words above it."""

    pixels: np.ndarray
    above: str = ""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Rows of images at native size, as a notebook shows them. `compact` keeps 256 colours of the whole sheet, which
    takes a third of the bytes; masks keep theirs exactly."""

    rows: Mapping[str, Sequence[Tile]]
    compact: bool = True

    GAP, LINE, SIZE = 2, 18, 14

    def image(self) -> Image.Image:
        """All rows, each below its name; every tile takes the room of the largest."""
        font = ImageFont.load_default(self.SIZE)
        tiles = [tile for row in self.rows.values() for tile in row]
        high, wide = (max(tile.pixels.shape[axis] for tile in tiles) for axis in (0, 1))
        tops = [self.LINE * (1 + any(tile.above for tile in row)) for row in self.rows.values()]
        width = max(map(len, self.rows.values())) * (wide + self.GAP)
        whole = Image.new("RGB", (width, sum(tops) + len(self.rows) * (high + self.GAP)), "white")
        pen, y = ImageDraw.Draw(whole), 0
        for top, (name, row) in zip(tops, self.rows.items(), strict=True):
            pen.text((1, y + self.LINE - 3), name, fill="black", font=font, anchor="ls")
            y += top
            for column, tile in enumerate(row):
                x = column * (wide + self.GAP)
                pen.text((x + 1, y - 2), tile.above, fill="black", font=font, anchor="ls")
                whole.paste(Image.fromarray(tile.pixels), (x, y))
            y += high + self.GAP
        return whole

    def __repr__(self) -> str:
        """Without the pixels: a notebook keeps this text beside the image."""
        return f"Sheet({', '.join(' '.join(name.split()) for name in self.rows)})"

    def _repr_png_(self) -> bytes:
        image = self.image()
        if self.compact:
            image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
        file = io.BytesIO()
        image.save(file, format="PNG", optimize=True)
        return file.getvalue()


def camera_name(name: str, camera: int) -> str:
    """What a sheet calls a camera: its number; in CUHK03 the pair and the view, 1a, 1b, 2a, ..."""
    return f"{(camera + 1) // 2}{'ba'[camera % 2]}" if name == "cuhk03" else str(camera)


def by_camera(found: Found, many: int) -> dict[int, list[int]]:
    """Camera -> places of `many` images drawn by the seed: as many different people as the camera saw, then more."""
    chosen = {}
    for camera in range(1, len(write.domain(found.name).cameras) + 1):
        places = found.people.index[found.people["camera"] == camera].tolist()
        pool = found.people.loc[found.shuffled(places, f"camera {camera}")]
        chosen[camera] = pool.groupby("identity").cumcount().sort_values(kind="stable").index[:many].tolist()
    return chosen


def cameras(found: Found, many: int = 6) -> Sheet:
    """The contact sheet of a set: a row a camera."""
    chosen = {camera_name(found.name, camera): places for camera, places in by_camera(found, many).items() if places}
    return Sheet({f"camera {name}": [Tile(found.image(at)) for at in places] for name, places in chosen.items()})


def most_seen(found: Found, many: int) -> list[int]:
    """The people that most cameras saw; among equals the seed decides. In CUHK03 two cameras saw everybody."""
    seen = found.people.groupby("identity")["camera"].nunique()
    return sorted(found.shuffled(seen.index.tolist(), "most seen"), key=lambda who: -seen[who])[:many]


def moments_of(found: Found, who: int, many: int) -> list[int]:
    """Places of `many` images of one person, spread over the cameras that saw them, in the order of the cameras."""
    places = found.people.index[found.people["identity"] == who].tolist()
    pool = found.people.loc[found.shuffled(places, f"person {who}")]
    pool = pool.assign(round=pool.groupby("camera").cumcount()).sort_values(["round", "camera"])
    return pool[:many].sort_values("camera", kind="stable").index.tolist()


def same_person(sets: Sequence[Found], people: int = 2, many: int = 6) -> Sheet:
    """A row a person, an image from each of their cameras (from two cameras several), with the camera above it."""
    rows = {}
    for found in sets:
        for who in most_seen(found, people):
            above = [camera_name(found.name, int(c)) for c in found.factor("camera")]
            rows[f"{found.title}, person {who}; above: camera"] = [
                Tile(found.image(place), above[place]) for place in moments_of(found, who, many)
            ]
    return Sheet(rows)


# --- parts ------------------------------------------------------------------------------------------------------------


def painted(mask: np.ndarray) -> np.ndarray:
    """A part mask in the colours of the legend."""
    return np.array([COLOURS[name] for name in parts.PART_NAMES], dtype=np.uint8)[mask]


def rich_in_parts(found: Found, many: int) -> list[int]:
    """Places of images of different people: each adds most parts to those before it, then shows most parts."""
    pool = found.shuffled(found.people.index.tolist(), "parts")
    masks = found.truth.parts[pool].reshape(len(pool), -1)
    shown = np.stack([(masks == part).sum(1) >= SMALLEST for part in range(1, parts.SCENERY)], axis=1)
    who = found.factor("identity")[pool]
    covered, free, chosen = np.zeros(shown.shape[1], dtype=bool), np.ones(len(pool), dtype=bool), []
    while len(chosen) < many and free.any():
        gain = np.where(free, 100 * (shown & ~covered).sum(1) + shown.sum(1), -1)
        best = int(gain.argmax())
        chosen.append(pool[best])
        covered |= shown[best]
        free &= who != who[best]
    return chosen


def masks(sets: Sequence[Found], many: int = 3) -> Sheet:
    """Images, each beside its part mask: a row a set."""
    rows = {}
    for found in sets:
        pairs = [(found.image(place), painted(found.truth.parts[place])) for place in rich_in_parts(found, many)]
        rows[found.title] = [Tile(pixels) for pair in pairs for pixels in pair]
    return Sheet(rows, compact=False)


# --- factors ----------------------------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """How a factor is drawn: the words under the axis, the edges of its bins, and whether 0 is left out."""

    label: str
    edges: np.ndarray
    above_zero: bool = False


AXES = {
    "viewpoint": Axis("side seen (degrees; 0 back, 180 front)", np.arange(0, 361, 30)),
    "occlusion": Axis("share hidden, where anything is", np.linspace(0, 0.6, 7), above_zero=True),
    "box_shift_x": Axis("box right of the figure (box widths)", np.linspace(-0.2, 0.2, 17)),
    "box_shift_y": Axis("box below the figure (box heights)", np.linspace(-0.16, 0.16, 17)),
    "box_scale": Axis("height of box / of figure", np.linspace(0.85, 1.2, 15)),
    "light": Axis("strength of the light (average 1)", np.linspace(0.6, 1.4, 17)),
}
"""The factors that are drawn as histograms."""

TIMES = ("day", "morning", "noon", "afternoon", "lamps")
STROKES = dict(zip(DATASETS, ("-", "--", ":", "-."), strict=True))
"""Colour is never the only sign."""


def values(found: Found, factor: str) -> np.ndarray:
    """A factor of the images of people, as the histograms take it; values beyond the edges count in the last bin."""
    axis, kept = AXES[factor], found.people[factor].to_numpy(np.float64)
    kept = kept[kept > 0] if axis.above_zero else kept
    return np.clip(kept, axis.edges[0], axis.edges[-1])


def factors(sets: Sequence[Found]) -> Figure:
    """A histogram a factor, a line a set, in percent of its images; the time of day as bars; the names at the end."""
    with sns.axes_style("whitegrid"):
        figure, panels = plt.subplots(4, 2, figsize=(PHONE, 8.8), layout="constrained")
    palette = sns.color_palette("colorblind")
    # The palette's second and fourth are both orange.
    colours = {name: palette[place] for name, place in zip(DATASETS, (0, 1, 2, 4), strict=True)}
    for axes, (factor, axis) in zip(panels.flat, AXES.items(), strict=False):
        for found in sets:
            look = dict(color=colours[found.name], linestyle=STROKES[found.name], label=found.title)
            how = dict(bins=axis.edges, stat="percent", element="step", fill=False)
            sns.histplot(x=values(found, factor), ax=axes, **how, **look)
        axes.set_xlabel(fill(axis.label, 22), fontsize=8)
        axes.set_ylim(0, None)
        axes.set_ylabel("% of images" if axes.get_subplotspec().is_first_col() else "", fontsize=8)
    panels.flat[0].set_xticks(range(0, 361, 180))
    times = pd.concat([found.people[["time"]].assign(set=found.title) for found in sets])
    shares = 100 * pd.crosstab(times["time"], times["set"], normalize="columns").reindex(TIMES, fill_value=0)
    long = shares.melt(ignore_index=False, value_name="share").reset_index()
    palette = {found.title: colours[found.name] for found in sets}
    bars = panels[3, 0]
    sns.barplot(long, x="share", y="time", hue="set", hue_order=palette, palette=palette, legend=False, ax=bars)
    bars.set_xlabel("time of day\n(% of images)", fontsize=8)
    bars.set_ylabel("")
    for axes in panels.flat:
        axes.tick_params(labelsize=8)
    lines, names = panels[0, 0].get_legend_handles_labels()
    panels[3, 1].axis("off")
    panels[3, 1].legend(lines, names, loc="center", fontsize=8, frameon=False, handlelength=2.6)
    return finished(figure)


def hidden(sets: Sequence[Found]) -> TableView:
    """How often something stands before a person or a second one is in the image, and how often the sun shines."""
    lines = []
    for found in sets:
        people = found.people
        shares = [people["occluder"] != "none", people["company"], people["occlusion"] > 0.1, people["sunny"]]
        lines.append([found.title, len(people), *(f"{100 * np.mean(share):.0f}" for share in shares)])
    columns = ["set", "images", "thing before them %", "second person %", "over a tenth hidden %", "sun shines %"]
    return table(columns, lines, "How often something else is in the image, in percent of the images")


# --- controlled variants ----------------------------------------------------------------------------------------------


def one_person(own: Found, many: int) -> list[str]:
    """Names of `many` images of the person with most of them: queries first, then the gallery."""
    test = own.people[~own.people["name"].str.startswith("bounding_box_train")]
    who = test.groupby("identity").size().idxmax()
    names = test["name"][test["identity"] == who]
    return sorted(names, key=lambda name: (not name.startswith("query"), name))[:many]


def one_each(own: Found, many: int) -> list[str]:
    """Names of images of `many` different people, the lowest numbers: the one of each with the least hidden."""
    return own.people.sort_values("occlusion", kind="stable").groupby("identity")["name"].first()[:many].tolist()


def compared(sets: Mapping[str, Found], names: Sequence[str], *, splits: bool = False) -> Sheet:
    """The same images in several variants: a row a variant. Smaller ones are enlarged, pixel by pixel, to line up."""
    words = {"query": "query", "bounding_box_test": "gallery"}
    rows: dict[str, list[Tile]] = {}
    for label, found in sets.items():
        place, tiles = {str(name): at for at, name in enumerate(found.truth.names)}, []
        for name in names:
            pixels = found.image(place[name])
            times = round(128 / len(pixels))
            above = words.get(name.split("/")[0], "training") if splits and not rows else ""
            tiles.append(Tile(pixels.repeat(times, axis=0).repeat(times, axis=1), above))
        rows[label.removeprefix("--")] = tiles  # the font draws two hyphens as one
    return Sheet(rows)


def changes(own: Found, sets: Mapping[str, Found]) -> TableView:
    """For each variant the factors of the truth that differ from the set as it is, and in how many images."""
    lines = []
    for label, found in sets.items():
        differ = {name: differing(own, found, name) for name in standin.FACTORS}
        lines.append([label, ", ".join(f"{name} ({many})" for name, many in differ.items() if many) or "none"])
    differ = f"factors that differ (in how many of {len(own.truth.names)} images)"
    return table({"variant": "label", differ: "reason"}, lines, "What differs from the set as it is")


def differing(own: Found, other: Found, factor: str) -> int:
    """In how many images of two variants a factor differs; what is absent in both is the same."""
    here, there = own.factor(factor), other.factor(factor)
    same = here == there
    if groundtruth.FACTORS[factor][0] in (groundtruth.NUMBER, groundtruth.COLOUR):
        same |= np.isnan(here) & np.isnan(there)
    return int((~same.reshape(len(same), -1).all(axis=1)).sum())


# --- sizes ------------------------------------------------------------------------------------------------------------


@cache
def planned(seed: int = 0) -> dict[str, dict[str, int]]:
    """What the stand-ins hold at scale 1, counted in their plans, under the words of the loaders' PUBLISHED."""

    def lists(name: str) -> dict[str, bytes]:
        domain = write.domain(name)
        return domain.layout.files(domain, 1.0, seed)

    plans = {name: plan(write.domain(name), 1.0, seed) for name in ("market1501", "dukemtmc", "cuhk03")}
    boxes = {f"cuhk03-np-{box}": _counted(_planned_people(plans["cuhk03"], f"{box}/")) for box in cuhk03.BOXES}
    made = {name: _counted(_planned_people(plans[name])) for name in ("market1501", "dukemtmc")} | boxes
    # Both readings of the classic protocol come from the file of its test sets.
    content = loadmat(io.BytesIO(lists("cuhk03")[cuhk03.TEST_SETS]))
    tested, persons = len(content["testsets"][0, 0]), content["persons"].ravel().astype(int)
    for reading, pairs in cuhk03.PAIRS.items():
        trained = int(persons[:pairs].sum()) - tested
        made[f"cuhk03-{reading}"] = {"train identities": trained, "gallery identities": tested}
    people: dict[str, list[int]] = {split: [] for split in msmt17.LISTS.values()}
    msmt = lists("msmt17")
    for name, split in msmt17.LISTS.items():
        # Labels count from 0, which is a person here; from 1 they are counted like everybody else's.
        people[split] += [int(line.split()[1]) + 1 for line in msmt[name].decode().splitlines()]
    return made | {"msmt17": _counted(people)}


def _planned_people(shots: Sequence[ImageSpec], within: str = "") -> dict[str, list[int]]:
    """The identity of every image of each split, in the folders that are named as Market-1501's."""
    folders = {f"{within}{folder}": split for split, folder in market1501.FOLDERS.items()}
    people: dict[str, list[int]] = {split: [] for split in folders.values()}
    for shot in shots:
        if shot.folder in folders:
            people[folders[shot.folder]].append(shot.identity)
    return people


def _counted(people: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Images and identities of each split; junk and distractors are images, but no identities."""
    known = {}
    for split, identities in people.items():
        known[f"{split} images"] = len(identities)
        known[f"{split} identities"] = len({who for who in identities if who > DISTRACTOR})
    return known


PUBLISHED = {
    "market1501": market1501.PUBLISHED,
    "dukemtmc": dukemtmc.PUBLISHED,
    "cuhk03-np-labeled": cuhk03.PUBLISHED["np", "labeled"],
    "cuhk03-np-detected": cuhk03.PUBLISHED["np", "detected"],
    "cuhk03-classic": cuhk03.PUBLISHED["classic", "labeled"],
    "cuhk03-classic3": cuhk03.PUBLISHED["classic3", "labeled"],
    "msmt17": msmt17.PUBLISHED,
}
"""The published counts, as the loaders hold them against a real set."""


def sizes(made: Mapping[str, Mapping[str, int]]) -> TableView:
    """Published counts beside those of the stand-ins at scale 1; what differs is marked."""
    lines = []
    for name, published in PUBLISHED.items():
        for split in dict.fromkeys(what.split()[0] for what in published):
            cells = [name, split]
            for what in (f"{split} images", f"{split} identities"):
                wanted, found = published.get(what), made[name].get(what)
                cells += [count(wanted), count(found) + (" ≠" if wanted not in (None, found) else "")]
            lines.append(cells)
    columns = [Column("set", "label"), Column("split", "label"), "images published", "images at scale 1"]
    columns += ["identities published", "identities at scale 1"]
    return table(columns, lines, "Published counts, and the stand-ins at scale 1", merged=1)


def parts_of(scales: Mapping[str, float]) -> TableView:
    """The training part and the test part of every set at each budget; `scales` are the scales of the budgets."""
    lines = []
    for name in (*DATASETS, start.NAME):
        for budget, scale in scales.items():
            part = counts(standin.DOMAINS[name].sizes, scale)
            lines.append([DATASETS.get(name, "the start (no data set)"), budget, *map(count, part.values())])
    columns = [Column("set", "label"), Column("budget", "label"), "training identities", "training images"]
    columns += ["test identities", "queries", "gallery images"]
    return table(columns, lines, "Both parts of every set", merged=1)


def on_disk(sets: Sequence[Found]) -> TableView:
    """What the sets of this page are: scale, images, room on disk, and the version and digest that runs record."""
    lines = []
    for found in sets:
        (images, truth), manifest = weight(found), found.manifest
        many = sum(manifest["counts"].values())
        cells = [f"{manifest['scale']:g}", many, images / 2**20, images / many / 1024, truth / many / 1024]
        lines.append([found.title, *cells, str(manifest["version"]), manifest["digest"]])
    columns = ["set", "scale", "images", "JPEG, MiB", "KiB an image", "truth, KiB an image", "version"]
    return table([*columns, Column("digest", "code")], lines, "The sets of this page on disk")


def weight(found: Found) -> tuple[int, int]:
    """Bytes of the images and of the truth."""
    images = sum((found.folder / name).stat().st_size for name in found.truth.names)
    truth = sum((found.folder / groundtruth.file_of(split)).stat().st_size for split in found.manifest["counts"])
    return images, truth
