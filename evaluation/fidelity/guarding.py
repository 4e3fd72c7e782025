"""Thresholds of a world's guards from drives on validation roads, and how well they tell strange drives from usual ones on test roads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...envs.core import Episodes
from ...errors import ConfigError
from ...policies import load_policy
from ...scene import Ego, Scene
from ...world import WorldState, observe
from ...world_model.guards import GUARDS, SETTLED, Guards
from ...world_model.learned import SHIPPED, LearnedWorld
from ..bootstrap import Estimate, bootstrap
from ..runner import judge_loop

DRIVERS = ("expert", "noisy_expert", "random", "reckless")
STEPS = 100
STRANGE_AT = 20  # step at which something strange happens
STRANGE_FOR = 30  # steps that are watched from then on
LEAST = {"lost": 15.0}  # least thresholds: leaving the road is in the training data, and a rule's matter
MARGIN = 1.05  # thresholds are so many times the highest value of the usual drives
TOGETHER = 8

Change = Callable[[WorldState], WorldState]


def _moved(state: WorldState, change: Callable[[Tensor], Tensor]) -> WorldState:
    ego = state.scene.ego.state.clone()
    change(ego)
    scene: Scene = dataclasses.replace(state.scene, ego=Ego(ego))
    return dataclasses.replace(state, scene=scene)


def off_the_map(state: WorldState) -> WorldState:
    """The ego is put 2 km beside its road."""
    return _moved(state, lambda ego: ego[:, 0].add_(2000.0))


def impossible_speed(state: WorldState) -> WorldState:
    """The ego drives at 70 m/s."""
    return _moved(state, lambda ego: ego[:, 3].fill_(70.0))


def spinning(state: WorldState) -> WorldState:
    """The ego has turned by a right angle from one frame to the next."""
    return _moved(state, lambda ego: ego[:, 2].add_(torch.pi / 2))


STRANGE: dict[str, Change] = {"off_the_map": off_the_map, "impossible_speed": impossible_speed, "spinning": spinning}


def load_measuring(world: str) -> LearnedWorld:
    """A learned world whose guards have no thresholds.

    Raises:
        ConfigError: the reference world.
        CheckpointError: a world without probes or tokenizer.
    """
    if world == "reference":
        raise ConfigError("the reference world has no guards; give world=learned or the folder of a trained one")
    folder = SHIPPED if world == "learned" else Path(world)
    loaded = LearnedWorld.load(folder)
    loaded.guards = Guards.load(folder, measure=True)
    return loaded


@torch.inference_mode()
def highest_means(world: LearnedWorld, split: str, episodes: int, seed: int, change: Change | None = None) -> Tensor:
    """The highest running mean of each of GUARDS, [n, 3], over episodes of DRIVERS in turns.

    Args:
        world: with guards.
        split: of the roads.
        episodes: to drive.
        seed: of the first.
        change: what happens at STRANGE_AT; only what follows it counts then. Episodes that are over by then are left out.
    """
    rows: list[Tensor] = []
    steps = STEPS if change is None else STRANGE_AT + STRANGE_FOR
    loop = judge_loop(world, STEPS)
    loop.record = False
    for begin in tqdm(range(0, episodes, TOGETHER), desc=change.__name__ if change else "usual", unit="batch", disable=None):
        count = min(TOGETHER, episodes - begin)
        driver = load_policy(DRIVERS[begin // TOGETHER % len(DRIVERS)])
        seeds = [7_000_000 + 10_000 * seed + begin + k for k in range(count)]
        running: Episodes = loop.reset(seeds, {"split": split})
        memory = driver.initial_memory(seeds)
        over = torch.zeros(count, dtype=torch.bool)
        highest = torch.zeros(count, len(GUARDS))
        late = torch.zeros(count, dtype=torch.bool)
        for step in range(steps):
            if change is not None and step == STRANGE_AT:
                late = ~over
                running = dataclasses.replace(running, state=change(running.state))
            action, memory = driver.act(observe(running.state), memory, running.state.scene if driver.privileged else None)
            running, outcome = loop.step(running, action)
            if change is None:
                over |= outcome.done
                watched = ~over & (running.state.step >= SETTLED)
            else:
                over |= outcome.done & (step < STRANGE_AT)
                watched = late if step >= STRANGE_AT else torch.zeros_like(late)
            means = running.state.memory.means
            highest = torch.where(watched.unsqueeze(-1), torch.maximum(highest, means), highest)
        rows.append(highest if change is None else highest[late])
    found = torch.cat(rows)
    return found[(found > 0).any(-1)]


def calibrate(world: LearnedWorld, episodes: int, seed: int) -> dict[str, float]:
    """Thresholds: MARGIN times the highest value of usual drives on validation roads, but no less than LEAST."""
    highest = highest_means(world, "validation", episodes, seed).amax(0) * MARGIN
    return {name: max(value, LEAST.get(name, 0.0)) for name, value in zip(GUARDS, highest.tolist(), strict=True)}


def guard_figures(world: LearnedWorld, thresholds: dict[str, float], episodes: int, seed: int) -> dict[str, Estimate]:
    """On test roads: share of usual drives that trip a guard, of strange ones that do, and the area under the curve between them."""
    limits = torch.tensor([thresholds[name] for name in GUARDS])
    usual = (highest_means(world, "test", episodes, seed + 1) / limits).numpy()
    figures = {"guard_false_trips": bootstrap((usual.max(1) > 1).astype(float))}
    strange = {name: (highest_means(world, "test", episodes, seed + 2, change) / limits).numpy() for name, change in STRANGE.items()}
    for name, found in strange.items():
        figures[f"guard_trips_{name}"] = bootstrap((found.max(1) > 1).astype(float))
    figures["guard_auc"] = area_under_curve(usual.max(1), np.concatenate([found.max(1) for found in strange.values()]))
    for index, name in enumerate(GUARDS):
        figures[f"guard_auc_{name}"] = area_under_curve(usual[:, index], np.concatenate([found[:, index] for found in strange.values()]))
    return figures


def area_under_curve(usual: Sequence[float] | np.ndarray, strange: Sequence[float] | np.ndarray) -> Estimate:
    """Chance that a strange drive has the higher number (ties half), with a bootstrap interval."""
    a, b = np.asarray(usual, float), np.asarray(strange, float)
    area = lambda x, y: float((y[:, None] > x[None]).mean() + 0.5 * (y[:, None] == x[None]).mean())
    rng = np.random.default_rng(0)
    drawn = [area(a[rng.integers(len(a), size=len(a))], b[rng.integers(len(b), size=len(b))]) for _ in range(1000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(area(a, b), float(low), float(high), len(a) + len(b))
