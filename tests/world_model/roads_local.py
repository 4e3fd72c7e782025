"""Small hand-made road maps and scenes for the traffic's tests."""

from __future__ import annotations

import math

import torch
from xpeng_world.road import LANE_POINTS, MAX_PHASES, LaneKind, RoadMap, Route, SignalState
from xpeng_world.scene import Agents, Ego, Scene
from xpeng_world.vehicles import vehicle_profile

LIMIT = 14.0


def build(lines: list, kinds: list, successors: list, signals: dict | None = None, left: dict | None = None) -> RoadMap:
    """A RoadMap [1] of polylines (each [(x, y), ...]), their kinds and successors; `signals`: lane -> state for ever."""
    count = len(lines)
    centre = torch.zeros(count, LANE_POINTS, 2)
    for i, line in enumerate(lines):
        points = torch.tensor(line, dtype=torch.float32)
        arc = torch.cat((torch.zeros(1), (points[1:] - points[:-1]).norm(dim=-1).cumsum(0)))
        for k in range(LANE_POINTS):
            s = arc[-1] * k / (LANE_POINTS - 1)
            j = int(torch.searchsorted(arc[1:].contiguous(), s).clamp_max(len(line) - 2))
            share = (s - arc[j]) / (arc[j + 1] - arc[j])
            centre[i, k] = points[j] + share * (points[j + 1] - points[j])
    onward = torch.full((count, 4), -1)
    for i, after in enumerate(successors):
        onward[i, : len(after)] = torch.tensor(after, dtype=torch.int64)
    signals = signals or {}
    number = max(1, len(signals))
    lane = torch.full((number,), -1)
    state = torch.zeros(number, MAX_PHASES, dtype=torch.int64)
    end = torch.zeros(number, MAX_PHASES)
    for i, (where, shown) in enumerate(signals.items()):
        lane[i], state[i], end[i] = where, int(shown), 60.0
    beside_left, beside_right = torch.full((count,), -1), torch.full((count,), -1)
    for a, b in (left or {}).items():
        beside_left[a], beside_right[b] = b, a
    one = lambda tensor: tensor.unsqueeze(0)
    return RoadMap(
        centreline=one(centre),
        width=torch.full((1, count), 3.3),
        speed_limit=torch.full((1, count), LIMIT),
        kind=torch.tensor([[int(k) for k in kinds]]),
        successors=one(onward),
        left=one(beside_left),
        right=one(beside_right),
        left_border=torch.zeros(1, count, dtype=torch.int64),
        right_border=torch.zeros(1, count, dtype=torch.int64),
        junctions=torch.zeros(1, 1, 4, 2),
        stop_line=torch.zeros(1, number, 2, 2),
        signal_head=torch.zeros(1, number, 4),
        signal_lane=one(lane),
        phase_end=one(end),
        phase_state=one(state),
        phase_offset=torch.zeros(1, number),
        scenery=torch.zeros(1, 1, 6),
        scenery_colour=torch.zeros(1, 1, 3),
        scenery_kind=torch.zeros(1, 1, dtype=torch.int64),
    )


def straight(pieces: int = 10, red_at: int | None = None, lanes: int = 1) -> RoadMap:
    """Parallel lanes to the east of `pieces` x 60 m; `red_at` puts a red light for ever at that piece's end."""
    lines, kinds, successors, left = [], [], [], {}
    for lane in range(lanes):
        for k in range(pieces):
            lines.append([(60.0 * k, 3.3 * lane), (60.0 * k + 60, 3.3 * lane)])
            kinds.append(LaneKind.DRIVING)
            successors.append([lane * pieces + k + 1] if k + 1 < pieces else [])
            if lane + 1 < lanes:
                left[lane * pieces + k] = (lane + 1) * pieces + k
    signals = {} if red_at is None else {red_at: SignalState.RED}
    return build(lines, kinds, successors, signals, left)


def crossing(arm: float = 150.0) -> RoadMap:
    """Four arms of one lane each way that meet at the origin: straight on, right and left turns, no signals; loops outside."""
    lines, kinds, successors = [], [], []
    size = 9.0
    pieces = math.ceil(arm / 60)
    turn = lambda p, k: (p[0] * [1, 0, -1, 0][k] - p[1] * [0, 1, 0, -1][k], p[0] * [0, 1, 0, -1][k] + p[1] * [1, 0, -1, 0][k])
    arrive, leave = {}, {}
    for k in range(4):
        for j in range(pieces):
            far, near = -size - arm * (pieces - j) / pieces, -size - arm * (pieces - j - 1) / pieces
            arrive[k, j] = len(lines)
            lines.append([turn((far, -1.65), k), turn((near, -1.65), k)])
            leave[k, j] = len(lines)
            lines.append([turn((near, 1.65), k), turn((far, 1.65), k)])
            kinds += [LaneKind.DRIVING] * 2
            successors += [[], []]
    for k in range(4):
        for j in range(pieces):
            successors[arrive[k, j]] = [arrive[k, j + 1]] if j + 1 < pieces else []
            successors[leave[k, j]] = [leave[k, j - 1]] if j else [arrive[k, 0]]
        for way in (1, 2, 3):  # counter-clockwise arms: to the right, straight on, to the left
            goal = (k + way) % 4
            start = turn((-size, -1.65), k)
            end = turn((-size, 1.65), goal)
            corner = {1: turn((-1.65, -1.65), k), 2: None, 3: turn((1.65, -1.65), k)}[way]
            if corner is None:
                line = [start, end]
            else:
                share = [t / 12 for t in range(13)]
                line = [
                    tuple((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c for a, b, c in zip(start, corner, end, strict=True))
                    for t in share
                ]
            successors[arrive[k, pieces - 1]].append(len(lines))
            lines.append(line)
            kinds.append(LaneKind.JUNCTION)
            successors.append([leave[goal, pieces - 1]])
    return build(lines, kinds, successors)


def scene(road: RoadMap, ego: tuple, agents: list, batch: int = 1) -> Scene:
    """A Scene [1] (repeated `batch` times): ego (x, y, heading, speed), agents the same; cars of 4.6 x 1.8 m."""
    state = torch.zeros(1, 7)
    state[0, :4] = torch.tensor(ego)
    others = Agents.empty(1, max(1, len(agents)))
    for i, (x, y, heading, speed) in enumerate(agents):
        others.state[0, i] = torch.tensor([x, y, heading, speed, 0.0, 4.6, 1.8, 1.5])
        others.valid[0, i], others.id[0, i] = True, i
    points = torch.stack((torch.arange(0, 400, 2.0), torch.zeros(200)), -1).unsqueeze(0)
    one = Scene(
        ego=Ego(state),
        agents=others,
        signals=road.signals_at(torch.zeros(1)),
        time=torch.zeros(1),
        appearance=torch.zeros(1, dtype=torch.int64),
        road=road,
        route=Route(points, torch.tensor([398.0]), torch.tensor([[0]])),
        profile=vehicle_profile(),
    )
    return Scene.cat([one] * batch)
