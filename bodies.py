"""Shapes of road users, as whoever draws one knows them: faces in fractions of its box, and what each is painted with.

A tracker gives boxes and kinds; these are the bodies that stand for them, in pictures of the reference world and in the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
import numpy.typing as npt

from .scene import AgentKind

Array = npt.NDArray[np.float32]
VAN_HEIGHT = 1.9  # m; a car of this height or more is a van
AGENT_REACH = 220.0  # m, how far road users are seen
VAN = len(AgentKind)  # the van's shape; those of the kinds have their numbers
BLEACHED = (0.25, 0.62)  # the paint of cargo: share of the agent's colour, and white


class Paint(IntEnum):
    """What a face is painted with."""

    BODY = 0  # the agent's colour
    GLASS = 1
    TYRE = 2
    TRIM = 3
    HEAD = 4
    TAIL = 5
    PLATE = 6
    CARGO = 7  # the agent's colour, bleached
    SKIN = 8
    CLOTH = 9
    SIGN = 10
    HUB = 11
    STOP = 12  # a lamp that is dark unless braking


FIXED: Array = np.array(
    [
        (0.5, 0.5, 0.5), (0.13, 0.16, 0.20), (0.06, 0.06, 0.065), (0.11, 0.11, 0.12), (0.92, 0.92, 0.84), (0.50, 0.03, 0.04),
        (0.85, 0.85, 0.80), (0.5, 0.5, 0.5), (0.80, 0.60, 0.48), (0.17, 0.19, 0.27), (0.95, 0.62, 0.15), (0.52, 0.53, 0.55),
        (0.30, 0.03, 0.04),
    ],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Faces of one kind of road user; x in lengths and y in widths from the centre, z in heights from the ground."""

    corners: Array  # [F, 4, 3]
    paint: npt.NDArray[np.int64]  # [F] Paint


def _body(*parts: tuple[Array, Paint | tuple[Paint, ...]]) -> Body:
    corners = np.concatenate([faces for faces, _ in parts])
    paint = np.concatenate([np.broadcast_to(np.array(p, np.int64), len(faces)) for faces, p in parts])
    return Body(corners, paint)


def _patch_x(x: float, y0: float, y1: float, z0: float, z1: float) -> Array:
    """One face looking forward (x > 0) or back."""
    face = [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]
    return np.array([face if x > 0 else face[::-1]], np.float32)


def _patch_y(y: float, x0: float, x1: float, z0: float, z1: float) -> Array:
    """One face looking left (y > 0) or right."""
    face = [(x1, y, z0), (x0, y, z0), (x0, y, z1), (x1, y, z1)]
    return np.array([face if y > 0 else face[::-1]], np.float32)


def _both_x(x: float, y0: float, y1: float, z0: float, z1: float) -> Array:
    """A patch at x on either side of the middle."""
    return np.concatenate((_patch_x(x, y0, y1, z0, z1), _patch_x(x, -y1, -y0, z0, z1)))


def _sides(x0: float, x1: float, z0: float, z1: float, y: float = 0.508) -> Array:
    """A patch on the left and on the right."""
    return np.concatenate((_patch_y(y, x0, x1, z0, z1), _patch_y(-y, x0, x1, z0, z1)))


def _disc(x: float, y: float, rx: float, rz: float, zc: float) -> Array:
    """An octagon looking sideways, as three faces."""
    angle = np.pi / 8 + np.arange(8) * np.pi / 4
    rim = np.stack((x + rx * np.cos(angle), np.full(8, y), zc + rz * np.sin(angle)), 1)
    faces = np.stack((rim[[0, 1, 2, 3]], rim[[0, 3, 4, 7]], rim[[7, 4, 5, 6]]))
    return (faces[:, ::-1] if y > 0 else faces).astype(np.float32)


def _wheels(xs: tuple[float, ...], rx: float, rz: float, y: float = 0.508, tread: float = 0.13) -> tuple[tuple[Array, Paint], ...]:
    discs, hubs, treads = [], [], []
    for x in xs:
        for side in (-1, 1):
            discs.append(_disc(x, side * y, rx, rz, rz))
            hubs.append(_patch_y(side * (y + 0.004), x - 0.42 * rx, x + 0.42 * rx, 0.6 * rz, 1.4 * rz))
            edge = sorted((side * (y - 0.004), side * (y - tread)))
            treads.append(box(x - 0.9 * rx, x + 0.9 * rx, edge[0], edge[1], 0.0, 1.5 * rz)[:2])
    return ((np.concatenate(treads), Paint.TYRE), (np.concatenate(discs), Paint.TYRE), (np.concatenate(hubs), Paint.HUB))


def _car() -> Body:
    glass = (Paint.GLASS, Paint.GLASS, Paint.GLASS, Paint.GLASS, Paint.BODY, Paint.BODY)
    return _body(
        (box(-0.49, 0.49, -0.49, 0.49, 0.12, 0.24), Paint.TRIM),
        (frustum((-0.50, 0.50, -0.5, 0.5), 0.22, (-0.50, 0.50, -0.5, 0.5), 0.46)[:4], Paint.BODY),
        (frustum((-0.50, 0.50, -0.5, 0.5), 0.46, (-0.485, 0.46, -0.46, 0.46), 0.61)[:5], Paint.BODY),
        (frustum((-0.42, 0.24, -0.45, 0.45), 0.61, (-0.29, 0.07, -0.37, 0.37), 0.93)[:4], glass[:4]),
        (frustum((-0.30, 0.08, -0.385, 0.385), 0.92, (-0.26, 0.04, -0.34, 0.34), 1.0)[:5], Paint.BODY),
        (_sides(-0.12, -0.09, 0.62, 0.92, 0.435), Paint.BODY),
        *_wheels((-0.30, 0.31), 0.068, 0.215),
        (_both_x(-0.503, 0.27, 0.48, 0.40, 0.53), Paint.TAIL),
        (_patch_x(-0.395, -0.16, 0.16, 0.64, 0.69), Paint.STOP),
        (_patch_x(-0.503, -0.14, 0.14, 0.40, 0.48), Paint.PLATE),
        (_both_x(0.503, 0.27, 0.47, 0.40, 0.50), Paint.HEAD),
        (_patch_x(0.503, -0.24, 0.24, 0.27, 0.44), Paint.TRIM),
    )


def _van() -> Body:
    return _body(
        (box(-0.49, 0.49, -0.49, 0.49, 0.08, 0.16), Paint.TRIM),
        (box(-0.50, 0.36, -0.5, 0.5, 0.14, 0.97)[[0, 1, 2, 3]], Paint.BODY),
        (frustum((-0.50, 0.36, -0.5, 0.5), 0.97, (-0.49, 0.33, -0.45, 0.45), 1.0)[:5], Paint.BODY),
        (box(0.36, 0.50, -0.5, 0.5, 0.14, 0.46)[:4], Paint.BODY),
        (
            frustum((0.30, 0.50, -0.5, 0.5), 0.46, (0.28, 0.36, -0.46, 0.46), 0.90)[[0, 2, 3, 4]],
            (Paint.GLASS, Paint.BODY, Paint.BODY, Paint.BODY),
        ),
        (_sides(0.22, 0.37, 0.52, 0.82), Paint.GLASS),
        (_both_x(-0.502, 0.06, 0.40, 0.58, 0.82), Paint.GLASS),
        *_wheels((-0.30, 0.33), 0.06, 0.13),
        (_both_x(-0.503, 0.40, 0.49, 0.28, 0.50), Paint.TAIL),
        (_patch_x(-0.503, -0.12, 0.12, 0.24, 0.29), Paint.PLATE),
        (_patch_x(-0.503, -0.10, 0.10, 0.92, 0.95), Paint.STOP),
        (_both_x(0.503, 0.28, 0.47, 0.28, 0.37), Paint.HEAD),
        (_patch_x(0.503, -0.24, 0.24, 0.22, 0.36), Paint.TRIM),
    )


def _truck() -> Body:
    return _body(
        (box(-0.49, 0.49, -0.36, 0.36, 0.12, 0.30), Paint.TRIM),
        (box(-0.50, 0.26, -0.5, 0.5, 0.27, 1.0), Paint.CARGO),
        (_both_x(-0.502, 0.02, 0.46, 0.30, 0.96), Paint.HUB),
        (box(0.29, 0.50, -0.48, 0.48, 0.12, 0.42)[:4], Paint.BODY),
        (frustum((0.29, 0.50, -0.48, 0.48), 0.42, (0.29, 0.48, -0.46, 0.46), 0.80)[:5], Paint.BODY),
        (_patch_x(0.502, -0.44, 0.44, 0.46, 0.70), Paint.GLASS),
        (_sides(0.37, 0.46, 0.47, 0.69, 0.490), Paint.GLASS),
        *_wheels((-0.36, -0.22, 0.36), 0.060, 0.135, 0.495),
        (_both_x(-0.505, 0.30, 0.48, 0.17, 0.25), Paint.TAIL),
        (_patch_x(-0.505, -0.5, 0.5, 0.25, 0.28), Paint.TRIM),
        (_both_x(0.505, 0.26, 0.46, 0.17, 0.24), Paint.HEAD),
        (_patch_x(0.505, -0.24, 0.24, 0.17, 0.36), Paint.TRIM),
    )


def _bus() -> Body:
    return _body(
        (box(-0.495, 0.495, -0.49, 0.49, 0.09, 0.16), Paint.TRIM),
        (box(-0.50, 0.50, -0.5, 0.5, 0.14, 0.96)[:4], Paint.BODY),
        (frustum((-0.50, 0.50, -0.5, 0.5), 0.96, (-0.49, 0.49, -0.45, 0.45), 1.0)[:5], Paint.CARGO),
        *((_sides(x, x + 0.125, 0.46, 0.80), Paint.GLASS) for x in (-0.47, -0.33, -0.19, -0.05, 0.09, 0.23, 0.37)),
        (_patch_x(0.502, -0.46, 0.46, 0.36, 0.82), Paint.GLASS),
        (_patch_x(0.502, -0.36, 0.36, 0.85, 0.94), Paint.SIGN),
        (_patch_x(-0.502, -0.40, 0.40, 0.54, 0.80), Paint.GLASS),
        (_patch_x(-0.502, -0.30, 0.30, 0.85, 0.92), Paint.SIGN),
        *_wheels((-0.26, 0.30), 0.042, 0.16),
        (_both_x(-0.504, 0.33, 0.48, 0.24, 0.42), Paint.TAIL),
        (_patch_x(-0.504, -0.14, 0.14, 0.81, 0.84), Paint.STOP),
        (_both_x(0.504, 0.26, 0.46, 0.20, 0.29), Paint.HEAD),
    )


def _bicycle() -> Body:
    wheel = tuple(np.concatenate([_disc(x, side * 0.05, 0.19, 0.19, 0.19) for side in (-1, 1)]) for x in (-0.30, 0.30))
    return _body(
        (np.concatenate(wheel), Paint.TYRE),
        (np.concatenate([_disc(x, side * 0.065, 0.145, 0.145, 0.19) for side in (-1, 1) for x in (-0.30, 0.30)]), Paint.HUB),
        (np.concatenate([box(x - 0.17, x + 0.17, -0.05, 0.05, 0.02, 0.36)[:2] for x in (-0.30, 0.30)]), Paint.TYRE),
        (box(-0.22, 0.24, -0.04, 0.04, 0.30, 0.42), Paint.HUB),
        (box(0.22, 0.26, -0.42, 0.42, 0.53, 0.58), Paint.TRIM),
        (frustum((-0.14, 0.06, -0.28, 0.28), 0.20, (-0.20, 0.0, -0.30, 0.30), 0.54), Paint.CLOTH),
        (frustum((-0.20, 0.00, -0.36, 0.36), 0.54, (-0.10, 0.10, -0.42, 0.42), 0.84), Paint.BODY),
        (box(-0.06, 0.10, -0.17, 0.17, 0.85, 0.96), Paint.SKIN),
        (box(-0.08, 0.10, -0.20, 0.20, 0.95, 1.0), Paint.TRIM),
        (_patch_x(-0.22, -0.12, 0.12, 0.42, 0.48), Paint.TAIL),
    )


def _pedestrian() -> Body:
    return _body(
        (box(-0.18, 0.18, 0.03, 0.30, 0.0, 0.48), Paint.CLOTH),
        (box(-0.18, 0.18, -0.30, -0.03, 0.0, 0.48), Paint.CLOTH),
        (frustum((-0.24, 0.24, -0.34, 0.34), 0.46, (-0.26, 0.26, -0.44, 0.44), 0.83), Paint.BODY),
        (np.concatenate((box(-0.12, 0.14, 0.42, 0.56, 0.45, 0.81), box(-0.12, 0.14, -0.56, -0.42, 0.45, 0.81))), Paint.BODY),
        (box(-0.20, 0.20, -0.20, 0.20, 0.85, 0.97), Paint.SKIN),
        (box(-0.22, 0.16, -0.22, 0.22, 0.94, 1.0), Paint.TRIM),
    )


def _static() -> Body:
    return _body(
        (box(-0.5, 0.5, -0.5, 0.5, 0.0, 1.0), Paint.BODY),
        (_sides(-0.5, 0.5, 0.55, 0.75), Paint.PLATE),
        (np.concatenate((_patch_x(-0.502, -0.5, 0.5, 0.55, 0.75), _patch_x(0.502, -0.5, 0.5, 0.55, 0.75))), Paint.PLATE),
    )


@cache
def body(shape: int) -> Body:
    """The body of a shape: an AgentKind, or VAN."""
    return {
        AgentKind.CAR: _car,
        AgentKind.TRUCK: _truck,
        AgentKind.BUS: _bus,
        AgentKind.BICYCLE: _bicycle,
        AgentKind.PEDESTRIAN: _pedestrian,
        AgentKind.STATIC: _static,
        VAN: _van,
    }[shape]()  # type: ignore[index]


def shapes_of(kind: npt.NDArray[np.int64], height: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Shapes [N] of road users by AgentKind [N] and height [N] in m."""
    return np.where((kind == AgentKind.CAR) & (height >= VAN_HEIGHT), VAN, kind)


def frustum(bottom: Sequence[float], z_bottom: float, top: Sequence[float], z_top: float) -> Array:
    """Faces [6, 4, 3] between two level rectangles (x from, x to, y from, y to): front, rear, left, right, top, bottom."""
    (a, b, c, d), (e, f, g, h) = bottom, top
    low = [(b, d, z_bottom), (a, d, z_bottom), (a, c, z_bottom), (b, c, z_bottom)]
    up = [(f, h, z_top), (e, h, z_top), (e, g, z_top), (f, g, z_top)]
    faces = [
        (low[3], low[0], up[0], up[3]),
        (low[1], low[2], up[2], up[1]),
        (low[0], low[1], up[1], up[0]),
        (low[2], low[3], up[3], up[2]),
        (up[0], up[1], up[2], up[3]),
        (low[3], low[2], low[1], low[0]),
    ]
    return np.array(faces, np.float32)


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Array:
    """Faces [6, 4, 3] of an upright box: front, rear, left, right, top, bottom."""
    return frustum((x0, x1, y0, y1), z0, (x0, x1, y0, y1), z1)


def face_normals(corners: Array) -> Array:
    """Unit normals [..., 3] of quadrilaterals [..., 4, 3]."""
    normal = np.cross(corners[..., 2, :] - corners[..., 0, :], corners[..., 3, :] - corners[..., 1, :])
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-9)
