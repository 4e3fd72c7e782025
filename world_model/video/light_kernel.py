"""The compiled kernel of `lighting.LearnedLight`, for pictures that ask for no gradient on a CPU: one pass over each row of an image."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .kernel_math import exponential

PANE = 0.1  # the least that a window may be of its wall
_ROWS = 16  # that are summed at once: memory is read in longer pieces
_LEAST = 1e-6  # of inverse depths squared
_LEAST_HAZE = -1e-4  # of it in a metre, which leaves nothing where there is no depth


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def light_picture(
    images, bits, looks, alike, sun, weights, sums, light, facade, windows, haze, beyond, above, beam, sides, places, nowhere, out
):
    """Write the colours and what haze leaves of things, [4, H, W], of images [C, H, W] in one weather, whose parameters these are.

    Args:
        images: float32, as `LearnedLight.forward` has them.
        bits: the same memory as whole numbers.
        looks: [4, H, W], see `gaze.gaze`.
        alike: [C] which of the things that are always painted alike a channel is, -1 for none, and their base colours [3, A].
        sun: [2, 3] where one more lamp stands, and its colour.
        weights: [6, C] of three colours and of what base colours count more.
        sums: [4, C] 1 or 0: of what `weights` count, of what stands, of anything, and of asphalt.
        light: [3, 2 + S] ambient, more from above, and from the sides.
        facade: [3, 2 + S] how that of walls with windows differs.
        windows: [2, 3] how much more the wall around counts in a lit one, and how much darker than that wall one is.
        haze: how much of it there is in a metre, where it begins in m, and the depth in m at which the inverse of depth is 1.
        beyond: [3, 2 K + 1] of a constant and K waves over the azimuth.
        above: [3, 3 + F] by powers of the height, and by features of the sky, whose channels begin at `places[7]`.
        beam: [3, H, W] what is added in the end.
        sides: [S, 2] directions.
        places: where the channels of colours, normals, inverse depth, shade, walls with windows, windows, lit ones and the sky begin.
        nowhere: height of what is not sky.
        out: float32.
    """
    colours, normals, depths, shades, walls, panes, lit, sky = places
    channels, rows, columns = images.shape
    unsaid, base = alike
    features, one = above.shape[1] - 3, np.float32(1.0)
    many, start, nearest = np.float32(-haze[0]), np.float32(haze[1]), np.float32(haze[2])
    behind = np.empty((3, columns), np.float32)
    for u in range(columns):
        for k in range(3):
            behind[k, u] = beyond[k, 0]
        if looks[1, 0, u] > nowhere:
            for wave in range(1, 1 + beyond.shape[1] // 2):
                angle = wave * math.pi * looks[0, 0, u]
                cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
                for k in range(3):
                    behind[k, u] += cos * beyond[k, 2 * wave - 1] + sin * beyond[k, 2 * wave]
    # of some rows at once three colours, more, clouds, what stands, anything, asphalt, and base colours left unsaid
    totals = np.empty((_ROWS, 15, columns), np.float32)
    left, bright = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for row in range(rows):
        first_row = row - row % _ROWS
        if row == first_row:
            for below in range(_ROWS):
                for k in range(15):
                    for u in range(columns):
                        totals[below, k, u] = 0.0
            for c in range(channels):
                for below in range(row, min(row + _ROWS, rows)):
                    some = np.int32(0)
                    for u in range(columns):
                        some |= bits[c, below, u]
                    if some == 0:
                        continue
                    values, total = images[c, below], totals[below - row]
                    if sums[0, c] != 0.0:
                        for k in range(6):
                            w = weights[k, c]
                            for u in range(columns):
                                total[k, u] += w * values[u]
                    if sky <= c < sky + features:
                        for k in range(3):
                            w = above[k, 3 + c - sky]
                            for u in range(columns):
                                total[6 + k, u] += w * values[u]
                    if unsaid[c] >= 0:
                        for k in range(3):
                            w = base[k, unsaid[c]]
                            for u in range(columns):
                                total[12 + k, u] += w * values[u]
                    for k in range(3):
                        if sums[1 + k, c] != 0.0:
                            for u in range(columns):
                                total[9 + k, u] += values[u]
        total = totals[row - first_row]
        red, green, blue = images[colours, row], images[colours + 1, row], images[colours + 2, row]
        for u in range(columns):
            near = images[depths, row, u]
            depth = max(nearest / max(near * near, np.float32(_LEAST)) - start, np.float32(0.0))
            through = exponential(many * depth) if near != 0.0 or many > _LEAST_HAZE else np.float32(0.0)
            left[u] = through * total[10, u]
            bright[u] = through * (one - images[shades, row, u])
        for k in range(3):
            for u in range(columns):
                total[k, u] *= bright[u]
        for u in range(columns):
            tint_r, tint_g, tint_b = red[u] + total[12, u], green[u] + total[13, u], blue[u] + total[14, u]
            if tint_r != 0.0 or tint_g != 0.0 or tint_b != 0.0:
                stands = total[9, u]
                asphalt = total[11, u]
                kept = (one - asphalt) * bright[u]
                each = one / max(stands, np.float32(0.05))
                x = (images[normals, row, u] * 2 - stands) * each
                y = (images[normals + 1, row, u] * 2 - stands) * each
                z = (images[normals + 2, row, u] * 2 - stands) * each
                share = images[walls, row, u] * each
                if images[lit, row, u] != 0.0:
                    for k in range(3):
                        around = max(one - windows[1, k] * images[panes, row, u], np.float32(PANE))
                        total[3 + k, u] += windows[0, k] * images[lit, row, u] / around
                if share == 0.0:
                    first, second, third = light[0, 0] + light[0, 1] * z, light[1, 0] + light[1, 1] * z, light[2, 0] + light[2, 1] * z
                    for s in range(sides.shape[0]):
                        facing = max(sides[s, 0] * x + sides[s, 1] * y, np.float32(0.0))
                        first += light[0, 2 + s] * facing
                        second += light[1, 2 + s] * facing
                        third += light[2, 2 + s] * facing
                else:
                    first = light[0, 0] + light[0, 1] * z + share * (facade[0, 0] + facade[0, 1] * z)
                    second = light[1, 0] + light[1, 1] * z + share * (facade[1, 0] + facade[1, 1] * z)
                    third = light[2, 0] + light[2, 1] * z + share * (facade[2, 0] + facade[2, 1] * z)
                    for s in range(sides.shape[0]):
                        facing = max(sides[s, 0] * x + sides[s, 1] * y, np.float32(0.0))
                        first += (light[0, 2 + s] + share * facade[0, 2 + s]) * facing
                        second += (light[1, 2 + s] + share * facade[1, 2 + s]) * facing
                        third += (light[2, 2 + s] + share * facade[2, 2 + s]) * facing
                facing = max(sun[0, 0] * x + sun[0, 1] * y + sun[0, 2] * z, np.float32(0.0))
                first, second, third = first + sun[1, 0] * facing, second + sun[1, 1] * facing, third + sun[1, 2] * facing
                total[0, u] += asphalt * red[u] + kept * tint_r * (one + total[3, u]) * first
                total[1, u] += asphalt * green[u] + kept * tint_g * (one + total[4, u]) * second
                total[2, u] += asphalt * blue[u] + kept * tint_b * (one + total[5, u]) * third
        for k in range(3):
            for u in range(columns):
                out[k, row, u] = total[k, u] + total[6 + k, u] + behind[k, u] * (one - left[u])
        for u in range(columns):
            height = looks[1, row, u]
            if height > nowhere and left[u] < one:
                seen, height = one - left[u], max(height, -one)
                for k in range(3):
                    out[k, row, u] += seen * (above[k, 0] + height * (above[k, 1] + height * above[k, 2]))
            out[3, row, u] = left[u]
        for k in range(3):
            for u in range(columns):
                out[k, row, u] += beam[k, row, u]
