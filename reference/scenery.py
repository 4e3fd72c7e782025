"""Buildings, trees and poles beside the road, drawn from a seed, clear of the lanes and of each other."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..facades import PITCHED_BELOW, WALL_BELOW
from ..geometry import box_corners, boxes_overlap
from ..road import BUILDINGS, LaneKind, RoadMap, SceneryKind

CLEARANCE = 2.0  # m between anything that stands and the edge of a lane or junction
MOST_BOXES = 500
MOTORWAY_SPEED = 25.0  # m/s; maps with faster lanes are furnished as motorways

_WALLS = np.array([
    (0.56, 0.33, 0.27), (0.64, 0.42, 0.33), (0.63, 0.62, 0.59), (0.74, 0.73, 0.69), (0.40, 0.49, 0.57), (0.30, 0.38, 0.46),
    (0.80, 0.73, 0.60), (0.70, 0.60, 0.47), (0.48, 0.46, 0.45),
])  # fmt: skip
_FARM = np.array([(0.58, 0.28, 0.22), (0.78, 0.74, 0.66), (0.52, 0.44, 0.36)])
_LEAVES = np.array([(0.20, 0.42, 0.18), (0.28, 0.50, 0.22), (0.36, 0.52, 0.20), (0.16, 0.34, 0.20)])
_BARRIER = np.array([(0.55, 0.58, 0.55), (0.45, 0.52, 0.47), (0.62, 0.58, 0.50)])
_METAL = np.array([(0.50, 0.51, 0.53)])


def furnish(road: RoadMap, seed: int) -> RoadMap:
    """Return the map [1] with scenery drawn from a seed: dense rows in a city, woods and farms in the country, barriers by a motorway."""
    rng = np.random.default_rng([int(seed), 29])
    placer = _Placer(road, rng)
    lanes = list(_kerbs(road))
    if bool((road.signal_lane >= 0).any()):
        _city(placer, lanes, rng)
    elif float(road.speed_limit.max()) > MOTORWAY_SPEED:
        _motorway(placer, lanes, rng)
    else:
        _country(placer, lanes, rng)
    boxes, colours, kinds = placer.result()
    return dataclasses.replace(
        road,
        scenery=torch.as_tensor(boxes).float().unsqueeze(0),
        scenery_colour=torch.as_tensor(colours).float().unsqueeze(0),
        scenery_kind=torch.as_tensor(kinds).unsqueeze(0),
    )


class _Kerb(NamedTuple):
    """The outer border of a lane piece."""

    line: NDArray[np.float64]  # [P, 2]
    arc: NDArray[np.float64]  # [P] m
    outward: float  # 1: to the left of the line, -1: to its right

    def at(self, arc: float, away: float) -> tuple[float, float, float]:
        """Place and heading of a point `away` metres outside the border."""
        x, y = (float(np.interp(arc, self.arc, self.line[:, k])) for k in (0, 1))
        k = int(np.clip(np.searchsorted(self.arc, arc), 1, len(self.arc) - 1))
        dx, dy = self.line[k] - self.line[k - 1]
        heading = math.atan2(dy, dx)
        return x - self.outward * away * math.sin(heading), y + self.outward * away * math.cos(heading), heading


def _kerbs(road: RoadMap) -> Iterator[_Kerb]:
    """Outer borders of all driving lanes without a lane beside them."""
    side = int(road.traffic_side[0])
    beside = (road.right if side > 0 else road.left)[0]
    for lane in torch.nonzero((road.kind[0] == int(LaneKind.DRIVING)) & (beside < 0)).flatten().tolist():
        line = road.centreline[0, lane].double().numpy()
        tangent = np.gradient(line, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        normal = -side * np.stack((-tangent[:, 1], tangent[:, 0]), -1)
        border = line + normal * float(road.width[0, lane]) / 2
        arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(border, axis=0), axis=1))))
        yield _Kerb(border, arc, -side)


class _Placer:
    """Accepts boxes that keep clear of the road and of those already standing."""

    def __init__(self, road: RoadMap, rng: np.random.Generator) -> None:
        points, reach = [], []
        for lane in torch.nonzero(road.kind[0] > 0).flatten().tolist():
            line = road.centreline[0, lane].double().numpy()
            fine = np.linspace(0, 1, 56)
            coarse = np.linspace(0, 1, len(line))
            points.append(np.stack([np.interp(fine, coarse, line[:, k]) for k in (0, 1)], -1))
            reach.append(np.full(len(fine), float(road.width[0, lane]) / 2))
        for polygon in road.junctions[0].double().numpy():
            ring = np.concatenate((polygon, polygon[:1]))
            pieces = [np.linspace(a, b, 2 + int(np.linalg.norm(b - a))) for a, b in itertools.pairwise(ring)]
            points.append(np.concatenate(pieces))
            reach.append(np.zeros(len(points[-1])))
        reaches = np.concatenate(reach)
        cloud = np.concatenate(points)
        self.trees = [(radius, cKDTree(cloud[reaches == radius])) for radius in np.unique(reaches)]
        self.rng = rng
        self.boxes = np.zeros((4 * MOST_BOXES, 6))
        self.colours: list[NDArray[np.float64]] = []
        self.kinds: list[int] = []

    def place(
        self, kind: SceneryKind, spot: tuple[float, float, float], size: tuple[float, float, float], palette: NDArray[np.float64]
    ) -> bool:
        """Put up a box of length, width and height at x, y, heading if there is room."""
        box = (*spot, *size)
        colour = palette[self.rng.integers(len(palette))] * self.rng.uniform(0.85, 1.15) + self.rng.uniform(-0.03, 0.03, 3)
        count = len(self.kinds)
        if count == len(self.boxes) or not (self._off_the_road(box) and self._apart(box)):
            return False
        self.boxes[count] = box
        self.colours.append(colour.clip(0.05, 0.95))
        self.kinds.append(int(kind))
        return True

    def _off_the_road(self, box: tuple[float, ...]) -> bool:
        x, y, heading, length, width, _ = box
        u = np.linspace(-0.5, 0.5, 2 + int(length / 1.5))
        v = np.linspace(-0.5, 0.5, 2 + int(width / 1.5))
        local = np.concatenate([np.stack(np.broadcast_arrays(*side), -1) for side in ((u, -0.5), (u, 0.5), (-0.5, v), (0.5, v))])
        local *= (length, width)
        cos, sin = math.cos(heading), math.sin(heading)
        points = np.array([x, y]) + local @ np.array([[cos, sin], [-sin, cos]])
        gaps = ((radius + CLEARANCE + 0.3, tree) for radius, tree in self.trees)
        return all(not np.isfinite(tree.query(points, distance_upper_bound=gap)[0]).any() for gap, tree in gaps)

    def _apart(self, box: tuple[float, ...]) -> bool:
        others = self.boxes[: len(self.kinds)]
        reach = 0.5 * (np.hypot(others[:, 3], others[:, 4]) + math.hypot(box[3], box[4]))
        near = others[np.hypot(others[:, 0] - box[0], others[:, 1] - box[1]) < reach]
        if not len(near):
            return True
        a, b = torch.tensor([box]).float(), torch.as_tensor(near).float()
        corners = [box_corners(t[:, :2], t[:, 2], t[:, 3], t[:, 4]) for t in (a, b)]
        return not bool(boxes_overlap(corners[0], corners[1]).any())

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Boxes [K, 6], colours [K, 3], kinds [K]: at most MOST_BOXES, where trees give way to the rest."""
        if not self.kinds:
            return np.zeros((1, 6)), np.zeros((1, 3)), np.zeros(1, dtype=np.int64)
        kinds = np.array(self.kinds, dtype=np.int64)
        keep = np.sort(np.lexsort((self.rng.random(len(kinds)), kinds == int(SceneryKind.TREE)))[:MOST_BOXES])
        return self.boxes[keep], np.array(self.colours)[keep], _vary(self.boxes[keep], kinds[keep])


def _vary(boxes: NDArray[np.float64], kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Kinds [K] where every third tall building has bands of windows, every third is glass, and every third tree a conifer."""
    place = np.arange(len(kinds))
    tall = (kinds == int(SceneryKind.BUILDING)) & (boxes[:, 5] >= PITCHED_BELOW) & (boxes[:, 3:5].min(-1) >= WALL_BELOW)
    varied = np.where(tall, np.array([int(kind) for kind in BUILDINGS])[place % len(BUILDINGS)], kinds)
    return np.where((kinds == int(SceneryKind.TREE)) & (place % 3 == 0), int(SceneryKind.CONIFER), varied)


def _tree(placer: _Placer, kerb: _Kerb, arc: float, away: float, rng: np.random.Generator, widest: float = 4.4) -> bool:
    crown, height = rng.uniform(2.2, widest), rng.uniform(3.5, 8.0)
    return placer.place(SceneryKind.TREE, kerb.at(arc, away + crown / 2), (crown, crown, height), _LEAVES)


def _pole(placer: _Placer, kerb: _Kerb, arc: float, away: float, height: float) -> bool:
    return placer.place(SceneryKind.POLE, kerb.at(arc, away), (0.3, 0.3, height), _METAL)


def _city(placer: _Placer, kerbs: list[_Kerb], rng: np.random.Generator) -> None:
    """Rows of buildings along every street, tall near the middle of town, trees and lamps before them."""
    middle = np.mean([kerb.line.mean(0) for kerb in kerbs], axis=0)
    spread = float(np.mean([np.linalg.norm(kerb.line.mean(0) - middle) for kerb in kerbs]))
    for kerb in kerbs:
        arc = rng.uniform(0, 4)
        height_here = 7 + 11 * math.exp(-((float(np.linalg.norm(kerb.line.mean(0) - middle)) / spread) ** 2))
        while arc < kerb.arc[-1]:
            front, depth, setback = rng.uniform(13, 30), rng.uniform(9, 15), rng.uniform(6.5, 9.0)
            height = float(np.clip(rng.normal(height_here, 4.5), 4, 25))
            x, y, heading = kerb.at(arc + front / 2, setback + depth / 2)
            stands = placer.place(SceneryKind.BUILDING, (x, y, heading), (front, depth, height), _WALLS)
            arc += front + rng.choice([0.3, 0.3, rng.uniform(3, 9)]) if stands else 4.0
    for kerb in kerbs:
        if rng.random() < 0.4:
            _pole(placer, kerb, rng.uniform(0, kerb.arc[-1]), 2.6, rng.uniform(6, 8))
        planted = rng.random() < 0.5
        for arc in np.arange(rng.uniform(3, 20), kerb.arc[-1], rng.uniform(10, 18)):
            if planted:
                _tree(placer, kerb, float(arc), 2.7, rng, widest=3.6)


def _country(placer: _Placer, kerbs: list[_Kerb], rng: np.random.Generator) -> None:
    """Houses and farms here and there, telegraph poles, single trees and woods."""
    for kerb in kerbs:
        if rng.random() < 0.35:
            farm = rng.random() < 0.3
            size = (
                (rng.uniform(16, 28), rng.uniform(9, 13), rng.uniform(5, 8))
                if farm
                else (rng.uniform(8, 13), rng.uniform(7, 10), rng.uniform(4, 7))
            )
            x, y, heading = kerb.at(rng.uniform(0, kerb.arc[-1]), rng.uniform(8, 30) + size[1] / 2)
            placer.place(SceneryKind.BUILDING, (x, y, heading + rng.normal(0, 0.2)), size, _FARM if farm else _WALLS)
        if rng.random() < 0.5:
            _pole(placer, kerb, kerb.arc[-1] / 2, 3.5, 7.0)
        wood = rng.random() < 0.3
        for _ in range(rng.poisson(9 if wood else 2)):
            _tree(placer, kerb, rng.uniform(0, kerb.arc[-1]), 2.8 + rng.exponential(9), rng)


def _motorway(placer: _Placer, kerbs: list[_Kerb], rng: np.random.Generator) -> None:
    """Runs of noise barrier, gantry-high lamps, trees on the slopes and buildings farther off."""
    walled = 0.0
    for kerb in kerbs:
        walled = walled + (1 if rng.random() < 0.25 else 0) * rng.uniform(120, 400) if walled <= 0 else walled
        length = float(kerb.arc[-1])
        if walled > 0:
            count = max(1, round(length / 20))
            for k in range(count):
                spot = kerb.at((k + 0.5) * length / count, 4.5)
                placer.place(SceneryKind.BUILDING, spot, (length / count * 0.985, 0.4, rng.uniform(3.2, 3.6)), _BARRIER)
            walled -= length
        elif rng.random() < 0.8:
            for _ in range(rng.poisson(2.2)):
                _tree(placer, kerb, rng.uniform(0, length), 4.0 + rng.exponential(8), rng)
        if rng.random() < 0.35:
            size = (rng.uniform(15, 40), rng.uniform(12, 25), rng.uniform(6, 22))
            x, y, heading = kerb.at(rng.uniform(0, length), rng.uniform(18, 60) + size[1] / 2)
            placer.place(SceneryKind.BUILDING, (x, y, heading), size, _WALLS)
        if rng.random() < 0.7:
            _pole(placer, kerb, length / 2, 3.0, rng.uniform(8, 10))
