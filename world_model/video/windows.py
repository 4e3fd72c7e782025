"""Compiled kernels that put the windows of facades into the layout."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ...facades import MULLION, SEAM, TEXELS
from .raster import NEAR, SHIFT, fine_pixel, in_view

_KEPT = 64


@njit(cache=True, nogil=True, fastmath=True)
def _shown(place, footprint, low, high):
    """Share of [place - footprint / 2, place + footprint / 2] that lies in [low, high] of a period of 1."""
    half = 0.5 * max(footprint, 1e-3)
    total = 0.0
    for sign in (1.0, -1.0):
        edge = place + sign * half
        whole = math.floor(edge)
        total += sign * (whole * (high - low) + min(max(edge - whole - low, 0.0), high - low))
    return total / (2 * half)


@njit(cache=True, nogil=True, fastmath=True)
def _left_of(place, low, high, cell, cells):
    """How much of [low, high] lies below a place when it is spread evenly over the cells, 1 / cells wide, that it touches."""
    whole = math.floor(place * cells)
    start = whole * cell
    before = min(max(start - low, 0.0), high - low)
    return before + (min(max(start + cell - low, 0.0), high - low) - before) * (place * cells - whole)


@njit(cache=True, nogil=True, fastmath=True)
def _overlap(place, footprint, low, high, cell, cells):
    """Share of [place - footprint / 2, place + footprint / 2] that [low, high] covers, spread over cells."""
    half = 0.5 * max(footprint, 1e-3)
    return (_left_of(place + half, low, high, cell, cells) - _left_of(place - half, low, high, cell, cells)) * (0.5 / half)


@njit(cache=True, nogil=True, fastmath=True)
def _lay_out(wall, normal, bay, storey, pose, camera, width, height, planes, edge):
    """How bays and storeys lie on a wall [4, 3] in the picture of width x height fine pixels.

    Where all of it is in the picture its corners are whole fine pixels, as they are in `raster`.

    Args:
        wall: [4, 3] corners.
        normal: [3] outward.
        bay: m, width of one.
        storey: m, height of one.
        pose: x, y, heading of the ego.
        camera: focal, height, forward, pitch.
        width: of the picture.
        height: of the picture.
        planes: [2, 3, 3] to be filled with inverse depth, bays times that and storeys times that, each as (at the first fine pixel, per
            one right, per one down), of either triangle of the wall.
        edge: [3] to be filled with what tells the first triangle from the second: edge[0] + edge[1] u + edge[2] v is not negative.
    """
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    bays = math.hypot(wall[1, 0] - wall[0, 0], wall[1, 1] - wall[0, 1]) / bay
    storeys = (wall[2, 2] - wall[0, 2]) / storey
    us, vs, values = np.empty(4), np.empty(4), np.empty((3, 4))
    whole = True
    for i in range(4):
        dx, dy = wall[i, 0] - pose[0], wall[i, 1] - pose[1]
        right, down, depth = in_view(dx, dy, wall[i, 2] - above, cos, sin, forward, cp, sp)
        if depth <= NEAR:
            whole = False
            break
        us[i], vs[i] = math.floor(fine_pixel(right / depth, focal, width)), math.floor(fine_pixel(down / depth, focal, height))
        whole = whole and 0 <= us[i] < width and 0 <= vs[i] < height
        values[0, i], values[1, i], values[2, i] = 1.0 / depth, (bays if 0 < i < 3 else 0.0) / depth, (storeys if i > 1 else 0.0) / depth
    for t in range(2 if whole else 0):
        x1, y1, x2, y2 = us[1 + t] - us[0], vs[1 + t] - vs[0], us[2 + t] - us[0], vs[2 + t] - vs[0]
        area = x1 * y2 - x2 * y1
        if area == 0:
            whole = False
            break
        for k in range(3):
            first, second = (values[k, 1 + t] - values[k, 0]) / area, (values[k, 2 + t] - values[k, 0]) / area
            right, down = first * y2 - second * y1, second * x1 - first * x2
            planes[t, k, 0], planes[t, k, 1], planes[t, k, 2] = values[k, 0] - right * us[0] - down * vs[0], right, down
    if whole:
        b, c = vs[2] - vs[0], us[0] - us[2]
        side = 1.0 if b * (us[1] - us[0]) + c * (vs[1] - vs[0]) > 0 else -1.0
        edge[0], edge[1], edge[2] = -side * (b * us[0] + c * vs[0]), side * b, side * c
        return
    ex, ey = pose[0] + forward * cos - wall[0, 0], pose[1] + forward * sin - wall[0, 1]
    off = min(-(ex * normal[0] + ey * normal[1]), -1e-3)  # m from the eye to the wall, into it
    beside = ey * normal[0] - ex * normal[1]  # m along it from its first corner
    into, aside = cos * normal[0] + sin * normal[1], cos * normal[1] - sin * normal[0]
    for k in range(3):  # in the first fine pixel, right, down
        u, v = (0.5 - SHIFT - 0.5 * width, 1.0, 0.0)[k] / focal, (0.5 - SHIFT - 0.5 * height, 0.0, 1.0)[k] / focal
        ahead, rise = (cp if k == 0 else 0.0) + v * sp, (sp if k == 0 else 0.0) - v * cp
        planes[0, 0, k] = (into * ahead - aside * u) / off
        planes[0, 1, k] = (beside * planes[0, 0, k] - aside * ahead - into * u) / bay
        planes[0, 2, k] = (above * planes[0, 0, k] + rise) / storey
    edge[0], edge[1], edge[2] = 1.0, 0.0, 0.0


@njit(cache=True, nogil=True, fastmath=True)
def _seen_of(windows, glass, light, plane, w, u, v, wide, tall):
    """What is seen of a wall, `windows` [9], around a place u, v of the picture in `wide` x `tall` fine pixels.

    `plane` and the inverse depth w there are of `_lay_out`, for the rest see `draw_windows`.

    Returns:
        shares of the pixels: windows, these times how bright their glass is, and the light behind them, seams; and storeys up.
    """
    along = (plane[1, 0] + plane[1, 1] * u + plane[1, 2] * v) / w
    up = (plane[2, 0] + plane[2, 1] * u + plane[2, 2] * v) / w
    across, high = abs(plane[1, 1] - along * plane[0, 1]) / w, abs(plane[2, 2] - up * plane[0, 2]) / w
    step = TEXELS * (across + abs(plane[2, 1] - up * plane[0, 1]) / w)
    cell, fine = 1.0 / TEXELS, float(TEXELS)  # what one colour fills, as the reference world's renderer picks it
    while step >= 1 and cell < 1:
        step, cell, fine = 0.5 * step, 2 * cell, 0.5 * fine
    wide, tall = wide * across, tall * high  # bays and storeys
    cells, kind = glass.shape[1], int(windows[6])
    filled, pane, glow, seam = 0.0, 0.0, 0.0, 0.0
    if wide > cells or tall > cells:  # as many windows as repeat: the mean of all
        filled = _shown(along, wide, windows[2], windows[3]) * _shown(up, tall, windows[4], windows[5])
        pane, glow, seam = filled * glass[kind].mean(), filled * light[kind].mean(), 1 / TEXELS
    else:
        framed = windows[3] - windows[2] == 1.0
        for storey_here in range(math.floor(up - 0.5 * tall), math.floor(up + 0.5 * tall) + 1):
            over = _overlap(up - storey_here, tall, windows[4], windows[5], cell, fine)
            seam += _overlap(up - storey_here, tall, 0.0, 1 / TEXELS, cell, fine)
            i = int(storey_here + windows[8]) % cells
            for bay_here in range(math.floor(along - 0.5 * wide), math.floor(along + 0.5 * wide) + 1):
                share = over * _overlap(along - bay_here, wide, windows[2], windows[3], cell, fine)
                j = int(bay_here + windows[7]) % cells
                filled += share
                glow += share * light[kind, i, j]
                if framed:
                    share -= (1.0 - MULLION) * over * _overlap(along - bay_here, wide, 0.0, 1 / TEXELS, cell, fine)
                pane += share * glass[kind, i, j]
    return min(filled, 1.0), pane, min(glow, 1.0), seam, up


@njit(cache=True, nogil=True, fastmath=True)
def draw_windows(
    buffer, ground_faces, solid, normals, walls, windows, glass, tint, foot, light, pose, camera, factor, cover, out, bright, colour
):
    """How much of each pixel windows fill, what they look like and how much light is behind them, of every wall that is seen in it.

    Args:
        buffer: [factor H, factor W] index of the face seen in each fine pixel.
        ground_faces: the index of the first of the walls.
        solid: [Q, 4, 3] the walls.
        normals: [Q, 3] of them.
        walls: [Q, 3] their colours in [0, 1].
        windows: [Q, 9] of `RoadMesh`.
        glass: [K, C, C] brightness of the glass, see `facades.window_patterns`.
        tint: [3] what glass of brightness 1 makes of the colour of its wall.
        foot: brightness of a wall at its foot over that at its top.
        light: [K, C, C] brightness of light behind it.
        pose: x, y, heading of the ego.
        camera: focal, height, forward, pitch.
        factor: fine pixels of a pixel.
        cover: [H, W] 0 to 255, how much of a pixel buildings cover.
        out: [H, W] 0 to 255, to be filled with the share of windows.
        bright: [H, W] 0 to 255, to be filled with that of light behind them.
        colour: [3, H, W] 0 to 255, base colours, in which glass takes the place of walls.
    """
    height, width = out.shape
    last = ground_faces + len(solid)
    known = np.full(_KEPT, -1, np.int64)  # walls laid out last, by their index modulo _KEPT
    laid, edges = np.empty((_KEPT, 2, 3, 3)), np.empty((_KEPT, 3))
    here = np.empty(factor * factor, np.int64)  # walls in a pixel, how many fine pixels each has, and the first and last columns and rows
    parts, spans = np.empty(factor * factor, np.int64), np.empty((factor * factor, 4), np.int64)
    for row in range(height):
        for column in range(width):
            out[row, column] = 0
            bright[row, column] = 0
            if cover[row, column] == 0:
                continue
            count = _walls_in(buffer, row * factor, column * factor, factor, ground_faces, last, here, parts, spans)
            filled_here, glow_here, change = 0.0, 0.0, (0.0, 0.0, 0.0)
            for k in range(count):
                wall, part = here[k], parts[k] / (factor * factor)
                bay, storey = windows[wall, 0], windows[wall, 1]
                if bay <= 0:
                    continue
                kept = wall % _KEPT
                planes, edge = laid[kept], edges[kept]
                if wall != known[kept]:
                    known[kept] = wall
                    _lay_out(solid[wall], normals[wall], bay, storey, pose, camera, width * factor, height * factor, planes, edge)
                u, v = column * factor + 0.5 * (spans[k, 0] + spans[k, 1]), row * factor + 0.5 * (spans[k, 2] + spans[k, 3])
                plane = planes[0 if edge[0] + edge[1] * u + edge[2] * v >= 0 else 1]
                w = plane[0, 0] + plane[0, 1] * u + plane[0, 2] * v
                if w <= 0:
                    continue
                wide, tall = spans[k, 1] - spans[k, 0] + 1, spans[k, 3] - spans[k, 2] + 1
                filled, pane, glow, seam, up = _seen_of(windows[wall], glass, light, plane, w, u, v, wide, tall)
                filled_here, glow_here = filled_here + part * filled, glow_here + part * glow
                shade = foot + (1.0 - foot) * min(max(up * storey / max(solid[wall, 2, 2] - solid[wall, 0, 2], 1e-3), 0.0), 1.0)
                look = shade * (1.0 - filled - (1.0 - SEAM) * seam) - 1.0
                change = (
                    change[0] + part * walls[wall, 0] * (look + shade * pane * tint[0]),
                    change[1] + part * walls[wall, 1] * (look + shade * pane * tint[1]),
                    change[2] + part * walls[wall, 2] * (look + shade * pane * tint[2]),
                )
            out[row, column] = int(255 * filled_here)
            bright[row, column] = int(255 * glow_here)
            for c in range(3):
                if change[c] != 0.0:
                    colour[c, row, column] = int(min(max(colour[c, row, column] + 255 * change[c] + 0.5, 0.0), 255.0))


@njit(cache=True, nogil=True)
def _walls_in(buffer, row, column, factor, first, last, here, parts, spans):
    """How many walls are seen in the pixel whose fine ones begin at `row` and `column` of the buffer: faces from `first` to before `last`.

    `here` is filled with them, less `first`, `parts` with the number of fine pixels of each, and `spans` with the first and last columns
    and rows of these in the pixel.
    """
    count = 0
    for i in range(factor):
        for j in range(factor):
            face = buffer[row + i, column + j]
            if face < first or face >= last:
                continue
            k = 0
            while k < count and here[k] != face - first:
                k += 1
            if k == count:
                here[k], parts[k], count = face - first, 0, count + 1
                spans[k, 0], spans[k, 1], spans[k, 2], spans[k, 3] = j, j, i, i
            parts[k] += 1
            spans[k, 0], spans[k, 1], spans[k, 3] = min(spans[k, 0], j), max(spans[k, 1], j), i
    return count
