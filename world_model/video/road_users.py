"""Faces of road users for the layout: the bodies of those before the camera, posed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ...bodies import BLEACHED, FIXED, VAN, Paint, body, face_normals
from ...lamps import BRAKING, GLEAM, HEADLIGHT_ON, TAIL_ON
from ...scene import AgentKind
from .faces import Face

SHAPES = VAN + 1
_FACES = {
    Paint.GLASS: Face.CABIN, Paint.TYRE: Face.WHEEL, Paint.HEAD: Face.FRONT_LAMP, Paint.SIGN: Face.DISPLAY,
    Paint.TAIL: Face.REAR_LAMP, Paint.STOP: Face.STOP_LAMP,
}  # fmt: skip

_LAMPS = {
    Paint.HEAD: np.stack((HEADLIGHT_ON, HEADLIGHT_ON)), Paint.SIGN: np.stack((FIXED[Paint.SIGN], FIXED[Paint.SIGN])),
    Paint.TAIL: np.stack((TAIL_ON, BRAKING)), Paint.STOP: np.stack((np.zeros(3), BRAKING)),
}  # fmt: skip  # not braking and braking


def _tables() -> tuple[NDArray[Any], ...]:
    """By shape: corners [K, F, 4, 3] and normals [K, F, 3] in fractions of the box, Face, tint [.., 4], gleam [.., 2, 3], number of faces.

    A tint is the share of the agent's own colour, and what is added to it; a gleam is what a wet road mirrors of a lamp that is on, not
    braking and braking.
    """
    bodies = [body(shape) for shape in range(SHAPES)]
    most = max(len(b.paint) for b in bodies)
    corners, normals = np.zeros((SHAPES, most, 4, 3)), np.zeros((SHAPES, most, 3))
    classes, tint, gleam = np.zeros((SHAPES, most), np.int64), np.zeros((SHAPES, most, 4)), np.zeros((SHAPES, most, 2, 3))
    for shape, its in enumerate(bodies):
        rest = Face.PERSON if shape in (AgentKind.BICYCLE, AgentKind.PEDESTRIAN) else Face.BODY
        n = len(its.paint)
        corners[shape, :n], normals[shape, :n] = its.corners, face_normals(its.corners)
        for f, paint in enumerate(its.paint):
            classes[shape, f] = _FACES.get(Paint(paint), rest)
            gleam[shape, f] = GLEAM * _LAMPS.get(Paint(paint), gleam[shape, f])
            if paint == Paint.BODY:
                tint[shape, f, 0] = 1.0
            elif paint == Paint.CARGO:
                tint[shape, f] = [BLEACHED[0], *3 * [BLEACHED[1]]]
            elif paint not in _FACES or paint == Paint.SIGN:  # a lamp of its own colour
                tint[shape, f, 1:] = FIXED[paint]
    return corners, normals, classes, tint, gleam, np.array([len(b.paint) for b in bodies])


TABLES = _tables()


@njit(cache=True, nogil=True)
def agent_faces(state, shape, valid, brake, colour, tables, pose, forward, reach, rear_lamp, stop_lamp, brake_lamp, out, n):
    """Append the faces of all agents before the camera and within reach of it; returns the new count.

    Args:
        state: [N, 8] as `Agents.state`.
        shape: [N], see `bodies.shapes_of`.
        valid: [N].
        brake: [N].
        colour: [N, 3] in [0, 1].
        tables: of `_tables`.
        pose: x, y, heading of the ego.
        forward: m from there to the camera.
        reach: m.
        rear_lamp: a Face that becomes `brake_lamp` when an agent brakes.
        stop_lamp: another.
        brake_lamp: a Face.
        out: quads [F, 4, 3], normals [F, 3], classes [F], slots [F], colours [F, 3] and gleams [F, 3] to be filled from n on.
        n: faces that are there.
    """
    corners, outward, face_class, tint, gleam, count = tables
    quads, normals, classes, slots, colours, gleams = out
    ego_cos, ego_sin = math.cos(pose[2]), math.sin(pose[2])
    eye_x, eye_y = pose[0] + forward * ego_cos, pose[1] + forward * ego_sin
    for slot in range(state.shape[0]):
        if not valid[slot]:
            continue
        x, y = state[slot, 0], state[slot, 1]
        length, width, tall = state[slot, 5], state[slot, 6], state[slot, 7]
        dx, dy = x - eye_x, y - eye_y
        if dx * ego_cos + dy * ego_sin < -0.6 * (length + width) or dx * dx + dy * dy > reach * reach:
            continue
        cos, sin = math.cos(state[slot, 2]), math.sin(state[slot, 2])
        k = shape[slot]
        for f in range(count[k]):
            if n >= quads.shape[0]:
                return n
            nx, ny, nz = outward[k, f, 0] / length, outward[k, f, 1] / width, outward[k, f, 2] / tall
            size = math.sqrt(nx * nx + ny * ny + nz * nz)
            normals[n, 0], normals[n, 1], normals[n, 2] = (nx * cos - ny * sin) / size, (nx * sin + ny * cos) / size, nz / size
            for corner in range(4):
                px, py = corners[k, f, corner, 0] * length, corners[k, f, corner, 1] * width
                quads[n, corner, 0] = x + px * cos - py * sin
                quads[n, corner, 1] = y + px * sin + py * cos
                quads[n, corner, 2] = corners[k, f, corner, 2] * tall
            face = face_class[k, f]
            classes[n] = brake_lamp if face in (rear_lamp, stop_lamp) and brake[slot] else face
            slots[n] = slot
            for c in range(3):
                colours[n, c] = tint[k, f, 0] * colour[slot, c] + tint[k, f, 1 + c]
                gleams[n, c] = gleam[k, f, 1 if brake[slot] else 0, c]
            n += 1
    return n
