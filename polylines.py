"""Polylines on the ground in numpy: cleaning, moving aside, cutting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .bodies import Array


def clean(polyline: npt.ArrayLike, tolerance: float = 0.02) -> Array:
    """A polyline [P, 2] without repeated vertices and without those on a straight line."""
    points = np.asarray(polyline, np.float64)
    keep = np.concatenate(([True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3))
    points = points[keep]
    chosen = [0]
    for i in range(1, len(points) - 1):
        chord = points[i + 1] - points[chosen[-1]]
        skipped = points[chosen[-1] + 1 : i + 1] - points[chosen[-1]]
        off = np.abs(chord[0] * skipped[:, 1] - chord[1] * skipped[:, 0]) / max(float(np.hypot(*chord)), 1e-6)
        if off.max() > tolerance:
            chosen.append(i)
    if len(points) > 1:
        chosen.append(len(points) - 1)
    return points[chosen].astype(np.float32)


def offset(polyline: Array, distance: float) -> Array:
    """The polyline [P, 2] shifted to its left by `distance` (m), mitred at its corners."""
    direction = np.diff(polyline, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True).clip(1e-6)
    normal = np.stack((-direction[:, 1], direction[:, 0]), 1)
    joint = np.concatenate((normal[:1], normal[:-1] + normal[1:], normal[-1:]))
    joint /= np.linalg.norm(joint, axis=1, keepdims=True).clip(1e-6)
    towards = np.concatenate((normal[:1], normal))
    return polyline + distance * joint / (joint * towards).sum(1, keepdims=True).clip(0.5)


def ribbon(polyline: Array, right: float, left: float) -> Array:
    """The strip between two lateral offsets of a polyline [P, 2] (m, positive to the left): quads [P - 1, 4, 2], counter-clockwise."""
    if len(polyline) < 2:
        return np.zeros((0, 4, 2), np.float32)
    a, b = offset(polyline, right), offset(polyline, left)
    return np.stack((a[:-1], a[1:], b[1:], b[:-1]), 1).astype(np.float32)


def piece(polyline: Array, start: float, end: float) -> Array:
    """The part of a polyline [P, 2] between two arc lengths in m."""
    arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(polyline, axis=0), axis=1))))
    inside = (arc > start) & (arc < end)
    at = np.concatenate(([start], arc[inside], [end]))
    return np.stack((np.interp(at, arc, polyline[:, 0]), np.interp(at, arc, polyline[:, 1])), 1).astype(np.float32)


def length(polyline: Array) -> float:
    """Length of a polyline [P, 2] in m."""
    return float(np.linalg.norm(np.diff(polyline, axis=0), axis=1).sum())


def triangulate(polygon: npt.NDArray) -> list[tuple[int, int, int]]:
    """Triangles of a simple polygon [V, 2], convex or not, by ear clipping: vertex indices, counter-clockwise."""
    points = np.asarray(polygon, np.float64)
    x, y = points.T
    turn = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    rest, triangles = list(range(len(points)))[:: 1 if turn >= 0 else -1], []
    while len(rest) > 3:
        ear = next((k for k in range(len(rest)) if _is_ear(points, rest, k)), 0)
        triangles.append((rest[ear - 1], rest[ear], rest[(ear + 1) % len(rest)]))
        del rest[ear]
    return [*triangles, (rest[0], rest[1], rest[2])] if len(rest) == 3 else triangles


def _is_ear(points: npt.NDArray[np.float64], rest: list[int], k: int) -> bool:
    a, b, c = points[rest[k - 1]], points[rest[k]], points[rest[(k + 1) % len(rest)]]
    cross = lambda p, q, r: (q[0] - p[0]) * (r[..., 1] - p[1]) - (q[1] - p[1]) * (r[..., 0] - p[0])
    if cross(a, b, c) <= 1e-9:
        return False
    others = points[[i for i in rest if i not in (rest[k - 1], rest[k], rest[(k + 1) % len(rest)])]]
    inside = (cross(a, b, others) > 0) & (cross(b, c, others) > 0) & (cross(c, a, others) > 0)
    return not bool(inside.any())
