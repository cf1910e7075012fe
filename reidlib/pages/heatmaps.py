"""Where a network looks: activations and Grad-CAM, beside images that a rule chose.

Grad-CAM: Selvaraju et al., ICCV 2017; the library is `grad-cam`. It was made for classifiers on single images, and some
of what it takes for granted does not hold here: it stretches every map to the same height, rounding noise too, changes
the network's mode and drops its gradients. The guards stand where they are needed, each with its reason.

Maps are B × h × w, float32, on the CPU, in the cells of the layer that they come from, as the formula gives them:
nothing is normalised before it is drawn.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from random import Random
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.path import Path
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from reidlib.data.table import DISTRACTOR
from reidlib.pages.figures import PHOTOGRAPHS, SMOOTH, finished
from reidlib.spec import ReidError, check_choice
from reidlib.standin.parts import FIGURE

CHANNELS = ("mean", "energy")
SCALES = ("each", "shared")

COLOURS, SIGNED = "inferno", "RdBu_r"
"""Colour maps whose lightness changes evenly, so that equal steps of a value look equal, in grey print too: dark to
bright, and for values of both signs blue to red with white at zero."""

TILE = 2.0
"""Height of an image in a panel, inches; it is one inch wide, as the boxes of people are."""

EMPTY, EVEN = 1e-6, 0.01
"""A map whose values differ by less than the first share of the largest value drawn with it holds nothing but rounding;
by less than the second share of its own largest value, it has no contrast. Neither gets a colour."""

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
    """For each chosen image another one of the person, from another camera, drawn by the seed.

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


def grad_cam(model: nn.Module, images: Tensor, module: str, labels: Sequence[int] | None = None) -> Tensor:
    """Which places of a layer speak for a class: max(0, Σ over channels of mean gradient × activation), B × h × w.

    images and module as `activation`'s. The score of a class is its logit, averaged over the classifiers.
    labels: one class label for each image; None: the class with the highest score. A query shows nobody of the training
            set: the question is then "why the training person whom the network takes this one for?".

    Unit: that of the score. In a network that ends in an average and a linear layer the places of an image sum up to
    its score, before negative ones are cut off. A map of zeros is an answer: nothing here speaks for the class.

    The model is left as it was; frozen submodules have maps too. Raises ReidError where the score does not depend on
    the layer by a gradient.
    """
    found: list[Tensor] = []
    with _undisturbed(model, images), _tapped(model, module, found):
        layer = model.get_submodule(module)
        # Hooks run in order. The first makes the layer's output the place where gradients start: all weights are frozen
        # meanwhile, and what comes before may run without gradients, as FMN's global network does before its mask.
        start = layer.register_forward_hook(lambda _, __, output: output.detach().requires_grad_(True))
        cam = _RawGradCAM(_Scores(model, module, labels, found), [layer])
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

    def __init__(self, model: nn.Module, module: str, labels: Sequence[int] | None, found: list[Tensor]) -> None:
        super().__init__()
        self.model, self.module, self.labels, self.found = model, module, labels, found

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.stack(list(self.model(images).logits)).mean(0)  # B × K
        _once(self.model, self.module, self.found)
        labels = logits.argmax(1) if self.labels is None else torch.as_tensor(self.labels, device=logits.device)
        if len(labels) != len(logits) or not (labels.ge(0) & labels.lt(logits.shape[1])).all():
            raise ReidError(
                f"labels {labels.tolist()} for {len(logits)} images and {logits.shape[1]} classes; give each image a "
                "class label from 0"
            )
        scores = logits.gather(1, labels[:, None].long())
        if not scores.requires_grad:  # it does not come from the layer, the one place where gradients start
            raise ReidError(
                f"no gradient of the score reaches {self.module}: it has no part in the score, or it runs without "
                "gradients; choose another layer, or give the submodule that runs without gradients as the model"
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
        if not np.isfinite(terms).all():  # no comparison below would notice it: the map would be one of zeros
            raise ReidError(f"the score or the layer's map {_NOT_FINITE}")
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


_NOT_FINITE = "holds NaN or infinite values; look at the weights of the network and at these images"


def deviation(maps: Tensor) -> Tensor:
    """Maps as the deviation from their mean in each image, for layers whose zero has no meaning (a bias, BatchNorm)."""
    return maps - maps.mean((1, 2), keepdim=True)


def _over_channels(maps: Tensor, channels: str, name: str) -> Tensor:
    """B × C × h × w to B × h × w, float32 on the CPU."""
    if not torch.isfinite(maps).all():
        raise ReidError(f"{name} {_NOT_FINITE}")
    if maps[0, 0].numel() == 1:
        raise ReidError(f"{name} has one value a channel for the whole image, no places; choose a map that has some")
    check_choice(name, "way to join channels", channels, CHANNELS)
    maps = maps.detach().float().cpu()
    return maps.mean(1) if channels == "mean" else maps.square().mean(1).sqrt()


# --- images -----------------------------------------------------------------------------------------------------------


def panel(
    images: Tensor,
    columns: Mapping[str, Tensor],
    rows: Sequence[str] = (),
    *,
    masks: Tensor | None = None,
    scale: str = "shared",
    across: bool = False,
) -> Figure:
    """A row for each image: the image, then its map of every column, each in the map's own cells.

    Every image has the shape of a person's box, twice as tall as wide, whatever the network's input.

    images:  uint8, B × 3 × H × W.
    columns: title: maps (B × h × w), one for each network or layer; the size of a map in cells is printed under the
             title, which may have several lines.
    rows:    labels on the left, one for each image.
    masks:   B × any size, the part masks of `standin.parts`: the outline of the person is drawn on image and maps.
    scale:   "shared": one range of colours for each column, printed under it; "each": one for each map, printed below
             it, where only shapes can be compared.
    across:  images stand side by side and their maps below them; every map has its own range.

    Colours go from the lowest to the highest value, so that the differences within a map are seen; the numbers say how
    large they are. Where a column has negative values, white is zero. A map without differences has no colour:
    rounding is not shown as a finding.
    """
    check_choice("a panel of maps", "scale", scale, SCALES)
    if rows and len(rows) != len(images):
        raise ReidError(f"{len(rows)} labels of rows for {len(images)} images; give one for each")
    scale = "each" if across else scale
    first, second = (1 + len(columns), len(images)) if across else (len(images), 1 + len(columns))
    size = (1 + 1.04 * second, 0.9 + (TILE + 0.18 * (scale == "each")) * first)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.02, wspace=0.05, hspace=0.02)
    figure = plt.figure(figsize=size, layout=layout)
    grid = figure.add_gridspec(first + 1, second, height_ratios=[TILE] * first + [0.07])
    panels = np.array([[figure.add_subplot(grid[row, column]) for column in range(second)] for row in range(first)])
    panels = panels.T if across else panels  # images × (image and maps)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0), facecolor="0.85")
        axes.spines[:].set_visible(False)
    whole = dict(extent=(0, 1, 1, 0), aspect="auto")
    for number, (axes, image) in enumerate(zip(panels[:, 0], images, strict=True)):
        axes.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="none", gid=f"{SMOOTH}-{number}", **whole)
    for axes, label in zip(panels[:, 0], rows, strict=False):
        _name(axes, label, above=across)
    _name(panels[0, 0], "image\n", above=not across)
    for place, (title, maps) in enumerate(columns.items(), 1):
        _check(images, maps)
        spans, colours = _spans(maps, scale), SIGNED if maps.min() < 0 else COLOURS
        for axes, map_, span in zip(panels[:, place], maps, spans, strict=True):
            if span is None:
                axes.text(0.5, 0.5, "no\ncontrast", ha="center", va="center", fontsize=8)
                continue
            axes.imshow(map_.numpy(), cmap=colours, norm=Normalize(*span), interpolation="none", **whole)
            if scale == "each":
                ends = (float(map_.min()), float(map_.max()))
                axes.set_xlabel(" to ".join(map(_number, ends)), fontsize=8, labelpad=1)
        words = "\n".join(fill(line, 15) for line in title.split("\n"))
        _name(panels[0, place], f"{words}\n{maps.shape[1]}×{maps.shape[2]} cells", above=not across)
        span = next((span for span in spans if span), None)  # without any there is nothing to read off
        if span and not across:
            _bar(figure.add_subplot(grid[-1, place]), colours, span, scale)
    light = [False, *(bool(maps.min() < 0) for maps in columns.values())]
    for line, mask in zip(panels, masks if masks is not None else [], strict=False):
        for axes, on_white in zip(line, light, strict=True):
            _outline(axes, mask, "black" if on_white else "white")
    many = f"{len(images)} images, each with its maps in their own cells"
    return finished(figure, PHOTOGRAPHS, f"{many}: {', '.join(' '.join(title.split()) for title in columns)}")


def _outline(axes: Axes, mask: Tensor, colour: str) -> None:
    """The edge of the person whom an image shows, and of what they carry, on whatever lies below it."""
    person = torch.isin(mask, torch.tensor(FIGURE)).numpy()
    high, wide = person.shape
    places = (np.arange(wide) + 0.5) / wide, (np.arange(high) + 0.5) / high
    around = "black" if colour == "white" else "white"
    edge: list[patheffects.AbstractPathEffect] = [patheffects.Stroke(linewidth=1.8, foreground=around, alpha=0.5)]
    edge.append(patheffects.Normal())
    outline = axes.contour(*places, person, levels=[0.5], colors=colour, linewidths=0.8)
    outline.set_path_effects(edge)
    paths = []
    for path in outline.get_paths():  # a step along a straight line needs no point of its own
        path.simplify_threshold = 0.0005
        short = path.cleaned(simplify=True)
        points, codes = np.asarray(short.vertices), np.asarray(short.codes)
        paths.append(Path(points[:-1], codes[:-1]))  # the last one only says that the path ends
    outline.set_paths(paths)


def _name(axes: Axes, words: str, *, above: bool) -> None:
    if above:
        axes.set_title(words, fontsize=9)
    else:
        axes.set_ylabel(words.strip(), fontsize=9, rotation=0, ha="right", va="center")


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


def _check(images: Tensor, maps: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or maps.ndim != 3 or len(maps) != len(images):
        raise ReidError(
            f"images are {images.dtype}, {tuple(images.shape)}, maps {tuple(maps.shape)}; give uint8 B×3×H×W and B×h×w"
        )
    if not maps.numel() or not torch.isfinite(maps).all():
        raise ReidError(f"maps of shape {tuple(maps.shape)} are empty or hold NaN or infinite values")


def _spans(maps: Tensor, scale: str) -> list[tuple[float, float] | None]:
    """For each map the values at both ends of its colours, of maps with negative values as far below zero as above;
    None where it has no contrast."""
    whole = (float(maps.min()), float(maps.max()))
    spans: list[tuple[float, float] | None] = []
    for map_ in maps:
        own = (float(map_.min()), float(map_.max()))
        least = max(EMPTY * max(map(abs, whole)), EVEN * max(map(abs, own)))
        low, high = own if scale == "each" else whole
        ends = (low, high) if whole[0] >= 0 else (-max(-low, high), max(-low, high))
        spans.append(None if own[1] - own[0] <= least else ends)
    return spans


def _bar(axes: Axes, colours: str, span: tuple[float, float], scale: str) -> None:
    """The colours of a column and what their ends stand for."""
    bar = axes.figure.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes, orientation="horizontal")
    ends = ["low", "high"] if colours == COLOURS else ["−", "+"]
    ends = ends if scale == "each" else [_number(end) for end in span]
    middle = {0.5: "0"} if colours == SIGNED else {}
    ticks = {0.0: ends[0], **middle, 1.0: ends[1]}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # one image, not a shape for each of 256 colours
    labels = bar.ax.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def _number(value: float) -> str:
    """Two digits, with a power of ten where those are far from the point: 0.034, 5.7·10⁻⁴."""
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return f"{float(f'{value:.1e}'):g}".replace("-", "−")
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.replace('-', '−')}·10{str(int(power)).translate(_RAISED)}"
