"""The unmoving part of a picture: roads, pavements, markings and signal masts of one road map as meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import polylines
from ..ground import Ground, GroundPlan
from ..road import RoadMap
from ..roadside import (
    BARRIER,
    BARRIER_BESIDE,
    BARRIER_STEEL,
    HEAD_SIZE,
    KERB_COLOUR,
    LENSES,
    PAVEMENT_COLOUR,
    STEEL,
    VERGE_COLOUR,
    DrivenGround,
    has_barrier,
    mast,
)
from . import meshes
from .meshes import Array, Mesh
from .standing import stand_up

_HOUSING = (0.055, 0.06, 0.06)
_ASPHALT = (0.345, 0.345, 0.36)
_WHITE, _YELLOW = (0.90, 0.90, 0.88), (0.92, 0.71, 0.16)
_COLOURS = {
    Ground.VERGE: VERGE_COLOUR, Ground.PAVEMENT: PAVEMENT_COLOUR, Ground.KERB: KERB_COLOUR, Ground.JUNCTION: _ASPHALT,
    Ground.ROAD: _ASPHALT, Ground.TRACK: (0.315, 0.315, 0.33), Ground.EDGE: _WHITE, Ground.DASHED: _WHITE, Ground.CENTRE: _YELLOW,
    Ground.STOP: _WHITE,
}  # fmt: skip


@dataclass(frozen=True)
class Landscape:
    """Meshes of one road map by layer, flat ones in the order they are painted."""

    flat: dict[str, Mesh]  # verge, pavement, road, marking
    shade: Mesh  # patches of ground in the shade
    solid: Mesh
    facades: list[Mesh]  # textured with windows, by style
    lenses: Array  # [S, 3, 3, 4, 3] faces of each signal's three lenses, from the top
    lens_position: Array  # [S, 2]
    town: bool


def build_landscape(road: RoadMap) -> Landscape:
    """Meshes of a road map [1]."""
    plan = GroundPlan(road)
    signals = np.flatnonzero(road.signal_lane[0].numpy() >= 0)
    heads = road.signal_head[0].numpy()[signals]
    facades, solid, shade = stand_up(road)
    solid.append(_rails(road, plan))
    solid += [_mast(head, plan.driven, int(road.traffic_side[0])) for head in heads]
    lenses = np.zeros((len(road.signal_lane[0]), 3, 3, 4, 3), np.float32)
    for index, head in zip(signals, heads, strict=True):
        x, y, z, heading = (float(v) for v in head)
        lenses[index] = meshes.place(LENSES + np.array((0, 0, z), np.float32), x, y, heading)
    return Landscape(
        flat=_flat(plan),
        shade=Mesh.join(shade),
        solid=Mesh.join(solid),
        facades=[Mesh.join(style) for style in facades],
        lenses=lenses,
        lens_position=road.signal_head[0, :, :2].numpy().astype(np.float32),
        town=plan.town,
    )


def _flat(plan: GroundPlan) -> dict[str, Mesh]:
    """What lies on the ground by layer, as it is painted in each of them."""
    ground = plan.quads()
    paint = lambda *kinds: Mesh.join(meshes.flats(ground[kind], _COLOURS[kind]) for kind in kinds)
    return {
        "verge": paint(Ground.VERGE),
        "pavement": paint(Ground.PAVEMENT, Ground.KERB),
        "road": paint(Ground.JUNCTION, Ground.ROAD, Ground.TRACK),
        "marking": paint(Ground.EDGE, Ground.CENTRE, Ground.DASHED, Ground.STOP),
    }


def _rails(road: RoadMap, plan: GroundPlan) -> Mesh:
    """Crash barriers beside the left edge of fast roads."""
    parts = []
    for i in np.flatnonzero(has_barrier(road)):
        line = polylines.offset(plan.line[int(i)], float(plan.width[i]) / 2 + BARRIER_BESIDE)
        low, high = meshes.flat(line), meshes.flat(line)
        low[:, 2], high[:, 2] = BARRIER
        rail = np.stack((low[1:], low[:-1], high[:-1], high[1:]), 1)
        parts += [meshes.quads(rail, BARRIER_STEEL), meshes.quads(rail[:, ::-1], BARRIER_STEEL)]
        for at in np.arange(2.0, polylines.length(line), 8.0):
            x, y = polylines.piece(line, at, at)[0]
            parts.append(meshes.quads(meshes.box(x - 0.06, x + 0.06, y - 0.06, y + 0.06, 0.0, 0.72)[:4], STEEL))
    return Mesh.join(parts)


def _mast(head: Array, driven: DrivenGround, side: int) -> Mesh:
    """A signal's housing and its mast."""
    x, y, z, heading = (float(v) for v in head)
    deep, wide, tall = HEAD_SIZE
    housing = meshes.quads(meshes.box(-deep / 2, deep / 2, -wide / 2, wide / 2, z - tall / 2, z + tall / 2), _HOUSING)
    return Mesh.join((meshes.placed(housing, x, y, heading), meshes.quads(mast(head, driven, side), STEEL)))
