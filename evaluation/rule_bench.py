"""What rules cost: beside the learned world's own step, and over an hour of recorded driving."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from ..envs import make_world
from ..errors import ConfigError
from ..policies import load_policy
from ..rewards import WINDOW_STEPS, load_design
from ..rewards.facts import route_position
from ..rewards.rule import Rule, evaluate_rules
from ..scene import DT, Track
from .bootstrap import Estimate, bootstrap
from .evidence import evidence, write_evidence
from .rule_replay import built_in_rules, read_drives

HOUR_S = 3600.0


def bench_rules(data: str | None, design: str, world: str, batch: int, steps: int, threads: int, out: str) -> Path:
    """Time a design's rules in a loop and all rules on recordings; prints the figures and writes metrics.json.

    Figures: `rules_cost_share_b256` (with the batch in its name), the time of the design's rules over that of the world's step,
    both taken in the same steps, once the rules' window is full; `rules_count`, how many rules there are; with `data`,
    `replay_hour_s`, seconds to read and judge an hour of recorded driving by all rules, and `replay_hour_one_s` by one, from all
    the frames in `data`.

    Args:
        data: folder of shards; None to leave the replay out.
        design: whose rules are timed in the loop.
        world: that is stepped.
        batch: episodes side by side.
        steps: that are timed.
        threads: torch threads.
        out: folder for metrics.json.

    Raises:
        ConfigError: no such world or design, or a number below 1.
    """
    if min(batch, steps, threads) < 1:
        raise ConfigError(f"batch={batch}, steps={steps} and threads={threads} must be at least 1")
    before, began = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(threads)
    try:
        figures = {f"rules_cost_share_b{batch}": bootstrap(cost_shares(world, design, batch, steps))}
        figures["rules_count"] = Estimate(len(built_in_rules()))
        if data is not None:
            figures["replay_hour_s"] = Estimate(replay_seconds(data, None))
            figures["replay_hour_one_s"] = Estimate(replay_seconds(data, "time_to_collision"))
    finally:
        torch.set_num_threads(before)
    name = "null" if data is None else Path(data).name
    command = f"xpeng-world rules bench data={name} design={design} world={world} batch={batch} steps={steps} threads={threads}"
    told = {"rules_cost_share": "of the world's step", "rules_count": "rules", "replay_hour": "s for an hour of driving"}
    for key, figure in figures.items():
        interval = "" if figure.low is None else f"  [{figure.low:.3f}, {figure.high:.3f}]"
        print(f"{key:26s} {figure.value:8.3f} {next(text for name, text in told.items() if key.startswith(name))}{interval}")
    record = evidence(figures, command=command, seconds=time.perf_counter() - began, threads=threads)
    return write_evidence(Path(out) / "metrics.json", record)


@torch.inference_mode()
def cost_shares(world: str, design: str, batch: int, steps: int) -> list[float]:
    """Time of the rules over time of the world, of each of `steps` steps after the window is full."""
    driven, judge, driver = make_world(world), load_design(design), load_policy("expert")
    state = driven.reset(list(range(batch)), None)
    track, memory, shares = Track.of([state.scene]), driver.initial_memory(list(range(batch))), []
    for step in range(WINDOW_STEPS + steps):
        action, memory = driver.act(None, memory, state.scene)  # type: ignore[arg-type]
        start = time.perf_counter()
        state = driven.step(state, action)
        stepped = time.perf_counter()
        track = track.append(state.scene, longest=WINDOW_STEPS)
        judge.step(track)
        track.derived(route_position)  # the loop looks whether a route is at its end
        if step >= WINDOW_STEPS:
            shares.append((time.perf_counter() - stepped) / (stepped - start))
    return shares


def replay_seconds(data: str, rule: str | None) -> float:
    """Seconds for an hour of driving: read and judged by one rule, or by all."""
    calls: list[tuple[Rule, dict[str, object]]] = [(one, {}) for one in built_in_rules() if rule is None or one.name == rule]
    start, frames = time.perf_counter(), 0
    for _, track in read_drives(data, None, None):
        evaluate_rules(track, calls)
        frames += track.steps
    return (time.perf_counter() - start) * HOUR_S / (DT * frames)
