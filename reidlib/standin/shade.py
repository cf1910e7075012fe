"""Colours of a batch of cast images: textures, light, background, and the camera's own look.

As in `raycast.py`, only exactly rounded operations and integer hashes touch pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import geometry as g
from . import parts
from .parts import PATTERNS, STRAPS
from .raycast import PIXELS, Batch, take


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


def patterned(m: Tensor, u: Tensor, v: Tensor, point: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Where a material shows its second colour, and where its strap (both as truth values).

    m              (16, N), rows of the materials
    u, v           texture coordinates, metres: sideways and along
    point, normal  (3, N), local points and unit normals; the local z axis points ahead on a torso
    """
    pattern, n0, n1, n2 = m[parts.M_PATTERN], m[parts.M_N0], m[parts.M_N1], m[parts.M_N2]
    front, wide = point[2] > 0, torch.abs(u)
    period = torch.clamp(n0, min=0.02)
    across, along = _frac(u / period + n2), _frac(v / period + n2)
    slanted = v - n1 - u * n0
    du, dv = across - 0.5, along - 0.5
    cell_u, cell_v = (torch.floor(w / 0.032).to(torch.int32) for w in (u, v))
    cells = hashed(cell_u, cell_v, (n0 * 65536.0).to(torch.int32))
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


def shaded(batch: Batch, primitive: Tensor, point: Tensor, normal: Tensor, world: Tensor) -> Tensor:
    """Linear light (3, N) that comes from what the rays hit (see `raycast.cast`)."""
    packed = take(batch.packed[g.TEX_U : g.PACKED], primitive)
    u = point[0] * packed[0] + packed[1]
    v = point[1] * packed[3] + packed[2]
    m = take(batch.materials, take(batch.material, primitive))
    second, strap = patterned(m, u, v, point, normal)
    light = take(batch.light, take(batch.image, primitive))
    nx, ny, nz = world
    facing = torch.clamp(nx * light[0] + ny * light[1] + nz * light[2], min=0.0)
    sky = 0.70 + 0.30 * ny
    folds = clouds(u * 9.0 + point[2] * packed[0] * 5.0, v * 6.0, take(batch.own, primitive).to(torch.int32))
    depth = 1.0 + m[parts.M_FOLDS] * 2.0 * (folds - 0.5)
    colours = m[parts.M_FIRST : parts.M_FIRST + 3], m[parts.M_SECOND : parts.M_SECOND + 3]
    albedo = torch.where(strap, m[parts.M_STRAP : parts.M_STRAP + 3], torch.where(second, colours[1], colours[0]))
    return albedo * albedo * depth * (light[3:6] * facing + light[6:9] * sky)


def backgrounds(batch: Batch, pixel: Tensor) -> Tensor:
    """Linear light (3, N) of ground and walls at flat pixel numbers (N), on which nothing stands."""
    image = torch.div(pixel, PIXELS, rounding_mode="floor")
    flat = pixel - image * PIXELS
    row = torch.div(flat, g.WIDTH, rounding_mode="floor")
    u, v = (flat - row * g.WIDTH).to(torch.float32) + 0.5, row.to(torch.float32) + 0.5
    ray, place, walls, light = (take(t, image) for t in (batch.ray, batch.place, batch.walls, batch.light))
    dx, dy, dz = (ray[i] + u * ray[3 + i] + v * ray[6 + i] for i in range(3))
    far = torch.full_like(dx, 60.0)
    height = place[0]
    t = torch.where(dy < -1e-4, height / torch.clamp(-dy, min=1e-4), far)
    which = torch.zeros_like(image)
    for wall in range(2):
        ahead = dx * walls[3 * wall] + dz * walls[3 * wall + 1]
        reach = torch.where(ahead > 1e-4, walls[3 * wall + 2] / torch.clamp(ahead, min=1e-4), far)
        which = torch.where(reach < t, 2 + wall, which)
        t = torch.minimum(t, reach)
    x, y, z = t * dx, height + t * dy, t * dz
    ground = which == 0
    which = torch.where(ground & (x * place[1] + z * place[2] > place[3]), 1, which)
    sine, cosine = (torch.where(which == 3, walls[3 + i], walls[i]) for i in range(2))
    along = torch.where(ground, x, x * cosine - z * sine)
    up = torch.where(ground, z, y)

    colour = _surface(take(batch.surfaces, which + image * 4), along, up, ground)
    shadow = torch.where(ground, _shadow(take(batch.shadows, image), x, z), 0.0)
    sun = light[3:6] * torch.where(ground, light[1], 0.35) * (1.0 - shadow)
    sky = light[6:9] * torch.where(ground, 1.0 - 0.45 * shadow, 0.75)
    return colour * colour * (sun + sky)


def _surface(s: Tensor, along: Tensor, up: Tensor, ground: Tensor) -> Tensor:
    """Colours (3, N) of surface points; `s` holds the rows of `scene.Scene.surfaces`, one column a pixel."""
    base, line, alt, plinth_colour, top_colour = (s[i : i + 3] for i in range(0, 15, 3))
    wide, high, joint_width, vary, alt_share, grain, grain_size, plinth, top, seed = s[15:]
    cu, cv = along / wide, up / high
    row = torch.floor(cv)
    # Every second row of small tiles is moved by half a tile, as bricks are.
    cu = cu + torch.where(high < 0.5 * wide + 0.02, 0.5 * (row - 2.0 * torch.floor(row * 0.5)), 0.0)
    column, down = torch.floor(cu).to(torch.int32), row.to(torch.int32)
    kind = seed.to(torch.int32)
    tile, other = hashed(column, down, kind + 7), hashed(down, column, kind + 19)
    half = 0.5 * joint_width
    fu, fv = _frac(cu) * wide, (cv - row) * high
    joint = (fu < half) | (wide - fu < half) | (fv < half) | (high - fv < half)
    coarse = clouds(along / grain_size, up / grain_size, kind + 31)
    fine = clouds(along / (0.37 * grain_size), up / (0.37 * grain_size), kind + 47)
    colour = torch.where(other < alt_share, alt, base) * (1.0 + vary * 2.0 * (tile - 0.5))
    colour = torch.where(joint, line, colour)
    colour = torch.where(~ground & (up > top), top_colour, colour)
    colour = torch.where(~ground & (up < plinth), plinth_colour, colour)
    return torch.clamp(colour * (1.0 + grain * (1.2 * (coarse - 0.5) + 0.8 * (fine - 0.5))), 0.03, 1.0)


def _shadow(casters: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """How much of the sun is kept from points of the ground, 0 to 1: soft streaks from the feet, dark at the feet."""
    total = torch.zeros_like(x)
    for caster in casters.unbind(0):
        fx, fz, ex, ez = caster
        px, pz, sx, sz = x - fx, z - fz, ex - fx, ez - fz
        length = torch.clamp(sx * sx + sz * sz, min=1e-6)
        share = torch.clamp((px * sx + pz * sz) / length, 0.0, 1.0)
        dx, dz = px - share * sx, pz - share * sz
        wide = 0.20 + 0.06 * share
        streak = torch.clamp(1.5 - torch.sqrt(dx * dx + dz * dz) / wide, 0.0, 1.0)
        contact = torch.clamp(1.0 - (px * px + pz * pz) / 0.16, 0.0, 1.0)
        total = torch.maximum(total, torch.maximum(streak * torch.where(length > 1e-3, 0.75, 0.0), 0.85 * contact))
    return total


def finished(linear: Tensor, batch: Batch) -> Tensor:
    """The camera's look: exposure, response, colour, blur, noise. (3, B * PIXELS) light to (B, 128, 64, 3) uint8."""
    look = batch.look[:, :, None, None]
    gains, (contrast, saturation, exposure, blur, coarse, noise) = look[:3], look[3:]
    light = linear.reshape(3, batch.images, g.HEIGHT, g.WIDTH)
    shown = torch.sqrt(torch.clamp(light * exposure * gains, min=0.0))
    grey = 0.30 * shown[0] + 0.59 * shown[1] + 0.11 * shown[2]
    colour = grey + saturation * (shown - grey)
    colour = 0.45 + contrast * (colour - 0.45)
    # Bright parts bend into white instead of breaking off.
    over = torch.clamp(colour - 0.75, min=0.0)
    colour = torch.clamp(colour, max=0.75) + over / (1.0 + 1.6 * over)
    colour = colour + blur * (_blurred(colour, 1) - colour)
    colour = colour + coarse * (_blurred(colour, 2) - colour)
    pixel = torch.arange(PIXELS, dtype=torch.int32, device=linear.device).reshape(g.HEIGHT, g.WIDTH)
    seed = batch.seed.to(torch.int32)[:, None, None]
    both, *own = (hashed(pixel, pixel * 0 + n, seed) + hashed(pixel, pixel * 0 + m, seed) - 1.0 for n, m in NOISE)
    # The sum of two uniform numbers has the standard deviation 0.41.
    colour = colour + noise * 2.45 * (0.8 * both + 0.6 * torch.stack(own))
    return torch.floor(torch.clamp(colour, 0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).permute(1, 2, 3, 0).contiguous()


NOISE = ((11, 12), (21, 31), (22, 32), (23, 33))
"""Numbers of the noise that all colours share, then of the noise of red, green and blue."""


def _blurred(image: Tensor, step: int) -> Tensor:
    """A binomial blur (over the last two axes) of three taps at the given distance both ways; the border repeats."""
    wide = torch.nn.functional.pad(image, (step, step, 0, 0), mode="replicate")
    across = 0.25 * wide[..., : -2 * step] + 0.5 * image + 0.25 * wide[..., 2 * step :]
    high = torch.nn.functional.pad(across, (0, 0, step, step), mode="replicate")
    return 0.25 * high[..., : -2 * step, :] + 0.5 * across + 0.25 * high[..., 2 * step :, :]
