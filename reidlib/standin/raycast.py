"""Analytic ray casting of a batch of images: candidates, intersections, z-buffer. CPU and GPU, the same code.

Every operation on pixels is one that is rounded exactly whatever its place in a vector (+, -, x, /, square root,
comparison), so that an image's bits depend neither on the batch it is in nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import geometry as g
from .parts import BOX, CONE, ELLIPSOID, FIGURE, FRUSTUM, RING

Point = tuple[Tensor, Tensor, Tensor]
MISS = float("inf")
PIXELS = g.WIDTH * g.HEIGHT


@dataclass
class Batch:
    """The primitives of several images.

    Attributes
    ----------
    packed : (geometry.PACKED, P) float32
    kind, image, material, own, part, order : (P,) int64
        `material` counts over the batch, `own` within the image.
        `order` counts an image's primitives and decides between two at exactly the same depth.
    pixels : (P, 4) int32
        Screen boxes; see `geometry.pack`.
    images : int
    """

    packed: Tensor
    kind: Tensor
    image: Tensor
    material: Tensor
    own: Tensor
    part: Tensor
    order: Tensor
    pixels: Tensor
    images: int


@dataclass
class Hits:
    """What the rays met first: flat pixel numbers, primitives, local points and normals, world normals (N each).

    `figure` are the flat numbers of all pixels that show the person or would if nothing stood in front (some repeat).
    """

    pixel: Tensor
    primitive: Tensor
    point: Point
    normal: Point
    world: Point
    figure: Tensor


@dataclass
class _Candidates:
    """Rays that hit primitives of one kind; `t`, `origin` and `ray` are of all rays, the others of those that `hit`."""

    kind: int
    hit: Tensor
    primitive: Tensor
    pixel: Tensor
    key: Tensor
    t: Tensor
    origin: Point
    ray: Point


def cone(o: Point, d: Point, length: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and rounded cone: the hull of a sphere `r0` at 0 and a sphere `r1` at `length` on the y axis.

    Returns
    -------
    Tensor
        The ray's parameter at the entry, infinite where it misses.
    """
    slope = (r0 - r1) / length
    square = 1.0 - slope * slope
    cosine = torch.sqrt(square)
    side = _cone_side(o, d, r0 / cosine, slope / cosine)
    best = torch.minimum(_sphere(o, d, r0), _sphere((o[0], o[1] - length, o[2]), d, r1))
    for t in side:
        # The sphere that touches the side here must be one between the two ends.
        centre = (o[1] + t * d[1] - slope * r0) / square
        best = torch.where((centre >= 0) & (centre <= length), torch.minimum(best, t), best)
    return best


def frustum(o: Point, d: Point, length: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and cone with flat ends: radius `r0` at y = 0, `r1` at y = `length`."""
    slope = (r0 - r1) / length
    best = torch.full_like(o[0], MISS)
    for t in _cone_side(o, d, r0, slope):
        y = o[1] + t * d[1]
        best = torch.where((y >= 0) & (y <= length), torch.minimum(best, t), best)
    down = _safe(d[1])
    for level, radius in ((torch.zeros_like(length), r0), (length, r1)):
        t = (level - o[1]) / down
        x, z = o[0] + t * d[0], o[2] + t * d[2]
        best = torch.where(x * x + z * z <= radius * radius, torch.minimum(best, t), best)
    return best


def ellipsoid(o: Point, d: Point, *_: Tensor) -> Tensor:
    """Ray and unit sphere (an ellipsoid in its local space)."""
    return _sphere(o, d, torch.ones_like(o[0]))


def box(o: Point, d: Point, *_: Tensor) -> Tensor:
    """Ray and the cube from -1 to 1."""
    enter = torch.full_like(o[0], -MISS)
    leave = torch.full_like(o[0], MISS)
    for start, step in zip(o, d, strict=True):
        inverse = 1.0 / _safe(step)
        p, q = (-1.0 - start) * inverse, (1.0 - start) * inverse
        enter = torch.maximum(enter, torch.minimum(p, q))
        leave = torch.minimum(leave, torch.maximum(p, q))
    return torch.where(enter <= leave, enter, MISS)


def ring(o: Point, d: Point, _: Tensor, r0: Tensor, r1: Tensor) -> Tensor:
    """Ray and flat ring at y = 0 between the radii."""
    t = -o[1] / _safe(d[1])
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    square = x * x + z * z
    return torch.where((square >= r0 * r0) & (square <= r1 * r1), t, MISS)


INTERSECT = {CONE: cone, ELLIPSOID: ellipsoid, BOX: box, FRUSTUM: frustum, RING: ring}


def normals(kind: int, p: Point, d: Point, length: Tensor, r0: Tensor, r1: Tensor) -> Point:
    """Outward local normals (not of unit length) at local points of primitives of one kind."""
    zero, one = torch.zeros_like(p[0]), torch.ones_like(p[0])
    if kind == ELLIPSOID:
        return p
    if kind == CONE:
        slope = (r0 - r1) / length
        centre = torch.minimum(torch.maximum((p[1] - slope * r0) / (1.0 - slope * slope), zero), length)
        return p[0], p[1] - centre, p[2]
    if kind == BOX:
        x, y, z = (torch.abs(q) for q in p)
        first = (x >= y) & (x >= z)
        second = ~first & (y >= z)
        return (
            torch.where(first, p[0], zero),
            torch.where(second, p[1], zero),
            torch.where(first | second, zero, p[2]),
        )
    if kind == FRUSTUM:
        slope = (r0 - r1) / length
        radius = torch.sqrt(p[0] * p[0] + p[2] * p[2])
        # On the side the distance to the cone is nothing; a flat end lies inside it, or at its rim.
        off_side = torch.abs(radius - (r0 - slope * p[1]))
        off_bottom, off_top = torch.abs(p[1]), torch.abs(p[1] - length)
        flat = torch.minimum(off_bottom, off_top) < off_side
        way = torch.where(off_bottom < off_top, -one, one)
        return torch.where(flat, zero, p[0]), torch.where(flat, way, slope * radius), torch.where(flat, zero, p[2])
    return zero, torch.where(d[1] > 0, -one, one), zero


def take(values: Tensor, which: Tensor) -> Tensor:
    """Chosen elements of the last axis (`index_select` is several times faster than `[..., which]`)."""
    return values.index_select(-1, which)


def cast(batch: Batch, culled: bool = True) -> Hits:
    """What every ray meets first. Without `culled`, every primitive is tried on every pixel (for tests)."""
    found = []
    for kind in INTERSECT:
        chosen = torch.nonzero(batch.kind == kind).flatten()
        if len(chosen):
            found.append(_meet(batch, kind, chosen, culled))
    pixel = torch.cat([f.pixel for f in found])
    key = torch.cat([f.key for f in found])
    nearest = torch.full((batch.images * PIXELS,), torch.iinfo(torch.int64).max, device=key.device)
    nearest.scatter_reduce_(0, pixel, key, "amin")
    hits = [_first(batch, f, nearest) for f in found]
    return Hits(
        torch.cat([h.pixel for h in hits]),
        torch.cat([h.primitive for h in hits]),
        _joined([h.point for h in hits]),
        _joined([h.normal for h in hits]),
        _joined([h.world for h in hits]),
        torch.cat([h.figure for h in hits]),
    )


def _meet(batch: Batch, kind: int, chosen: Tensor, culled: bool) -> _Candidates:
    """Rays of all candidates (primitive, pixel) of one kind; only those that hit are kept."""
    left, top, right, bottom = batch.pixels[chosen].unbind(1)
    if not culled:
        left, top = torch.zeros_like(left), torch.zeros_like(top)
        right, bottom = torch.full_like(right, g.WIDTH), torch.full_like(bottom, g.HEIGHT)
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
    starts, ways = [], []
    for i in range(3):
        across = u * packed[g.RAY_U + i] + v * packed[g.RAY_V + i]
        starts.append(packed[g.START + i] + depth * across)
        ways.append(packed[g.RAY + i] + across)
    origin, ray = _point(starts), _point(ways)
    shape = (packed[g.LENGTH], packed[g.RADIUS0], packed[g.RADIUS1])
    t = INTERSECT[kind](origin, ray, *shape)
    far = depth + t
    hit = torch.nonzero((far > g.NEAREST) & (far < MISS)).flatten()
    primitive = take(chosen, take(which, hit))
    pixel = take(batch.image, primitive) * PIXELS + (take(row, hit) * g.WIDTH + take(column, hit))
    # A positive float's bits grow with its value: depth first, then the primitive's order within its image.
    key = (take(far, hit).view(torch.int32).to(torch.int64) << 20) | take(batch.order, primitive)
    return _Candidates(kind, hit, primitive, pixel, key, t, origin, ray)


def _first(batch: Batch, f: _Candidates, nearest: Tensor) -> Hits:
    """Points and normals of the candidates that are nearest on their pixels."""
    part = take(batch.part, f.primitive)
    figure = f.pixel[(part >= FIGURE[0]) & (part <= FIGURE[-1])]
    won = torch.nonzero(f.key == take(nearest, f.pixel)).flatten()
    at, primitive = take(f.hit, won), take(f.primitive, won)
    t = take(f.t, at)
    ray = _point(take(d, at) for d in f.ray)
    point = _point(take(o, at) + t * d for o, d in zip(f.origin, ray, strict=True))
    packed = take(batch.packed[g.LENGTH : g.AXES + 9], primitive)
    axes = packed[g.AXES - g.LENGTH :]
    local = normals(f.kind, point, ray, *packed[:3])
    world = _point(axes[j] * local[0] + axes[3 + j] * local[1] + axes[6 + j] * local[2] for j in range(3))
    return Hits(take(f.pixel, won), primitive, point, _unit(local), _unit(world), figure)


def _point(coordinates: Iterable[Tensor]) -> Point:
    x, y, z = coordinates
    return x, y, z


def _joined(points: list[Point]) -> Point:
    return _point(torch.cat([p[i] for p in points]) for i in range(3))


def _unit(p: Point) -> Point:
    size = torch.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
    size = torch.where(size > 0, size, torch.ones_like(size))
    return p[0] / size, p[1] / size, p[2] / size


def _safe(d: Tensor) -> Tensor:
    """The divisor, kept away from 0."""
    return torch.where(torch.abs(d) < 1e-9, torch.full_like(d, 1e-9), d)


def _sphere(o: Point, d: Point, radius: Tensor) -> Tensor:
    """Entry into the sphere about 0."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    # Measured from the point of the ray nearest to the centre, which keeps small spheres far away exact.
    near = -b / a
    x, y, z = o[0] + near * d[0], o[1] + near * d[1], o[2] + near * d[2]
    rest = radius * radius - (x * x + y * y + z * z)
    return torch.where(rest >= 0, near - torch.sqrt(torch.clamp(rest, min=0.0) / a), MISS)


def _cone_side(o: Point, d: Point, radius: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Both crossings of the side x^2 + z^2 = (radius - slope y)^2, infinite where there is none."""
    w, dw = radius - slope * o[1], -slope * d[1]
    a = _safe(d[0] * d[0] + d[2] * d[2] - dw * dw)
    b = o[0] * d[0] + o[2] * d[2] - w * dw
    c = o[0] * o[0] + o[2] * o[2] - w * w
    rest = b * b - a * c
    root = torch.sqrt(torch.clamp(rest, min=0.0))
    crosses = rest >= 0
    result = []
    for t in ((-b - root) / a, (-b + root) / a):
        # The quadratic also holds on the mirrored cone beyond the tip.
        result.append(torch.where(crosses & (w + t * dw >= 0), t, MISS))
    return result[0], result[1]
