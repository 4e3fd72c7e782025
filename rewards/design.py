"""A reward design: which rules make the reward and end an episode, read from YAML and checked against the rules it names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..scenario import nearest
from ..scene import Track
from .design_file import Section, read_sections
from .rule import Rule, RuleError, check_type, evaluate_rules, find_rule, needs_scene

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

    def ego_only(self) -> tuple[Design, tuple[str, ...]]:
        """What of the design needs nothing but the ego, for worlds that know no more, and the labels of what is left out.

        A rule counts as needing more when it fails on a track without road, route, road users and signals.

        Raises:
            ConfigError: nothing is left.
        """
        left_out = tuple(entry.label for entry in self.entries() if needs_scene(entry.rule, entry.parameters))
        keep = lambda entries: tuple(entry for entry in entries if entry.label not in left_out)
        kept = replace(
            self,
            terms=keep(self.terms),
            factors=keep(self.factors),
            gates=keep(self.gates),
            costs=keep(self.costs),
            ends=keep(self.ends),
        )
        if not any(True for _ in kept.entries()):
            raise ConfigError(f"every rule of design '{self.name}' needs road or traffic, which this world does not know; take another one")
        return kept, left_out

    def evaluate(self, track: Track) -> dict[str, Tensor]:
        """Values [B, T] of every rule over the whole track, by label.

        Raises:
            RuleError: a rule failed or returned NaN; the message names it and the step. Or the track lacks what rules need.
        """
        if not bool(torch.isfinite(track.road.centreline).all()):
            raise RuleError("the track's road map holds NaN; give the map that was driven on")
        return self._by_label(self._values(track))

    def step(self, track: Track) -> StepReward:
        """Reward and termination of the last column of a window of at least WINDOW_STEPS columns (fewer at an episode's start)."""
        return self.combine(self._by_label(self._values(track)[:, :, -1]))

    def reward(self, track: Track) -> Tensor:
        """Reward [B, T] of every column of a track, 0 where it is not valid."""
        return torch.where(track.valid, self.combine(self.evaluate(track)).reward, 0.0)

    def _values(self, track: Track) -> Tensor:
        return evaluate_rules(track, [(entry.rule, entry.parameters) for entry in self.entries()])

    def _by_label(self, values: Tensor) -> dict[str, Tensor]:
        return {entry.label: value for entry, value in zip(self.entries(), values.unbind(0), strict=True)}

    def combine(self, values: Mapping[str, Tensor]) -> StepReward:
        """Reward and termination of the values [...] of every rule, by label."""
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
        return StepReward(self.scale * total, terminated, dict(values), ended_by)


def design_names() -> list[str]:
    """Names of the designs that come with the package."""
    return sorted(path.stem for path in _DESIGNS.glob("*.yaml"))


def load_design(name_or_path: str | Path = "default") -> Design:
    """Read a design by name, or from a path that ends in .yaml.

    Raises:
        ConfigError: no such design, or something in it is wrong; the message names file and line.
    """
    path = _find(name_or_path)
    layers = _read(path, ())
    top = layers[-1]
    parts: dict[str, tuple[Entry, ...]] = {}
    for section, keys in _SECTIONS.items():
        parts[section] = tuple(_entry(section, label, nodes, keys) for label, nodes in _stacked(layers, section).items())
    if not any(parts.values()):
        raise ConfigError(f"{path}: names no rule; sections are {', '.join(_SECTIONS)}")
    newest = lambda key: next((layer for layer in reversed(layers) if layer.has(key)), top)
    return Design(
        name=path.stem,
        description=str(top.scalar("description", str, "")),
        scale=newest("scale").scalar("scale", float, 1.0),
        **parts,
    )


def _find(name_or_path: str | Path, beside: Path | None = None) -> Path:
    """The file of a design by name, or by a path that ends in .yaml, which may be relative to the folder `beside`."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = _DESIGNS / f"{name_or_path}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"unknown design '{name_or_path}'; {nearest(str(name_or_path), design_names())} (or give the path of a .yaml)"
            )
    elif beside is not None:
        path = beside / path
    if not path.is_file():
        raise ConfigError(f"no design file {path}")
    return path


def _read(path: Path, below: tuple[Path, ...]) -> list[Section]:
    """The file's top mapping after those of all that it extends, the first ancestor first; `below` are the files that led to it."""
    top = read_sections(path)
    top.check_keys(("description", "scale", "extends", "drop", *_SECTIONS))
    labels: dict[str, str] = {}
    for section in _SECTIONS:
        for label, node in top.mapping(section).items():
            if labels.setdefault(label, section) != section:
                raise node.error(f"'{label}' stands under {labels[label]} already; give it another label and name its rule with 'rule:'")
    base = top.scalar("extends", str, "")
    if not base:
        return [top]
    with top.located("extends"):
        parent = _find(base, path.parent)
        trail = (*below, path.resolve())
        if parent.resolve() in trail:
            cycle = (*trail[trail.index(parent.resolve()) :], parent)
            raise ConfigError(f"'extends' goes round in a circle: {' -> '.join(step.name for step in cycle)}")
    return [*_read(parent, trail), top]


def _stacked(layers: list[Section], section: str) -> dict[str, list[Section]]:
    """What every layer says of each label of a section, the oldest first, without what a later one dropped or moved elsewhere."""
    found: dict[str, list[Section]] = {}
    known: set[str] = set()
    for layer in layers:
        for label, line in layer.names("drop"):
            if label not in known:
                raise layer.error(f"nothing named '{label}' to drop; {nearest(label, known)}", line)
            found.pop(label, None)
        own = {other: layer.mapping(other) for other in _SECTIONS}
        for other, nodes in own.items():
            known |= nodes.keys()
            if other != section:
                for label in nodes:
                    found.pop(label, None)
        for label, node in own[section].items():
            found.setdefault(label, []).append(node)
    return found


def _entry(section: str, label: str, nodes: list[Section], keys: Mapping[str, type]) -> Entry:
    for node in nodes:
        node.check_keys(("rule", "parameters", *keys))
    naming = next((at for at in range(len(nodes) - 1, -1, -1) if nodes[at].has("rule")), 0)
    namer, node = nodes[naming], nodes[-1]
    with namer.located("rule"):
        found = find_rule(namer.scalar("rule", str, label), beside=namer.path.parent)
    parameters = {}
    for layer in nodes[naming:]:  # those given to another rule do not count
        for key, value in layer.mapping_values("parameters").items():
            with layer.inside("parameters").located(key):
                parameters.update(found.check_parameters({key: value}))
    given: dict[str, Any] = {}
    for layer in nodes:
        numbers = {key: layer.scalar(key, kind, None) for key, kind in keys.items()}
        given |= {key: check_type(value, float, key) for key, value in numbers.items() if value is not None}
    if section == "ends" and not given.keys() & {"below", "above"}:
        raise node.error(f"'{label}' needs 'below' or 'above' to say when it ends an episode")
    if section in ("terms", "costs") and "weight" not in given:
        raise node.error(f"'{label}' needs a 'weight'")
    if given.get("weight", 0.0) < 0:
        other = "costs" if section == "terms" else "terms"
        raise node.error(f"the weight of '{label}' must be 0 or more, not {given['weight']:g}; what is to be lowered belongs under {other}")
    if section == "factors" and not 0 <= given.get("strength", 1.0) <= 1:
        raise node.error(f"the strength of '{label}' must be in [0, 1]")
    if section in ("factors", "gates") and (found.low < 0 or found.high > 1):
        raise node.error(f"rule '{found.name}' ranges over [{found.low:g}, {found.high:g}] {found.unit}; {section} need values in [0, 1]")
    return Entry(label, found, parameters, **given)
