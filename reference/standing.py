"""What stands beside the road: the scenery boxes of a road map as buildings, walls, trees and poles."""

from __future__ import annotations

import numpy as np

from ..facades import BAY, CELLS, STOREY, phase
from ..road import BUILDINGS, TREES, RoadMap, SceneryKind
from . import meshes
from .meshes import Array, Mesh
from .scenery import GABLE_BELOW, WALL_BELOW

_BARK = (0.34, 0.25, 0.18)


def stand_up(road: RoadMap) -> tuple[list[list[Mesh]], list[Mesh], list[Mesh]]:
    """Facades by style, everything else that stands, and patches of shade under trees."""
    boxes, colours = road.scenery[0].numpy(), road.scenery_colour[0].numpy()
    facades: list[list[Mesh]] = [[] for _ in BUILDINGS]
    solid, shade = [], []
    for index, kind in enumerate(road.scenery_kind[0].numpy()):
        x, y, heading, length, width, height = (float(v) for v in boxes[index])
        colour = np.asarray(colours[index], np.float32)
        if kind in BUILDINGS and min(length, width) < WALL_BELOW:
            wall = meshes.box(-length / 2, length / 2, -width / 2, width / 2, 0.0, height)[:5]
            solid.append(meshes.placed(meshes.quads(wall, colour), x, y, heading))
        elif kind in BUILDINGS:
            walls, roof = _building(length, width, height, colour, index)
            facades[BUILDINGS.index(SceneryKind(kind))].append(meshes.placed(walls, x, y, heading))
            solid.append(meshes.placed(roof, x, y, heading))
        elif kind in TREES:
            conifer = kind == SceneryKind.CONIFER
            solid.append(meshes.placed(_tree(length, width, height, colour, index, conifer), x, y, 0.7 * index))
            shade.append(meshes.polygon(np.array([x, y]) + 0.45 * np.array([length, width]) * _OCTAGON, 0.0))
        elif kind == SceneryKind.POLE:
            post = meshes.box(-length / 2, length / 2, -width / 2, width / 2, 0.0, height)
            solid.append(meshes.placed(meshes.quads(post, colour), x, y, heading))
    return facades, solid, shade


_OCTAGON = np.stack((np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)), 1)


def _building(length: float, width: float, height: float, colour: Array, index: int) -> tuple[Mesh, Mesh]:
    """Walls with texture coordinates in windows, and the roof."""
    a, b = length / 2, width / 2
    gabled = height < GABLE_BELOW
    eaves = 0.62 * height if gabled else height
    walls = meshes.box(-a, a, -b, b, 0.0, eaves)[:4]
    storeys = max(1, round(eaves / STOREY))
    uv = np.zeros((4, 4, 2), np.float32)
    for face, span in enumerate((width, width, length, length)):
        bays = max(1, round(span / BAY))
        uv[face] = [(0, 0), (bays, 0), (bays, storeys), (0, storeys)]
        uv[face] += phase(index)
    foot = np.repeat(colour[None, None], 4, 1) * np.array([0.80, 0.80, 1.0, 1.0], np.float32)[None, :, None]
    facade = meshes.quads(walls, foot, uv / CELLS)
    if not gabled:
        return facade, meshes.quads(meshes.box(-a, a, -b, b, 0.0, height)[4:5], 0.55 * colour + 0.12)
    return facade, _gable(a, b, eaves, height, colour)


def _gable(a: float, b: float, eaves: float, height: float, colour: Array) -> Mesh:
    """A pitched roof whose ridge runs along the longer side."""
    swap = b > a
    a, b = (b, a) if swap else (a, b)
    over = 0.3
    slopes = np.array(
        [
            [(-a - over, -b - over, eaves), (a + over, -b - over, eaves), (a + over, 0, height), (-a - over, 0, height)],
            [(a + over, b + over, eaves), (-a - over, b + over, eaves), (-a - over, 0, height), (a + over, 0, height)],
            [(a, -b, eaves), (a, b, eaves), (a, 0, height), (a, 0, height)],
            [(-a, b, eaves), (-a, -b, eaves), (-a, 0, height), (-a, 0, height)],
        ],
        np.float32,
    )
    tiles = np.array([0.46, 0.25, 0.19], np.float32) * 0.75 + 0.18 * colour
    roof = meshes.quads(slopes, np.stack((tiles, tiles, 0.9 * colour, 0.9 * colour))[:, None])
    return meshes.placed(roof, 0.0, 0.0, np.pi / 2) if swap else roof


def _tree(length: float, width: float, height: float, colour: Array, index: int, conifer: bool) -> Mesh:
    """A trunk and a crown, broad or conical."""
    trunk_top = 0.16 * height if conifer else 0.34 * height
    thick = 0.022 * height + 0.05
    points, normals, triangles = meshes.lathe(((thick, 0.0), (0.8 * thick, trunk_top + 0.1 * height)), 4)
    trunk = meshes.mesh(points, _BARK, normals, triangles)
    profile: tuple[tuple[float, float], ...]
    if conifer:
        profile = ((0.50, trunk_top / height), (0.27, 0.55), (0.0, 1.0))
    else:
        profile = ((0.22, 0.28), (0.48, 0.48), (0.44, 0.74), (0.18, 0.95), (0.0, 1.0))
    points, normals, triangles = meshes.lathe(profile, 6, twist=1.3 * index)
    lobes = 1.0 + 0.12 * np.sin(5.1 * np.arange(len(points)) + index)
    crown = points * np.stack((length * lobes, width * lobes, np.full(len(points), height)), 1)
    tone = (0.72 + 0.40 * points[:, 2:]) * (0.94 + 0.06 * (index % 3))
    return Mesh.join((trunk, meshes.mesh(crown, colour * tone, normals, triangles)))
