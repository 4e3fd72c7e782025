"""Where the ego begins and which way it is to go, with the road around it clear enough to begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import SimulatorError
from ..geometry import sample_polyline
from ..road import Route
from ..scene import Ego
from ..vehicles import VehicleProfile
from .demand import Walker
from .engine import Engine
from .roadmap import LaneIndex
from .routes import plan_lanes, route_along

ROUTE_AHEAD = {"city": 650.0, "motorway": 1500.0, "country": 900.0, "town": 500.0}  # m, more than 30 s at the limit
EASY_BRAKING = 2.5  # m/s2 that the start may ask of the ego or of the vehicle behind it
BUFFER = 4.0  # m between boxes at the start
TRIES = 200


@dataclass(frozen=True)
class Start:
    """A place on a route, on a lane that leads on."""

    route: Route
    ego: Ego
    edge: str
    lane: int
    front: float  # m along the lane of the front bumper
    speed: float


def draw_start(rng: np.random.Generator, index: LaneIndex, walker: Walker, family: str, engine: Engine, profile: VehicleProfile) -> Start:
    """Draw a route and a start on its first edge, preferring places where nobody has to brake hard.

    Raises:
        SimulatorError: the network has no route that is long enough.
    """
    wanted = ROUTE_AHEAD[family]
    others = engine.positions()
    half = 0.5 * float(profile.length[0])
    fallback: tuple[list[str], float, float] | None = None
    for _ in range(TRIES):
        drawn = _draw(rng, index, walker, family, wanted)
        if drawn is None:
            continue
        edges, front, speed = drawn
        fallback = fallback or drawn
        lane = index.edges[edges[0]][plan_lanes(index, edges)[0][0]]
        if not blockers(others, lane, front, speed, 2 * half):
            return _start(index, edges, front, speed, half)
    if fallback is None:
        raise SimulatorError(f"no {family} route of {wanted:.0f} m was found; try another network seed")
    return _start(index, *fallback, half)


def clear_way(engine: Engine, start: Start, profile: VehicleProfile) -> None:
    """Remove the vehicles that the ego's start overlaps or would force into hard braking."""
    for name in blockers(engine.positions(), f"{start.edge}_{start.lane}", start.front, start.speed, float(profile.length[0])):
        engine.remove(name)


def blockers(others: dict[str, tuple[str, float, float, float]], lane: str, front: float, speed: float, length: float) -> list[str]:
    """Vehicles on a lane too close to an ego with its front bumper at `front`, by the braking that either would need."""
    found = []
    for name, (its_lane, its_front, its_length, its_speed) in others.items():
        if its_lane != lane:
            continue
        ahead = its_front - its_length - front
        behind = front - length - its_front
        closing, gap = (speed - its_speed, ahead) if ahead > behind else (its_speed - speed, behind)
        if gap < BUFFER + max(closing, 0.0) ** 2 / (2 * EASY_BRAKING) + 0.5 * max(closing, 0.0):
            found.append(name)
    return found


def _draw(rng: np.random.Generator, index: LaneIndex, walker: Walker, family: str, wanted: float) -> tuple[list[str], float, float] | None:
    """Edges of a route that meets no junction twice, the front bumper's place on the first and a speed; None if it ends too soon."""
    names = list(walker.length)
    room = np.array([walker.length[e] * walker.lanes[e] for e in names])
    edges = [names[int(rng.choice(len(names), p=room / room.sum()))]]
    length = index.edge_length(edges[0])
    limit = walker.speed[edges[0]]
    standing = family != "motorway" and rng.random() < 0.12
    speed = 0.0 if standing else float(limit * rng.uniform(0.6, 0.9))
    last = length - (15.0 + speed**2 / (2 * EASY_BRAKING) if family in ("city", "town") else 10.0)
    if last < 12.0:
        return None
    front = float(rng.uniform(8.0, last))
    ahead = length - front
    seen = {edges[0].partition("_")[0], edges[0].partition("_")[2]}
    while ahead < wanted:
        options = [e for e in walker.following[edges[-1]] if family == "motorway" or e.partition("_")[2] not in seen]
        if not options:
            return None
        weights = np.array([walker.speed[e] * walker.lanes[e] for e in options]) ** (3.0 if family == "country" else 1.0)
        edges.append(options[int(rng.choice(len(options), p=weights / weights.sum()))])
        seen.add(edges[-1].partition("_")[2])
        ahead += index.edge_length(edges[-1])
    return edges, front, speed


def _start(index: LaneIndex, edges: list[str], front: float, speed: float, half: float) -> Start:
    route = route_along(index, edges)
    sumo_lane = index.lanes[index.edges[edges[0]][plan_lanes(index, edges)[0][0]]]
    shape = torch.as_tensor(sumo_lane.shape, dtype=torch.float32).unsqueeze(0)
    drawn = float((shape[:, 1:] - shape[:, :-1]).norm(dim=-1).sum())
    arc = torch.tensor([[(front - half) * drawn / sumo_lane.length]])
    point, heading = sample_polyline(shape, arc)
    zero = torch.zeros(1)
    ego = Ego.of(point[:, 0, 0], point[:, 0, 1], heading[:, 0], torch.tensor([speed]), zero, zero, zero)
    return Start(route, ego, edges[0], sumo_lane.index, front, speed)
