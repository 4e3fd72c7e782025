"""Triangle meshes in numpy: ribbons along lanes, flat polygons, boxes, roofs, prisms and crowns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import polylines
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


def flats(corners: npt.ArrayLike, colour: npt.ArrayLike) -> Mesh:
    """A mesh of quadrilaterals [Q, 4, 2] on the ground."""
    position = flat(np.asarray(corners, np.float32).reshape(-1, 2))
    triangles = _QUAD[None] + 4 * np.arange(len(position) // 4)[:, None, None]
    return mesh(position, colour, (0.0, 0.0, 1.0), triangles)


def polygon(points: npt.NDArray[Any], colour: npt.ArrayLike) -> Mesh:
    """A flat simple polygon [V, 2], convex or not."""
    if len(points) < 3:
        return EMPTY
    return mesh(flat(points), colour, (0.0, 0.0, 1.0), polylines.triangulate(points))


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
