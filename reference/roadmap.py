"""SUMO's net.xml as a RoadMap, and the index that leads from SUMO's lanes to its lanes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..road import LANE_PIECE, LANE_POINTS, MAX_PHASES, Border, LaneKind, RoadMap, SignalState
from .networks import TRAFFIC_SIDES, Network

Points = NDArray[np.float64]

SHORTEST_LANE = 0.3  # m; shorter lanes are skipped and linked through
HEAD_BEYOND = 20.0  # m from the stop line to the signal head, so that it is more than a pixel large
HEAD_HEIGHT = 5.0  # m
HEAD_ASIDE = 1.0  # m from the lane's outer border to the head of the lane at the kerb
SIGN_HEIGHT = 2.2  # m
WALKING_PACE = 1.6  # m/s

_STOP_SIGNS = ("s", "w")  # states of a connection that yields after a stop, to the bigger road or to all
_STATES = {"r": SignalState.RED, "u": SignalState.RED, "s": SignalState.RED, "y": SignalState.YELLOW}
_STATES |= {"g": SignalState.GREEN, "G": SignalState.GREEN, "o": SignalState.OFF, "O": SignalState.OFF}


@dataclass(frozen=True)
class SumoLane:
    """One lane of the net.xml."""

    name: str
    edge: str
    index: int
    internal: bool
    shape: Points
    width: float
    speed: float
    length: float  # as SUMO counts positions along it
    allows_cars: bool
    walked: bool = False  # a pavement or a crossing


@dataclass
class LaneIndex:
    """From SUMO's lanes and edges to the lane pieces of a RoadMap, and the links between edges that routes need."""

    lanes: dict[str, SumoLane] = field(default_factory=dict)
    pieces: dict[str, list[int]] = field(default_factory=dict)  # lane name -> its pieces in order
    edges: dict[str, list[str]] = field(default_factory=dict)  # normal edge -> its lanes by index
    links: dict[tuple[str, str], list[tuple[int, int, list[str]]]] = field(
        default_factory=dict
    )  # edges -> from lane, to lane, internal lanes
    sidewalks: dict[str, str] = field(default_factory=dict)  # edge -> its pavement
    signals: list[tuple[str, int]] = field(default_factory=list)  # per traffic light of the map: SUMO's light, link index

    def piece_at(self, lane: str, position: float) -> int:
        """The lane piece at a position in m along a SUMO lane; -1 for lanes that were skipped."""
        pieces = self.pieces.get(lane, [])
        if not pieces:
            return -1
        fraction = position / max(self.lanes[lane].length, 1e-6)
        return pieces[min(len(pieces) - 1, max(0, int(fraction * len(pieces))))]

    def following(self, edge: str) -> list[str]:
        """The edges that can be reached from an edge."""
        return [end for start, end in self.links if start == edge]

    def edge_length(self, edge: str) -> float:
        """Length of an edge's lanes in m."""
        return self.lanes[self.edges[edge][0]].length

    def edge_pieces(self, edge: str) -> list[int]:
        """All lane pieces of an edge, parallel ones included."""
        return [piece for lane in self.edges[edge] for piece in self.pieces[lane]]


def read_road_map(network: Network) -> tuple[RoadMap, LaneIndex]:
    """Read a network's net.xml as a RoadMap [1] without scenery.

    Raises:
        DataError: the file is missing, is no net.xml, or holds no lane for cars.
    """
    try:
        root = ElementTree.parse(network.path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read the network {network.path}: {error}; delete the file to have it built again") from error
    side = TRAFFIC_SIDES[network.traffic_side]
    index, connections = _read_lanes(root)
    if not index.edges:
        raise DataError(f"the network {network.path} has no lanes for cars; delete the file to have it built again")
    driven = [c for c in connections if _is_driven(c, index)]
    arrays = _pieces(index, driven, side)
    add_walks(arrays, index, connections)
    signals = _signals(root, index, connections, side)
    polygons = _junction_polygons(root)
    tensors = {name: torch.as_tensor(value).unsqueeze(0) for name, value in {**arrays, **signals, "junctions": polygons}.items()}
    road = RoadMap(
        **{name: t.float() if t.is_floating_point() else t for name, t in tensors.items()},
        scenery=torch.zeros(1, 1, 6),
        scenery_colour=torch.zeros(1, 1, 3),
        scenery_kind=torch.zeros(1, 1, dtype=torch.int64),
        traffic_side=torch.tensor([side]),
    )
    return road, index


def _read_lanes(root: ElementTree.Element) -> tuple[LaneIndex, list[dict[str, str]]]:
    index = LaneIndex()
    for edge in root.iter("edge"):
        internal = edge.get("function") == "internal"
        if edge.get("function") not in (None, "internal", "crossing"):
            continue
        for lane in edge.iter("lane"):
            allow, disallow = lane.get("allow"), lane.get("disallow", "")
            cars = "passenger" in allow.split() if allow is not None else not {"all", "passenger"} & set(disallow.split())
            walked = edge.get("function") == "crossing" or (allow is not None and "pedestrian" in allow.split() and not cars)
            cars = cars and not walked
            shape = np.array([[float(v) for v in point.split(",")[:2]] for point in lane.get("shape", "").split()])
            width, speed, length = (float(lane.get(key, "0")) for key in ("width", "speed", "length"))
            name = lane.get("id", "")
            index.lanes[name] = SumoLane(
                name, edge.get("id", ""), int(lane.get("index", 0)), internal, shape, width or 3.2, speed or 13.89, length, cars, walked
            )
            if walked and edge.get("function") is None:
                index.sidewalks[edge.get("id", "")] = name
            if cars and not internal and not walked:
                index.edges.setdefault(edge.get("id", ""), []).append(name)
    connections = [dict(c.attrib) for c in root.iter("connection")]
    onward: dict[str, list[str]] = {}
    for c in connections:
        onward.setdefault(f"{c['from']}_{c['fromLane']}", []).append(c.get("via") or f"{c['to']}_{c['toLane']}")
    for c in connections:
        if c["from"] in index.edges and c["to"] in index.edges:
            internals: list[str] = []
            inside = c.get("via", "")
            while inside and index.lanes[inside].internal:
                internals.append(inside)
                inside = onward[inside][0]
            ends = [f"{c['from']}_{c['fromLane']}", f"{c['to']}_{c['toLane']}"]
            if any(index.lanes[name].walked for name in ends):
                continue
            places = [index.edges[index.lanes[name].edge].index(name) for name in ends]
            index.links.setdefault((c["from"], c["to"]), []).append((places[0], places[1], internals))
    return index, connections


def polyline_length(shape: Points) -> float:
    """Length of a polyline [P, 2] in m; 0 for a single point."""
    return float(np.linalg.norm(np.diff(shape, axis=0), axis=1).sum()) if len(shape) > 1 else 0.0


def resample(shape: Points, arcs: NDArray[np.floating]) -> Points:
    """Points of a polyline [P, 2] at fractions [K] of its length."""
    along = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(shape, axis=0), axis=1))))
    return np.stack([np.interp(arcs * along[-1], along, shape[:, k]) for k in (0, 1)], -1)


def _is_driven(connection: dict[str, str], index: LaneIndex) -> bool:
    """Whether a connection leads from a lane for cars to another."""
    names = (f"{connection['from']}_{connection['fromLane']}", f"{connection['to']}_{connection['toLane']}")
    return all(name in index.lanes and index.lanes[name].allows_cars for name in names)


def _pieces(index: LaneIndex, connections: list[dict[str, str]], side: int) -> dict[str, NDArray]:
    kept = [lane for lane in index.lanes.values() if lane.allows_cars and polyline_length(lane.shape) >= SHORTEST_LANE]
    longest: dict[str, float] = {}
    for lane in kept:
        longest[lane.edge] = max(longest.get(lane.edge, 0.0), polyline_length(lane.shape))
    owner: list[SumoLane] = []
    lines: list[Points] = []
    for lane in kept:
        count = math.ceil(longest[lane.edge] / LANE_PIECE - 1e-6)
        index.pieces[lane.name] = list(range(len(owner), len(owner) + count))
        for k in range(count):
            lines.append(resample(lane.shape, np.linspace(k / count, (k + 1) / count, LANE_POINTS)))
            owner.append(lane)

    total = len(owner)
    successors = np.full((total, 4), -1, dtype=np.int64)
    left, right = np.full(total, -1, dtype=np.int64), np.full(total, -1, dtype=np.int64)
    onward: dict[str, list[str]] = {}
    for c in connections:
        onward.setdefault(f"{c['from']}_{c['fromLane']}", []).append(c.get("via") or f"{c['to']}_{c['toLane']}")
    by_place = {(lane.edge, lane.index): lane.name for lane in kept}
    for lane in kept:
        pieces = index.pieces[lane.name]
        for a, b in itertools.pairwise(pieces):
            successors[a, 0] = b
        after = sorted({piece for name in onward.get(lane.name, []) for piece in _first_pieces(name, index, onward)})[:4]
        successors[pieces[-1], : len(after)] = after
        for values, step in ((left, side), (right, -side)):
            beside = by_place.get((lane.edge, lane.index + step))
            if beside is not None:
                values[pieces] = index.pieces[beside]

    left_border, right_border = _borders(index, connections, owner, left, right, side)
    return {
        "centreline": np.stack(lines),
        "width": np.array([lane.width for lane in owner]),
        "speed_limit": np.array([lane.speed for lane in owner]),
        "kind": np.array([int(LaneKind.JUNCTION if lane.internal else LaneKind.DRIVING) for lane in owner]),
        "successors": successors,
        "left": left,
        "right": right,
        "left_border": left_border,
        "right_border": right_border,
    }


def add_walks(arrays: dict[str, NDArray], index: LaneIndex, connections: list[dict[str, str]]) -> None:
    """Add pavements and crossings as walking lanes, each once for each direction, linked where they meet."""
    walks = [lane for lane in index.lanes.values() if lane.walked and polyline_length(lane.shape) >= SHORTEST_LANE]
    if not walks:
        return
    meeting: dict[tuple[str, str], str] = {}  # lane and end ("start", "end") -> the walking area it touches
    for c in connections:
        ends = (f"{c['from']}_{c['fromLane']}", "end", c["to"]), (f"{c['to']}_{c['toLane']}", "start", c["from"])
        for name, which, other in ends:
            if name in index.lanes and index.lanes[name].walked and "_w" in other:
                meeting[name, which] = other
    total = len(arrays["width"])
    lines: list[Points] = []
    onward: list[list[int]] = []
    owner: list[SumoLane] = []
    begins: dict[str, list[tuple[int, Points]]] = {}  # walking area -> first pieces that lead away from it, and where they begin
    leads: list[tuple[int, str]] = []  # last pieces that lead into a walking area
    for lane in walks:
        count = math.ceil(polyline_length(lane.shape) / LANE_PIECE - 1e-6)
        for shape, first, last in ((lane.shape, "start", "end"), (lane.shape[::-1], "end", "start")):
            base = total + len(lines)
            for k in range(count):
                lines.append(resample(shape, np.linspace(k / count, (k + 1) / count, LANE_POINTS)))
                onward.append([base + k + 1] if k + 1 < count else [])
                owner.append(lane)
            if (lane.name, first) in meeting:
                begins.setdefault(meeting[lane.name, first], []).append((base, shape[0]))
            if (lane.name, last) in meeting:
                leads.append((base + count - 1, meeting[lane.name, last]))
    for piece, area in leads:
        here = lines[piece - total][-1]
        own = owner[piece - total]
        others = [(float(np.linalg.norm(at - here)), other) for other, at in begins.get(area, []) if owner[other - total] is not own]
        onward[piece - total] = [other for _, other in sorted(others)[:4]]
    successors = np.full((len(lines), 4), -1, dtype=np.int64)
    for row, after in enumerate(onward):
        successors[row, : len(after)] = after
    none = np.full(len(lines), -1, dtype=np.int64)
    blank = np.zeros(len(lines), dtype=np.int64)
    added = {
        "centreline": np.stack(lines), "width": np.array([lane.width for lane in owner]), "speed_limit": np.full(len(lines), WALKING_PACE),
        "kind": np.full(len(lines), int(LaneKind.WALKING)), "successors": successors, "left": none, "right": none, "left_border": blank,
        "right_border": blank,
    }  # fmt: skip
    for name, values in added.items():
        arrays[name] = np.concatenate((arrays[name], values))


def _first_pieces(name: str, index: LaneIndex, onward: dict[str, list[str]]) -> list[int]:
    """The first piece of a lane, or of the lanes behind it where it was too short to keep."""
    if name in index.pieces:
        return index.pieces[name][:1]
    return [piece for following in onward.get(name, []) for piece in _first_pieces(following, index, onward)]


def _borders(
    index: LaneIndex, connections: list[dict[str, str]], owner: list[SumoLane], left: NDArray, right: NDArray, side: int
) -> tuple[NDArray, NDArray]:
    """Markings left and right of each piece; inside junctions only where the road merely runs on."""
    two_way = {edge for edge in index.edges if _opposite(edge, index) is not None}
    inner, outer = (left, right) if side > 0 else (right, left)
    inner_border, outer_border = np.zeros(len(owner), dtype=np.int64), np.zeros(len(owner), dtype=np.int64)
    for piece, lane in enumerate(owner):
        if lane.internal:
            continue
        edge = Border.CENTRE if lane.edge in two_way else Border.EDGE
        inner_border[piece] = Border.DASHED if inner[piece] >= 0 else edge
        outer_border[piece] = Border.DASHED if outer[piece] >= 0 else Border.EDGE
    plain = _plain_junctions(index)
    for c in connections:
        via = c.get("via")
        if via not in index.pieces or (c["from"], c["to"]) not in plain:
            continue
        before, after = index.pieces[f"{c['from']}_{c['fromLane']}"][-1], index.pieces[f"{c['to']}_{c['toLane']}"][0]
        for border in (inner_border, outer_border):
            same = border[before] == border[after]
            border[index.pieces[via]] = border[before] if same else Border.DASHED
    return (inner_border, outer_border) if side > 0 else (outer_border, inner_border)


def _opposite(edge: str, index: LaneIndex) -> str | None:
    """The edge of the other direction along the same line, if there is one."""
    start, _, end = edge.partition("_")
    other = f"{end}_{start}"
    return other if end and other in index.edges else None


def _plain_junctions(index: LaneIndex) -> set[tuple[str, str]]:
    """Pairs of edges of which the second is the only, or the straight one-way, continuation of the first."""
    plain = set()
    for start, end in index.links:
        onto = [s for s, e in index.links if e == end]
        out = index.following(start)
        one_way = _opposite(start, index) is None and _opposite(end, index) is None
        if (len(onto) == 1 and len(out) == 1) or one_way:
            plain.add((start, end))
    return plain


def _signals(root: ElementTree.Element, index: LaneIndex, connections: list[dict[str, str]], side: int) -> dict[str, NDArray]:
    """Traffic lights, then stop signs, each by the lane that it stands at."""
    programmes = {t.get("id", ""): t for t in root.iter("tlLogic")}
    lights: dict[str, list[tuple[str, int]]] = {}
    signs: dict[str, None] = {}
    for c in connections:
        name = f"{c['from']}_{c['fromLane']}"
        if c["from"] not in index.edges or name not in index.pieces:
            continue
        if "tl" in c:
            lights.setdefault(name, []).append((c["tl"], int(c["linkIndex"])))
        elif c.get("state", "") in _STOP_SIGNS:
            signs[name] = None
    names = [*lights, *signs]
    count = max(1, len(names))
    stop, head = np.zeros((count, 2, 2)), np.zeros((count, 4))
    lane_of = np.full(count, -1, dtype=np.int64)
    ends, states, offset = np.zeros((count, MAX_PHASES)), np.zeros((count, MAX_PHASES), dtype=np.int64), np.zeros(count)
    for s, name in enumerate(names):
        lane = index.lanes[name]
        end, before = lane.shape[-1], resample(lane.shape, np.array([1 - min(0.5, 2.0 / lane.length)]))[0]
        forward = (end - before) / np.linalg.norm(end - before)
        normal = np.array([-forward[1], forward[0]])
        stop[s] = end + normal * lane.width / 2, end - normal * lane.width / 2
        beyond = HEAD_BEYOND if name in lights else 0.0
        aside = lane.width / 2 + HEAD_ASIDE if name == index.edges[lane.edge][0] else 0.0
        height = HEAD_HEIGHT if name in lights else SIGN_HEIGHT
        head[s] = *(end + forward * beyond - side * normal * aside), height, math.atan2(forward[1], forward[0])
        lane_of[s] = index.pieces[name][-1]
        if name in lights:
            index.signals.append(lights[name][0])
            ends[s], states[s], offset[s] = _programme(programmes, name, lights[name])
        else:
            ends[s], states[s] = 1.0, int(SignalState.STOP_SIGN)
    return {
        "stop_line": stop, "signal_head": head, "signal_lane": lane_of,
        "phase_end": ends, "phase_state": states, "phase_offset": offset,
    }  # fmt: skip


def _programme(programmes: dict[str, ElementTree.Element], name: str, links: list[tuple[str, int]]) -> tuple[list[float], list[int], float]:
    """Ends and states of the phases that a lane is shown, MAX_PHASES each, and their offset."""
    light = links[0][0]
    programme = programmes[light]
    durations = [float(p.get("duration", 0)) for p in programme.iter("phase")]
    shown = [[_STATES[p.get("state", "")[k]] for p in programme.iter("phase")] for _, k in links]
    if any(other != shown[0] for other in shown):
        raise DataError(f"lane {name} shows two signal states at once; the programme of {light} must group links by lane")
    ends, states = _merge_phases(durations, shown[0])
    if len(ends) > MAX_PHASES:
        raise DataError(f"the programme of {light} has {len(ends)} phases for lane {name}; at most {MAX_PHASES} are kept")
    fill = MAX_PHASES - len(ends)
    return ends + [ends[-1]] * fill, states + [states[-1]] * fill, -float(programme.get("offset", 0))


def _merge_phases(durations: list[float], states: list[SignalState]) -> tuple[list[float], list[int]]:
    """Cumulative ends and states with equal neighbours joined."""
    ends: list[float] = []
    merged: list[int] = []
    clock = 0.0
    for duration, state in zip(durations, states, strict=True):
        clock += duration
        if merged and merged[-1] == int(state):
            ends[-1] = clock
        else:
            ends.append(clock)
            merged.append(int(state))
    return ends, merged


def _junction_polygons(root: ElementTree.Element) -> NDArray:
    shapes = []
    for junction in root.iter("junction"):
        if junction.get("type") in ("internal", "dead_end") or not junction.get("shape"):
            continue
        shape = np.array([[float(v) for v in point.split(",")[:2]] for point in junction.get("shape", "").split()])
        x, y = shape.T
        if len(shape) >= 3 and abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) > 2.0:
            shapes.append(shape)
    if not shapes:
        return np.zeros((1, 4, 2))
    most = max(len(shape) for shape in shapes)
    return np.stack([np.concatenate((shape, np.repeat(shape[-1:], most - len(shape), 0))) for shape in shapes])
