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
    layout, images, bits, looks, alike, sun, weights, sums, light, facade, windows, haze, beyond, above, beam, ground, sides, places,
    nowhere, out,
):  # fmt: skip
    """Write the colours and what haze leaves of things, [4, H, W], of a layout [L, H, W] in one weather, whose parameters these are.

    Args:
        layout: uint8, 255 times what `LearnedLight.forward` has.
        images: [C - L, H, W] float32, the others of what that has.
        bits: the same memory as whole numbers.
        looks: [4, H, W], see `gaze.gaze`.
        alike: [C] which of the things that are always painted alike a channel is, -1 for none, and their base colours [3, A].
        sun: [2, 3] where one more lamp stands, and its colour.
        weights: [6, C] of three colours and of what base colours count more.
        sums: [5, C] 1 or 0: of what `weights` count and lies, of what they count and does not, of what stands, of ground, and of asphalt.
        light: [3, 2 + S] ambient, more from above, and from the sides.
        facade: [3, 2 + S] how that of walls with windows differs.
        windows: [2, 3] how much more the wall around counts in a lit one, and how much darker than that wall one is.
        haze: how much of it there is in a metre, where it begins in m, and the depth in m at which the inverse of depth is 1.
        beyond: [3, 2 K + 1] of a constant and K waves over the azimuth.
        above: [3, 3 + F] by powers of the height, and by features of the sky, whose channels begin at `places[7]`.
        beam: [3, H, W] what is added in the end.
        ground: [H] depth of flat ground by row, m.
        sides: [S, 2] directions.
        places: where the channels of colours, normals, inverse depth, shade, walls with windows, windows, lit ones and the sky begin.
        nowhere: height of what is not sky.
        out: float32.
    """
    colours, normals, depths, shades, walls, panes, lit, sky = places
    known, rows, columns = layout.shape
    unsaid, base = alike
    features, one, unit = above.shape[1] - 3, np.float32(1.0), np.float32(1 / 255)
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
    # of some rows at once three colours of ground and of the rest, more, clouds, what stands, ground, asphalt, base colours left unsaid
    totals = np.empty((_ROWS, 18, columns), np.float32)
    left, bright = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for row in range(rows):
        first_row = row - row % _ROWS
        if row == first_row:
            for below in range(_ROWS):
                for k in range(18):
                    for u in range(columns):
                        totals[below, k, u] = 0.0
            for c in range(known):
                for below in range(row, min(row + _ROWS, rows)):
                    values, total, some = layout[c, below], totals[below - row], np.uint8(0)
                    for u in range(columns):
                        some |= values[u]
                    if some == 0:
                        continue
                    if sums[0, c] != 0.0:
                        for k in range(3):
                            w = weights[k, c] * unit
                            for u in range(columns):
                                total[k, u] += w * np.float32(values[u])
                    if sums[1, c] != 0.0:
                        for k in range(6):
                            w = weights[k, c] * unit
                            for u in range(columns):
                                total[3 + k, u] += w * np.float32(values[u])
                    if unsaid[c] >= 0:
                        for k in range(3):
                            w = base[k, unsaid[c]] * unit
                            for u in range(columns):
                                total[15 + k, u] += w * np.float32(values[u])
                    for k in range(3):
                        if sums[2 + k, c] != 0.0:
                            for u in range(columns):
                                total[12 + k, u] += unit * np.float32(values[u])
            for c in range(known, known + len(images)):
                for below in range(row, min(row + _ROWS, rows)):
                    image, total, any_bit = images[c - known, below], totals[below - row], np.int32(0)
                    for u in range(columns):
                        any_bit |= bits[c - known, below, u]
                    if any_bit == 0:
                        continue
                    if sums[0, c] != 0.0:
                        for k in range(3):
                            w = weights[k, c]
                            for u in range(columns):
                                total[k, u] += w * image[u]
                    if sums[1, c] != 0.0:
                        for k in range(6):
                            w = weights[k, c]
                            for u in range(columns):
                                total[3 + k, u] += w * image[u]
                    if sky <= c < sky + features:
                        for k in range(3):
                            w = above[k, 3 + c - sky]
                            for u in range(columns):
                                total[9 + k, u] += w * image[u]
        total = totals[row - first_row]
        lines = layout[:, row]
        row_left = exponential(many * max(np.float32(ground[row]) - start, np.float32(0.0)))
        for u in range(columns):
            near = np.float32(lines[depths, u]) * unit
            depth = max(nearest / max(near * near, np.float32(_LEAST)) - start, np.float32(0.0))
            through = exponential(many * depth) if near != 0.0 or many > _LEAST_HAZE else np.float32(0.0)
            stands, lies = total[12, u], total[13, u]
            ground_left = row_left if stands > 0.0 else through
            lit_ground = ground_left * (one - min(np.float32(lines[shades, u]) * unit / max(lies, np.float32(0.05)), one))
            left[u] = through * stands + ground_left * lies
            bright[u] = through if stands > 0.0 else lit_ground
            for k in range(3):
                total[k, u] = total[k, u] * lit_ground + total[3 + k, u] * through
        for u in range(columns):
            red, green, blue = unit * lines[colours, u], unit * lines[colours + 1, u], unit * lines[colours + 2, u]
            tint_r, tint_g, tint_b = red + total[15, u], green + total[16, u], blue + total[17, u]
            if tint_r != 0.0 or tint_g != 0.0 or tint_b != 0.0:
                stands = total[12, u]
                mirrored, x, y, z, share = np.float32(0.0), np.float32(0.0), np.float32(0.0), one, np.float32(0.0)
                if stands > 0.0:
                    each = one / max(stands, np.float32(0.05))
                    x = (unit * lines[normals, u] * 2 - stands) * each
                    y = (unit * lines[normals + 1, u] * 2 - stands) * each
                    z = (unit * lines[normals + 2, u] * 2 - stands) * each
                    share = unit * lines[walls, u] * each
                else:
                    mirrored = total[14, u]
                kept = (one - mirrored) * bright[u]
                if lines[lit, u] != 0:
                    for k in range(3):
                        around = max(one - windows[1, k] * unit * lines[panes, u], np.float32(PANE))
                        total[6 + k, u] += windows[0, k] * unit * lines[lit, u] / around
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
                total[0, u] += mirrored * red + kept * tint_r * (one + total[6, u]) * first
                total[1, u] += mirrored * green + kept * tint_g * (one + total[7, u]) * second
                total[2, u] += mirrored * blue + kept * tint_b * (one + total[8, u]) * third
        for k in range(3):
            for u in range(columns):
                out[k, row, u] = total[k, u] + total[9 + k, u] + behind[k, u] * (one - left[u])
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
