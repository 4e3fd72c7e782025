"""Compiled kernels of the learned maps of the ground and the sky, for pictures that ask for no gradient on a CPU.

Pixels that see nothing of a map are passed over.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(inline="always", fastmath=True, error_model="numpy")
def _pick(texels, turn, y, around, share, out, row, u):
    """Write `share` of texels [R, C, F] into out [F, H, W]: `turn` of the way around along columns, `y` along rows, which may go around."""
    rows, columns, features = texels.shape
    x = (turn - math.floor(turn)) * columns - np.float32(0.5)
    left, above = math.floor(x), math.floor(y)
    dx, dy = np.float32(x - left), np.float32(y - above)
    right, below = int(left) + 1, int(above) + 1
    left, above = right - 1 if right > 0 else columns - 1, below - 1
    right = right if right < columns else 0
    if above < 0:
        above = rows - 1 if around else 0
    if below == rows:
        below = 0 if around else rows - 1
    far, low = share * dx, share * dy
    a, b, c, d = share - far - low + far * dy, far - far * dy, low - far * dy, far * dy
    for k in range(features):
        out[k, row, u] = a * texels[above, left, k] + b * texels[above, right, k] + c * texels[below, left, k] + d * texels[below, right, k]


@njit(inline="always", fastmath=True, error_model="numpy")
def _looks_there(looks, layout, covers, row, nowhere, cover):
    """Whether any pixel of a row looks at the map, by `looks` [W] of it; if so, how much of each some channels cover, into `cover` [W]."""
    farthest = looks[0]
    for u in range(len(looks)):
        farthest = max(farthest, looks[u])
    if farthest <= nowhere:
        return False
    for u in range(len(looks)):
        cover[u] = 0.0
    for c in covers:
        for u in range(len(looks)):
            cover[u] += layout[c, row, u]
    return True


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def sample_ground(looks, layout, covers, texels, span, shares, nowhere, out):
    """Sample one of the maps, as `terrain.GroundMaps` says.

    Args:
        looks: [B, 4, H, W], see `gaze.gaze`.
        layout: [B, C, H, W] in [0, 1].
        covers: channels that say how much of a pixel there is of such ground.
        texels: [S, S, F].
        span: m after which the map begins again.
        shares: [H] of its features, by how long a pixel is.
        nowhere: place of what is not ground.
        out: [B, F, H, W] of zeros.
    """
    batch, _, height, width = out.shape
    often, side = np.float32(1.0 / span), texels.shape[0]
    cover = np.empty(width, np.float32)
    for b in range(batch):
        for row in range(height):
            if not _looks_there(looks[b, 2, row], layout[b], covers, row, nowhere, cover):
                continue
            for u in range(width):
                if cover[u] != 0.0 and looks[b, 2, row, u] > nowhere:
                    y = looks[b, 3, row, u] * often
                    y = (y - math.floor(y)) * side - np.float32(0.5)
                    _pick(texels, looks[b, 2, row, u] * often, y, True, cover[u] * shares[row], out[b], row, u)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def sample_sky(looks, layout, covers, texels, nowhere, out):
    """Sample the panorama [R, C, F] into out [B, F, H, W] of zeros, as `sky.SkyMap` says; the other arguments are as of `sample_ground`."""
    batch, _, height, width = out.shape
    rows, one, half = texels.shape[0], np.float32(1.0), np.float32(0.5)
    cover = np.empty(width, np.float32)
    for b in range(batch):
        for row in range(height):
            if not _looks_there(looks[b, 1, row], layout[b], covers, row, nowhere, cover):
                continue
            for u in range(width):
                if cover[u] < one and looks[b, 1, row, u] > nowhere:
                    y = min(max((looks[b, 1, row, u] + one) * half * rows - half, np.float32(0.0)), np.float32(rows - 1))
                    _pick(texels, (looks[b, 0, row, u] + one) * half, y, False, one - cover[u], out[b], row, u)
