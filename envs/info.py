"""What `info` says besides observation and reward: every rule's value, running totals, the scenario, why an episode ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..scenario import draw_scenario
from ..scene import Appearance, Scene
from ..world import World
from .core import Episodes, Outcome


def describe_scenario(world: World, seed: int, wanted: Mapping[str, Any], scene: Scene, row: int) -> dict[str, Any]:
    """The circumstances of an episode by name: family, network seed, split, density, appearance, traffic side, seed.

    A world that draws its episodes otherwise than `draw_scenario` says so by a method `describe(seed, wanted) -> Scenario`; of one
    that knows the ego alone there is the seed to tell.
    """
    if getattr(world, "ego_only", False):
        return {"seed": seed}
    drawn = getattr(world, "describe", draw_scenario)(seed, wanted)
    told = {} if drawn.incident is None else {"scenario": drawn.incident.name, **drawn.incident.parameters}
    return told | {
        "family": drawn.family,
        "network_seed": drawn.network_seed,
        "split": drawn.split,
        "density": drawn.density,
        "appearance": Appearance(int(scene.appearance[row])).name.lower(),
        "traffic_side": "left" if int(scene.road.traffic_side[row]) < 0 else "right",
        "seed": seed,
    }


def ending(outcome: Outcome, row: int) -> str | None:
    """Why episode `row` is over: the rule that ended it, "guard_NAME", "route_end" or "time_limit"; None while it runs."""
    guards = [(f"guard_{name}", value > 1) for name, value in outcome.doubts.items()]
    for name, ended in (*outcome.ended_by.items(), *guards, ("route_end", outcome.route_end), ("time_limit", outcome.time_limit)):
        if bool(ended[row]):
            return name
    return "terminated" if bool(outcome.terminated[row]) else None


def step_info(rules: Sequence[str], episodes: Episodes, outcome: Outcome, row: int = 0) -> dict[str, Any]:
    """The info of one episode after a step: `rules`, `stats`, `guards` where the world has some and, on its last step, `ended`."""
    values = outcome.rule_values[row].tolist()
    length = int(episodes.steps[row])
    means = (episodes.rule_totals[row] / max(length, 1)).tolist()
    info: dict[str, Any] = {
        "rules": dict(zip(rules, values, strict=True)),
        "stats": {"return": float(episodes.total[row]), "length": length, "rules": dict(zip(rules, means, strict=True))},
    }
    if outcome.doubts:
        info["guards"] = {name: float(value[row]) for name, value in outcome.doubts.items()}
    reason = ending(outcome, row)
    if reason is not None:
        info["ended"] = reason
    return info


def batched_step_info(rules: Sequence[str], episodes: Episodes, outcome: Outcome, told: np.ndarray) -> dict[str, Any]:
    """The same for B episodes, in the form of Gymnasium's vector environments; `told` [B] bool says for which rows it holds."""

    def table(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, column in columns.items():
            out[name], out[f"_{name}"] = np.where(told, column, np.zeros_like(column)), told.copy()
        return out

    values = outcome.rule_values.cpu().numpy().astype(np.float64)
    lengths = episodes.steps.cpu().numpy()
    means = episodes.rule_totals.cpu().numpy().astype(np.float64) / np.maximum(lengths, 1)[:, None]
    stats = table({"return": episodes.total.cpu().numpy().astype(np.float64), "length": lengths})
    stats["rules"] = table({name: means[:, i] for i, name in enumerate(rules)})
    stats["_rules"] = told.copy()
    info: dict[str, Any] = {}
    info["rules"], info["_rules"] = table({name: values[:, i] for i, name in enumerate(rules)}), told.copy()
    info["stats"], info["_stats"] = stats, told.copy()
    if outcome.doubts:
        guards = {name: value.cpu().numpy().astype(np.float64) for name, value in outcome.doubts.items()}
        info["guards"], info["_guards"] = table(guards), told.copy()
    over = outcome.done.cpu().numpy() & told
    if over.any():
        info["ended"] = np.array([ending(outcome, row) if over[row] else None for row in range(len(over))], dtype=object)
        info["_ended"] = over
    return info
