"""Procedural textures that tile: asphalt, grass and fields, facades by style, and the sky all around."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..facades import CELLS, GLASS, MULLION, SEAM, TEXELS, WINDOWS, panes
from ..road import SceneryKind
from ..scene import Appearance
from .atmosphere import LOOKS, Look

Texels = npt.NDArray[np.float32]

ASPHALT_SPAN = 32.0  # m covered by one repeat
GRASS_SPAN = 192.0  # m
SKY_COLUMNS = 1440  # columns of the panorama, 0.25 degrees each


def cloudy(height: int, width: int, cells: int, seed: int, octaves: int = 4) -> npt.NDArray[np.float32]:
    """Smooth noise [height, width] in [0, 1] that repeats at its borders; `cells` across at its coarsest."""
    rng = np.random.default_rng(seed)
    out, weight = np.zeros((height, width), np.float32), 1.0
    for octave in range(octaves):
        columns = cells * 2**octave
        rows = max(2, round(columns * height / width))
        grid = rng.random((rows, columns)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        scale_y, scale_x = height // rows + 1, width // columns + 1
        fine = cv2.resize(grid, ((columns + 4) * scale_x, (rows + 4) * scale_y), interpolation=cv2.INTER_CUBIC)
        fine = fine[2 * scale_y : -2 * scale_y, 2 * scale_x : -2 * scale_x]
        out += weight * cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
        weight *= 0.55
    out -= out.min()
    return out / out.max()


def opaque(rgb: npt.NDArray[np.floating]) -> Texels:
    """Texels [H, W, 4] of colours [H, W, 3] or grey [H, W]."""
    rgb = rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, -1)
    return np.concatenate((rgb, np.ones_like(rgb[..., :1])), -1).astype(np.float32)


def asphalt(size: int = 128) -> Texels:
    """Grain, stains, mended patches and cracks; at most 1, to be multiplied with the road's colour."""
    rng = np.random.default_rng(11)
    grey = 0.83 + 0.17 * cloudy(size, size, 6, 12) + rng.normal(0, 0.03, (size, size))
    for _ in range(5):
        y, x = rng.integers(0, size - 24, 2)
        height, width = rng.integers(5, 22, 2)
        grey[y : y + height, x : x + width] *= rng.choice([0.88, 1.05])
    for _ in range(4):
        walk = np.cumsum(rng.integers(-1, 2, size // 3)) + rng.integers(8, size - 8)
        start = rng.integers(0, size - size // 3)
        grey[(start + np.arange(len(walk))), walk % size] *= 0.86
    return opaque(grey.clip(0, 1))


def grass(town: bool, size: int = 256) -> Texels:
    """Lawn in a town, elsewhere a patchwork of fields; at most 1, to be multiplied with the grass's colour."""
    rng = np.random.default_rng(21)
    tone = 0.78 + 0.22 * cloudy(size, size, 24, 22) + rng.normal(0, 0.03, (size, size))
    tint = np.ones((size, size, 3))
    if not town:
        seeds = rng.uniform(0, size, (22, 2))
        y, x = np.mgrid[0:size, 0:size]
        gap = np.abs(np.stack((y, x), -1)[:, :, None] - seeds)
        gap = np.minimum(gap, size - gap)
        field = (gap[..., 0] + 0.7 * gap[..., 1]).argmin(-1)
        kinds = np.array([(1.0, 1.0, 1.0), (0.88, 0.92, 0.85), (1.0, 0.96, 0.90), (1.15, 0.95, 0.80), (0.80, 0.88, 0.82)])
        tint = kinds[rng.integers(0, len(kinds), len(seeds))][field]
        furrows = 1.0 - 0.05 * (np.sin(x * 1.3 + field * 0.7) > 0.3) * (field % 3 == 0)
        tint = tint * furrows[..., None]
    return opaque((tone[..., None] * tint).clip(0, 1))


def facade(kind: SceneryKind, appearance: Appearance) -> Texels:
    """Windows in a wall, CELLS to a side, rows upward; lit here and there after dark."""
    look, windows = LOOKS[appearance], panes(kind, appearance)
    dark = look.lamps and not look.rain
    wall = np.array(look.ambient) * 0.95 if dark else np.ones(3)
    rgb = np.broadcast_to(wall, (CELLS * TEXELS, CELLS * TEXELS, 3)).copy()
    x0, x1, y0, y1 = WINDOWS[kind]
    for i in range(CELLS):
        for j in range(CELLS):
            glass = np.array(GLASS) * windows.shade[i, j] * (np.array(look.ambient) if dark else 1.0)
            if windows.lit[i, j]:
                glass = np.array((1.0, 0.84, 0.55)) * windows.glow[i, j]
            y, x = i * TEXELS, j * TEXELS
            rgb[y + y0 : y + y1, x + x0 : x + x1] = glass
            rgb[y, x : x + TEXELS] = SEAM * wall
            if x1 - x0 == TEXELS:
                rgb[y + y0 : y + y1, x] *= MULLION
    return opaque(rgb)


def panorama(look: Look, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The sky [len(rows), SKY_COLUMNS, 3] in [0, 1] at elevations `rows` (rad), eastward first, turning counter-clockwise."""
    height = np.clip(rows / np.radians(26.0), 0, 1)[:, None, None] ** 0.7
    sky = np.array(look.horizon) * (1 - height) + np.array(look.zenith) * height
    noise = cloudy(256, SKY_COLUMNS, 9, 31)
    away = 1 / np.tan(np.clip(rows, np.radians(1.5), None) + np.radians(5.0))
    picked = noise[(away * 22).astype(int) % 256]
    cover = np.clip((picked - look.clear) * 3.2, 0, 1)[..., None] * np.clip(rows / np.radians(5.0), 0, 1)[:, None, None]
    azimuth = np.arange(SKY_COLUMNS) / SKY_COLUMNS * 2 * np.pi
    towards = np.cos(azimuth - np.arctan2(look.sun[1], look.sun[0])) * max(0.0, 1 - 1.6 * look.sun[2])
    glow = np.clip(towards, 0, 1)[None, :, None] ** 3 * (1 - height) * look.glow
    lit = np.array(look.cloud) + glow * np.array((0.5, 0.25, 0.05))
    return np.clip(sky * (1 - 0.75 * cover) + lit * 0.75 * cover + glow * np.array((0.35, 0.18, 0.05)), 0, 1).astype(np.float32)
