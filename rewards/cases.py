"""Small made-up roads and drives, to try a rule on: for its tests, its plots and a designer's own cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..road import LANE_POINTS, MAX_PHASES, ROUTE_STEP, LaneKind, RoadMap, Route
from ..scene import DT, Agents, Ego, Track
from ..vehicles import vehicle_profile

LANE = 3.2  # m, width of every lane
PIECE = 60.0  # m
LIMIT = 10.0  # m/s
Column = Sequence[float] | float  # a number for each step, or one for all


def straight_road(pieces: int = 5, lanes: int = 2, oncoming: bool = True, stop_at: float | None = None) -> tuple[RoadMap, Route]:
    """A road along +x from x = 0: lane 0 is the rightmost, centred on y = 0, its neighbours at y = 3.2 ..., then one oncoming lane.

    The route follows lane 0 and may use all lanes of its direction. With `stop_at` every lane of the direction has a signal
    whose stop line is there (it must be the end of a piece).
    """
    lines, kinds, successors, route_lanes, ends = [], [], [], [], []
    rows = lanes + int(oncoming)
    for row in range(rows):
        for piece in range(pieces):
            x = torch.linspace(piece * PIECE, (piece + 1) * PIECE, LANE_POINTS)
            y = torch.full_like(x, row * LANE)
            backwards = row >= lanes
            lines.append(torch.stack((x.flip(0) if backwards else x, y), -1))
            kinds.append(int(LaneKind.DRIVING))
            step = -1 if backwards else 1
            follower = row * pieces + piece + step if 0 <= piece + step < pieces else -1
            successors.append([follower, -1, -1, -1])
            if not backwards:
                route_lanes.append(row * pieces + piece)
            ends.append((row, piece))
    count = len(lines)
    signals = [row for row in range(lanes)] if stop_at is not None else []
    s = max(1, len(signals))
    stop_line, head, signal_lane = torch.zeros(1, s, 2, 2), torch.zeros(1, s, 4), torch.full((1, s), -1)
    for i, row in enumerate(signals):
        side, line = row * LANE, stop_at or 0.0
        stop_line[0, i] = torch.tensor([[line, side + LANE / 2], [line, side - LANE / 2]])
        head[0, i] = torch.tensor([line + 20.0, side, 5.0, 0.0])
        signal_lane[0, i] = row * pieces + round(line / PIECE) - 1
    road = RoadMap(
        centreline=torch.stack(lines)[None],
        width=torch.full((1, count), LANE),
        speed_limit=torch.full((1, count), LIMIT),
        kind=torch.tensor([kinds]),
        successors=torch.tensor([successors]),
        left=torch.full((1, count), -1),
        right=torch.full((1, count), -1),
        left_border=torch.zeros(1, count, dtype=torch.int64),
        right_border=torch.zeros(1, count, dtype=torch.int64),
        junctions=torch.zeros(1, 1, 4, 2),
        stop_line=stop_line,
        signal_head=head,
        signal_lane=signal_lane,
        phase_end=torch.ones(1, s, MAX_PHASES),
        phase_state=torch.zeros(1, s, MAX_PHASES, dtype=torch.int64),
        phase_offset=torch.zeros(1, s),
        scenery=torch.zeros(1, 1, 6),
        scenery_colour=torch.zeros(1, 1, 3),
        scenery_kind=torch.zeros(1, 1, dtype=torch.int64),
    )
    length = pieces * PIECE
    x = torch.arange(0.0, length + ROUTE_STEP / 2, ROUTE_STEP)
    return road, Route(torch.stack((x, torch.zeros_like(x)), -1)[None], torch.tensor([length]), torch.tensor([route_lanes]))


def with_junction(road: RoadMap, low: float, high: float) -> RoadMap:
    """The road with a junction over all lanes from x = low to x = high."""
    y0, y1 = -LANE / 2, 20.0
    return dataclasses.replace(road, junctions=torch.tensor([[[[low, y0], [high, y0], [high, y1], [low, y1]]]]))


def drive(
    road: RoadMap,
    route: Route,
    *,
    x: Sequence[float],
    y: Column = 0.0,
    heading: Column = 0.0,
    speed: Column | None = None,
    acceleration: Column = 0.0,
    yaw_rate: Column = 0.0,
    steering: Column = 0.0,
    agents: Sequence[Mapping[str, Any]] | None = None,
    signals: Sequence[int] | None = None,
) -> Track:
    """A track [1, T] from columns of the ego's state; without `speed` it is the distance between columns over DT.

    Agents are dicts of x, y, heading, speed (numbers or lists), length, width, kind.
    """
    steps = len(x)
    row = lambda value: torch.tensor([value] * steps if isinstance(value, (int, float)) else list(value), dtype=torch.float32)
    ego_x = row(x)
    if speed is None:
        moved = (ego_x[1:] - ego_x[:-1]) / DT
        ego_speed = torch.cat((moved[:1], moved)) if steps > 1 else torch.zeros(1)
    else:
        ego_speed = row(speed)
    state = (ego_x, row(y), row(heading), ego_speed, row(acceleration), row(steering), row(yaw_rate))
    number = len(agents or [])
    others = Agents.empty(1, steps, max(1, number))
    for i, agent in enumerate(agents or []):
        columns = ("x", "y", "heading", "speed", "acceleration")
        for j, name in enumerate(columns):
            others.state[0, :, i, j] = row(agent.get(name, 0.0))
        others.state[0, :, i, 5:8] = torch.tensor([agent.get("length", 4.0), agent.get("width", 2.0), 1.5])
        others.kind[0, :, i] = int(agent.get("kind", 0))
        others.valid[0, :, i] = True
        others.id[0, :, i] = i
    shown = torch.zeros(1, steps, road.signal_lane.shape[1], dtype=torch.int64)
    if signals is not None:
        shown[:] = torch.tensor(signals)[None, :, None]
    return Track(
        ego=Ego(torch.stack(state, -1)[None]),
        agents=others,
        signals=shown,
        time=DT * torch.arange(steps)[None].float(),
        valid=torch.ones(1, steps, dtype=torch.bool),
        appearance=torch.zeros(1, dtype=torch.int64),
        road=road,
        route=route,
        profile=vehicle_profile("sedan", 1),
    )
