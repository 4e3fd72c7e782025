"""Signal heads as faces: their housings, and their lenses by what they show."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ...lamps import LENS_FACE, SIGNAL_GLEAM


@njit(cache=True, nogil=True)
def box_faces(box, low, high, quads, normals, n):
    """Append the six sides of a box (x, y, heading, length, width) between two heights; returns the new count."""
    cos, sin = math.cos(box[2]), math.sin(box[2])
    lx, ly = box[3] * 0.5, box[4] * 0.5
    fx = (lx, -lx, -lx, lx)
    fy = (ly, ly, -ly, -ly)
    for side in range(4):
        a, b = side, (side + 1) % 4
        for corner in range(4):
            k = a if corner == 0 or corner == 3 else b
            z = low if corner < 2 else high
            quads[n, corner, 0] = box[0] + fx[k] * cos - fy[k] * sin
            quads[n, corner, 1] = box[1] + fx[k] * sin + fy[k] * cos
            quads[n, corner, 2] = z
        ox = 0.0 if fx[a] != fx[b] else (1.0 if fx[a] > 0 else -1.0)
        oy = 0.0 if fy[a] != fy[b] else (1.0 if fy[a] > 0 else -1.0)
        normals[n, 0], normals[n, 1], normals[n, 2] = ox * cos - oy * sin, ox * sin + oy * cos, 0.0
        n += 1
    for up in (1.0, -1.0):
        for corner in range(4):
            quads[n, corner, 0] = box[0] + fx[corner] * cos - fy[corner] * sin
            quads[n, corner, 1] = box[1] + fx[corner] * sin + fy[corner] * cos
            quads[n, corner, 2] = high if up > 0 else low
        normals[n, 0], normals[n, 1], normals[n, 2] = 0.0, 0.0, up
        n += 1
    return n


@njit(cache=True, nogil=True)
def signal_faces(heads, states, pose, forward, reach, lens_reach, housing, first_lens, size, lenses, tints, out, n):
    """Append the housing and the lenses of each signal head near the ego; returns the new count.

    Args:
        heads: [S, 4] x, y, z, heading served.
        states: [S] SignalState.
        pose: x, y, heading of the ego.
        forward: m from there to the camera.
        reach: m, how far the housing is seen.
        lens_reach: m ahead of the camera, how far the lenses are.
        housing: the Face of what is not lit, lenses too, which have a colour of their own.
        first_lens: the Face of a lit red lens, before those of yellow and green.
        size: m deep, wide, tall.
        lenses: [3, L, 4, 3] of `roadside.LENSES`.
        tints: [states, 3, 3] of `roadside.LENS_COLOURS`.
        out: quads [F, 4, 3], normals [F, 3], classes [F], slots [F] (-2 - s), colours [F, 3] and gleams [F, 3] (what a wet road mirrors of
            a face), to be filled from n on.
        n: faces that are there.
    """
    quads, normals, classes, slots, colours, gleams = out
    box = np.empty(5, np.float64)
    ego_cos, ego_sin = math.cos(pose[2]), math.sin(pose[2])
    for s in range(heads.shape[0]):
        dx, dy = heads[s, 0] - pose[0], heads[s, 1] - pose[1]
        room = quads.shape[0] - n
        if (heads[s, 0] == 0 and heads[s, 1] == 0) or dx * dx + dy * dy > reach * reach or room < 6 + 3 * lenses.shape[1]:
            continue
        cos, sin = math.cos(heads[s, 3]), math.sin(heads[s, 3])
        z = heads[s, 2]
        box[0], box[1], box[2], box[3], box[4] = heads[s, 0], heads[s, 1], heads[s, 3], size[0], size[1]
        end = box_faces(box, z - 0.5 * size[2], z + 0.5 * size[2], quads, normals, n)
        for i in range(n, end):
            classes[i] = housing
            slots[i] = -2 - s
            colours[i] = 0.0
            gleams[i] = 0.0
        n = end
        if dx * ego_cos + dy * ego_sin - forward > lens_reach:
            continue
        for lens in range(3):
            lit = states[s] == lens + 1
            for face in range(lenses.shape[1]):
                for corner in range(4):
                    ahead, left = lenses[lens, face, corner, 0], lenses[lens, face, corner, 1]
                    quads[n, corner, 0] = heads[s, 0] + ahead * cos - left * sin
                    quads[n, corner, 1] = heads[s, 1] + ahead * sin + left * cos
                    quads[n, corner, 2] = z + lenses[lens, face, corner, 2]
                normals[n, 0], normals[n, 1], normals[n, 2] = -cos, -sin, 0.0
                classes[n] = first_lens + lens if lit else housing
                slots[n] = -2 - s
                for c in range(3):
                    colours[n, c] = 0.0 if lit else tints[states[s], lens, c]
                    gleams[n, c] = SIGNAL_GLEAM * tints[states[s], lens, c] if lit and face == LENS_FACE else 0.0
                n += 1
    return n
