"""Pairs of made-up drives of which one is better for a known reason: the same drive with and without one fault."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..road import SignalState
from ..scene import DT, AgentKind, Track
from .cases import LANE, LIMIT, drive, straight_road, with_junction

STEPS = 120
START = 30.0  # m along the road
FRONT = 2.4  # m from the middle of the ego to its bumper
LINE = 120.0  # m, where the stop line is
GENTLE, HARSH = 2.2, 6.0  # m/s2 of braking


@dataclass(frozen=True)
class Pair:
    """Two drives [1, T], one as it should be and one with a fault."""

    fault: str
    better: Track
    worse: Track


def made_up_pairs() -> Iterator[Pair]:
    """The pairs that come with the package."""
    fine = _along(LIMIT)
    yield Pair("speeding", fine, _along(LIMIT + 4))
    yield Pair("crawling", fine, _along(2.0))
    yield Pair("standing", fine, _along(0.0))
    yield Pair("beside the lane's middle", fine, _along(LIMIT, y=0.8))
    yield Pair("weaving", fine, _weaving(0.7, 3.0))
    yield Pair("jerky pedal", fine, _pumping(2.5, 1.0))
    yield Pair("over the edge", fine, _drifting(-1.2))
    yield Pair("against the traffic", fine, _drifting(2 * LANE))
    leader = lambda gap: [{"x": _places(START + FRONT + gap + 2.0, [LIMIT] * STEPS), "speed": LIMIT}]
    yield Pair("tailgating", _along(LIMIT, agents=leader(25.0)), _along(LIMIT, agents=leader(4.0)))
    obstacle = [{"x": 110.0}]
    stop = lambda braking: _braking(106.0 - FRONT - 3.0, braking, agents=obstacle)
    yield Pair("a crash", stop(GENTLE), _along(LIMIT, agents=obstacle))
    yield Pair("braking late", stop(GENTLE), stop(HARSH))
    red: dict[str, Any] = {"signals": [int(SignalState.RED)] * STEPS, "stop_at": LINE}
    yield Pair("a red light", _braking(LINE - FRONT - 1.5, GENTLE, **red), _along(LIMIT, **red))
    sign: dict[str, Any] = {"signals": [int(SignalState.STOP_SIGN)] * STEPS, "stop_at": LINE}
    yield Pair("a stop sign", _braking(LINE - FRONT - 1.5, GENTLE, **sign), _along(LIMIT, **sign))
    green: dict[str, Any] = {"signals": [int(SignalState.GREEN)] * STEPS, "stop_at": LINE}
    yield Pair("stopping at green", _along(LIMIT, **green), _braking(LINE - FRONT - 1.5, GENTLE, **green))
    walker = {"x": 100.0, "heading": math.pi / 2, "speed": 1.2, "length": 0.6, "width": 0.6, "kind": int(AgentKind.PEDESTRIAN)}
    walks = [
        walker | {"y": [1.2 * DT * t - 8.4 for t in range(STEPS)]}
    ]  # at the ego's lane after 6 s, when an ego that does not brake is there
    yield Pair("not yielding to a walker", _braking(100.0 - FRONT - 4.0, GENTLE, agents=walks), _along(LIMIT, agents=walks))
    crossing = [{"x": 105.0, "y": [-55.0 + 7.0 * DT * t for t in range(STEPS)], "heading": math.pi / 2, "speed": 7.0}]
    crossroads: dict[str, Any] = {"agents": crossing, "junction": (100.0, 110.0)}
    yield Pair("taking the right of way", _braking(100.0 - FRONT - 2.0, GENTLE, **crossroads), _along(LIMIT, **crossroads))
    follower = lambda behind: [{"x": _places(START - behind, [LIMIT + 5] * STEPS), "y": LANE, "speed": LIMIT + 5}]
    yield Pair("cutting in", _changing(agents=follower(70.0)), _changing(agents=follower(17.0)))
    beside = lambda y: [{"x": 80.0, "y": y, "speed": 0.0}]
    yield Pair("passing too close", _along(LIMIT, agents=beside(3.4)), _along(LIMIT, agents=beside(2.05)))


def _places(start: float, speeds: list[float]) -> list[float]:
    """Positions in m of one who begins at `start`."""
    gone = torch.tensor([0.0, *speeds[:-1]], dtype=torch.float64).cumsum(0) * DT
    return (start + gone).tolist()


def _along(
    speed: float | list[float], *, y: Any = 0.0, stop_at: float | None = None, junction: tuple[float, float] | None = None, **more: Any
) -> Track:
    """A drive along the right lane at a speed, or at one for each step."""
    road, route = straight_road(stop_at=stop_at)
    if junction is not None:
        road = with_junction(road, *junction)
    speeds = [float(speed)] * STEPS if isinstance(speed, (int, float)) else speed
    return drive(road, route, **{"x": _places(START, speeds), "y": y, "speed": speeds, **more})


def _braking(to: float, hardest: float, **more: Any) -> Track:
    """At the limit, then to a stand with the middle at `to`: half a wave of speed, with `hardest` as its steepest."""
    seconds = LIMIT * math.pi / (2 * hardest)
    begin = (to - START - LIMIT * seconds / 2) / LIMIT
    share = [min(1.0, max(0.0, (DT * t - begin) / seconds)) for t in range(STEPS)]
    speeds = [LIMIT * (0.5 + 0.5 * math.cos(math.pi * s)) for s in share]
    return _along(speeds, acceleration=[-hardest * math.sin(math.pi * s) for s in share], **more)


def _weaving(width: float, period_s: float) -> Track:
    turn = [2 * math.pi * DT * t / period_s for t in range(STEPS)]
    rate = 2 * math.pi / period_s
    heading = [math.atan2(width * rate * math.cos(a), LIMIT) for a in turn]
    yaw_rate = [-width * rate**2 * math.sin(a) / LIMIT for a in turn]
    return _along(LIMIT, y=[width * math.sin(a) for a in turn], heading=heading, yaw_rate=yaw_rate)


def _pumping(size: float, period_s: float) -> Track:
    turn = [2 * math.pi * DT * t / period_s for t in range(STEPS)]
    acceleration = [size * math.cos(a) for a in turn]
    speeds = [LIMIT - 0.5 + size * period_s / (2 * math.pi) * math.sin(a) for a in turn]
    return _along(speeds, acceleration=acceleration)


def _drifting(to: float) -> Track:
    """From the lane's middle to another place across in 4 s, and on there."""
    share = [min(1.0, DT * t / 4.0) for t in range(STEPS)]
    heading = [math.atan2(to * 0.5 * math.pi / 4.0 * math.sin(math.pi * s), LIMIT) for s in share]
    return _along(LIMIT, y=[to * (0.5 - 0.5 * math.cos(math.pi * s)) for s in share], heading=heading)


def _changing(**more: Any) -> Track:
    """Into the left lane, because a slow car is ahead."""
    share = [min(1.0, max(0.0, (DT * t - 1.5) / 3.0)) for t in range(STEPS)]
    heading = [math.atan2(LANE * 0.5 * math.pi / 3.0 * math.sin(math.pi * s), LIMIT) for s in share]
    slow = {"x": _places(START + 50.0, [4.0] * STEPS), "speed": 4.0}
    others = [slow, *more.pop("agents")]
    return _along(LIMIT, y=[LANE * (0.5 - 0.5 * math.cos(math.pi * s)) for s in share], heading=heading, agents=others)
