"""Named suites: the fixed list of episodes that a score is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import ConfigError, nearest
from ..scenario import DENSITIES, DRAWN, FAMILIES, SPLITS, draw_scenario
from ..scene import Appearance

DRAW = 100_000  # between the episodes' indices of two draws
_NAMED = Path(__file__).with_name("suites.yaml")
_DEFAULTS: dict[str, Any] = {
    "description": "",
    "split": "test",
    "families": list(DRAWN),  # of road
    "scenario": {},  # a name of `xpeng-world scenarios`, and its parameters, for every episode
    "repeats": 1,
    "episodes": None,
    "first_seed": 0,
    "steps": 300,
}


@dataclass(frozen=True)
class Episode:
    """One episode of a suite: its seed and the scenario that the world is reset with."""

    index: int
    seed: int
    scenario: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """A fixed, balanced list of episodes; any first part of it is as balanced as its length allows."""

    name: str
    description: str
    steps: int  # longest episode, in steps of DT
    episodes: tuple[Episode, ...]

    def first(self, count: int | None) -> Suite:
        """The suite cut to its first `count` episodes; whole when None.

        Raises:
            ConfigError: fewer than 1, or more than the suite has.
        """
        if count is None:
            return self
        if not 1 <= count <= len(self.episodes):
            raise ConfigError(f"suite '{self.name}' has {len(self.episodes)} episodes; ask for 1 to {len(self.episodes)}, not {count}")
        return Suite(self.name, self.description, self.steps, self.episodes[:count])


def together(draws: int, seed: int, scored: Callable[[int], Mapping[int, float]]) -> dict[int, float]:
    """Points by episode of several draws of a suite: what `scored` says for `seed`, `seed` + 1 and on."""
    return {DRAW * draw + index: points for draw in range(draws) for index, points in scored(seed + draw).items()}


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return list(_read(_NAMED))


def load_suite(name_or_path: str) -> Suite:
    """A shipped suite by name, or one of a YAML file of the same form that holds a single suite.

    Raises:
        ConfigError: no such suite, or a key or value in it that is wrong.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.exists():
            raise ConfigError(f"no suite file '{path}'; known suites: {', '.join(suite_names())}")
        entries = _read(path)
        if not isinstance(entries, dict) or len(entries) != 1:
            raise ConfigError(f"'{path}' must hold one suite: its name, with its keys below")
        ((name, entry),) = entries.items()
        return _build(str(name), entry)
    named = _read(_NAMED)
    if name_or_path not in named:
        raise ConfigError(f"unknown suite '{name_or_path}'; {nearest(name_or_path, named)}")
    return _build(name_or_path, named[name_or_path])


@cache
def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from error


def _build(name: str, entry: Any) -> Suite:
    if not isinstance(entry, dict):
        raise ConfigError(f"suite '{name}' must be keys and values; known: {', '.join(_DEFAULTS)}")
    for key in entry:
        if key not in _DEFAULTS:
            raise ConfigError(f"unknown key '{key}' in suite '{name}'; {nearest(key, _DEFAULTS)}")
    values = {**_DEFAULTS, **entry}
    if values["split"] not in SPLITS:
        raise ConfigError(f"unknown split '{values['split']}' in suite '{name}'; {nearest(values['split'], SPLITS)}")
    for key, least in (("repeats", 1), ("first_seed", 0), ("steps", 1)):
        if not isinstance(values[key], int) or values[key] < least:
            raise ConfigError(f"{key}={values[key]} in suite '{name}' must be a whole number of at least {least}")

    families = values["families"]
    for family in families if isinstance(families, list) and families else [families]:
        if family not in FAMILIES:
            raise ConfigError(f"unknown family '{family}' in suite '{name}'; {nearest(str(family), FAMILIES)}")
    if not isinstance(values["scenario"], dict):
        raise ConfigError(f"scenario of suite '{name}' must be keys and values, such as {{scenario: cut_in, gap_m: 8}}")
    draw_scenario(0, {**values["scenario"], "split": values["split"]})
    cells = list(product(families, DENSITIES, [a.name.lower() for a in Appearance]))
    episodes: list[Episode] = []
    for repeat in range(values["repeats"]):
        order = np.random.default_rng([values["first_seed"], repeat]).permutation(len(cells))
        for family, density, appearance in _spread([cells[i] for i in order], families):
            index = len(episodes)
            scenario = {"split": values["split"], "family": family, "density": density, "appearance": appearance} | values["scenario"]
            episodes.append(Episode(index, values["first_seed"] + index, scenario))
    return Suite(name, values["description"], values["steps"], tuple(episodes)).first(values["episodes"])


def _spread(cells: list[tuple[str, str, str]], families: list[str]) -> list[tuple[str, str, str]]:
    """Reorder so that families take turns."""
    by_family = [[cell for cell in cells if cell[0] == family] for family in families]
    return [cell for turn in zip(*by_family, strict=True) for cell in turn]
