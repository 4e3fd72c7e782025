"""What the placing of scenario families is written in: actors with phases, and the road ahead of the ego."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..geometry import project_polyline, wrap_angle
from ..road import LaneKind, RoadMap
from ..scene import AgentKind, Scene
from .script import PHASES, SPACING, Script, When

CAR = (4.6, 1.85, 1.5)  # m
LORRY = (8.6, 2.5, 3.4)
WALKER = (0.5, 0.6, 1.75)
ON_LANE = 1.2  # m from a lane's centre that counts as on it
SAME_WAY = math.radians(35.0)


class Misfit(Exception):
    """A scenario does not fit the road; the message says what is missing."""


@dataclass
class Phase:
    """One phase of an actor."""

    when: When
    threshold: float
    speed: float  # m/s to reach
    rate: float = 2.5  # m/s2
    lateral: float = 0.0  # m to reach
    sideways: float = 0.0  # m/s


@dataclass
class Actor:
    """One scripted road user."""

    path: Tensor  # [P, 2] m
    arc: float  # m
    speed: float  # m/s
    lateral: float = 0.0  # m left of the path
    size: tuple[float, float, float] = CAR
    kind: AgentKind = AgentKind.CAR
    colour: tuple[float, float, float] = (0.75, 0.15, 0.12)
    mark: Tensor | None = None  # [2] m
    phases: list[Phase] = field(default_factory=list)


def script_of(actors: Sequence[Actor]) -> Script:
    """Actors as a Script [1, A]."""
    paths = [_evenly(actor.path) for actor in actors]
    points = max(len(path) for path in paths)
    padded = torch.stack([torch.cat((path, path[-1:].expand(points - len(path), 2))) for path in paths])
    row = lambda values: torch.tensor([list(values)], dtype=torch.float32)
    marks = [actor.mark if actor.mark is not None else path[-1] for actor, path in zip(actors, paths, strict=True)]
    arcs = [float(project_polyline(mark.unsqueeze(0), path.unsqueeze(0))[0]) for mark, path in zip(marks, paths, strict=True)]
    table = torch.zeros(6, len(actors), PHASES)
    for number, actor in enumerate(actors):
        for k, phase in enumerate(actor.phases[:PHASES]):
            values = (int(phase.when), phase.threshold, phase.speed, phase.rate, phase.lateral, phase.sideways)
            table[:, number, k] = torch.tensor(values)
    return Script(
        path=padded.unsqueeze(0),
        reach=row(SPACING * (len(path) - 1) for path in paths),
        arc=row(actor.arc for actor in actors),
        lateral=row(actor.lateral for actor in actors),
        speed=row(actor.speed for actor in actors),
        size=torch.tensor([[actor.size for actor in actors]]),
        kind=torch.tensor([[int(actor.kind) for actor in actors]]),
        colour=torch.tensor([[actor.colour for actor in actors]]),
        there=torch.ones(1, len(actors), dtype=torch.bool),
        mark=torch.stack(marks).unsqueeze(0),
        mark_arc=row(arcs),
        when=table[0].long().unsqueeze(0),
        threshold=table[1].unsqueeze(0),
        goal_speed=table[2].unsqueeze(0),
        rate=table[3].unsqueeze(0),
        goal_lateral=table[4].unsqueeze(0),
        sideways=table[5].unsqueeze(0),
        phase=torch.zeros(1, len(actors), dtype=torch.int64),
    )


def _evenly(path: Tensor) -> Tensor:
    """The polyline [P, 2] with SPACING between its points."""
    run = torch.cat((torch.zeros(1), (path[1:] - path[:-1]).norm(dim=-1).cumsum(0)))
    count = max(2, int(float(run[-1]) / SPACING) + 1)
    wanted = (SPACING * torch.arange(count)).clamp_max(float(run[-1]))
    index = torch.searchsorted(run, wanted, right=True).clamp(1, len(run) - 1)
    share = ((wanted - run[index - 1]) / (run[index] - run[index - 1]).clamp_min(1e-6)).unsqueeze(-1)
    return path[index - 1] + share * (path[index] - path[index - 1])


class Ahead:
    """The road ahead of the ego in an opening scene [1]."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.road = scene, scene.road
        self.side = int(scene.road.traffic_side[0])
        self.speed = float(scene.ego.speed[0])
        self.half = 0.5 * float(scene.profile.length[0])
        points = scene.route.points[0]
        last = int(float(scene.route.length[0]) / SPACING) + 1
        self.route = points[:last]
        self.here = float(project_polyline(scene.ego.position, scene.route.points)[0])
        self.left_over = float(scene.route.length[0]) - self.here

    def need(self, metres: float) -> None:
        """The route goes on for so long.

        Raises:
            Misfit: it does not.
        """
        if self.left_over < metres:
            raise Misfit(f"{metres:.0f} m of route are needed and {self.left_over:.0f} m are left")

    def cruise(self, least: float = 5.0) -> float:
        """The ego's speed, or `least` if it is slower, in m/s."""
        return max(self.speed, least)

    def moving(self, least: float = 4.0) -> None:
        """The ego moves.

        Raises:
            Misfit: it stands or crawls.
        """
        if self.speed < least:
            raise Misfit(f"the ego starts at {self.speed:.1f} m/s, {least:g} are needed")

    def point(self, ahead: float) -> tuple[Tensor, float]:
        """Point [2] and heading of the route so many m ahead."""
        k = min(max((self.here + ahead) / SPACING, 0), len(self.route) - 1.001)
        low = int(k)
        way = self.route[low + 1] - self.route[low]
        return self.route[low] + (k - low) * way, math.atan2(float(way[1]), float(way[0]))

    def lane(self, point: Tensor, heading: float, kinds: tuple[LaneKind, ...] = (LaneKind.DRIVING,)) -> int:
        """The lane that leads through a point [2] with a heading; -1 where there is none."""
        near = [int(k) for k in self.road.nearest_lanes(point.view(1, 1, 2), 8, kinds)[0, 0] if int(k) >= 0]
        if not near:
            return -1
        _, lateral, course = project_polyline(point.expand(len(near), 2), self.road.centreline[0, near])
        fits = (lateral.abs() < ON_LANE) & (wrap_angle(course - heading).abs() < SAME_WAY)
        cost = torch.where(fits, lateral.abs(), torch.full_like(lateral, torch.inf))
        best = int(cost.argmin())
        return near[best] if math.isfinite(float(cost[best])) else -1

    def beside(self, metres: float) -> float:
        """Offset in m, positive to the left, of a lane beside in the same direction for so many m ahead.

        Raises:
            Misfit: there is none all the way.
        """
        self.need(metres)
        for sign in (self.side, -self.side):  # the faster lane first
            offsets = [self._offset(ahead, sign) for ahead in range(-10, int(metres), 10)]
            if all(offset is not None for offset in offsets):
                return float(offsets[0] or 0.0)
        raise Misfit(f"no lane beside the ego's goes the same way for {metres:.0f} m")

    def _offset(self, ahead: float, sign: int) -> float | None:
        point, heading = self.point(ahead)
        lane = self.lane(point, heading)
        table = self.road.left if sign > 0 else self.road.right
        other = int(table[0, lane]) if lane >= 0 else -1
        if other < 0 or int(self.road.kind[0, other]) != int(LaneKind.DRIVING):
            return None
        return sign * 0.5 * float(self.road.width[0, lane] + self.road.width[0, other])

    def oncoming(self, ahead: float) -> bool:
        """Whether a lane beside leads the other way."""
        point, heading = self.point(ahead)
        normal = torch.tensor((-math.sin(heading), math.cos(heading)))
        return any(self.lane(point + self.side * offset * normal, heading + math.pi) >= 0 for offset in (3.0, 3.6, 4.5))

    def no_junction(self, metres: float) -> None:
        """No junction within so many m.

        Raises:
            Misfit: there is one.
        """
        for ahead in range(0, int(metres), 5):
            point, heading = self.point(ahead)
            if self.lane(point, heading) < 0:
                raise Misfit(f"there is a junction or a change of lanes within {metres:.0f} m")


def predecessor(road: RoadMap, lane: int) -> int:
    """A lane that leads into another; -1 where there is none."""
    found = (road.successors[0] == lane).any(-1).nonzero()
    return int(found[0]) if len(found) else -1


def straight_through(road: RoadMap, lane: int, back: float, on: float) -> Tensor:
    """A way [P, 2] that comes to the end of a lane from `back` m before it, goes straight on and ends `on` m behind it."""
    points = [road.centreline[0, lane]]
    length, first = _length(points[0]), lane
    while length < back and (first := predecessor(road, first)) >= 0:
        points.insert(0, road.centreline[0, first])
        length += _length(points[0])
    last, gone = lane, 0.0
    while gone < on:
        onward = [int(k) for k in road.successors[0, last] if int(k) >= 0]
        if not onward:
            break
        end = points[-1][-1] - points[-1][-2]
        turn = lambda k, end=end: float(torch.nn.functional.cosine_similarity(road.centreline[0, k, -1] - road.centreline[0, k, 0], end, 0))
        last = max(onward, key=turn)
        points.append(road.centreline[0, last])
        gone += _length(points[-1])
    return torch.cat(points)


def _length(line: Tensor) -> float:
    return float((line[1:] - line[:-1]).norm(dim=-1).sum())
