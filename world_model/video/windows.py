"""Compiled kernels that put the windows of facades into the layout."""

from __future__ import annotations

import math

from numba import njit


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
def _overlap(place, footprint, low, high):
    """Share of [place - footprint / 2, place + footprint / 2] that lies in [low, high]."""
    half = 0.5 * max(footprint, 1e-3)
    return max(0.0, min(place + half, high) - max(place - half, low)) / (2 * half)


@njit(cache=True, nogil=True, fastmath=True)
def draw_windows(
    faces, depths, ground_faces, solid, normals, walls, windows, glass, tint, foot, light, pose, camera, factor, cover, out, bright, colour
):
    """How much of each pixel of `nearest` a window fills, what it looks like and how much light is behind it.

    Args:
        faces: [H, W] of `nearest`.
        depths: [H, W] of `nearest`.
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
    cells = glass.shape[1]
    height, width = out.shape
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    coarse = focal / factor
    last = ground_faces + len(solid)
    for row in range(height):
        dy = (row + 0.5 - height * 0.5) / coarse
        ahead = cp + dy * sp  # per metre of depth
        for column in range(width):
            out[row, column] = 0
            bright[row, column] = 0
            face, w = faces[row, column], depths[row, column]
            if face < ground_faces or face >= last:
                continue
            wall = face - ground_faces
            bay, storey = windows[wall, 0], windows[wall, 1]
            if bay <= 0:
                continue
            left = -(column + 0.5 - width * 0.5) / coarse
            rx, ry = ahead * cos - left * sin, ahead * sin + left * cos
            facing = abs(rx * normals[wall, 0] + ry * normals[wall, 1])
            depth = 1.0 / w
            x = pose[0] + forward * cos + rx * depth - solid[wall, 0, 0]
            y = pose[1] + forward * sin + ry * depth - solid[wall, 0, 1]
            along = (x * -normals[wall, 1] + y * normals[wall, 0]) / bay
            up = (above + depth * (sp - dy * cp)) / storey
            size = depth / coarse
            wide, tall = size * ahead / max(facing, 1e-3) / bay, size / storey
            kind = int(windows[wall, 6])
            filled, pane, glow = 0.0, 0.0, 0.0
            if wide > cells or tall > cells:  # as many windows as repeat: the mean of all
                filled = _shown(along, wide, windows[wall, 2], windows[wall, 3]) * _shown(up, tall, windows[wall, 4], windows[wall, 5])
                pane, glow = filled * glass[kind].mean(), filled * light[kind].mean()
            else:
                for storey_here in range(math.floor(up - 0.5 * tall), math.floor(up + 0.5 * tall) + 1):
                    over = _overlap(up - storey_here, tall, windows[wall, 4], windows[wall, 5])
                    i = int(storey_here + windows[wall, 8]) % cells
                    for bay_here in range(math.floor(along - 0.5 * wide), math.floor(along + 0.5 * wide) + 1):
                        share = over * _overlap(along - bay_here, wide, windows[wall, 2], windows[wall, 3])
                        j = int(bay_here + windows[wall, 7]) % cells
                        filled += share
                        pane += share * glass[kind, i, j]
                        glow += share * light[kind, i, j]
            out[row, column] = int(255 * min(filled, 1.0))
            bright[row, column] = int(255 * min(glow, 1.0))
            up_wall = up * storey / max(solid[wall, 2, 2] - solid[wall, 0, 2], 1e-3)
            shade = foot + (1.0 - foot) * min(max(up_wall, 0.0), 1.0)
            for c in range(3):
                here = colour[c, row, column] + cover[row, column] * walls[wall, c] * (shade * (1.0 - filled + pane * tint[c]) - 1.0)
                colour[c, row, column] = int(min(max(here + 0.5, 0.0), 255.0))
