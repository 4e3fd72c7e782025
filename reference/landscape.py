"""The unmoving part of a picture: roads, pavements, markings and signal masts of one road map as meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..road import Border, LaneKind, RoadMap
from ..roadside import (
    BARRIER,
    BARRIER_BESIDE,
    BARRIER_STEEL,
    HEAD_SIZE,
    KERB,
    KERB_COLOUR,
    LENSES,
    PAVEMENT,
    PAVEMENT_COLOUR,
    STEEL,
    VERGE,
    VERGE_COLOUR,
    DrivenGround,
    Strip,
    around,
    beside_edges,
    has_barrier,
    is_town,
    mast,
    walked,
)
from . import meshes
from .meshes import Array, Mesh
from .standing import stand_up

DASH = 3.0  # m painted, from the start of each lane's border on
DASH_PERIOD = 9.0  # m
LINE_WIDTH = 0.20  # m
LINE_INSET = 0.12  # m from a lane's border to the middle of a solid line
ZEBRA = 0.5  # m, a stripe of a crossing
STOP_LINE_WIDTH = 0.5  # m, before the line where vehicles stop

_ASPHALT = (0.345, 0.345, 0.36)
_TRACK = (0.315, 0.315, 0.33)
_WHITE = (0.90, 0.90, 0.88)
_YELLOW = (0.92, 0.71, 0.16)
_HOUSING = (0.055, 0.06, 0.06)


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
    lanes = _Lanes(road)
    signals = np.flatnonzero(road.signal_lane[0].numpy() >= 0)
    heads = road.signal_head[0].numpy()[signals]
    facades, solid, shade = stand_up(road)
    solid.append(lanes.rails())
    solid += [_mast(head, lanes, int(road.traffic_side[0])) for head in heads]
    lenses = np.zeros((len(road.signal_lane[0]), 3, 3, 4, 3), np.float32)
    for index, head in zip(signals, heads, strict=True):
        x, y, z, heading = (float(v) for v in head)
        lenses[index] = meshes.place(LENSES + np.array((0, 0, z), np.float32), x, y, heading)
    flat = {"verge": lanes.verges(), "pavement": lanes.pavements(road), "road": lanes.surfaces(), "marking": lanes.markings(road, signals)}
    return Landscape(
        flat=flat,
        shade=Mesh.join(shade),
        solid=Mesh.join(solid),
        facades=[Mesh.join(style) for style in facades],
        lenses=lenses,
        lens_position=road.signal_head[0, :, :2].numpy().astype(np.float32),
        town=lanes.town,
    )


class _Lanes:
    """The lanes and junctions of a road map [1] as cleaned polylines and polygons, and the ground they cover."""

    def __init__(self, road: RoadMap) -> None:
        self.kind = road.kind[0].numpy()
        self.width = road.width[0].numpy()
        self.left_border, self.right_border = road.left_border[0].numpy(), road.right_border[0].numpy()
        self.right = road.right[0].numpy()
        self.used = np.flatnonzero(self.kind > 0)
        centre = road.centreline[0].numpy()
        self.line = {int(i): meshes.clean(centre[i]) for i in self.used}
        polygons = [meshes.clean(p, 0.0) for p in road.junctions[0].numpy()]
        self.junctions = [p for p in polygons if len(p) >= 3]
        self.railed = has_barrier(road)
        self.town = is_town(road)
        driven = self._of(LaneKind.DRIVING, LaneKind.JUNCTION)
        self.driven = DrivenGround([self.line[i] for i in driven], [float(self.width[i]) for i in driven])

    def _of(self, *kinds: LaneKind) -> list[int]:
        return [int(i) for i in np.flatnonzero(np.isin(self.kind, [int(kind) for kind in kinds]))]

    def verges(self) -> Mesh:
        parts = []
        for i in self._of(LaneKind.DRIVING, LaneKind.SHOULDER):
            half = self.width[i] / 2
            parts.append(meshes.ribbon(self.line[i], -half - VERGE, half + VERGE, VERGE_COLOUR))
        return Mesh.join(parts + [_around(p, VERGE, VERGE_COLOUR) for p in self.junctions])

    def pavements(self, road: RoadMap) -> Mesh:
        """Ways for people; in town also a kerb and a pavement outside every solid edge and around junctions."""
        parts = self._ribbons(walked(road), PAVEMENT_COLOUR)
        if self.town:
            parts += [_around(p, PAVEMENT, PAVEMENT_COLOUR) for p in self.junctions]
            parts += self._ribbons(beside_edges(road, PAVEMENT), PAVEMENT_COLOUR) + self._ribbons(beside_edges(road, KERB), KERB_COLOUR)
        return Mesh.join(parts)

    def _ribbons(self, strips: list[Strip], colour: tuple[float, float, float]) -> list[Mesh]:
        return [meshes.ribbon(self.line[strip.lane], strip.right, strip.left, colour) for strip in strips]

    def rails(self) -> Mesh:
        """Crash barriers beside the left edge of fast roads."""
        parts = []
        for i in np.flatnonzero(self.railed):
            line = meshes.offset(self.line[int(i)], float(self.width[i]) / 2 + BARRIER_BESIDE)
            low, high = meshes.flat(line), meshes.flat(line)
            low[:, 2], high[:, 2] = BARRIER
            rail = np.stack((low[1:], low[:-1], high[:-1], high[1:]), 1)
            parts += [meshes.quads(rail, BARRIER_STEEL), meshes.quads(rail[:, ::-1], BARRIER_STEEL)]
            for at in np.arange(2.0, meshes.length(line), 8.0):
                x, y = meshes.piece(line, at, at)[0]
                parts.append(meshes.quads(meshes.box(x - 0.06, x + 0.06, y - 0.06, y + 0.06, 0.0, 0.72)[:4], STEEL))
        return Mesh.join(parts)

    def surfaces(self) -> Mesh:
        parts = [meshes.polygon(p, _ASPHALT) for p in self.junctions]
        for i in self._of(LaneKind.DRIVING, LaneKind.JUNCTION, LaneKind.SHOULDER):
            half = self.width[i] / 2
            parts.append(meshes.ribbon(self.line[i], -half - 0.12, half + 0.12, _ASPHALT))
        for i in self._of(LaneKind.DRIVING):
            parts += [meshes.ribbon(self.line[i], at - 0.35, at + 0.35, _TRACK) for at in (-0.80, 0.80)]
        return Mesh.join(parts)

    def markings(self, road: RoadMap, signals: npt.NDArray[np.int64]) -> Mesh:
        parts = []
        for i in self._of(LaneKind.DRIVING):
            for side, border in ((1, self.left_border[i]), (-1, self.right_border[i])):
                edge = side * float(self.width[i]) / 2
                if border == Border.EDGE:
                    parts.append(_line(self.line[i], edge - side * LINE_INSET, _WHITE))
                elif border == Border.CENTRE:
                    parts.append(_line(self.line[i], edge - side * LINE_INSET, _YELLOW))
                elif border == Border.DASHED:
                    beside = self.right[i]
                    if side < 0 and beside >= 0 and self.left_border[beside] == Border.DASHED:
                        continue
                    border_line = meshes.offset(self.line[i], edge)
                    whole = meshes.length(border_line)
                    for start in np.arange(0.0, whole - 0.3, DASH_PERIOD):
                        parts.append(_line(meshes.piece(border_line, start, min(start + DASH, whole)), 0.0, _WHITE))
        for i in self._of(LaneKind.WALKING)[::2]:  # every other one is the same way back
            middle = meshes.piece(self.line[i], 0.5 * meshes.length(self.line[i]), 0.5 * meshes.length(self.line[i]))[0]
            if np.asarray(middle, np.float64) in self.driven:
                parts.append(_zebra(self.line[i], float(self.width[i])))
        stops = road.stop_line[0].numpy()[signals]
        if len(stops):
            parts.append(_stop_lines(stops))
        return Mesh.join(parts)


def _line(polyline: Array, at: float, colour: tuple[float, float, float]) -> Mesh:
    return meshes.ribbon(polyline, at - LINE_WIDTH / 2, at + LINE_WIDTH / 2, colour)


def _zebra(line: Array, width: float) -> Mesh:
    """Stripes along the traffic, across a crossing's way."""
    places = np.arange(0.5, meshes.length(line) - ZEBRA, 2 * ZEBRA)
    stripes = [meshes.ribbon(meshes.piece(line, at, at + ZEBRA), -width / 2, width / 2, _WHITE) for at in places]
    return Mesh.join(stripes)


def _stop_lines(stops: Array) -> Mesh:
    left, right = stops[:, 0], stops[:, 1]
    across = right - left
    across = across / np.linalg.norm(across, axis=1, keepdims=True).clip(1e-6)
    before = np.stack((across[:, 1], -across[:, 0]), 1) * STOP_LINE_WIDTH
    return meshes.quads(meshes.flat(np.stack((left + before, right + before, right, left), 1)), _WHITE)


def _around(points: Array, wide: float, colour: tuple[float, float, float]) -> Mesh:
    return meshes.quads(meshes.flat(around(points, wide)), colour)


def _mast(head: Array, lanes: _Lanes, side: int) -> Mesh:
    """A signal's housing and its mast."""
    x, y, z, heading = (float(v) for v in head)
    deep, wide, tall = HEAD_SIZE
    housing = meshes.quads(meshes.box(-deep / 2, deep / 2, -wide / 2, wide / 2, z - tall / 2, z + tall / 2), _HOUSING)
    return Mesh.join((meshes.placed(housing, x, y, heading), meshes.quads(mast(head, lanes.driven, side), STEEL)))
