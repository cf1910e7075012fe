"""Analytic ray casting of a batch of images: candidates, intersections, z-buffer. CPU and GPU, the same code.

Every operation on pixels is one that is rounded exactly whatever its place in a vector (+, -, x, /, square root,
comparison), so that an image's bits depend neither on the batch it is in nor on the number of threads. Points and
directions are tensors (3, N); the sums over their coordinates are written out, which fixes their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import geometry as g
from .parts import BOX, CONE, ELLIPSOID, FIGURE, FRUSTUM, RING
from .scene import Numbers

MISS = float("inf")
PIXELS = g.WIDTH * g.HEIGHT


@dataclass
class Batch(Numbers[Tensor]):
    """Several images and their P primitives, whose `material` counts over the batch."""

    images: int  # how many
    seed: Tensor  # (images,)
    image: Tensor  # (P,) int64, like own and order
    own: Tensor  # number of the material within the image
    order: Tensor  # counts an image's primitives and decides at exactly the same depth


def cone(o: Tensor, d: Tensor, length: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and rounded cone: the hull of a sphere `r0` at 0 and a sphere `r1` at `length` on the y axis.

    As of every kind, the answer is the ray's parameter at the entry, infinite where it misses.
    """
    slope = (r0 - r1) / length
    square = 1.0 - slope * slope
    cosine = torch.sqrt(square)
    best = torch.minimum(_sphere(o, d, r0), _sphere((o[0], o[1] - length, o[2]), d, r1))
    for t in _cone_side(o, d, r0 / cosine, slope / cosine):
        # The sphere that touches the side here must be one between the two ends.
        centre = (o[1] + t * d[1] - slope * r0) / square
        best = torch.where((centre >= 0) & (centre <= length), torch.minimum(best, t), best)
    return best


def frustum(o: Tensor, d: Tensor, length: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and cone with flat ends: radius `r0` at y = 0, `r1` at y = `length`."""
    best = torch.full_like(o[0], MISS)
    for t in _cone_side(o, d, r0, (r0 - r1) / length):
        y = o[1] + t * d[1]
        best = torch.where((y >= 0) & (y <= length), torch.minimum(best, t), best)
    for level, radius in ((torch.zeros_like(length), r0), (length, r1)):
        t, square = _level(o, d, level)
        best = torch.where(square <= radius * radius, torch.minimum(best, t), best)
    return best


def box(o: Tensor, d: Tensor, *_: Tensor) -> Tensor:
    """Ray and the cube from -1 to 1."""
    inverse = (1.0 / _safe(step) for step in d)
    ends = [((-1.0 - start) * i, (1.0 - start) * i) for start, i in zip(o, inverse, strict=True)]
    enter = torch.stack([torch.minimum(p, q) for p, q in ends]).amax(0)
    leave = torch.stack([torch.maximum(p, q) for p, q in ends]).amin(0)
    return torch.where(enter <= leave, enter, MISS)


def ring(o: Tensor, d: Tensor, _: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and flat ring at y = 0 between the radii."""
    t, square = _level(o, d, torch.zeros_like(r0))
    return torch.where((square >= r0 * r0) & (square <= r1 * r1), t, MISS)


def ellipsoid(o: Tensor, d: Tensor, *_: Tensor) -> Tensor:
    """Ray and the unit sphere, which an ellipsoid is in its local space."""
    return _sphere(o, d, torch.ones_like(o[0]))


INTERSECT = {CONE: cone, ELLIPSOID: ellipsoid, BOX: box, FRUSTUM: frustum, RING: ring}


def normals(kind: int, p: Tensor, d: Tensor, length: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Outward local normals (not of unit length) at local points of primitives of one kind."""
    if kind == ELLIPSOID:
        return p
    x, y, z = p
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    if kind == CONE:
        slope = (r0 - r1) / length
        centre = torch.minimum(torch.maximum((y - slope * r0) / (1.0 - slope * slope), zero), length)
        return torch.stack((x, y - centre, z))
    if kind == BOX:
        wide, high, deep = torch.abs(p)
        first = (wide >= high) & (wide >= deep)
        second = ~first & (high >= deep)
        return torch.where(torch.stack((first, second, ~(first | second))), p, 0.0)
    if kind == FRUSTUM:
        slope = (r0 - r1) / length
        radius = torch.sqrt(x * x + z * z)
        # On the side the distance to the cone is nothing; a flat end lies inside it, or at its rim.
        off_side = torch.abs(radius - (r0 - slope * y))
        off_bottom, off_top = torch.abs(y), torch.abs(y - length)
        flat = torch.minimum(off_bottom, off_top) < off_side
        way = torch.where(off_bottom < off_top, -one, one)
        normal = torch.stack((x, slope * radius, z))
        return torch.where(flat, torch.stack((zero, way, zero)), normal)
    return torch.stack((zero, torch.where(d[1] > 0, -one, one), zero))


def take(values: Tensor, which: Tensor) -> Tensor:
    """Chosen elements of the last axis (`index_select` is several times faster than `[..., which]`)."""
    return values.index_select(-1, which)


def cast(batch: Batch) -> list[Tensor]:
    """What every ray meets first.

    Returns the flat numbers of all pixels that show the person or would if nothing stood in front (some repeat); then
    of N hits: flat pixel numbers and primitives (N), local points, local normals, world normals (3, N).
    """
    chosen = {kind: torch.nonzero(batch.kind == kind).flatten() for kind in INTERSECT}
    found = [(kind, *_meet(batch, kind, some)) for kind, some in chosen.items() if len(some)]
    nearest = torch.full((batch.images * PIXELS,), torch.iinfo(torch.int64).max, device=batch.kind.device)
    for _, pixel, key, *_ in found:
        nearest.scatter_reduce_(0, pixel, key, "amin")
    hits = [_first(batch, nearest, *candidates) for candidates in found]
    return [torch.cat(parts, dim=-1) for parts in zip(*hits, strict=True)]


def _meet(batch: Batch, kind: int, chosen: Tensor) -> tuple[Tensor, ...]:
    """Rays of all candidates (primitive, pixel) of one kind.

    Returns pixel, key, primitive and place among all rays of those that hit; parameter, origin and direction of all.
    """
    left, top, right, bottom = batch.pixels[chosen].unbind(1)
    wide = right - left
    count = wide * (bottom - top)
    which = torch.repeat_interleave(count)
    begin = torch.cumsum(count, 0, dtype=torch.int32) - count
    offset = torch.arange(len(which), dtype=torch.int32, device=chosen.device) - take(begin, which)
    row = torch.div(offset, take(wide, which), rounding_mode="floor")
    column = offset - row * take(wide, which) + take(left, which)
    row = row + take(top, which)
    u, v = column.to(torch.float32) + 0.5, row.to(torch.float32) + 0.5

    packed = take(batch.packed[: g.AXES], take(chosen, which))
    depth = packed[g.DEPTH]
    across = u * packed[g.RAY_U : g.RAY_U + 3] + v * packed[g.RAY_V : g.RAY_V + 3]
    origin, ray = packed[g.START : g.START + 3] + depth * across, packed[g.RAY : g.RAY + 3] + across
    t = INTERSECT[kind](origin, ray, packed[g.LENGTH], packed[g.RADIUS0], packed[g.RADIUS1])
    far = depth + t
    hit = torch.nonzero((far > g.NEAREST) & (far < MISS)).flatten()
    primitive = take(chosen, take(which, hit))
    pixel = take(batch.image, primitive) * PIXELS + (take(row, hit) * g.WIDTH + take(column, hit))
    # A positive float's bits grow with its value: depth first, then the primitive's order within its image.
    key = (take(far, hit).view(torch.int32).to(torch.int64) << 20) | take(batch.order, primitive)
    return pixel, key, primitive, hit, t, origin, ray


def _first(
    batch: Batch, nearest: Tensor, kind: int, pixel: Tensor, key: Tensor, primitive: Tensor, hit: Tensor, *rays: Tensor
) -> tuple[Tensor, ...]:
    """What `cast` returns, of the candidates that are nearest on their pixels."""
    part = take(batch.part, primitive)
    figure = pixel[(part >= FIGURE[0]) & (part <= FIGURE[-1])]
    won = torch.nonzero(key == take(nearest, pixel)).flatten()
    primitive = take(primitive, won)
    t, origin, ray = (take(values, take(hit, won)) for values in rays)
    point = origin + t * ray
    packed = take(batch.packed[g.LENGTH : g.AXES + 9], primitive)
    axes = packed[g.AXES - g.LENGTH :]
    local = normals(kind, point, ray, *packed[:3])
    world = axes[0:3] * local[0] + axes[3:6] * local[1] + axes[6:9] * local[2]
    return figure, take(pixel, won), primitive, point, unit(local), unit(world)


def unit(p: Tensor) -> Tensor:
    """The vectors (3, N) at length 1; those of length 0 as they are."""
    size = torch.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
    return p / torch.where(size > 0, size, torch.ones_like(size))


def _safe(d: Tensor) -> Tensor:
    """The divisor, kept away from 0."""
    return torch.where(torch.abs(d) < 1e-9, torch.full_like(d, 1e-9), d)


def _level(o: Tensor, d: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Where the ray meets the plane y = `level`, and its squared distance there from the y axis."""
    t = (level - o[1]) / _safe(d[1])
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    return t, x * x + z * z


def _sphere(o: Tensor | tuple[Tensor, ...], d: Tensor, radius: Tensor) -> Tensor:
    """Entry into the sphere about 0."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    # Measured from the point of the ray nearest to the centre, which keeps small spheres far away exact.
    near = -b / a
    x, y, z = o[0] + near * d[0], o[1] + near * d[1], o[2] + near * d[2]
    rest = radius * radius - (x * x + y * y + z * z)
    return torch.where(rest >= 0, near - torch.sqrt(torch.clamp(rest, min=0.0) / a), MISS)


def _cone_side(o: Tensor, d: Tensor, radius: Tensor, slope: Tensor) -> list[Tensor]:
    """Both crossings of the side x^2 + z^2 = (radius - slope y)^2, infinite where there is none."""
    w, dw = radius - slope * o[1], -slope * d[1]
    a = _safe(d[0] * d[0] + d[2] * d[2] - dw * dw)
    b = o[0] * d[0] + o[2] * d[2] - w * dw
    c = o[0] * o[0] + o[2] * o[2] - w * w
    rest = b * b - a * c
    root = torch.sqrt(torch.clamp(rest, min=0.0))
    # The quadratic also holds on the mirrored cone beyond the tip.
    return [torch.where((rest >= 0) & (w + t * dw >= 0), t, MISS) for t in ((-b - root) / a, (-b + root) / a)]
