"""Triangle meshes in numpy: ribbons along lanes, flat polygons, boxes, roofs, prisms and crowns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bodies import Array as Array
from ..bodies import box as box
from ..bodies import face_normals as face_normals
from ..bodies import frustum as frustum

Index = npt.NDArray[np.int64]

_QUAD = np.array([[0, 1, 2], [0, 2, 3]])


@dataclass(frozen=True)
class Mesh:
    """Coloured triangles, counter-clockwise seen from outside."""

    position: Array  # [V, 3] m
    albedo: Array  # [V, 3] colour in [0, 1] before light
    normal: Array  # [V, 3] unit vectors
    triangles: Index  # [T, 3] into V
    uv: Array  # [V, 2] texture coordinates, zero where there is no texture

    @classmethod
    def join(cls, meshes: Iterable[Mesh]) -> Mesh:
        """One mesh of several."""
        meshes = [m for m in meshes if len(m.triangles)] or [EMPTY]
        starts = np.cumsum([0] + [len(m.position) for m in meshes[:-1]])
        fields = {name: np.concatenate([getattr(m, name) for m in meshes]) for name in ("position", "albedo", "normal", "uv")}
        return cls(triangles=np.concatenate([m.triangles + s for m, s in zip(meshes, starts, strict=True)]), **fields)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Mesh:
        """The mesh of the chosen triangles [T] alone."""
        used, triangles = np.unique(self.triangles[chosen], return_inverse=True)
        return Mesh(self.position[used], self.albedo[used], self.normal[used], triangles.reshape(-1, 3), self.uv[used])

    def tiles(self, size: float) -> dict[tuple[int, int], Mesh]:
        """Split by the square tile (side `size`, m) that holds each triangle's centre."""
        if not len(self.triangles):
            return {}
        cell = np.floor(self.position[self.triangles, :2].mean(1) / size).astype(np.int64)
        cells, which = np.unique(cell, axis=0, return_inverse=True)
        return {(int(i), int(j)): self.part(which.reshape(-1) == index) for index, (i, j) in enumerate(cells)}


def mesh(position: npt.ArrayLike, albedo: npt.ArrayLike, normal: npt.ArrayLike, triangles: npt.ArrayLike, uv: npt.ArrayLike = 0.0) -> Mesh:
    """A mesh of vertices [V, 3]; colour, normal and texture coordinates broadcast."""
    position = np.asarray(position, np.float32)
    spread = lambda value, width: np.broadcast_to(np.asarray(value, np.float32), (len(position), width))
    return Mesh(position, spread(albedo, 3), spread(normal, 3), np.asarray(triangles, np.int64).reshape(-1, 3), spread(uv, 2))


EMPTY = mesh(np.zeros((0, 3)), 0.0, 0.0, np.zeros((0, 3)))


def quads(corners: npt.ArrayLike, albedo: npt.ArrayLike, uv: npt.ArrayLike = 0.0) -> Mesh:
    """A mesh of quadrilaterals.

    Args:
        corners: [Q, 4, 3], counter-clockwise seen from outside.
        albedo: broadcasts to [Q, 4, 3].
        uv: broadcasts to [Q, 4, 2].
    """
    corners = np.asarray(corners, np.float32)
    count = len(corners)
    triangles = _QUAD[None] + 4 * np.arange(count)[:, None, None]
    normal = np.repeat(face_normals(corners), 4, axis=0)
    albedo = np.broadcast_to(np.asarray(albedo, np.float32), (count, 4, 3)).reshape(-1, 3)
    uv = np.broadcast_to(np.asarray(uv, np.float32), (count, 4, 2)).reshape(-1, 2)
    return mesh(corners.reshape(-1, 3), albedo, normal, triangles, uv)


def flat(points: npt.ArrayLike) -> Array:
    """Ground points [..., 2] at height zero, [..., 3]."""
    points = np.asarray(points, np.float32)
    return np.concatenate((points, np.zeros_like(points[..., :1])), -1)


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


def ribbon(polyline: Array, right: float, left: float, colour: npt.ArrayLike) -> Mesh:
    """The strip of ground between two lateral offsets of a polyline [P, 2] (m, positive to the left)."""
    if len(polyline) < 2:
        return EMPTY
    position = flat(np.concatenate((offset(polyline, right), offset(polyline, left))))
    at, count = np.arange(len(polyline) - 1)[:, None], len(polyline)
    triangles = at + np.array([0, 1, count + 1, 0, count + 1, count])
    return mesh(position, colour, (0.0, 0.0, 1.0), triangles)


def piece(polyline: Array, start: float, end: float) -> Array:
    """The part of a polyline [P, 2] between two arc lengths in m."""
    arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(polyline, axis=0), axis=1))))
    inside = (arc > start) & (arc < end)
    at = np.concatenate(([start], arc[inside], [end]))
    return np.stack((np.interp(at, arc, polyline[:, 0]), np.interp(at, arc, polyline[:, 1])), 1).astype(np.float32)


def length(polyline: Array) -> float:
    """Length of a polyline [P, 2] in m."""
    return float(np.linalg.norm(np.diff(polyline, axis=0), axis=1).sum())


def polygon(points: npt.NDArray[Any], colour: npt.ArrayLike) -> Mesh:
    """A flat simple polygon [V, 2], convex or not, by ear clipping."""
    if len(points) < 3:
        return EMPTY
    points = points.astype(np.float64)
    if _area(points) < 0:
        points = points[::-1]
    rest, triangles = list(range(len(points))), []
    while len(rest) > 3:
        ear = next((k for k in range(len(rest)) if _is_ear(points, rest, k)), 0)
        triangles.append((rest[ear - 1], rest[ear], rest[(ear + 1) % len(rest)]))
        del rest[ear]
    triangles.append((rest[0], rest[1], rest[2]))
    return mesh(flat(points), colour, (0.0, 0.0, 1.0), triangles)


def _area(points: npt.NDArray[Any]) -> float:
    x, y = points.T
    return float(0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _is_ear(points: npt.NDArray[Any], rest: list[int], k: int) -> bool:
    a, b, c = points[rest[k - 1]], points[rest[k]], points[rest[(k + 1) % len(rest)]]
    cross = lambda p, q, r: (q[0] - p[0]) * (r[..., 1] - p[1]) - (q[1] - p[1]) * (r[..., 0] - p[0])
    if cross(a, b, c) <= 1e-9:
        return False
    others = points[[i for i in rest if i not in (rest[k - 1], rest[k], rest[(k + 1) % len(rest)])]]
    inside = (cross(a, b, others) > 0) & (cross(b, c, others) > 0) & (cross(c, a, others) > 0)
    return not bool(inside.any())


def lathe(profile: Sequence[tuple[float, float]], sides: int, twist: float = 0.0) -> tuple[Array, Array, Index]:
    """A solid of revolution from (radius, height) pairs, bottom to top: vertices [V, 3], normals [V, 3], triangles [T, 3]."""
    angle = twist + np.arange(sides) * 2 * np.pi / sides
    ring = np.stack((np.cos(angle), np.sin(angle)), 1)
    radius, height = (np.array(column, np.float32) for column in zip(*profile, strict=True))
    points = np.concatenate((ring[None] * radius[:, None, None], np.broadcast_to(height[:, None, None], (len(radius), sides, 1))), -1)
    slope = np.stack((np.gradient(height), -np.gradient(radius)), 1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True).clip(1e-6)
    normals = np.concatenate((ring[None] * slope[:, None, :1], np.broadcast_to(slope[:, None, 1:], (len(radius), sides, 1))), -1)
    k, next_k = np.arange(sides), (np.arange(sides) + 1) % sides
    triangles = []
    for level in range(len(radius) - 1):
        low, up = level * sides, (level + 1) * sides
        triangles += [np.stack((low + k, low + next_k, up + next_k), 1)] * int(radius[level] > 0)
        triangles += [np.stack((low + k, up + next_k, up + k), 1)] * int(radius[level + 1] > 0)
    return points.reshape(-1, 3).astype(np.float32), normals.reshape(-1, 3).astype(np.float32), np.concatenate(triangles)


def place(points: Array, x: float, y: float, heading: float) -> Array:
    """Points [..., 3] turned by a heading (rad) about the vertical and moved to (x, y)."""
    cos, sin = np.cos(heading), np.sin(heading)
    out = np.empty_like(points)
    out[..., 0] = points[..., 0] * cos - points[..., 1] * sin + x
    out[..., 1] = points[..., 0] * sin + points[..., 1] * cos + y
    out[..., 2] = points[..., 2]
    return out


def placed(local: Mesh, x: float, y: float, heading: float) -> Mesh:
    """A mesh turned by a heading (rad) about the vertical and moved to (x, y)."""
    turned = place(local.normal, 0.0, 0.0, heading)
    return Mesh(place(local.position, x, y, heading), local.albedo, turned, local.triangles, local.uv)
