"""Lanes as other formats know them, made into a RoadMap: cut into pieces, linked, with signals at their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..road import LANE_PIECE, LANE_POINTS, MAX_PHASES, Border, LaneKind, RoadMap, SignalState

Points = NDArray[np.float64]  # [P, 2] m

SHORTEST = 0.3  # m; shorter lanes have no direction
WIDEST_GAP = 4.0  # m between a lane's end and the beginning of the next
MOST_SUCCESSORS = 4
HEAD_HEIGHT = 5.0  # m


@dataclass
class RecordedLane:
    """One lane of a recorded map, in the direction of travel."""

    name: str
    centre: Points
    width: float  # m
    limit: float  # m/s
    kind: LaneKind = LaneKind.DRIVING
    successors: list[str] = field(default_factory=list)
    left: str = ""  # neighbour in the same direction
    right: str = ""
    borders: tuple[Border, Border] = (Border.NONE, Border.NONE)  # left, right
    programme: list[tuple[float, SignalState]] = field(default_factory=list)  # ends (s, cumulative) and states of its signal's phases
    offset: float = 0.0  # s added to the time before the programme is looked up


def lane_length(line: Points) -> float:
    """Length of a polyline [P, 2] in m."""
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) if len(line) > 1 else 0.0


def build_road(lanes: list[RecordedLane], left_out: dict[str, int], side: int = 1) -> tuple[RoadMap, dict[str, list[int]]]:
    """The RoadMap [1] of lanes, and the pieces of each by name.

    Lanes without length and links that lead nowhere or across a gap are left out and counted in `left_out`.

    Raises:
        DataError: no lane is left, or two have one name.
    """
    kept = {}
    for lane in lanes:
        if lane.name in kept:
            raise DataError(f"two lanes of the map are named '{lane.name}'; repair the map")
        if not np.isfinite(lane.centre).all():
            raise DataError(f"lane '{lane.name}' of the map has a coordinate that is no number; repair the map")
        if lane_length(lane.centre) < SHORTEST:
            _count(left_out, "lanes of no length")
        else:
            kept[lane.name] = lane
    if not kept:
        raise DataError("the map has no lane of any length; nothing can drive on it")
    pieces: dict[str, list[int]] = {}
    lines: list[Points] = []
    owner: list[RecordedLane] = []
    for lane in kept.values():
        count = math.ceil(lane_length(lane.centre) / LANE_PIECE - 1e-6)
        pieces[lane.name] = list(range(len(lines), len(lines) + count))
        lines += [_resample(lane.centre, np.linspace(k / count, (k + 1) / count, LANE_POINTS)) for k in range(count)]
        owner += [lane] * count
    successors = np.full((len(lines), MOST_SUCCESSORS), -1, dtype=np.int64)
    beside = {"left": np.full(len(lines), -1, dtype=np.int64), "right": np.full(len(lines), -1, dtype=np.int64)}
    for lane in kept.values():
        mine = pieces[lane.name]
        successors[mine[:-1], 0] = mine[1:]
        onward = []
        for name in lane.successors:
            if name not in kept or float(np.linalg.norm(kept[name].centre[0] - lane.centre[-1])) > WIDEST_GAP:
                _count(left_out, "links across a gap of the map")
            else:
                onward.append(pieces[name][0])
        if len(onward) > MOST_SUCCESSORS:
            _count(left_out, "links of lanes with too many", len(onward) - MOST_SUCCESSORS)
        successors[mine[-1], : len(onward[:MOST_SUCCESSORS])] = onward[:MOST_SUCCESSORS]
        for side_name, values in beside.items():
            its = pieces.get(getattr(lane, side_name), [])
            for k, piece in enumerate(mine if its else []):
                values[piece] = its[min(len(its) - 1, int((k + 0.5) / len(mine) * len(its)))]
    arrays = {
        "centreline": np.stack(lines),
        "width": np.array([lane.width for lane in owner]),
        "speed_limit": np.array([lane.limit for lane in owner]),
        "kind": np.array([int(lane.kind) for lane in owner]),
        "successors": successors,
        "left": beside["left"],
        "right": beside["right"],
        "left_border": np.array([int(lane.borders[0]) for lane in owner]),
        "right_border": np.array([int(lane.borders[1]) for lane in owner]),
        "junctions": np.zeros((1, 4, 2)),
        **_signals([lane for lane in kept.values() if lane.programme], pieces),
    }
    tensors = {name: torch.as_tensor(value).unsqueeze(0) for name, value in arrays.items()}
    return RoadMap(
        **{name: t.float() if t.is_floating_point() else t for name, t in tensors.items()},
        scenery=torch.zeros(1, 1, 6),
        scenery_colour=torch.zeros(1, 1, 3),
        scenery_kind=torch.zeros(1, 1, dtype=torch.int64),
        traffic_side=torch.tensor([side]),
    ), pieces


def _signals(lanes: list[RecordedLane], pieces: dict[str, list[int]]) -> dict[str, NDArray]:
    count = max(1, len(lanes))
    stop, head = np.zeros((count, 2, 2)), np.zeros((count, 4))
    lane_of = np.full(count, -1, dtype=np.int64)
    ends, states, offset = np.zeros((count, MAX_PHASES)), np.zeros((count, MAX_PHASES), dtype=np.int64), np.zeros(count)
    for s, lane in enumerate(lanes):
        end = lane.centre[-1]
        forward = end - _resample(lane.centre, np.array([1 - min(0.5, 2.0 / lane_length(lane.centre))]))[0]
        forward = forward / np.linalg.norm(forward)
        normal = np.array([-forward[1], forward[0]])
        stop[s] = end + normal * lane.width / 2, end - normal * lane.width / 2
        head[s] = *(end + 20.0 * forward), HEAD_HEIGHT, math.atan2(forward[1], forward[0])
        lane_of[s] = pieces[lane.name][-1]
        phases = lane.programme
        if len(phases) > MAX_PHASES:
            raise DataError(f"the signal of lane '{lane.name}' has {len(phases)} phases; at most {MAX_PHASES} are kept")
        phases = phases + [phases[-1]] * (MAX_PHASES - len(phases))
        ends[s], states[s] = [end for end, _ in phases], [int(state) for _, state in phases]
        offset[s] = lane.offset
    return {
        "stop_line": stop, "signal_head": head, "signal_lane": lane_of, "phase_end": ends, "phase_state": states, "phase_offset": offset,
    }  # fmt: skip


def _resample(line: Points, share: NDArray[np.floating]) -> Points:
    along = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
    return np.stack([np.interp(share * along[-1], along, line[:, k]) for k in (0, 1)], -1)


def _count(left_out: dict[str, int], what: str, number: int = 1) -> None:
    left_out[what] = left_out.get(what, 0) + number
