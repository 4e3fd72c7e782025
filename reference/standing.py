"""What stands beside the road: the scenery boxes of a road map as buildings, walls, trees and poles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..facades import BAY, CELLS, EAVES, FOOT, OVERHANG, PITCHED_BELOW, STOREY, WALL_BELOW, phase, roof_colours
from ..light import under_trees
from ..road import BUILDINGS, TREES, RoadMap, SceneryKind
from ..trees import BARK, CROWN_SIDES, CROWNS, TRUNK_SIDES, TRUNK_TOP, crowns, tones, trunk_radius, trunks
from . import meshes
from .meshes import Array, Mesh


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
            solid.append(_tree(boxes[index], colour, index, SceneryKind(kind)))
            shade.append(meshes.polygon(under_trees(boxes[index : index + 1])[0], 0.0))
        elif kind == SceneryKind.POLE:
            post = meshes.box(-length / 2, length / 2, -width / 2, width / 2, 0.0, height)
            solid.append(meshes.placed(meshes.quads(post, colour), x, y, heading))
    return facades, solid, shade


def _building(length: float, width: float, height: float, colour: Array, index: int) -> tuple[Mesh, Mesh]:
    """Walls with texture coordinates in windows, and the roof."""
    a, b = length / 2, width / 2
    gabled = height < PITCHED_BELOW
    eaves = EAVES * height if gabled else height
    walls = meshes.box(-a, a, -b, b, 0.0, eaves)[:4]
    storeys = max(1, round(eaves / STOREY))
    uv = np.zeros((4, 4, 2), np.float32)
    for face, span in enumerate((width, width, length, length)):
        bays = max(1, round(span / BAY))
        uv[face] = [(0, 0), (bays, 0), (bays, storeys), (0, storeys)]
        uv[face] += phase(index)
    foot = np.repeat(colour[None, None], 4, 1) * np.array([FOOT, FOOT, 1.0, 1.0], np.float32)[None, :, None]
    facade = meshes.quads(walls, foot, uv / CELLS)
    if not gabled:
        return facade, meshes.quads(meshes.box(-a, a, -b, b, 0.0, height)[4:5], roof_colours(colour)[0])
    return facade, _gable(a, b, eaves, height, colour)


def _gable(a: float, b: float, eaves: float, height: float, colour: Array) -> Mesh:
    """A pitched roof whose ridge runs along the longer side."""
    swap = b > a
    a, b = (b, a) if swap else (a, b)
    over = OVERHANG
    slopes = np.array(
        [
            [(-a - over, -b - over, eaves), (a + over, -b - over, eaves), (a + over, 0, height), (-a - over, 0, height)],
            [(a + over, b + over, eaves), (-a - over, b + over, eaves), (-a - over, 0, height), (a + over, 0, height)],
            [(a, -b, eaves), (a, b, eaves), (a, 0, height), (a, 0, height)],
            [(-a, b, eaves), (-a, -b, eaves), (-a, 0, height), (-a, 0, height)],
        ],
        np.float32,
    )
    _, tiles, gable = roof_colours(colour)
    roof = meshes.quads(slopes, np.stack((tiles, tiles, gable, gable))[:, None])
    return meshes.placed(roof, 0.0, 0.0, np.pi / 2) if swap else roof


def _tree(box: Array, colour: Array, index: int, kind: SceneryKind) -> Mesh:
    """A trunk and a crown, broad or conical."""
    place = (box[None], np.array([index]), kind)
    thick = float(trunk_radius(box[5]))
    _, normals, triangles = meshes.lathe(((thick, 0.0), (0.8 * thick, TRUNK_TOP[kind] * float(box[5]))), TRUNK_SIDES)
    trunk = _turned(trunks(*place), BARK, normals, triangles, index)
    _, normals, triangles = meshes.lathe(CROWNS[kind], CROWN_SIDES, twist=1.3 * index)
    tone = np.repeat(tones(*place[1:])[0], CROWN_SIDES)[:, None]
    return Mesh.join((trunk, _turned(crowns(*place), colour * tone, normals, triangles, index)))


def _turned(rings: Array, colour: npt.ArrayLike, normals: Array, triangles: meshes.Index, index: int) -> Mesh:
    return meshes.mesh(rings.reshape(-1, 3), colour, meshes.place(normals, 0.0, 0.0, 0.7 * index), triangles)
