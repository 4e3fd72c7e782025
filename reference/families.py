"""What a city, a motorway and a country road look like: seeded plans of nodes, edges and lane connections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # [P, 2] m

CITY_SPEED = 13.89
RAMP_SPEED = 20.0
RAMP_LENGTH = 220.0  # m
MEDIAN = 8.0  # m between the inner edges of a motorway's carriageways
TOWN_SPEED = 11.11  # m/s
TOWN_LANE = 3.2  # m
PAVEMENT = 2.2  # m
RING, RING_SPEED, RING_LANE = 15.0, 7.0, 4.2  # m, m/s, m: a roundabout
MERGE_LENGTH = 240.0  # m of an acceleration or deceleration lane


@dataclass(frozen=True)
class PlanEdge:
    """One direction of a road between two nodes."""

    name: str
    start: str
    end: str
    shape: Points
    lanes: int
    speed: float
    width: float
    priority: int = 1
    pavement: float = 0.0  # m wide, 0 for none


@dataclass
class Plan:
    """A road network before netconvert gives it junction shapes, right of way and signal programmes."""

    nodes: dict[str, tuple[float, float, str]] = field(default_factory=dict)  # x, y, SUMO node type
    edges: list[PlanEdge] = field(default_factory=list)
    connections: list[tuple[str, str, int, int]] = field(default_factory=list)  # from, to, lane, lane
    crossings: list[tuple[str, str]] = field(default_factory=list)  # node, and the edges that walkers cross there, parted by a space

    def both_ways(
        self, start: str, end: str, shape: Points, lanes: int, speed: float, width: float, priority: int = 1, pavement: float = 0.0
    ) -> None:
        """Add a road of one edge per direction along one shared centre line."""
        self.edges.append(PlanEdge(f"{start}_{end}", start, end, shape, lanes, speed, width, priority, pavement))
        self.edges.append(PlanEdge(f"{end}_{start}", end, start, shape[::-1], lanes, speed, width, priority, pavement))

    @property
    def walkable(self) -> bool:
        """Whether some road has a pavement."""
        return any(edge.pavement for edge in self.edges)

    def turned(self, angle: float) -> Plan:
        """The same plan, rotated about the origin."""
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        nodes = {name: (*(rotation @ (x, y)), kind) for name, (x, y, kind) in self.nodes.items()}
        edges = [PlanEdge(**{**edge.__dict__, "shape": edge.shape @ rotation.T}) for edge in self.edges]
        return Plan(nodes, edges, self.connections, self.crossings)


def city(rng: np.random.Generator, side: int) -> Plan:
    """A perturbed grid of streets with signals at every junction of three or more arms, and stubs that lead out of town."""
    columns, rows = int(rng.integers(4, 6)), 4
    x = np.concatenate(([0.0], np.cumsum(rng.uniform(105, 155, columns - 1))))
    y = np.concatenate(([0.0], np.cumsum(rng.uniform(105, 155, rows - 1))))
    column_lanes, row_lanes = rng.choice([1, 2], columns, p=[0.6, 0.4]), rng.choice([1, 2], rows, p=[0.6, 0.4])
    plan = Plan()
    for i in range(columns):
        for j in range(rows):
            dx, dy = rng.normal(0, 9, 2).clip(-16, 16)
            plan.nodes[f"n{i}{j}"] = (x[i] + dx, y[j] + dy, "priority")

    def street(a: str, b: str, lanes: int) -> None:
        start, end = np.array(plan.nodes[a][:2]), np.array(plan.nodes[b][:2])
        plan.both_ways(a, b, _bow(start, end, float(rng.normal(0, 5))), int(lanes), CITY_SPEED, 3.3)

    streets = [(f"n{i}{j}", f"n{i + 1}{j}", row_lanes[j]) for i in range(columns - 1) for j in range(rows)]
    streets += [(f"n{i}{j}", f"n{i}{j + 1}", column_lanes[i]) for i in range(columns) for j in range(rows - 1)]
    inner = [s for s in range(len(streets)) if all(n[1] not in f"0{columns - 1}" and n[2] not in f"0{rows - 1}" for n in streets[s][:2])]
    closed = set(rng.choice(inner, 1).tolist()) if inner else set()
    for index, (a, b, lanes) in enumerate(streets):
        if index not in closed:
            street(a, b, lanes)

    outward = [(f"n{i}0", (0, -1), column_lanes[i]) for i in range(columns)] + [
        (f"n{i}{rows - 1}", (0, 1), column_lanes[i]) for i in range(columns)
    ]
    outward += [(f"n0{j}", (-1, 0), row_lanes[j]) for j in range(rows)] + [
        (f"n{columns - 1}{j}", (1, 0), row_lanes[j]) for j in range(rows)
    ]
    for index, (node, direction, lanes) in enumerate(outward):
        if rng.random() < (0.75 if lanes == 2 else 0.5) or index % 6 == 0:
            nx, ny, _ = plan.nodes[node]
            length = rng.uniform(110, 150)
            plan.nodes[f"out{index}"] = (nx + direction[0] * length, ny + direction[1] * length, "dead_end")
            street(node, f"out{index}", lanes)

    for name, (px, py, kind) in plan.nodes.items():
        if kind == "priority" and sum(edge.start == name for edge in plan.edges) >= 3:
            plan.nodes[name] = (px, py, "traffic_light")
    return plan.turned(rng.uniform(0, 2 * math.pi))


def motorway(rng: np.random.Generator, side: int) -> Plan:
    """Two carriageways of three lanes in gentle curves, each with exits and entries with lanes to slow down and speed up."""
    length = 3200.0
    centre = _winding(rng, length, radii=(700.0, 1600.0), arcs=(150.0, 400.0), straights=(100.0, 400.0), widest=math.radians(35))
    speed = float(rng.choice([27.78, 30.56, 33.33]))
    plan = Plan()
    for name, line in (("east", centre), ("west", centre[::-1])):
        inner = _parallel(line, -side * MEDIAN / 2)
        exits = [rng.uniform(700, 800), rng.uniform(2150, 2250)]
        entries = [rng.uniform(1260, 1400), rng.uniform(2710, 2800)]
        _carriageway(plan, name, inner, exits, entries, speed, side)
    return plan.turned(rng.uniform(0, 2 * math.pi))


def _carriageway(plan: Plan, name: str, inner: Points, exits: list[float], entries: list[float], speed: float, side: int) -> None:
    """Add one carriageway along the inner edge of its fast lane, cut where a lane is gained or lost."""
    cuts = [(0.0, ""), *((s - MERGE_LENGTH, "") for s in exits), *((s, "exit") for s in exits)]
    cuts += [*((s, "entry") for s in entries), *((s + MERGE_LENGTH, "") for s in entries)]
    cuts.sort()
    ends = [*(s for s, _ in cuts[1:]), float(_lengths(inner)[-1])]
    spans = [
        (s, e, 4 if any(abs(e - x) < 1 for x in exits) or any(abs(s - x) < 1 for x in entries) else 3)
        for (s, _), e in zip(cuts, ends, strict=True)
    ]
    for index, at in enumerate([*(s for s, _ in cuts), ends[-1]]):
        kind = "dead_end" if index in (0, len(cuts)) else "priority"
        plan.nodes[f"{name}{index}"] = (*_at(inner, at), kind)
    for index, (start, end, lanes) in enumerate(spans):
        plan.edges.append(
            PlanEdge(f"{name}_{index}", f"{name}{index}", f"{name}{index + 1}", _part(inner, start, end), lanes, speed, 3.6, 3)
        )
        if index:
            before = spans[index - 1][2]
            shift_from, shift_to = (1 if before == 4 else 0), (1 if lanes == 4 else 0)
            plan.connections += [(f"{name}_{index - 1}", f"{name}_{index}", shift_from + k, shift_to + k) for k in range(3)]
    for index, (at, what) in enumerate(cuts):
        if what == "exit":
            _ramp(plan, name, inner, at, index, +1, side)
            plan.connections.append((f"{name}_{index - 1}", f"{name}_off{index}", 0, 0))
        elif what == "entry":
            _ramp(plan, name, inner, at, index, -1, side)
            plan.connections.append((f"{name}_on{index}", f"{name}_{index}", 0, 0))


def _ramp(plan: Plan, name: str, inner: Points, at: float, index: int, direction: int, side: int) -> None:
    """A ramp that leaves (direction 1) or joins (-1) the carriageway at a station, swinging away from it."""
    along = np.linspace(0, RAMP_LENGTH, 31)
    stations = at + direction * along
    away = 3 * 3.6 + 42 * (along / RAMP_LENGTH) ** 1.7
    reach = np.clip(stations, 0, float(_lengths(inner)[-1]))
    base, normal = _sample(inner, reach)
    shape = base - side * normal * away[:, None]
    outer = f"{name}{'off' if direction > 0 else 'on'}{index}"
    plan.nodes[outer] = (*shape[-1], "dead_end")
    if direction > 0:
        plan.edges.append(PlanEdge(f"{name}_off{index}", f"{name}{index}", outer, shape, 1, RAMP_SPEED, 3.8, 2))
    else:
        plan.edges.append(PlanEdge(f"{name}_on{index}", outer, f"{name}{index}", shape[::-1], 1, RAMP_SPEED, 3.8, 2))


def country(rng: np.random.Generator, side: int) -> Plan:
    """A winding road with one lane a direction and a few side roads that give way to it."""
    line = _winding(rng, 2600.0, radii=(70.0, 260.0), arcs=(50.0, 160.0), straights=(40.0, 220.0), widest=math.radians(65))
    total = float(_lengths(line)[-1])
    count = round(total / 170)
    stations = np.linspace(0, total, count + 1)
    curvature = _curvature(line)
    arcs = _lengths(line)
    plan = Plan()
    for index, at in enumerate(stations):
        plan.nodes[f"m{index}"] = (*_at(line, at), "dead_end" if index in (0, count) else "priority")
    for index in range(count):
        inside = (arcs >= stations[index]) & (arcs <= stations[index + 1])
        bend = float(np.quantile(np.abs(curvature[inside]), 0.9))
        safe = math.sqrt(2.4 / max(bend, 1e-4))
        speed = next((v for v in (22.22, 19.44, 16.67, 13.89) if v <= safe), 11.11)
        shape = _part(line, stations[index], stations[index + 1])
        plan.both_ways(f"m{index}", f"m{index + 1}", shape, 1, speed, 3.4, priority=3)

    free = list(range(2, count - 1))
    rng.shuffle(free)
    chosen: list[int] = []
    for index in free:
        if len(chosen) == 4 or any(abs(index - other) < 3 for other in chosen):
            continue
        branch = _side_road(rng, line, float(stations[index]))
        if branch is not None:
            chosen.append(index)
            plan.nodes[f"s{index}"] = (*branch[-1], "dead_end")
            plan.both_ways(f"m{index}", f"s{index}", branch, 1, 13.89, 3.2)
    return plan.turned(rng.uniform(0, 2 * math.pi))


def _side_road(rng: np.random.Generator, line: Points, at: float) -> Points | None:
    """A curved road away from a station of the main road that keeps clear of the rest of it, or None."""
    (base,), (normal,) = _sample(line, np.array([at]))
    for _ in range(8):
        away = normal * rng.choice([-1, 1])
        bend = rng.normal(0, 0.3)
        along = np.linspace(0, rng.uniform(150, 240), 25)
        turn = bend * (along / along[-1]) ** 2
        step = np.diff(along, prepend=0.0)[:, None]
        directions = np.stack((away[0] * np.cos(turn) - away[1] * np.sin(turn), away[0] * np.sin(turn) + away[1] * np.cos(turn)), -1)
        shape = base + np.cumsum(directions * step, 0)
        gaps = np.linalg.norm(shape[:, None] - line[None], axis=-1).min(1)
        if bool((gaps >= np.minimum(along * 0.7, 45) - 3).all()):
            return shape
    return None


def _winding(
    rng: np.random.Generator,
    length: float,
    radii: tuple[float, float],
    arcs: tuple[float, float],
    straights: tuple[float, float],
    widest: float,
) -> Points:
    """A smooth curve of straights and arcs whose heading stays within `widest` of east, so that it never meets itself."""
    step = 4.0
    curvature: list[float] = []
    heading = 0.0
    while len(curvature) * step < length:
        curvature += [0.0] * round(rng.uniform(*straights) / step)
        bend = rng.choice([-1, 1]) / rng.uniform(*radii)
        arc = rng.uniform(*arcs)
        if abs(heading + bend * arc) > widest:
            bend = -bend
        arc = min(arc, (widest - heading * np.sign(bend)) / abs(bend))
        curvature += [bend] * round(arc / step)
        heading += bend * round(arc / step) * step
    smooth = np.convolve(curvature[: round(length / step)], np.ones(9) / 9, mode="same")
    headings = np.cumsum(smooth) * step
    return np.concatenate((np.zeros((1, 2)), np.cumsum(step * np.stack((np.cos(headings), np.sin(headings)), -1), 0)))


def _bow(start: Points, end: Points, height: float) -> Points:
    """A street from start to end that bows sideways by `height`, straight at both ends."""
    t = np.linspace(0, 1, 9)[:, None]
    along = end - start
    normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    return start + t * along + normal * height * 16 * t**2 * (1 - t) ** 2


def _lengths(line: Points) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))


def _sample(line: Points, arc: NDArray[np.float64]) -> tuple[Points, Points]:
    """Points and left normals of a polyline at arc lengths."""
    arcs = _lengths(line)
    tangent = np.gradient(line, arcs, axis=0)
    points = np.stack([np.interp(arc, arcs, line[:, k]) for k in (0, 1)], -1)
    direction = np.stack([np.interp(arc, arcs, tangent[:, k]) for k in (0, 1)], -1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return points, np.stack((-direction[:, 1], direction[:, 0]), -1)


def _at(line: Points, arc: float) -> tuple[float, float]:
    point = _sample(line, np.array([arc]))[0][0]
    return float(point[0]), float(point[1])


def _part(line: Points, start: float, end: float) -> Points:
    arcs = _lengths(line)
    inside = arcs[(arcs > start + 1) & (arcs < end - 1)]
    return _sample(line, np.concatenate(([start], inside, [end])))[0]


def _parallel(line: Points, left: float) -> Points:
    return line + left * _sample(line, _lengths(line))[1]


def _curvature(line: Points) -> NDArray[np.float64]:
    arcs = _lengths(line)
    dx, dy = np.gradient(line, arcs, axis=0).T
    return np.gradient(np.unwrap(np.arctan2(dy, dx)), arcs)


def town(rng: np.random.Generator, side: int) -> Plan:
    """Streets with pavements around a roundabout: lights, a main road with the right of way, junctions without signs, a lane that ends."""
    plan = Plan()
    x = np.concatenate(([0.0], np.cumsum(rng.uniform(95, 130, 2))))
    y = np.concatenate(([0.0], np.cumsum(rng.uniform(95, 130, 2))))
    unsigned = "right_before_left" if side > 0 else "left_before_right"
    for i in range(3):
        for j in range(3):
            dx, dy = (0.0, 0.0) if (i, j) == (1, 1) else rng.normal(0, 6, 2).clip(-10, 10)
            kind = "priority" if j == 1 else str(rng.choice(["traffic_light", unsigned]))
            plan.nodes[f"n{i}{j}"] = (x[i] + dx, y[j] + dy, kind)

    def street(a: str, b: str, lanes: int = 1, speed: float = TOWN_SPEED, priority: int = 1) -> None:
        plan.both_ways(a, b, np.array([plan.nodes[a][:2], plan.nodes[b][:2]]), lanes, speed, TOWN_LANE, priority, PAVEMENT)

    for i in range(3):  # the main road runs through the middle row and meets the roundabout
        for j in range(2):
            if i != 1:
                street(f"n{i}{j}", f"n{i}{j + 1}")
    for j in (0, 2):
        for i in range(2):
            street(f"n{i}{j}", f"n{i + 1}{j}")
    _roundabout(plan, "n11", side, {"n01": 3, "n21": 3, "n10": 1, "n12": 1})
    ends = {"n00": (-1, -1), "n20": (1, -1), "n02": (-1, 1), "n22": (1, 1), "n10": (0, -1), "n12": (0, 1)}
    for index, (node, direction) in enumerate(ends.items()):
        _way_out(plan, rng, node, direction, f"out{index}", 1)
    for node, outward in (("n01", -1), ("n21", 1)):  # two lanes from outside become one
        nx, ny, _ = plan.nodes[node]
        plan.nodes[f"d{node}"] = (nx + outward * 75.0, ny, "priority")
        plan.nodes[f"out{node}"] = (nx + outward * 190.0, ny, "dead_end")
        street(node, f"d{node}", 1, CITY_SPEED, 3)
        street(f"d{node}", f"out{node}", 2, CITY_SPEED, 3)
    return plan.turned(rng.uniform(0, 2 * math.pi))


def _way_out(plan: Plan, rng: np.random.Generator, node: str, direction: tuple[int, int], name: str, priority: int) -> None:
    nx, ny, _ = plan.nodes[node]
    length = rng.uniform(110, 150) / math.hypot(*direction)
    plan.nodes[name] = (nx + direction[0] * length, ny + direction[1] * length, "dead_end")
    shape = np.array([plan.nodes[node][:2], plan.nodes[name][:2]])
    plan.both_ways(node, name, shape, 1, CITY_SPEED, TOWN_LANE, priority, PAVEMENT)


def _roundabout(plan: Plan, name: str, side: int, arms: dict[str, int]) -> None:
    """Put a ring in the place of a node, one lane round it, with an arm to each node of `arms` (and its priority)."""
    cx, cy, _ = plan.nodes.pop(name)
    angles = {arm: math.atan2(plan.nodes[arm][1] - cy, plan.nodes[arm][0] - cx) for arm in arms}
    order = sorted(arms, key=lambda arm: side * angles[arm])
    for arm in order:
        where = (cx + RING * math.cos(angles[arm]), cy + RING * math.sin(angles[arm]))
        plan.nodes[f"r{arm}"] = (*where, "priority")
        plan.both_ways(arm, f"r{arm}", np.array([plan.nodes[arm][:2], where]), 1, TOWN_SPEED, TOWN_LANE, arms[arm], PAVEMENT)
    plan.crossings += [(f"r{arm}", f"{arm}_r{arm} r{arm}_{arm}") for arm in order]
    for arm, following in zip(order, [*order[1:], order[0]], strict=True):
        turn = side * (side * (angles[following] - angles[arm]) % (2 * math.pi))
        steps = angles[arm] + np.linspace(0, turn, 9)
        shape = np.array([cx, cy]) + RING * np.stack((np.cos(steps), np.sin(steps)), -1)
        plan.edges.append(PlanEdge(f"r{arm}_r{following}", f"r{arm}", f"r{following}", shape, 1, RING_SPEED, RING_LANE, 5))


FAMILY_PLANS = {"city": city, "motorway": motorway, "country": country, "town": town}
