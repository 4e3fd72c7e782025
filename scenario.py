"""Which road, traffic and weather an episode gets: drawn from its seed, narrowed by the caller, split by road network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConfigError, nearest
from .scene import Appearance

FAMILIES = ("city", "motorway", "country")
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

    @property
    def split(self) -> str:
        """The split whose networks this one belongs to, "none" for a network outside all of them."""
        return next((name for name, seeds in SPLITS.items() if self.network_seed in seeds), "none")


_KEYS = ("split", "family", "network_seed", "density", "appearance")


def draw_scenario(seed: int, wanted: Mapping[str, Any] | None = None) -> Scenario:
    """Draw an episode's circumstances from its seed, keeping what the caller fixed.

    Args:
        seed: the episode's seed, any integer >= 0.
        wanted: any of `split` (default "train"), `family`, `network_seed`, `density`, `appearance` (name or value).

    Raises:
        ConfigError: an unknown key or value.
    """
    wanted = dict(wanted or {})
    for key in wanted:
        if key not in _KEYS:
            raise ConfigError(f"unknown scenario key '{key}'; {nearest(key, _KEYS)}")
    split = wanted.get("split", "train")
    for key, value, known in (
        ("split", split, SPLITS),
        ("family", wanted.get("family"), FAMILIES),
        ("density", wanted.get("density"), DENSITIES),
    ):
        if value is not None and value not in known:
            raise ConfigError(f"unknown {key} '{value}'; {nearest(value, known)}")
    rng = np.random.default_rng([int(seed), 7])
    family = str(rng.choice(FAMILIES))
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
