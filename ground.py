"""The ground of a road map, as whoever draws it knows it: verges, pavements, asphalt and markings as quadrilaterals."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from . import polylines
from .bodies import Array
from .polylines import ribbon
from .road import Border, LaneKind, RoadMap
from .roadside import KERB, PAVEMENT, VERGE, DrivenGround, Strip, around, beside_edges, is_town, walked

DASH, DASH_PERIOD = 3.0, 9.0  # m painted, from the start of each lane's border on
LINE_WIDTH = 0.20  # m
LINE_INSET = 0.12  # m from a lane's border to the middle of a solid line
ASPHALT_BEYOND = 0.12  # m of asphalt outside a lane
TRACK_ASIDE, TRACK_WIDTH = 0.80, 0.70  # m, where wheels run
ZEBRA = 0.5  # m, a stripe of a crossing and the gap after it
STOP_LINE_WIDTH = 0.5  # m, before the line where vehicles stop


class Ground(IntEnum):
    """What a piece of ground is, in an order in which it can be painted."""

    VERGE = 1
    PAVEMENT = 2
    KERB = 3
    ROAD = 4
    JUNCTION = 5
    TRACK = 6
    EDGE = 7
    DASHED = 8
    CENTRE = 9
    STOP = 10


class GroundPlan:
    """The lanes and junctions of a road map [1] as cleaned polylines and polygons, and the ground they cover."""

    def __init__(self, road: RoadMap) -> None:
        self.road = road
        self.kind = road.kind[0].numpy()
        self.width = road.width[0].numpy()
        self.borders = ((1, road.left_border[0].numpy()), (-1, road.right_border[0].numpy()))
        centre = road.centreline[0].numpy()
        self.line = {int(i): polylines.clean(centre[i]) for i in np.flatnonzero(self.kind > 0)}
        polygons = [polylines.clean(p, 0.0) for p in road.junctions[0].numpy()]
        self.junctions = [p for p in polygons if len(p) >= 3]
        self.town = is_town(road)
        driven = self._of(LaneKind.DRIVING, LaneKind.JUNCTION)
        self.driven = DrivenGround([self.line[i] for i in driven], [float(self.width[i]) for i in driven])

    def _of(self, *kinds: LaneKind) -> list[int]:
        return [int(i) for i in np.flatnonzero(np.isin(self.kind, [int(kind) for kind in kinds]))]

    def quads(self) -> dict[Ground, Array]:
        """Quads [n, 4, 2] of each kind of ground, counter-clockwise; a junction's have their last corner twice."""
        parts = {Ground.VERGE: self._verges(), Ground.PAVEMENT: self._pavements(), Ground.JUNCTION: self._junctions()}
        if self.town:
            parts[Ground.KERB] = self._ribbons(beside_edges(self.road, KERB))
        parts[Ground.ROAD] = [
            ribbon(self.line[i], -self._half(i) - ASPHALT_BEYOND, self._half(i) + ASPHALT_BEYOND)
            for i in self._of(LaneKind.DRIVING, LaneKind.JUNCTION, LaneKind.SHOULDER)
        ]
        parts[Ground.TRACK] = [
            ribbon(self.line[i], at - TRACK_WIDTH / 2, at + TRACK_WIDTH / 2)
            for i in self._of(LaneKind.DRIVING)
            for at in (-TRACK_ASIDE, TRACK_ASIDE)
        ]
        parts[Ground.EDGE], parts[Ground.CENTRE] = self._lines(Border.EDGE), self._lines(Border.CENTRE)
        parts[Ground.DASHED] = self._dashes() + self._zebras()
        parts[Ground.STOP] = [self._stop_lines()]
        empty = np.zeros((0, 4, 2), np.float32)
        return {kind: np.concatenate([empty, *parts.get(kind, [])]) for kind in Ground}

    def _half(self, lane: int) -> float:
        return float(self.width[lane]) / 2

    def _ribbons(self, strips: list[Strip]) -> list[Array]:
        return [ribbon(self.line[strip.lane], strip.right, strip.left) for strip in strips]

    def _verges(self) -> list[Array]:
        lanes = self._of(LaneKind.DRIVING, LaneKind.SHOULDER)
        beside = [ribbon(self.line[i], -self._half(i) - VERGE, self._half(i) + VERGE) for i in lanes]
        return beside + [around(p, VERGE) for p in self.junctions]

    def _pavements(self) -> list[Array]:
        """Ways for people; in town also the ground outside every solid edge and around junctions."""
        parts = self._ribbons(walked(self.road))
        if self.town:
            parts += [around(p, PAVEMENT) for p in self.junctions] + self._ribbons(beside_edges(self.road, PAVEMENT))
        return parts

    def _junctions(self) -> list[Array]:
        return [np.stack([p[[a, b, c, c]] for a, b, c in polylines.triangulate(p)]) for p in self.junctions]

    def _lines(self, border: Border) -> list[Array]:
        parts = []
        for i in self._of(LaneKind.DRIVING):
            for side, borders in self.borders:
                if borders[i] == border:
                    at = side * (self._half(i) - LINE_INSET)
                    parts.append(ribbon(self.line[i], at - LINE_WIDTH / 2, at + LINE_WIDTH / 2))
        return parts

    def _dashes(self) -> list[Array]:
        """Dashes anchored to the start of each lane's border; where two lanes share it, those of the right one."""
        (_, left), (_, right) = self.borders
        neighbour = self.road.right[0].numpy()
        parts = []
        for i in self._of(LaneKind.DRIVING):
            shared = neighbour[i] >= 0 and left[neighbour[i]] == Border.DASHED
            for side, there in ((1, left[i] == Border.DASHED), (-1, right[i] == Border.DASHED and not shared)):
                if not there:
                    continue
                line = polylines.offset(self.line[i], side * self._half(i))
                whole = polylines.length(line)
                for start in np.arange(0.0, whole - 0.3, DASH_PERIOD):
                    dash = polylines.piece(line, start, min(start + DASH, whole))
                    parts.append(ribbon(dash, -LINE_WIDTH / 2, LINE_WIDTH / 2))
        return parts

    def _zebras(self) -> list[Array]:
        """Stripes along the traffic, across the ways of walkers whose middle is on a lane for vehicles."""
        parts = []
        for i in self._of(LaneKind.WALKING)[::2]:  # every other one is the same way back
            line, whole = self.line[i], polylines.length(self.line[i])
            middle = polylines.piece(line, 0.5 * whole, 0.5 * whole)[0]
            if np.asarray(middle, np.float64) in self.driven:
                for start in np.arange(ZEBRA, whole - ZEBRA, 2 * ZEBRA):
                    parts.append(ribbon(polylines.piece(line, start, start + ZEBRA), -self._half(i), self._half(i)))
        return parts

    def _stop_lines(self) -> Array:
        ends = self.road.stop_line[0].numpy()[self.road.signal_lane[0].numpy() >= 0]
        left, right = ends[:, 0], ends[:, 1]
        across = right - left
        across = across / np.linalg.norm(across, axis=1, keepdims=True).clip(1e-6)
        before = np.stack((across[:, 1], -across[:, 0]), 1) * STOP_LINE_WIDTH
        return np.stack((left + before, right + before, right, left), 1).astype(np.float32)
