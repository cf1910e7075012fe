"""Colours of a batch of cast images: textures, light, background, and the camera's own look.

As in `raycast.py`, only exactly rounded operations and integer hashes touch pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import geometry as g
from . import parts
from .parts import PATTERNS, STRAPS
from .raycast import PIXELS, Batch, Hits, Point, take


@dataclass
class Setting:
    """Per image (first axis of size B): the arrays of `scene.Scene` as tensors."""

    materials: Tensor
    surfaces: Tensor
    ray: Tensor
    place: Tensor
    walls: Tensor
    light: Tensor
    shadows: Tensor
    look: Tensor
    seed: Tensor


def hashed(x: Tensor, y: Tensor, seed: Tensor | int) -> Tensor:
    """A number in [0, 1) for each cell of integer coordinates (int32, wrapping)."""
    h = x * 374761393 + y * 668265263 + seed * 974711
    h = (h ^ (h >> 13)) * 1274126177
    h = h ^ (h >> 16)
    return (h & 0xFFFF).to(torch.float32) * (1.0 / 65536.0)


def clouds(u: Tensor, v: Tensor, seed: Tensor | int) -> Tensor:
    """Smooth noise in [0, 1) with cells of size 1."""
    fu, fv = torch.floor(u), torch.floor(v)
    x, y = fu.to(torch.int32), fv.to(torch.int32)
    a, b = u - fu, v - fv
    a, b = a * a * (3.0 - 2.0 * a), b * b * (3.0 - 2.0 * b)
    low = _mix(hashed(x, y, seed), hashed(x + 1, y, seed), a)
    high = _mix(hashed(x, y + 1, seed), hashed(x + 1, y + 1, seed), a)
    return _mix(low, high, b)


def _mix(p: Tensor, q: Tensor, share: Tensor) -> Tensor:
    return p + share * (q - p)


def _frac(x: Tensor) -> Tensor:
    return x - torch.floor(x)


def patterned(m: Tensor, u: Tensor, v: Tensor, point: Point, normal: Point) -> tuple[Tensor, Tensor]:
    """Where a material shows its second colour, and where its strap (both as truth values).

    Parameters
    ----------
    m : (parts.MATERIAL_LENGTH, N)
        Rows of the materials.
    u, v
        Texture coordinates, metres: sideways and along.
    point, normal
        Local points and unit normals; the local z axis points ahead on a torso.
    """
    pattern, n0, n1, n2 = m[parts.M_PATTERN], m[parts.M_N0], m[parts.M_N1], m[parts.M_N2]
    front, wide = point[2] > 0, torch.abs(u)
    period = torch.clamp(n0, min=0.02)
    across, along = _frac(u / period + n2), _frac(v / period + n2)
    slanted = v - n1 - u * n0
    du, dv = across - 0.5, along - 0.5
    cells = hashed(
        torch.floor(u / 0.032).to(torch.int32), torch.floor(v / 0.032).to(torch.int32), (n0 * 65536.0).to(torch.int32)
    )
    eyes = (v > 0.002) & (v < 0.024) & (wide > 0.012) & (wide < 0.042)
    mouth = (v > -0.052) & (v < -0.040) & (wide < 0.02)
    tests = {
        "stripes": along < n1,
        "vertical": across < n1,
        "checks": (along < 0.5) ^ (across < 0.5),
        "dots": du * du + dv * dv < 0.09,
        "print": front & (wide < n0) & (v > n1) & (v < n2) & (cells > 0.3),
        "halves": v < n0,
        "diagonal": (slanted > 0) & (slanted < n2),
        "side": torch.abs(normal[0]) > 0.78,
        "open": front & (wide < n0 + 0.12 * torch.clamp(v - 0.35, min=0.0)),
        "face": front & (eyes | mouth),
        "belt": (v > n0) & (v < n0 + 0.035),
    }
    second = torch.zeros_like(front)
    for name, test in tests.items():
        second |= (pattern == PATTERNS[name]) & test
    straps, side = m[parts.M_STRAPS], m[parts.M_SIDE]
    harness = front & (torch.abs(wide - 0.095) < 0.024) & (v > 0.24)
    sling = torch.abs((u * side + 0.10) * 0.91 + (v - 0.60) * 0.41) < 0.022
    strap = ((straps == STRAPS["backpack"]) & harness) | ((straps == STRAPS["shoulder"]) & sling)
    return second, strap


def shaded(batch: Batch, setting: Setting, hits: Hits) -> Tensor:
    """Linear light (3, N) that comes from what the rays hit."""
    packed = take(batch.packed[g.TEX_U : g.PACKED], hits.primitive)
    u = hits.point[0] * packed[0] + packed[1]
    v = hits.point[1] * packed[3] + packed[2]
    which = take(batch.material, hits.primitive)
    m = take(setting.materials, which)
    second, strap = patterned(m, u, v, hits.point, hits.normal)
    image = take(batch.image, hits.primitive)
    light = take(setting.light, image)
    nx, ny, nz = hits.world
    facing = torch.clamp(nx * light[0] + ny * light[1] + nz * light[2], min=0.0)
    sky = 0.70 + 0.30 * ny
    folds = clouds(u * 9.0 + hits.point[2] * packed[0] * 5.0, v * 6.0, take(batch.own, hits.primitive).to(torch.int32))
    depth = 1.0 + m[parts.M_FOLDS] * 2.0 * (folds - 0.5)
    colours = []
    for i in range(3):
        albedo = torch.where(second, m[parts.M_SECOND + i], m[parts.M_FIRST + i])
        albedo = torch.where(strap, m[parts.M_STRAP + i], albedo)
        colours.append(albedo * albedo * depth * (light[3 + i] * facing + light[6 + i] * sky))
    return torch.stack(colours)


def backgrounds(setting: Setting, images: int) -> Tensor:
    """Linear light (3, B * PIXELS) of ground and walls where nothing stands."""
    device = setting.ray.device
    flat = torch.arange(PIXELS, device=device)
    u = (flat % g.WIDTH).to(torch.float32)[None] + 0.5
    v = torch.div(flat, g.WIDTH, rounding_mode="floor").to(torch.float32)[None] + 0.5
    ray, place, walls, light = (t[:, :, None] for t in (setting.ray, setting.place, setting.walls, setting.light))
    dx, dy, dz = (ray[i] + u * ray[3 + i] + v * ray[6 + i] for i in range(3))
    far = torch.full_like(dx, 60.0)
    height = place[0]
    t = torch.where(dy < -1e-4, height / torch.clamp(-dy, min=1e-4), far)
    which = torch.zeros(dx.shape, dtype=torch.int64, device=device)
    for wall in range(2):
        ahead = dx * walls[3 * wall] + dz * walls[3 * wall + 1]
        reach = torch.where(ahead > 1e-4, walls[3 * wall + 2] / torch.clamp(ahead, min=1e-4), far)
        which = torch.where(reach < t, 2 + wall, which)
        t = torch.minimum(t, reach)
    x, y, z = t * dx, height + t * dy, t * dz
    ground = which == 0
    beyond = x * place[1] + z * place[2] > place[3]
    which = torch.where(ground & beyond, 1, which)
    second = which == 3
    sine = torch.where(second, walls[3], walls[0])
    cosine = torch.where(second, walls[4], walls[1])
    along = torch.where(ground, x, x * cosine - z * sine)
    up = torch.where(ground, z, y)

    row = which + torch.arange(images, device=device)[:, None] * 4
    s = take(setting.surfaces, row.reshape(-1)).reshape(-1, images, PIXELS)
    return _surface(s, along, up, which, ground, x, z, setting, light)


def _surface(
    s: Tensor,
    along: Tensor,
    up: Tensor,
    which: Tensor,
    ground: Tensor,
    x: Tensor,
    z: Tensor,
    setting: Setting,
    light: Tensor,
) -> Tensor:
    """Linear light of surface points; `s` holds the rows of `scene.Scene.surfaces`, one column a pixel."""
    cu, cv = along / s[15], up / s[16]
    column, row = torch.floor(cu), torch.floor(cv)
    # Every second row of small tiles is moved by half a tile, as bricks are.
    brick = torch.where(s[16] < 0.5 * s[15] + 0.02, 0.5 * (row - 2.0 * torch.floor(row * 0.5)), torch.zeros_like(row))
    column = torch.floor(cu + brick)
    kind = which.to(torch.int32)
    tile = hashed(column.to(torch.int32), row.to(torch.int32), kind + 7)
    other = hashed(row.to(torch.int32), column.to(torch.int32), kind + 19)
    half = 0.5 * s[17]
    fu, fv = _frac(cu + brick) * s[15], (cv - row) * s[16]
    joint = (fu < half) | (s[15] - fu < half) | (fv < half) | (s[16] - fv < half)
    coarse = clouds(along / s[21], up / s[21], kind + 31)
    fine = clouds(along / (0.37 * s[21]), up / (0.37 * s[21]), kind + 47)
    bright = 1.0 + s[18] * 2.0 * (tile - 0.5)
    grain = 1.0 + s[20] * (1.2 * (coarse - 0.5) + 0.8 * (fine - 0.5))
    low, high = ~ground & (up < s[22]), ~ground & (up > s[23])
    shadow = _shadow(setting, x, z)
    sun_side = torch.where(ground, light[1] * torch.ones_like(x), torch.full_like(x, 0.35))
    colours = []
    for i in range(3):
        base = torch.where(other < s[19], s[6 + i], s[i]) * bright
        base = torch.where(joint, s[3 + i], base)
        base = torch.where(low, s[9 + i], torch.where(high, s[12 + i], base)) * grain
        base = torch.clamp(base, 0.03, 1.0)
        sun = light[3 + i] * sun_side * torch.where(ground, 1.0 - shadow, torch.ones_like(x))
        sky = light[6 + i] * torch.where(ground, 1.0 - 0.45 * shadow, torch.full_like(x, 0.75))
        colours.append(base * base * (sun + sky))
    return torch.stack(colours).reshape(3, -1)


def _shadow(setting: Setting, x: Tensor, z: Tensor) -> Tensor:
    """How much of the sun is kept from points of the ground, 0 to 1: soft streaks from the feet, dark at the feet."""
    total = torch.zeros_like(x)
    for caster in setting.shadows.unbind(0):
        fx, fz, ex, ez = (part[:, None] for part in caster)
        px, pz, sx, sz = x - fx, z - fz, ex - fx, ez - fz
        length = torch.clamp(sx * sx + sz * sz, min=1e-6)
        share = torch.clamp((px * sx + pz * sz) / length, 0.0, 1.0)
        dx, dz = px - share * sx, pz - share * sz
        wide = 0.20 + 0.06 * share
        streak = torch.clamp(1.5 - torch.sqrt(dx * dx + dz * dz) / wide, 0.0, 1.0)
        contact = torch.clamp(1.0 - (px * px + pz * pz) / 0.16, 0.0, 1.0)
        total = torch.maximum(total, torch.maximum(streak * torch.where(length > 1e-3, 0.75, 0.0), 0.85 * contact))
    return total


def finished(linear: Tensor, setting: Setting, images: int) -> Tensor:
    """The camera's look: exposure, response, colour, blur, noise. (3, B * PIXELS) light to (B, 128, 64, 3) uint8."""
    look = setting.look
    light = linear.reshape(3, images, g.HEIGHT, g.WIDTH)

    def knob(i: int) -> Tensor:
        return look[i][:, None, None]

    shown = [torch.sqrt(torch.clamp(light[i] * knob(5) * knob(i), min=0.0)) for i in range(3)]
    grey = 0.30 * shown[0] + 0.59 * shown[1] + 0.11 * shown[2]
    out = []
    pixel = torch.arange(PIXELS, dtype=torch.int32, device=linear.device).reshape(1, g.HEIGHT, g.WIDTH)
    seed = setting.seed.to(torch.int32)[:, None, None]
    both = hashed(pixel, pixel * 0 + 11, seed) + hashed(pixel, pixel * 0 + 12, seed) - 1.0
    for i in range(3):
        colour = grey + knob(4) * (shown[i] - grey)
        colour = 0.45 + knob(3) * (colour - 0.45)
        # Bright parts bend into white instead of breaking off.
        over = torch.clamp(colour - 0.75, min=0.0)
        colour = torch.minimum(colour, torch.full_like(colour, 0.75)) + over / (1.0 + 1.6 * over)
        colour = colour + knob(6) * (_blurred(colour, 1) - colour)
        colour = colour + knob(7) * (_blurred(colour, 2) - colour)
        own = hashed(pixel, pixel * 0 + 21 + i, seed) + hashed(pixel, pixel * 0 + 31 + i, seed) - 1.0
        # The sum of two uniform numbers has the standard deviation 0.41.
        colour = colour + knob(8) * 2.45 * (0.8 * both + 0.6 * own)
        out.append(torch.floor(torch.clamp(colour, 0.0, 1.0) * 255.0 + 0.5))
    return torch.stack(out, dim=-1).to(torch.uint8)


def _blurred(image: Tensor, step: int) -> Tensor:
    """A binomial blur of three taps at the given distance both ways; the border repeats."""
    wide = torch.nn.functional.pad(image[:, None], (step, step, 0, 0), mode="replicate")[:, 0]
    across = 0.25 * wide[:, :, : -2 * step] + 0.5 * image + 0.25 * wide[:, :, 2 * step :]
    high = torch.nn.functional.pad(across[:, None], (0, 0, step, step), mode="replicate")[:, 0]
    return 0.25 * high[:, : -2 * step] + 0.5 * across + 0.25 * high[:, 2 * step :]
