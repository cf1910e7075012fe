"""Where a network looks: activations and Grad-CAM on embeddings, laid over images that a rule chose.

Grad-CAM: Selvaraju et al., ICCV 2017; the library is `grad-cam`. It was made for classifiers on single images, and some
of what it takes for granted does not hold here: it stretches every map to the same height, rounding noise too, changes
the network's mode and drops its gradients. The guards stand where they are needed, each with its reason.

Maps are B × h × w, float32, on the CPU, in the cells of the layer that they come from, as the formula gives them:
nothing is normalised before it is drawn.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import interpolate

from reidlib.data.table import DISTRACTOR
from reidlib.evaluation import statistics
from reidlib.evaluation.distances import TIE
from reidlib.models.output import Output
from reidlib.pages.figures import finished
from reidlib.pages.formatting import plural
from reidlib.pages.render import Column, Piece, Text, table
from reidlib.pages.tables import difference_cells
from reidlib.spec import ReidError

CHANNELS = ("mean", "energy")
SCALES = ("each", "shared", "all")

COLOURS = "inferno"
"""A colour map whose lightness rises evenly, so that equal steps of a value look equal, in grey print too."""

SHARE = 0.55
"""Of the map's colour in an image; the rest is the image itself in grey, so that every hue is the map's."""

EMPTY = 1e-6
"""A map that rises above zero, or above its own lowest value, by less than this share of the largest value drawn with
it holds nothing but rounding, and gets no colour."""

CANCELLED = 1e-5
"""A Grad-CAM whose positive values are below this share of the terms they are the sum of is rounding, and set to 0."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def choose(frame: pd.DataFrame, n: int = 4, *, seed: int = 0) -> pd.DataFrame:
    """The images that figures show: n rows of `frame`, one per person, drawn by the seed and never by eye.

    frame: rows of a data set's table, as `dataset.split("query")` gives them. The draw depends on nothing but seed,
    identities and paths: fewer images are the first of more, and among some of the rows the order stays the same.
    Raises ReidError where there are fewer than n people; junk and distractors are none.
    """
    people = frame[frame["identity"] > DISTRACTOR].reset_index(drop=True)
    identities = people["identity"].unique().tolist()
    if not 1 <= n <= len(identities):
        raise ReidError(f"{n} images of different people wanted, {len(identities)} people given; choose a number")
    order = sorted(identities, key=lambda who: Random(f"{seed}/{who}").random())[:n]
    drawn = [Random(f"{seed}/{path}").random() for path in people["path"]]
    places = [min(people.index[people["identity"] == who], key=lambda place: drawn[place]) for who in order]
    return people.loc[places].reset_index(drop=True)


def partners(chosen: pd.DataFrame, gallery: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """For each chosen image another one of the person, from another camera, drawn by the seed: for `Similarity`.

    Both: rows of a data set's table; the answer is as long as `chosen`. Raises ReidError where a person has none.
    """
    places = []
    for path, who, camera in zip(chosen["path"], chosen["identity"], chosen["camera"], strict=True):
        others = gallery[(gallery["identity"] == who) & (gallery["camera"] != camera)]
        if others.empty:
            raise ReidError(f"identity {who} of {path} has no image from another camera than {camera}; choose others")
        places.append(min(others.index, key=lambda place: Random(f"{seed}/{gallery['path'][place]}").random()))
    return gallery.loc[places].reset_index(drop=True)


# --- what a network looks at ------------------------------------------------------------------------------------------


def activation(model: nn.Module, images: Tensor, module: str, *, channels: str = "mean") -> Tensor:
    """What a layer answers at every place: B × h × w.

    images:   B × 3 × H × W, normalised, on the model's device.
    module:   dotted path of a submodule ("anchors.1.horizontal") that gives a B × C × h × w map and runs once.
    channels: how C values become one: "mean" keeps the sign (and a single channel as it is), "energy" is the root of
              the mean square, for maps whose signs would cancel.

    The model is left as it was: modes, weights, statistics, gradients. Raises ReidError naming the nearest submodules.
    """
    found: list[Tensor] = []
    with _undisturbed(model, images), torch.no_grad(), _tapped(model, module, found):
        model(images.float())
    return _over_channels(_once(model, module, found), channels, module)


def output_map(model: nn.Module, images: Tensor, name: str, *, channels: str = "mean") -> Tensor:
    """A map that the network itself hands out (`Output.maps`, by the paper's name), such as an attention mask.

    B × h × w; arguments as `activation`'s. Raises ReidError naming the maps there are.
    """
    return _over_channels(_handed_out(model, images, name), channels, name)


def channel_mask(model: nn.Module, images: Tensor, name: str) -> Tensor:
    """A mask that the network hands out with one weight a channel and no places (HAMR's "MCAM"): B × C, on the CPU.

    Raises ReidError naming the maps there are, and for a map that has places.
    """
    mask = _handed_out(model, images, name)
    if mask[0, 0].numel() != 1:
        raise ReidError(f"{name} has {tuple(mask.shape[2:])} places, not one weight a channel; use output_map")
    return mask.detach().float().cpu().flatten(1)


def _handed_out(model: nn.Module, images: Tensor, name: str) -> Tensor:
    with _undisturbed(model, images), torch.no_grad():
        maps = model(images.float()).maps
    if name not in maps:
        raise ReidError(f"{type(model).__name__} has no map {name!r}; choose one of {', '.join(maps) or 'none'}")
    return maps[name]


@dataclass(frozen=True, eq=False)
class Identity:
    """Grad-CAM's question "why this person?": the logit of a training identity, averaged over the classifiers.

    labels: class labels (`Dataset.train_labels`), one an image, or one number for all images.
    """

    labels: int | Sequence[int] | Tensor

    def scores(self, output: Output) -> Tensor:
        """One number an image: B."""
        logits = torch.stack(list(output.logits)).mean(0)  # B × K
        labels = torch.as_tensor(self.labels, device=logits.device)
        labels = _for_each(labels[None] if labels.ndim == 0 else labels, len(logits), "labels")
        if not (labels.ge(0) & labels.lt(logits.shape[1])).all():
            raise ReidError(f"labels {labels.tolist()} for {logits.shape[1]} classes; give class labels from 0")
        return logits.gather(1, labels[:, None].long())[:, 0]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Grad-CAM's question of retrieval, "why is this like that one?": the cosine to the embedding of another image.

    reference: B × D embeddings (of `features.extract`), one an image, or 1 × D for all images. At the image itself the
    cosine is at its top and has no slope, so that a map would be rounding: this is refused.
    """

    reference: Tensor

    def scores(self, output: Output) -> Tensor:
        """One number an image: B."""
        embedding = output.embedding
        reference = self.reference.detach().to(embedding)
        reference = _for_each(reference, len(embedding), "reference embeddings")
        if reference.shape != embedding.shape:
            raise ReidError(
                f"reference embeddings have shape {tuple(reference.shape)}, those of the images "
                f"{tuple(embedding.shape)}; extract both with the same model and descriptor"
            )
        unit = nn.functional.normalize(reference, dim=1)
        own = nn.functional.normalize(embedding, dim=1)
        same = ((own - unit).detach().square().sum(1) <= TIE).nonzero()[:, 0].tolist()
        if same:
            raise ReidError(
                f"the reference of image {same[0]} is that image itself, or one that lies at the same point: the "
                "cosine has no slope there; give another image of the person"
            )
        return (own * unit).sum(1)


def grad_cam(model: nn.Module, images: Tensor, module: str, target: Identity | Similarity) -> Tensor:
    """Which places of a layer speak for `target`: max(0, Σ over channels of mean gradient × activation), B × h × w.

    images and module as `activation`'s. Unit: that of the score. In a network that ends in an average and a linear
    layer the places of an image sum up to its score, before negative ones are cut off. A map of zeros is an answer:
    nothing in this layer speaks for the target.

    The model is left as it was; frozen submodules have maps too. Raises ReidError where the target does not depend on
    the layer by a gradient.
    """
    found: list[Tensor] = []
    with _undisturbed(model, images), _tapped(model, module, found):
        layer = model.get_submodule(module)
        # Hooks run in order. The first makes the layer's output the place where gradients start: all weights are frozen
        # meanwhile, and what comes before may run without gradients, as FMN's global network does before its mask.
        start = layer.register_forward_hook(lambda _, __, output: output.detach().requires_grad_(True))
        cam = _RawGradCAM(_Scores(model, module, target, found), [layer])
        # The last comes after the library's, which keeps the layer's own tensor: the rest of the network works on a
        # copy, and an in-place ReLU cannot change what was kept.
        isolation = layer.register_forward_hook(lambda _, __, output: output.clone())
        try:
            # One target for each image: the library passes silently over images without one. No `with`: leaving it
            # swallows every IndexError.
            targets: list[Any] = [ClassifierOutputTarget(0)] * len(images)
            maps = cam(images.detach().clone().float(), targets)
        finally:
            for hook in (start, isolation):
                hook.remove()
            cam.activations_and_grads.release()
    return torch.from_numpy(maps)


class _Scores(nn.Module):
    """The one tensor that the library differentiates: B × 1, a score an image."""

    def __init__(self, model: nn.Module, module: str, target: Identity | Similarity, found: list[Tensor]) -> None:
        super().__init__()
        self.model, self.module, self.target, self.found = model, module, target, found

    def forward(self, images: Tensor) -> Tensor:
        scores = self.target.scores(self.model(images))[:, None]
        _once(self.model, self.module, self.found)
        if not scores.requires_grad:  # it does not come from the layer, the one place where gradients start
            raise ReidError(
                f"no gradient of the target reaches {self.module}: it has no part in the score, or it runs without "
                "gradients; choose another layer or target, or give the submodule that runs without gradients as the "
                "model"
            )
        return scores

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the library calls this before it goes back, and would drop gradients that a training still needs."""


class _RawGradCAM(GradCAM):
    """The library's weights and sums for one layer, without what it does then: to stretch each map from 0 to 1."""

    def compute_cam_per_layer(self, input_tensor: Tensor, targets: list, eigen_smooth: bool) -> np.ndarray:
        kept = self.activations_and_grads
        activations, gradients = kept.activations[0].numpy(), kept.gradients[0].numpy()
        cam = self.get_cam_image(input_tensor, self.target_layers[0], targets, activations, gradients, eigen_smooth)
        cam = np.maximum(cam, 0)
        terms = np.abs(gradients).mean((2, 3), keepdims=True) * np.abs(activations)  # B × C × h × w
        noise = CANCELLED * terms.sum(1).max((1, 2), keepdims=True)
        return np.where(cam.max((1, 2), keepdims=True) > noise, cam, 0).astype(np.float32)

    def aggregate_multi_layers(self, cam_per_target_layer: np.ndarray) -> np.ndarray:
        return cam_per_target_layer


@contextmanager
def _undisturbed(model: nn.Module, images: Tensor) -> Generator[None]:
    """Evaluation mode, frozen weights, float32, gradients possible wherever the caller stands; then all as before."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ReidError(f"images are {images.dtype}, {tuple(images.shape)}; give B×3×H×W, normalised (data.images)")
    modes = {module: module.training for module in model.modules()}
    learning = {weight: weight.requires_grad for weight in model.parameters()}
    try:
        model.eval()
        model.requires_grad_(False)
        # inference_mode(False) ends no_grad as well
        with torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
            yield
    finally:
        for module, mode in modes.items():  # one by one: a frozen part of a network in training stays in evaluation
            module.training = mode
        for weight, wanted in learning.items():
            weight.requires_grad_(wanted)


@contextmanager
def _tapped(model: nn.Module, module: str, found: list[Tensor]) -> Generator[None]:
    """Puts every output of a submodule into `found`, checked. A copy, since an in-place ReLU may follow the layer."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if module not in names:
        near = ", ".join(get_close_matches(module, names, n=4, cutoff=0)) or "none"
        raise ReidError(f"{type(model).__name__} has no submodule {module!r}; nearest: {near}")

    def keep(layer: nn.Module, _, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ReidError(f"{module} gives no B×C×h×w map but {what}; try {_around(model, module)}")
        found.append(output.detach().clone())

    handle = model.get_submodule(module).register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _once(model: nn.Module, module: str, found: list[Tensor]) -> Tensor:
    """The output of a submodule that ran once. Of several runs no single one is the layer's map."""
    if len(found) != 1:
        ran = f"runs {len(found)} times" if found else "does not run"
        raise ReidError(
            f"{module} {ran} in a forward pass of {type(model).__name__}, where one run is wanted; try "
            f"{_around(model, module)}"
        )
    return found[0]


def _around(model: nn.Module, module: str) -> str:
    """Submodules to choose instead: those inside, or else those beside and around this one."""
    inside = [f"{module}.{name}" for name, _ in model.get_submodule(module).named_children()]
    parent = module.rpartition(".")[0]
    beside = [f"{parent}.{name}".strip(".") for name, _ in model.get_submodule(parent).named_children()]
    others = inside or [name for name in [parent, *beside] if name and name != module]
    return f"one of {', '.join(others[:6])}" if others else "another layer"


def _over_channels(maps: Tensor, channels: str, name: str) -> Tensor:
    """B × C × h × w to B × h × w, float32 on the CPU."""
    if maps[0, 0].numel() == 1:
        raise ReidError(f"{name} has one value a channel for the whole image, no places; choose a map that has some")
    if channels not in CHANNELS:
        raise ReidError(f"channels={channels!r}; choose one of {', '.join(CHANNELS)}")
    maps = maps.detach().float().cpu()
    return maps.mean(1) if channels == "mean" else maps.square().mean(1).sqrt()


def _for_each(values: Tensor, images: int, what: str) -> Tensor:
    """One value an image; a single one serves all. The library would leave images without one blank."""
    if len(values) not in (1, images):
        raise ReidError(f"{len(values)} {what} for {images} images; give one for each, or one for all")
    return values.expand(images, *values.shape[1:])


# --- held against the truth -------------------------------------------------------------------------------------------


def on_body(maps: Tensor, bodies: Tensor) -> np.ndarray:
    """How often a place on the person has a higher value than a place beside them, 0 to 1, one number an image.

    It is the area under the ROC curve of map against body, pixel by pixel: 0.5 where the map does not care, whatever
    its unit, scale or offset. maps: B × h × w. bodies: B × H × W, true on the person, each with pixels of both kinds.
    """
    flat = bodies.flatten(1).numpy()
    inside, outside = flat.sum(1), (~flat).sum(1)
    if len(maps) != len(bodies) or not (inside.all() and outside.all()):
        raise ReidError(
            f"{len(maps)} maps, {len(bodies)} bodies; give a body for each map, with pixels in and beside it"
        )
    values = enlarged(maps, (bodies.shape[1], bodies.shape[2])).flatten(1).numpy()
    ranks = rankdata(values, axis=1)  # ties share a rank: a flat map scores 0.5
    return ((ranks * flat).sum(1) / inside - (inside + 1) / 2) / outside


def bodies_table(columns: Mapping[str, Tensor], bodies: Tensor | None) -> Piece:
    """`on_body` of every column of a panel, in percent, and the same against the outline of another person.

    Most people stand in the middle of their box, so a map that is high in the middle of every image beats 50 % too. The
    outline of the next image's person takes that part off; what is left depends on this very image. bodies: None for
    photographs, whose outlines nobody knows.
    """
    if bodies is None:
        return Text("Photographs come without outlines of the people: only the stand-ins can be measured so.")
    others = bodies.roll(1, 0)
    head = [Column("map", "label"), "on the person over beside, %", "by another person's outline, %", "difference"]
    lines = []
    for title, maps in columns.items():
        own, other = on_body(maps, bodies), on_body(maps, others)
        means = [float(100 * shares.mean()) for shares in (own, other)]
        lines.append([title, *means, *difference_cells(statistics.difference([own], [other], np.arange(len(own))))])
    return table([*head, "95 % interval"], lines, f"{plural(len(bodies), 'image')}, one per person")


# --- images ---------------------------------------------------------------------------------------------------------


def overlay(images: Tensor, maps: Tensor, scale: str = "shared") -> Tensor:
    """Images in grey under the colours of their maps: uint8, B × 3 × H × W.

    images: uint8, B × 3 × H × W. maps: B × h × w, laid over the whole image, each cell at its own place.
    scale:  "shared": one range of values for all maps, so that a weak map looks weak; "each": a range for each, so that
            its shape shows, and nothing can be compared.

    Colours start at zero, or at the lowest value where there are negative ones. A map without anything above zero (or
    above its own lowest value) keeps its image in grey: rounding is not shown as a finding.
    """
    if scale not in SCALES[:2]:
        raise ReidError(f"scale={scale!r}; choose one of {', '.join(SCALES[:2])}")
    return _painted(images, maps, _ranges([maps], scale)[0])


def panel(images: Tensor, columns: Mapping[str, Tensor], rows: Sequence[str] = (), *, scale: str = "shared") -> Figure:
    """A row an image: the image as it is, then its map of every column, with the range of the colours under it.

    images:  uint8, B × 3 × H × W.
    columns: title: maps (B × h × w), one a network or layer; the size of a map in cells is printed under the title,
             which may have several lines.
    rows:    labels on the left, one an image.
    scale:   "shared": one range for each column; "each": one for each map, printed below it, where
             only shapes can be compared; "all": one range for all columns, if their values are of one kind.
    """
    if scale not in SCALES:
        raise ReidError(f"scale={scale!r}; choose one of {', '.join(SCALES)}")
    if rows and len(rows) != len(images):
        raise ReidError(f"{len(rows)} labels of rows for {len(images)} images; give one for each")
    high, wide = images.shape[2:]
    tile = high / wide  # inches; an image is one inch wide
    size = (1 + 1.04 * (1 + len(columns)), 0.9 + (tile + 0.15 * (scale == "each")) * len(images))
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0.05, hspace=0.02)
    figure = plt.figure(figsize=size, layout=layout)
    grid = figure.add_gridspec(len(images) + 1, 1 + len(columns), height_ratios=[tile] * len(images) + [0.07])
    panels = np.array(
        [[figure.add_subplot(grid[row, column]) for column in range(grid.ncols)] for row in range(len(images))]
    )
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, image in zip(panels[:, 0], images, strict=True):
        axes.imshow(image.permute(1, 2, 0).cpu().numpy())
    for axes, label in zip(panels[:, 0], rows, strict=False):
        axes.set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    panels[0, 0].set_title("picture\n", fontsize=8)
    ranges = _ranges(list(columns.values()), scale)
    for place, ((title, maps), spans) in enumerate(zip(columns.items(), ranges, strict=True), 1):
        painted = _painted(images, maps, spans)
        for axes, image, span in zip(panels[:, place], painted, spans, strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy())
            if span is None:
                axes.text(0.5, 0.5, "nothing\npositive", transform=axes.transAxes, ha="center", va="center", fontsize=7)
                axes.texts[0].set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5})
            elif scale == "each":
                axes.set_xlabel(" to ".join(_number(end) for end in span), fontsize=7, labelpad=1)
        words = "\n".join(fill(line, 16) for line in title.split("\n"))
        panels[0, place].set_title(f"{words}\n{maps.shape[1]}×{maps.shape[2]} cells", fontsize=8)
    groups = [(grid[-1, place], spans) for place, spans in enumerate(ranges, 1)]
    if scale == "all":
        groups = [(grid[-1, 1:], [span for spans in ranges for span in spans])]
    for place, spans in groups:
        if span := next((span for span in spans if span), None):  # without any there is nothing to read off
            _bar(figure, figure.add_subplot(place), span, scale)
    return finished(figure)


def channels_figure(masks: Tensor, groups: Mapping[str, int], title: str) -> Figure:
    """Weights of channels as a curve: in each group of channels sorted by their mean over the images.

    masks: B × C, as of `channel_mask`. groups: name: number of channels, in the order in which they lie in the mask.
    The band goes from the lowest to the highest image of each channel: no band, no dependence on the image.
    """
    if sum(groups.values()) != masks.shape[1]:
        raise ReidError(f"{dict(groups)} are {sum(groups.values())} channels, the mask has {masks.shape[1]}")
    figure, axes = plt.subplots(figsize=(8, 2.9), layout="constrained")
    first = 0
    for name, width in groups.items():
        part = masks[:, first : first + width]
        part = part[:, part.mean(0).argsort(descending=True)].numpy()
        places = np.arange(first, first + width)
        axes.fill_between(places, part.min(0), part.max(0), color="C0", alpha=0.3, linewidth=0)
        axes.plot(places, part.mean(0), color="C0", linewidth=1.2)
        axes.text(first + width / 2, 1.01, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
        if first:
            axes.axvline(first, color="0.7", linewidth=0.8)
        first += width
    axes.set(xlim=(0, first), xlabel="channel, sorted within its group", ylabel="weight")
    axes.set_title(title, fontsize=9, pad=16)
    return finished(figure)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps B × h × w over an image of `size` (H, W): bilinear, where the cells divide the image evenly.

    So the middle of a cell lies on the middle of its share of the image (not corner on corner, which would push
    every cell outwards). In a ResNet padding moves what a cell saw by up to half a cell more: edges are that uncertain.
    """
    return interpolate(maps[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]


def _painted(images: Tensor, maps: Tensor, spans: Sequence[tuple[float, float] | None]) -> Tensor:
    """Images under their maps, where `spans` are the values at both ends of the colours."""
    if images.dtype != torch.uint8 or images.ndim != 4 or maps.ndim != 3 or len(maps) != len(images):
        raise ReidError(
            f"images are {images.dtype}, {tuple(images.shape)}, maps {tuple(maps.shape)}; give uint8 B×3×H×W and B×h×w"
        )
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (images.cpu().float() * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)  # B × 3 × H × W
    large = enlarged(maps, (images.shape[2], images.shape[3]))
    painted = []
    for image, map_, span in zip(grey, large, spans, strict=True):
        if span is not None:
            low, high = span
            colours = colormaps[COLOURS](((map_ - low) / (high - low)).clamp(0, 1).numpy())[..., :3]
            image = (1 - SHARE) * image + SHARE * 255 * torch.from_numpy(colours).permute(2, 0, 1)
        painted.append(image.round().to(torch.uint8))
    return torch.stack(painted)


def _ranges(columns: Sequence[Tensor], scale: str) -> list[list[tuple[float, float] | None]]:
    """For each map of each column the lowest and highest value of its colours; None where there is nothing to show."""
    for maps in columns:
        if not maps.numel() or not torch.isfinite(maps).all():
            raise ReidError(f"maps of shape {tuple(maps.shape)} are empty or hold NaN or infinite values")
    everything = [_range(columns)] * len(columns) if scale == "all" else [_range([maps]) for maps in columns]
    return [
        [None if _flat(map_, whole) else _range([map_]) if scale == "each" else whole for map_ in maps]
        for maps, whole in zip(columns, everything, strict=True)
    ]


def _range(values: Sequence[Tensor]) -> tuple[float, float]:
    """From zero, or from the lowest value where there are negative ones, to the highest."""
    low, high = min(float(part.min()) for part in values), max(float(part.max()) for part in values)
    return min(low, 0.0) if high > 0 else low, high


def _flat(map_: Tensor, whole: tuple[float, float]) -> bool:
    low, high = _range([map_])
    return high - low <= EMPTY * max(abs(end) for end in whole)


def _bar(figure: Figure, axes: Axes, span: tuple[float, float], scale: str) -> None:
    """The colours of a column and what their ends stand for."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 1], labels=["low", "high"] if scale == "each" else [_number(end) for end in span])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)
    for text, side in zip(bar.ax.get_xticklabels(), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)


def _number(value: float) -> str:
    """Two digits, with a power of ten where those are far from the point: 0.034, 5.7·10⁻⁴."""
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{float(f'{value:.1e}'):g}".replace("-", "−")
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.replace('-', '−')}·10{str(int(power)).translate(_RAISED)}"
