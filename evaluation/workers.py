"""Evaluation in the reference world: one process per running simulation, each on one thread."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SimulatorError
from .expert_distance import ExpertDistances
from .runner import Row, judge_loop, run_together
from .suites import Episode, Suite


@dataclass
class _Worker:
    """What a process makes once."""

    policy: Any
    loop: Any
    blind: Any
    steps: int
    keep: Path | None


_worker: _Worker | None = None


def run_in_processes(policy: str, world: str, suite: Suite, workers: int | None, keep: Path | None) -> Iterator[Row]:
    """Rows of a suite as its episodes end, in any order.

    Raises:
        SimulatorError: a process died.
    """
    distances = ExpertDistances(world, suite.steps)
    count = min(workers or (os.cpu_count() or 1), len(suite.episodes))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(policy, world, suite.steps, keep)) as pool:
        futures = [pool.submit(_drive, episode, distances.get(episode)) for episode in suite.episodes]
        try:
            for future in as_completed(futures):
                row, distance = future.result()
                if distance is not None and distances.get(row.episode) is None:
                    distances.put(row.episode, distance)
                yield row
        except BrokenProcessPool as error:
            raise SimulatorError("an evaluation process died (out of memory?); evaluate again with a smaller workers=") from error
        finally:
            for future in futures:
                future.cancel()


def _start(policy: str, world: str, steps: int, keep: Path | None) -> None:
    global _worker
    import torch

    from ..envs import make_world
    from ..policies import load_policy

    torch.set_num_threads(1)
    loop = judge_loop(make_world(world), steps)
    blind = judge_loop(make_world(world, camera=False), steps)
    _worker = _Worker(load_policy(policy), loop, blind, steps, keep)


def _drive(episode: Episode, distance: float | None) -> tuple[Row, float | None]:
    assert _worker is not None
    distances = ExpertDistances(None, _worker.steps)
    if distance is not None:
        distances.put(episode, distance)
    (row,) = run_together(_worker.policy, _worker.loop, _worker.blind, (episode,), distances, _worker.keep)
    return row, distances.get(episode)
