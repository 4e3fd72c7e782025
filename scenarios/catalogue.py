"""The names of the scenario families, what happens in each, and their parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, nearest


@dataclass(frozen=True)
class Parameter:
    """A number that a family is set up with."""

    default: float
    low: float
    high: float
    about: str  # what it is, with its unit


@dataclass(frozen=True)
class Family:
    """A scenario family."""

    about: str
    needs: str  # of the road
    parameters: dict[str, Parameter] = field(default_factory=dict)
    where: tuple[str, ...] = ()  # road families that are tried in turn where the caller leaves that open; all when empty


@dataclass(frozen=True)
class Incident:
    """A family with its parameters."""

    name: str
    values: tuple[float, ...]  # in the order of the family's parameters

    @property
    def parameters(self) -> dict[str, float]:
        """Values by name."""
        return dict(zip(FAMILIES[self.name].parameters, self.values, strict=True))


_GAP = Parameter(16.0, 4.0, 80.0, "m between the ego and the one ahead")
_AFTER = Parameter(2.0, 0.0, 15.0, "s until it begins")

FAMILIES: dict[str, Family] = {
    "cut_in": Family(
        "a car in the next lane moves in front of the ego and slows down",
        "a lane beside in the same direction for 150 m",
        {
            "gap_m": Parameter(10.0, 2.0, 60.0, "m between the ego and the car when it begins"),
            "after_s": _AFTER,
            "duration_s": Parameter(2.5, 1.0, 8.0, "s that the change takes"),
            "speed_share": Parameter(0.75, 0.2, 1.2, "its speed afterwards over the ego's at the start"),
        },
        where=("motorway", "city"),
    ),
    "hard_braking_lead": Family(
        "the car ahead brakes to standstill",
        "100 m of road",
        {"gap_m": _GAP, "after_s": _AFTER, "braking_mps2": Parameter(6.0, 1.0, 9.0, "m/s2 of its braking")},
    ),
    "cut_out": Family(
        "the car ahead leaves the lane and reveals one that stands",
        "a lane beside in the same direction for 180 m",
        {
            "gap_m": _GAP,
            "stopped_m": Parameter(110.0, 60.0, 160.0, "m from the ego to the standing car"),
            "reveal_s": Parameter(2.5, 1.0, 6.0, "s before it would hit it at which the car ahead leaves"),
        },
        where=("motorway", "city"),
    ),
    "jaywalker": Family(
        "somebody steps from the kerb into the ego's way",
        "100 m of road, and a start that moves",
        {
            "ahead_m": Parameter(60.0, 20.0, 120.0, "m from the ego"),
            "walking_mps": Parameter(1.6, 0.5, 4.0, "m/s"),
            "braking_mps2": Parameter(4.0, 1.0, 8.0, "m/s2 with which the ego can just stop, 0.7 s after the first step"),
        },
    ),
    "red_light_runner": Family(
        "a car crosses from the side against its red light when the ego has green",
        "traffic lights within 150 m that the ego will meet green",
        {
            "speed_mps": Parameter(12.0, 4.0, 20.0, "m/s of the crossing car"),
            "late_s": Parameter(0.0, -3.0, 3.0, "s by which it comes to the meeting point after the ego would"),
        },
        where=("city",),
    ),
    "short_merge": Family(
        "the ego's lane is closed ahead and the cars beside leave one short gap",
        "a lane beside in the same direction for 200 m",
        {
            "gap_s": Parameter(1.8, 0.8, 4.0, "s between the two cars beside"),
            "closed_m": Parameter(120.0, 60.0, 200.0, "m from the ego to where its lane is closed"),
        },
        where=("motorway", "city"),
    ),
    "unprotected_turn": Family(
        "the ego's route turns across a stream of oncoming cars",
        "a junction within 120 m at which the route turns across the oncoming lane",
        {
            "cars": Parameter(4.0, 1.0, 6.0, "cars in the stream"),
            "gap_s": Parameter(2.5, 1.0, 8.0, "s between them"),
            "speed_mps": Parameter(10.0, 4.0, 16.0, "m/s"),
        },
        where=("city", "country"),
    ),
    "blocked_lane": Family(
        "a lorry stands in the ego's lane",
        "another lane beside, in either direction",
        {"ahead_m": Parameter(70.0, 30.0, 150.0, "m from the ego")},
    ),
    "wrong_way_driver": Family(
        "a car comes towards the ego in its own lane",
        "160 m of road without a junction",
        {"ahead_m": Parameter(140.0, 80.0, 160.0, "m from the ego"), "speed_mps": Parameter(8.0, 2.0, 20.0, "m/s")},
    ),
    "dense_stop_and_go": Family(
        "a column ahead whose first car stops and goes",
        "150 m of road",
        {
            "cars": Parameter(5.0, 2.0, 8.0, "cars in the column"),
            "gap_m": Parameter(8.0, 4.0, 20.0, "m between them"),
            "period_s": Parameter(8.0, 4.0, 20.0, "s of going and standing"),
            "speed_mps": Parameter(6.0, 2.0, 14.0, "m/s when going"),
        },
    ),
}


def read_incident(wanted: dict[str, Any]) -> Incident | None:
    """Take the key `scenario` and its family's parameters out of `wanted`; None where there is no such key.

    Raises:
        ConfigError: an unknown family or parameter, or a value out of range.
    """
    name = wanted.pop("scenario", None)
    if name is None:
        return None
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(f"unknown scenario '{name}'; {nearest(str(name), FAMILIES)}")
    family = FAMILIES[name]
    values = []
    for key, parameter in family.parameters.items():
        value = wanted.pop(key, parameter.default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{key}={value} of scenario '{name}' is no number; {parameter.about}")
        if not parameter.low <= value <= parameter.high:
            raise ConfigError(f"{key}={value} of scenario '{name}' is outside {parameter.low:g} to {parameter.high:g} ({parameter.about})")
        values.append(float(value))
    return Incident(name, tuple(values))


def parameter_names(name: Any) -> tuple[str, ...]:
    """The parameters that may stand beside the key `scenario`."""
    return tuple(FAMILIES[name].parameters) if isinstance(name, str) and name in FAMILIES else ()


def list_scenarios() -> None:
    """Print the families with their parameters."""
    for name, family in FAMILIES.items():
        print(f"{name}: {family.about} (needs {family.needs})")
        for key, parameter in family.parameters.items():
            print(f"    {key}={parameter.default:g}  {parameter.about}, {parameter.low:g} to {parameter.high:g}")
