"""Compiled kernels for what lights and shades the ground of a layout: lamps that a wet road mirrors, and what keeps the light away."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ...light import HAZE_FROM, RAIN_HAZE
from .raster import BACKGROUND, beside_view, fill, in_view, project

_SPAN = 20.0  # m, more than a triangle of shade is long


@njit(cache=True, nogil=True, fastmath=True)
def add_gleam(quads, gleams, pose, camera, factor, inverse_depth, out):
    """Add the light of faces [Q, 4, 3] (world), gleams [Q, 3] in [0, 1], to where nothing stands before them: out [3, H, W], 0 to 255.

    As much of it is added as comes through the rain.
    """
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    points = np.empty((4, 3), np.float32)
    us, vs, ws = np.empty(12, np.float32), np.empty(12, np.float32), np.empty(12, np.float32)
    owner = np.full(inverse_depth.shape, BACKGROUND, np.int32)
    total = np.zeros(out.shape, np.float32)
    for q in range(quads.shape[0]):
        for i in range(4):
            dx, dy = quads[q, i, 0] - pose[0], quads[q, i, 1] - pose[1]
            points[i, 0], points[i, 1], points[i, 2] = in_view(dx, dy, quads[q, i, 2] - above, cos, sin, forward, cp, sp)
        left_over = math.exp(-max(points[:, 2].mean() - HAZE_FROM, 0.0) / RAIN_HAZE)
        n = project(points, 4, focal, inverse_depth.shape[0], inverse_depth.shape[1], us, vs, ws)
        if n < 3:
            continue
        fill(us, vs, n, q, owner)
        left, right = int(us[:n].min()), int(us[:n].max())
        for row in range(int(vs[:n].min()), int(vs[:n].max()) + 1):
            for column in range(left, right + 1):
                if owner[row, column] == q and inverse_depth[row, column] == 0:
                    for c in range(3):
                        total[c, row // factor, column // factor] += left_over * gleams[q, c]
    scale = 255.0 / (factor * factor)
    for c in range(3):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                if total[c, row, column] > 0:
                    out[c, row, column] = min(255, int(out[c, row, column] + scale * total[c, row, column] + 0.5))


@njit(cache=True, nogil=True, fastmath=True)
def lay_shade(triangles, reach, pose, camera, layers, seen):
    """Add 1 to the fine pixels of layers [h, w] that each of the triangles [K, 3, 2] (world) covers on open ground, within reach in m.

    seen [4] is widened to the rows and columns, first and last, where there is any.
    """
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    eye_x, eye_y = pose[0] + forward * cos, pose[1] + forward * sin
    points = np.empty((3, 3), np.float32)
    us, vs, ws = np.empty(12, np.float32), np.empty(12, np.float32), np.empty(12, np.float32)
    half_view = 0.5 * layers.shape[1] / focal
    for k in range(triangles.shape[0]):
        dx, dy = triangles[k, 0, 0] - eye_x, triangles[k, 0, 1] - eye_y
        if dx * dx + dy * dy > reach * reach or beside_view(dx * cos + dy * sin, dy * cos - dx * sin, _SPAN, half_view):
            continue
        for i in range(3):
            dx, dy = triangles[k, i, 0] - pose[0], triangles[k, i, 1] - pose[1]
            points[i, 0], points[i, 1], points[i, 2] = in_view(dx, dy, -above, cos, sin, forward, cp, sp)
        n = project(points, 3, focal, layers.shape[0], layers.shape[1], us, vs, ws)
        if n < 3:
            continue
        fill(us, vs, n, 1, layers, True)
        seen[0], seen[1] = min(seen[0], int(vs[:n].min())), max(seen[1], int(vs[:n].max()))
        seen[2], seen[3] = min(seen[2], int(us[:n].min())), max(seen[3], int(us[:n].max()))


@njit(cache=True, nogil=True, fastmath=True)
def average_shade(layers, light, inverse_depth, seen, factor, out):
    """How much darker the ground is, out [H, W] uint8, where `light` is what a layer lets through; standing faces are not."""
    scale = 255.0 / (factor * factor)
    for row in range(seen[0] // factor, seen[1] // factor + 1):
        for column in range(seen[2] // factor, seen[3] // factor + 1):
            total = 0.0
            for i in range(row * factor, row * factor + factor):
                for j in range(column * factor, column * factor + factor):
                    if layers[i, j] > 0 and inverse_depth[i, j] == 0:
                        total += 1 - light ** layers[i, j]
            out[row, column] = int(scale * total + 0.5)
