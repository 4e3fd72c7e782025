"""A reward design: which rules make the reward and end an episode, read from YAML and checked against the rules it names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..scenario import nearest
from ..scene import Track
from .design_file import Section, read_sections
from .rule import Rule, check_type, evaluate_rules, find_rule

_SECTIONS = {
    "terms": {"weight": float},
    "factors": {"strength": float},
    "gates": {},
    "costs": {"weight": float},
    "ends": {"below": float, "above": float, "reward": float},
}
_DESIGNS = Path(__file__).parent / "designs"


@dataclass(frozen=True)
class Entry:
    """A rule's part in a design."""

    label: str
    rule: Rule
    parameters: Mapping[str, Any]
    weight: float = 1.0  # of a term or a cost
    strength: float = 1.0  # of a factor: it multiplies by 1 - strength * (1 - value)
    below: float = -math.inf  # ends the episode when the value is lower
    above: float = math.inf  # ends the episode when the value is higher
    reward: float = 0.0  # given when it ends the episode


@dataclass(frozen=True)
class StepReward:
    """What a design says of one step, for B episodes."""

    reward: Tensor  # [B]
    terminated: Tensor  # [B] bool
    values: dict[str, Tensor]  # value of every rule [B] by its label
    ended_by: dict[str, Tensor]  # bool [B] by the label of each condition that may end an episode


@dataclass(frozen=True)
class Design:
    """`reward = scale * (sum of terms * factors * gates - costs + end rewards)`, per step of 0.1 s.

    A cost of a gate or term rule is `weight * (1 - value)`, of a cost rule `weight * value`.
    """

    name: str
    description: str = ""
    scale: float = 1.0
    terms: tuple[Entry, ...] = ()
    factors: tuple[Entry, ...] = ()
    gates: tuple[Entry, ...] = ()
    costs: tuple[Entry, ...] = ()
    ends: tuple[Entry, ...] = ()

    def entries(self) -> Iterator[Entry]:
        """All parts of the design."""
        yield from (*self.terms, *self.factors, *self.gates, *self.costs, *self.ends)

    def evaluate(self, track: Track) -> dict[str, Tensor]:
        """Values [B, T] of every rule over the whole track, by label.

        Raises:
            RuleError: a rule failed or returned NaN; the message names it and the step.
        """
        return self._by_label(self._values(track))

    def step(self, track: Track) -> StepReward:
        """Reward and termination of the last column of a window of at least WINDOW_STEPS columns (fewer at an episode's start)."""
        return self._combine(self._by_label(self._values(track)[:, :, -1]))

    def reward(self, track: Track) -> Tensor:
        """Reward [B, T] of every column of a track, 0 where it is not valid."""
        return torch.where(track.valid, self._combine(self.evaluate(track)).reward, 0.0)

    def _values(self, track: Track) -> Tensor:
        return evaluate_rules(track, [(entry.rule, entry.parameters) for entry in self.entries()])

    def _by_label(self, values: Tensor) -> dict[str, Tensor]:
        return {entry.label: value for entry, value in zip(self.entries(), values.unbind(0), strict=True)}

    def _combine(self, values: dict[str, Tensor]) -> StepReward:
        example = next(iter(values.values()))
        total = torch.zeros_like(example)
        for entry in self.terms:
            total = total.add(values[entry.label], alpha=entry.weight)
        for entry in self.factors:
            total = total * (values[entry.label] * entry.strength + (1.0 - entry.strength))
        for entry in self.gates:
            total = total * values[entry.label]
        for entry in self.costs:
            value = values[entry.label]
            total = total.sub(value if entry.rule.kind == "cost" else 1.0 - value, alpha=entry.weight)
        ended_by = {}
        terminated = torch.zeros_like(example, dtype=torch.bool)
        for entry in self.ends:
            value = values[entry.label]
            ended = (value < entry.below) | (value > entry.above)
            ended_by[entry.label] = ended
            terminated = terminated | ended
            total = total.add(ended, alpha=entry.reward)
        return StepReward(self.scale * total, terminated, values, ended_by)


def design_names() -> list[str]:
    """Names of the designs that come with the package."""
    return sorted(path.stem for path in _DESIGNS.glob("*.yaml"))


def load_design(name_or_path: str | Path = "default") -> Design:
    """Read a design by name, or from a path that ends in .yaml.

    Raises:
        ConfigError: no such design, or something in it is wrong; the message names file and line.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = _DESIGNS / f"{name_or_path}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"unknown design '{name_or_path}'; {nearest(str(name_or_path), design_names())} (or give the path of a .yaml)"
            )
    if not path.is_file():
        raise ConfigError(f"no design file {path}")
    top = read_sections(path)
    top.check_keys(("description", "scale", *_SECTIONS))
    labels: dict[str, str] = {}
    parts: dict[str, tuple[Entry, ...]] = {}
    for section, keys in _SECTIONS.items():
        entries = []
        for label, node in top.mapping(section).items():
            if labels.setdefault(label, section) != section:
                raise node.error(f"'{label}' stands under {labels[label]} already; give it another label and name its rule with 'rule:'")
            entries.append(_entry(section, label, node, keys, path))
        parts[section] = tuple(entries)
    if not any(parts.values()):
        raise ConfigError(f"{path}: names no rule; sections are {', '.join(_SECTIONS)}")
    return Design(
        name=path.stem,
        description=str(top.scalar("description", str, "")),
        scale=top.scalar("scale", float, 1.0),
        **parts,
    )


def _entry(section: str, label: str, node: Section, keys: Mapping[str, type], path: Path) -> Entry:
    node.check_keys(("rule", "parameters", *keys))
    name = node.scalar("rule", str, label)
    with node.located("rule"):
        found = find_rule(name, beside=path.parent)
    parameters = {}
    for key, value in node.mapping_values("parameters").items():
        with node.inside("parameters").located(key):
            parameters.update(found.check_parameters({key: value}))
    numbers = {key: node.scalar(key, kind, None) for key, kind in keys.items()}
    given = {key: check_type(value, float, key) for key, value in numbers.items() if value is not None}
    if section == "ends" and not given.keys() & {"below", "above"}:
        raise node.error(f"'{label}' needs 'below' or 'above' to say when it ends an episode")
    if section in ("terms", "costs") and "weight" not in given:
        raise node.error(f"'{label}' needs a 'weight'")
    if section == "factors" and not 0 <= given.get("strength", 1.0) <= 1:
        raise node.error(f"the strength of '{label}' must be in [0, 1]")
    if section in ("factors", "gates") and (found.low < 0 or found.high > 1):
        raise node.error(f"rule '{found.name}' ranges over [{found.low:g}, {found.high:g}] {found.unit}; {section} need values in [0, 1]")
    return Entry(label, found, parameters, **given)
