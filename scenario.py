"""Which road, traffic and weather an episode gets: drawn from its seed, narrowed by the caller, split by road network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import ConfigError, nearest
from .scenarios.catalogue import FAMILIES as SCRIPTED
from .scenarios.catalogue import Incident, parameter_names, read_incident
from .scene import Appearance

DRAWN = ("city", "motorway", "country")  # that an episode is drawn from
FAMILIES = (*DRAWN, "town")  # further ones are asked for by name
DENSITIES = ("sparse", "dense")
SPLITS: dict[str, range] = {"train": range(0, 30), "validation": range(100, 106), "test": range(200, 210)}  # network seeds per family


@dataclass(frozen=True)
class Scenario:
    """One episode's circumstances; the network (family and network seed) decides the split."""

    family: str
    network_seed: int
    density: str
    appearance: Appearance
    seed: int  # the episode's own
    incident: Incident | None = None  # what scripted road users do

    @property
    def split(self) -> str:
        """The split whose networks this one belongs to, "none" for a network outside all of them."""
        return next((name for name, seeds in SPLITS.items() if self.network_seed in seeds), "none")


_KEYS = ("split", "family", "network_seed", "density", "appearance", "scenario")
TRIES = 200  # starts that are looked at for one that a scenario fits
_STRIDE = 1_000_003  # between the seeds that they are drawn from


def draw_scenario(seed: int, wanted: Mapping[str, Any] | None = None) -> Scenario:
    """Draw an episode's circumstances from its seed, keeping what the caller fixed.

    Args:
        seed: the episode's seed, any integer >= 0.
        wanted: any of `split` (default "train"), `family`, `network_seed`, `density`, `appearance` (name or value), and `scenario`,
            a name of `scenarios.FAMILIES`, with that family's parameters beside it.

    Raises:
        ConfigError: an unknown key or value.
    """
    wanted = dict(wanted or {})
    known_keys = (*_KEYS, *parameter_names(wanted.get("scenario")))
    for key in wanted:
        if key not in known_keys:
            raise ConfigError(f"unknown scenario key '{key}'; {nearest(key, known_keys)}")
    incident = read_incident(wanted)
    split = wanted.get("split", "train")
    for key, value, known in (
        ("split", split, SPLITS),
        ("family", wanted.get("family"), FAMILIES),
        ("density", wanted.get("density"), DENSITIES),
    ):
        if value is not None and value not in known:
            raise ConfigError(f"unknown {key} '{value}'; {nearest(value, known)}")
    rng = np.random.default_rng([int(seed), 7])
    family = str(rng.choice(DRAWN))
    network_seed = int(rng.choice(list(SPLITS[split])))
    density = str(rng.choice(DENSITIES))
    appearance = Appearance(int(rng.integers(len(Appearance))))
    if wanted.get("appearance") is not None:
        appearance = _appearance(wanted["appearance"])
    return Scenario(
        family=wanted.get("family") or family,
        network_seed=int(wanted["network_seed"]) if wanted.get("network_seed") is not None else network_seed,
        density=wanted.get("density") or density,
        appearance=appearance,
        seed=int(seed),
        incident=incident,
    )


def attempts(seed: int, wanted: Mapping[str, Any] | None, tries: int = TRIES) -> Iterator[Scenario]:
    """The circumstances that are tried, in this order, for a scenario that does not fit every road; the weather is that of the first.

    Raises:
        ConfigError: an unknown key or value.
    """
    first = draw_scenario(seed, wanted)
    open_road = not (wanted or {}).get("family") and (wanted or {}).get("network_seed") is None
    where = SCRIPTED[first.incident.name].where if first.incident is not None and open_road else ()
    for number in range(tries):
        family = {"family": where[number % len(where)]} if where else {}
        drawn = draw_scenario(seed + number * _STRIDE, {**(wanted or {}), **family})
        yield replace(drawn, appearance=first.appearance)


def circumstances(wanted: Mapping[str, Any] | None) -> list[str]:
    """The keys of `wanted` that narrow the road and its traffic, not what scripted road users do there."""
    wanted = wanted or {}
    named = ("scenario", *parameter_names(wanted.get("scenario")))
    return [key for key, value in wanted.items() if value is not None and key not in named]


def misfit(scenario: Scenario, reason: str, tries: int) -> ConfigError:
    """What is said when no start fits."""
    name = scenario.incident.name if scenario.incident else "none"
    where = f"{scenario.family} {scenario.network_seed}"
    return ConfigError(
        f"scenario '{name}' fits none of {tries} starts; the last, on {where}: {reason}; leave the road open, or take another"
    )


def _appearance(value: Any) -> Appearance:
    names = [a.name.lower() for a in Appearance]
    if isinstance(value, str):
        if value.lower() not in names:
            raise ConfigError(f"unknown appearance '{value}'; {nearest(value, names)}")
        return Appearance[value.upper()]
    if int(value) not in [int(a) for a in Appearance]:
        raise ConfigError(f"unknown appearance {value}; known: 0 to {len(Appearance) - 1} ({', '.join(names)})")
    return Appearance(int(value))
