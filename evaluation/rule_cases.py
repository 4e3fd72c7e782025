"""A rule against one thing at a time, on made-up drives: how `rules explain` shows what it does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..rewards.cases import LANE, drive, straight_road
from ..rewards.rule import Rule
from ..road import SignalState
from ..scene import DT, AgentKind, Track

STEPS = 26  # columns of a drive; the last one is judged
SPEED, LIMIT = 10.0, 13.9  # m/s
POINTS = 61
LEAST_CHANGE = 1e-3  # of a value, for a curve to be worth showing


@dataclass(frozen=True)
class Sweep:
    """Drives that differ in one number."""

    name: str
    label: str  # with its unit
    low: float
    high: float
    make: Callable[[float], Track]

    def values(self) -> list[float]:
        """The numbers."""
        return torch.linspace(self.low, self.high, POINTS).tolist()


def sweep(rule: Rule, one: Sweep) -> list[float]:
    """The rule's values in the last column of the drives of a sweep."""
    return [float(found) for found in rule(Track.cat([one.make(number) for number in one.values()]))[:, -1]]


def telling(rule: Rule) -> list[tuple[str, str, Sequence[float], Sequence[float]]]:
    """The sweeps on which the rule's value changes: name, label, numbers, values."""
    found = [(one.name, one.label, one.values(), sweep(rule, one)) for one in SWEEPS]
    return [curve for curve in found if max(curve[3]) - min(curve[3]) > LEAST_CHANGE]


def _steady(pace: float = SPEED, **more: object) -> Track:
    """A drive along the right lane at a pace, ending at x = 100, or whatever `more` says."""
    road, route = straight_road(stop_at=120.0)
    road = dataclasses.replace(road, speed_limit=torch.full_like(road.speed_limit, LIMIT))
    x = [100.0 - 0.1 * pace * (STEPS - 1 - t) for t in range(STEPS)]
    return drive(road, route, **{"x": x, "speed": pace, "signals": [int(SignalState.GREEN)] * STEPS, **more})  # type: ignore[arg-type]


def _leader(gap: float, speed: float = SPEED) -> Track:
    x = [100.0 + 2.4 + gap + 2.0 - 0.1 * speed * (STEPS - 1 - t) for t in range(STEPS)]
    return _steady(agents=[{"x": x, "speed": speed}])


def _walker(distance: float) -> Track:
    """One who crosses 20 m ahead of the ego, so far from the middle of its lane."""
    size = {"length": 0.6, "width": 0.6, "kind": int(AgentKind.PEDESTRIAN)}
    y = [-distance - 0.15 * (STEPS - 1 - t) for t in range(STEPS)]
    return _steady(agents=[{"x": 120.0, "y": y, "heading": math.pi / 2, "speed": 1.5, **size}])


def _crossing(distance: float) -> Track:
    """A car that crosses from the right 25 m ahead, so far away; the lights are off."""
    y = [-distance - 0.8 * (STEPS - 1 - t) for t in range(STEPS)]
    car = {"x": 125.0, "y": y, "heading": math.pi / 2, "speed": 8.0}
    return _steady(agents=[car], signals=[int(SignalState.OFF)] * STEPS)


def _over_line(past: float) -> Track:
    """So far past the line of a red light in the last step."""
    pace = 12.0
    x = [120.0 - 2.4 + past - 0.1 * pace * (STEPS - 1 - t) for t in range(STEPS)]
    return _steady(x=x, speed=pace, signals=[int(SignalState.RED)] * STEPS)


def _past_sign(slowest: float) -> Track:
    """Over the line of a stop sign in the last step, out of a stop or a roll."""
    speeds = [max(slowest, abs(0.1 * (t - STEPS + 16))) for t in range(STEPS)]
    x = [117.7 - 0.1 * sum(speeds[t + 1 :]) for t in range(STEPS)]
    return _steady(x=x, speed=speeds, signals=[int(SignalState.STOP_SIGN)] * STEPS)


def _changing(drifting: float) -> Track:
    """Into the left lane in the last step, after drifting towards it for so long."""
    steps = round(drifting / DT)
    heading = [0.05 if t >= STEPS - steps else 0.0 for t in range(STEPS)]
    y = [1.55 - 0.02 * max(0, STEPS - 2 - t) if t < STEPS - 1 else 1.65 for t in range(STEPS)]
    return _steady(y=y, heading=heading)


def _jerk(size: float) -> Track:
    return _steady(acceleration=[0.1 * size * (t - STEPS / 2) for t in range(STEPS)])


def _beside_faster(speed: float) -> Track:
    return _steady(speed, agents=[{"x": 110.0, "y": LANE, "speed": 12.0}])


SWEEPS = (
    Sweep("speed", "speed on a free road, limit 13.9, m/s", 0.0, 22.0, _steady),
    Sweep("offset", "left of the lane's middle, m", -3.0, 3.0, lambda y: _steady(y=y)),
    Sweep("gap", "gap to a car as fast, at 10 m/s, m", 0.2, 40.0, _leader),
    Sweep("standing", "gap to a standing car, at 10 m/s, m", 0.2, 60.0, lambda gap: _leader(gap, 0.0)),
    Sweep("acceleration", "acceleration, m/s2", -8.0, 6.0, lambda a: _steady(acceleration=a)),
    Sweep("jerk", "jerk, m/s3", -12.0, 12.0, _jerk),
    Sweep("turning", "yaw rate at 10 m/s, rad/s", -0.8, 0.8, lambda rate: _steady(yaw_rate=rate)),
    Sweep("red light", "speed 17.6 m before a red light, m/s", 0.0, 20.0, lambda v: _steady(v, signals=[int(SignalState.RED)] * STEPS)),
    Sweep("line", "front past the line of a red light, coming from before it, m", -1.0, 1.0, _over_line),
    Sweep("stop sign", "slowest speed in the 2 s before a stop sign, m/s", 0.0, 2.0, _past_sign),
    Sweep("notice", "drifting over for so long before the lane is entered, s", 0.0, 2.4, _changing),
    Sweep("walker", "a walker comes, 20 m ahead, m from the lane's middle", 0.0, 12.0, _walker),
    Sweep("crossing", "a car comes from the right, 25 m ahead, m away", 0.0, 40.0, _crossing),
    Sweep("beside", "a car alongside, m between the middles", 1.0, 4.0, lambda y: _steady(agents=[{"x": 100.0, "y": y, "speed": SPEED}])),
    Sweep("oncoming", "heading against the lane, rad", 0.0, math.pi, lambda turn: _steady(heading=turn)),
    Sweep(
        "others", "speed, the next lane drives 12, m/s", 0.0, 16.0, lambda v: _steady(v, agents=[{"x": 110.0, "y": LANE, "speed": 12.0}])
    ),
)
