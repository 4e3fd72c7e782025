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
def sample_map(looks, layout, covers, texels, shift, often, around, shares, nowhere, out):
    """Sample a map [R, C, F] that begins again along columns into out [B, F, H, W] of zeros.

    Args:
        looks: [B, 2, H, W] where pixels look, along columns and rows.
        layout: [B, C, H, W] in [0, 1].
        covers: its channels of what shows the map, or, where that is not `around`, of what hides it.
        texels: [R, C, F].
        shift: of places.
        often: times that the map fits into a unit of places.
        around: whether it begins again along rows, too; else its border goes on.
        shares: [H] of its features, by row of the picture.
        nowhere: place of what does not look at it.
        out: of zeros.
    """
    batch, _, height, width = out.shape
    rows, zero, one, half = texels.shape[0], np.float32(0.0), np.float32(1.0), np.float32(0.5)
    shift, often = np.float32(shift), np.float32(often)
    cover = np.empty(width, np.float32)
    for b in range(batch):
        for row in range(height):
            if not _looks_there(looks[b, 1, row], layout[b], covers, row, nowhere, cover):
                continue
            for u in range(width):
                share = shares[row] * (cover[u] if around else max(one - cover[u], zero))
                if share != zero and looks[b, 1, row, u] > nowhere:
                    y = (looks[b, 1, row, u] + shift) * often
                    y = (y - math.floor(y) if around else y) * rows - half
                    y = y if around else min(max(y, zero), np.float32(rows - 1))
                    _pick(texels, (looks[b, 0, row, u] + shift) * often, y, around, share, out[b], row, u)
