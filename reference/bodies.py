"""Road users of the reference world: their bodies posed and lit all at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..bodies import BLEACHED, FIXED, Array, Paint, body, face_normals, shapes_of
from ..lamps import BRAKING, HEADLIGHT_ON, TAIL_ON
from .atmosphere import Look


def pose_bodies(
    state: Array, kind: npt.NDArray[np.int64], brake: npt.NDArray[np.bool_], colour: Array, look: Look
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Place and light road users.

    Args:
        state: [N, 8] as `Agents.state`.
        kind: [N] AgentKind.
        brake: [N].
        colour: [N, 3] in [0, 1].
        look: the light.

    Returns:
        corners [Q, 4, 3] in the world frame, colours [Q, 3], and which faces shine of themselves [Q].
    """
    shape = shapes_of(kind, state[:, 7])
    fixed = FIXED.copy()
    if look.lamps:
        fixed[Paint.HEAD], fixed[Paint.TAIL] = HEADLIGHT_ON, TAIL_ON
    corners = [np.zeros((0, 4, 3), np.float32)]
    colours, shining = [np.zeros((0, 3), np.float32)], [np.zeros(0, bool)]
    for index in np.unique(shape):
        model, rows = body(int(index)), shape == index
        world = _placed(model.corners, state[rows])
        own = colour[rows, None, :]
        tint = np.repeat(fixed[model.paint][None], len(world), 0)
        tint[:, model.paint == Paint.BODY] = own
        tint[:, model.paint == Paint.CARGO] = BLEACHED[0] * own + BLEACHED[1]
        lamp = np.isin(model.paint, (Paint.HEAD, Paint.TAIL, Paint.SIGN)) & look.lamps
        stop = np.isin(model.paint, (Paint.TAIL, Paint.STOP)) & brake[rows, None]
        tint = np.where(lamp[:, None], tint, tint * look.shade(face_normals(world)))
        tint[stop] = BRAKING
        corners.append(world.reshape(-1, 4, 3))
        colours.append(tint.reshape(-1, 3))
        shining.append((lamp | stop).reshape(-1))
    return np.concatenate(corners), np.concatenate(colours), np.concatenate(shining)


def _placed(corners: Array, state: Array) -> Array:
    """Corners [F, 4, 3] in fractions of a box, in the world frame for every box [N, 8]: [N, F, 4, 3]."""
    local = corners[None] * state[:, None, None, 5:8]
    cos, sin = np.cos(state[:, 2])[:, None, None], np.sin(state[:, 2])[:, None, None]
    world = np.empty_like(local)
    world[..., 0] = local[..., 0] * cos - local[..., 1] * sin + state[:, 0, None, None]
    world[..., 1] = local[..., 0] * sin + local[..., 1] * cos + state[:, 1, None, None]
    world[..., 2] = local[..., 2]
    return world
