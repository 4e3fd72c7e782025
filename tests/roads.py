"""Small road maps made by hand, for tests and for trying things out."""

from __future__ import annotations

import math

import torch
from xpeng_world.camera import CAMERA
from xpeng_world.road import LANE_POINTS, MAX_PHASES, ROUTE_STEP, Border, LaneKind, RoadMap, Route, SceneryKind, SignalState
from xpeng_world.scene import AgentKind, Agents, Appearance, Ego, Scene
from xpeng_world.vehicles import vehicle_profile

LANE_WIDTH = 3.5  # m


class _Draft:
    """Collects lanes, signals and scenery, then makes a RoadMap [1]."""

    def __init__(self) -> None:
        self.lanes: list[dict] = []
        self.signals: list[dict] = []
        self.scenery: list[tuple] = []
        self.junctions: list[list[tuple[float, float]]] = []

    def lane(self, start, end, kind=LaneKind.DRIVING, left=Border.NONE, right=Border.NONE, width=LANE_WIDTH, limit=13.89) -> int:
        share = torch.linspace(0, 1, LANE_POINTS).unsqueeze(-1)
        line = torch.tensor(start) * (1 - share) + torch.tensor(end) * share
        self.lanes.append({"line": line, "kind": kind, "left": left, "right": right, "width": width, "limit": limit, "next": []})
        return len(self.lanes) - 1

    def curve(self, start, bend, end, **kwargs) -> int:
        index = self.lane(start, end, **kwargs)
        t = torch.linspace(0, 1, LANE_POINTS).unsqueeze(-1)
        a, b, c = torch.tensor(start), torch.tensor(bend), torch.tensor(end)
        self.lanes[index]["line"] = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        return index

    def build(self, traffic_side: int = 1, neighbours: dict[int, tuple[int, int]] | None = None) -> RoadMap:
        count = len(self.lanes)
        successors = torch.full((1, count, 4), -1)
        for i, lane in enumerate(self.lanes):
            for k, n in enumerate(lane["next"][:4]):
                successors[0, i, k] = n
        left, right = torch.full((1, count), -1), torch.full((1, count), -1)
        for i, (a, b) in (neighbours or {}).items():
            left[0, i], right[0, i] = a, b
        column = lambda name, dtype: torch.tensor([[int(lane[name]) for lane in self.lanes]], dtype=dtype)
        real = lambda name: torch.tensor([[float(lane[name]) for lane in self.lanes]])
        vertices = max([len(j) for j in self.junctions], default=4)
        polygons = torch.zeros(1, max(1, len(self.junctions)), vertices, 2)
        for i, shape in enumerate(self.junctions):
            polygons[0, i] = torch.tensor(shape + [shape[-1]] * (vertices - len(shape)))
        signals = max(1, len(self.signals))
        stop, head = torch.zeros(1, signals, 2, 2), torch.zeros(1, signals, 4)
        lane_of = torch.full((1, signals), -1)
        end, state, offset = (
            torch.ones(1, signals, MAX_PHASES),
            torch.zeros(1, signals, MAX_PHASES, dtype=torch.int64),
            torch.zeros(1, signals),
        )
        for i, s in enumerate(self.signals):
            stop[0, i], head[0, i], lane_of[0, i] = torch.tensor(s["stop"]), torch.tensor(s["head"]), s["lane"]
            end[0, i] = torch.tensor([20.0, 23.0, 46.0] + [46.0] * (MAX_PHASES - 3))
            state[0, i] = torch.tensor([SignalState.GREEN, SignalState.YELLOW] + [SignalState.RED] * (MAX_PHASES - 2))
            offset[0, i] = s["offset"]
        boxes = self.scenery or [(0.0,) * 6 + (0, (0.0,) * 3)]
        return RoadMap(
            centreline=torch.stack([lane["line"] for lane in self.lanes]).unsqueeze(0).float(),
            width=real("width"),
            speed_limit=real("limit"),
            kind=column("kind", torch.int64),
            successors=successors,
            left=left,
            right=right,
            left_border=column("left", torch.int64),
            right_border=column("right", torch.int64),
            junctions=polygons,
            stop_line=stop,
            signal_head=head,
            signal_lane=lane_of,
            phase_end=end,
            phase_state=state,
            phase_offset=offset,
            scenery=torch.tensor([[b[:6] for b in boxes]]),
            scenery_colour=torch.tensor([[b[7] for b in boxes]]),
            scenery_kind=torch.tensor([[int(b[6]) for b in boxes]]),
            traffic_side=torch.tensor([traffic_side]),
        )


def straight_road(length: float = 240.0, lanes: int = 2, oncoming: int = 1, walking: bool = False, scenery: bool = False) -> RoadMap:
    """A straight road along x from 0 to `length`, in pieces of at most 60 m.

    Lanes with the traffic are on the right (y < 0, the leftmost from y = 0 to -3.5), lanes against it at y > 0.
    Lane indices run piece by piece: for each piece the lanes with the traffic from the left, then the oncoming ones.
    """
    draft, neighbours = _Draft(), {}
    pieces = max(1, math.ceil(length / 60.0))
    per_piece = lanes + oncoming
    for p in range(pieces):
        x0, x1 = length * p / pieces, length * (p + 1) / pieces
        for k in range(lanes):
            y = -LANE_WIDTH * (k + 0.5)
            left = Border.DASHED if k else (Border.CENTRE if oncoming else Border.EDGE)
            i = draft.lane((x0, y), (x1, y), left=left, right=Border.EDGE if k == lanes - 1 else Border.DASHED)
            draft.lanes[i]["next"] = [i + per_piece] if p < pieces - 1 else []
            neighbours[i] = (i - 1 if k else -1, i + 1 if k < lanes - 1 else -1)
        for k in range(oncoming):
            y = LANE_WIDTH * (k + 0.5)
            left = Border.DASHED if k else Border.CENTRE
            i = draft.lane((x1, y), (x0, y), left=left, right=Border.EDGE if k == oncoming - 1 else Border.DASHED)
            draft.lanes[i]["next"] = [i - per_piece] if p else []
            neighbours[i] = (i - 1 if k else -1, i + 1 if k < oncoming - 1 else -1)
    if walking:
        y = -LANE_WIDTH * lanes - 1.5
        for p in range(pieces):
            draft.lane((length * p / pieces, y), (length * (p + 1) / pieces, y), kind=LaneKind.WALKING, width=2.5, limit=1.5)
    if scenery:
        _furnish(draft, length, LANE_WIDTH * lanes + 6.0, LANE_WIDTH * oncoming + 6.0)
    return draft.build(neighbours=neighbours)


def _furnish(draft: _Draft, length: float, right: float, left: float) -> None:
    generator = torch.Generator().manual_seed(5)
    draw = lambda low, high: low + (high - low) * float(torch.rand(1, generator=generator))
    for side, edge in ((-1, right), (1, left)):
        x = -40.0
        while x < length + 120.0:
            size, depth, height = draw(10, 26), draw(10, 18), draw(5, 26)
            colour = (draw(0.45, 0.8), draw(0.4, 0.65), draw(0.35, 0.6))
            draft.scenery.append((x + size / 2, side * (edge + 4 + depth / 2), 0.0, size, depth, height, SceneryKind.BUILDING, colour))
            x += size + draw(1, 14)
        for x in torch.arange(-10.0, length + 60.0, 17.0).tolist():
            crown = draw(2.5, 4.5)
            draft.scenery.append((x, side * (edge - 1.5), 0.0, crown, crown, draw(5, 9), SceneryKind.TREE, (0.20, draw(0.36, 0.5), 0.16)))
            draft.scenery.append((x + 8, side * (edge - 3.5), 0.0, 0.18, 0.18, 8.0, SceneryKind.POLE, (0.45, 0.46, 0.48)))


def crossing(arm: float = 100.0, scenery: bool = False) -> RoadMap:
    """Two roads of one lane each way that cross at the origin under signals; traffic keeps right.

    The approach from the west along y = -1.75 is lane 0; it stops at x = -8 and its signal is number 0.
    """
    draft = _Draft()
    half = 8.0
    draft.junctions.append([(-half, -3.5), (-3.5, -half), (3.5, -half), (half, -3.5), (half, 3.5), (3.5, half), (-3.5, half), (-half, 3.5)])
    exits, entries = [], []
    for k in range(4):
        turn = math.pi / 2 * k
        at = lambda x, y, a=turn: (x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a))
        walls = {"left": Border.CENTRE, "right": Border.EDGE}
        inner = min(arm, 60.0)
        i = draft.lane(at(-half - inner, -1.75), at(-half, -1.75), **walls)
        if arm > 60.0:
            outer = draft.lane(at(-half - arm, -1.75), at(-half - inner, -1.75), **walls)
            draft.lanes[outer]["next"] = [i]
        exits.append(draft.lane(at(-half, 1.75), at(-half - inner, 1.75), **walls))
        entries.append(i)
        draft.lane(at(-half - inner, -4.75), at(-half, -4.75), kind=LaneKind.WALKING, width=2.0, limit=1.5)
        draft.lane(at(-half, 4.75), at(-half - inner, 4.75), kind=LaneKind.WALKING, width=2.0, limit=1.5)
        head = (*at(half + 4.0, -5.2), 4.6, turn)
        draft.signals.append({"stop": [at(-half, 0.0), at(-half, -3.5)], "head": head, "lane": i, "offset": 23.0 * (k % 2)})
    for k in range(4):
        for goal in (2, 1, 3):
            to = exits[(k + goal) % 4]
            a, b = draft.lanes[entries[k]]["line"][-1].tolist(), draft.lanes[to]["line"][0].tolist()
            bend = [(p + q) / 2 for p, q in zip(a, b, strict=True)]
            if goal != 2:
                bend = [b[0], a[1]] if k % 2 == 0 else [a[0], b[1]]
            link = draft.curve(tuple(a), tuple(bend), tuple(b), kind=LaneKind.JUNCTION)
            draft.lanes[entries[k]]["next"].append(link)
            draft.lanes[link]["next"] = [to]
    if scenery:
        generator = torch.Generator().manual_seed(9)
        draw = lambda low, high: low + (high - low) * float(torch.rand(1, generator=generator))
        for sx in (-1, 1):
            for sy in (-1, 1):
                for k in range(5):
                    for x, y in {(14 + 21 * k, 19), (19, 14 + 21 * k)} if k else {(19, 19)}:
                        tone = (draw(0.45, 0.8), draw(0.4, 0.65), draw(0.35, 0.6))
                        draft.scenery.append((sx * x, sy * y, 0.0, draw(13, 18), draw(13, 16), draw(7, 30), SceneryKind.BUILDING, tone))
                        draft.scenery.append((sx * (x + 9), sy * 8.5, 0.0, 3.5, 3.5, draw(5, 8), SceneryKind.TREE, (0.2, 0.42, 0.17)))
    return draft.build()


def route_along(start: tuple[float, float], heading: float, length: float) -> Route:
    """A straight route [1]."""
    steps = torch.arange(0, math.ceil(length / ROUTE_STEP) + 1) * ROUTE_STEP
    direction = torch.tensor([math.cos(heading), math.sin(heading)])
    points = torch.tensor(start) + steps.clamp_max(length).unsqueeze(-1) * direction
    return Route(points=points.unsqueeze(0), length=torch.tensor([float(length)]), lanes=torch.full((1, 1), -1))


SIZES = {
    AgentKind.CAR: (4.6, 1.85, 1.5),
    AgentKind.TRUCK: (9.0, 2.5, 3.6),
    AgentKind.BUS: (12.0, 2.5, 3.2),
    AgentKind.BICYCLE: (1.8, 0.65, 1.75),
    AgentKind.PEDESTRIAN: (0.5, 0.6, 1.75),
    AgentKind.STATIC: (1.0, 1.0, 1.0),
}


def agent_row(
    kind: AgentKind, x: float, y: float, heading: float = 0.0, speed: float = 0.0, size=None, brake=False, colour=(0.7, 0.1, 0.1)
) -> dict:
    """One road user for `scene_on`."""
    return {"state": [x, y, heading, speed, 0.0, *(size or SIZES[kind])], "kind": int(kind), "brake": brake, "colour": list(colour)}


def scene_on(
    road: RoadMap,
    ego=(0.0, 0.0, 0.0),
    speed: float = 8.0,
    agents: list[dict] | None = None,
    time: float = 0.0,
    appearance=Appearance.DAYLIGHT,
) -> Scene:
    """A scene [1] with the ego at (x, y, heading) and the given road users."""
    rows = agents or []
    crowd = Agents.empty(1, max(1, len(rows)))
    for i, row in enumerate(rows):
        crowd.state[0, i] = torch.tensor(row["state"])
        crowd.kind[0, i], crowd.valid[0, i], crowd.id[0, i] = row["kind"], True, i
        crowd.brake[0, i], crowd.colour[0, i] = row["brake"], torch.tensor(row["colour"])
    number = lambda value: torch.tensor([float(value)])
    x, y, heading = ego
    moment = torch.tensor([float(time)])
    return Scene(
        ego=Ego.of(number(x), number(y), number(heading), number(speed), number(0), number(0), number(0)),
        agents=crowd,
        signals=road.signals_at(moment),
        time=moment,
        appearance=torch.tensor([int(appearance)]),
        road=road,
        route=route_along((x, y), heading, 200.0),
        profile=vehicle_profile(),
    )


def pixel(x: float, y: float, z: float) -> tuple[float, float]:
    """Column and row of a point given ahead, to the left of and above the ego, by the pinhole's definition."""
    x, z = x - CAMERA.forward, z - CAMERA.above_ground
    cos, sin = math.cos(CAMERA.pitch), math.sin(CAMERA.pitch)
    depth = x * cos + z * sin
    return CAMERA.width / 2 - CAMERA.focal * y / depth, CAMERA.height / 2 + CAMERA.focal * (x * sin - z * cos) / depth
