"""What GRPO gains a VLA in the learned world and in the reference: runs with several seeds from one imitated start."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..configs.compose import check_values, compose
from ..errors import ConfigError, nearest
from ..evaluation.bootstrap import Estimate
from ..evaluation.evidence import evidence, write_evidence
from ..evaluation.suites import load_suite, together
from ..rl.grpo import GrpoConfig, train_grpo
from .gain import gains, scores

JUDGES = ("learned", "reference")
OWN = ("init", "out", "world", "seed", "rounds", "threads", "resume", "minutes")  # keys of grpo that this command sets


def measure_grpo(
    init: str,
    out: str,
    seeds: list[int],
    rounds: int,
    settings: Mapping[str, Any] | None,
    world: str,
    suite: str,
    seed: int,
    draws: int,
    judges: list[str],
    episodes: int | None,
    workers: int,
    processes: int,
) -> Path:
    """Train GRPO with every seed, score start and results by every judge, and write the gains in points of closed-loop EPDMS.

    Figures for each judge: `grpo_gain_JUDGE` with an interval over seeds and episodes drawn again together, `grpo_gain_JUDGE_seedN`,
    and both scores, on the episodes that all have a score of. Every VLA drives as `eval` drives it: the median of its actions.

    Args:
        init: folder of the imitated VLA.
        out: folder for the runs and metrics.json; finished parts are not repeated.
        seeds: of GRPO, one run each.
        rounds: of a run.
        settings: other keys of the command `grpo`, for every run; None for none.
        world: what GRPO drives in, and what the judge "learned" is.
        suite: what is scored.
        seed: added to the suite's seeds: another draw of episodes in the same circumstances.
        draws: draws of the suite, of `seed`, `seed` + 1 and on; their episodes count together.
        judges: of JUDGES.
        episodes: only the first so many of the suite.
        workers: processes that drive in the reference world.
        processes: runs trained at a time, one thread each.

    Raises:
        ConfigError: no seed or judge, a judge or key that does not exist, or less than one process.
        CheckpointError: a start that cannot be used.
        DataError: no episode that all have a score of.
    """
    began, folder = time.perf_counter(), Path(out)
    if not seeds or not judges or min(processes, workers, draws) < 1:
        raise ConfigError(
            f"seeds={seeds}, judges={judges}, draws={draws}, processes={processes}, workers={workers}: give at least one of each"
        )
    for judge in judges:
        if judge not in JUDGES:
            raise ConfigError(f"unknown judge '{judge}'; {nearest(judge, JUDGES)}")
    chosen, settings = load_suite(suite).first(episodes), settings or {}
    configs = [_config(settings, init=init, out=str(folder / f"seed{s}"), world=world, seed=s, rounds=rounds) for s in seeds]
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(min(processes, len(configs))) as pool:
        trained = [str(path) for path in pool.map(_train, [asdict(config) for config in configs], chunksize=1)]
    metrics: dict[str, Estimate | float] = {}
    for judge in judges:
        where = "reference" if judge == "reference" else world
        score = lambda name, policy, where=where, judge=judge: together(
            draws,
            seed,
            lambda drawn: scores(
                folder / f"{name}-{judge}-{Path(suite).stem}-{drawn}.json",
                {"policy": policy, "world": where, "suite": suite, "seed": drawn, "episodes": episodes},
                chosen,
                workers,
            ),
        )
        start, runs = score("start", init), [score(f"seed{s}", path) for s, path in zip(seeds, trained, strict=True)]
        metrics |= gains("grpo", judge, start, runs, seeds, "grpo_start_score")
    others = "" if not settings else f" settings={{{','.join(f'{key}:{value}' for key, value in settings.items())}}}"
    command = f"xpeng-world measure-grpo init={init} seeds=[{','.join(map(str, seeds))}] rounds={rounds}{others} world={world}"
    several = "" if draws == 1 else f" draws={draws}"
    command += f" suite={suite} seed={seed}{several} judges=[{','.join(judges)}]" + ("" if episodes is None else f" episodes={episodes}")
    path = write_evidence(folder / "metrics.json", evidence(metrics, command=command, seconds=time.perf_counter() - began, seeds=seeds))
    for key, figure in metrics.items():
        if isinstance(figure, Estimate):
            interval = "" if figure.low is None else f"  [{figure.low:.2f}, {figure.high:.2f}]"
            print(f"{key:30s} {figure.value:7.2f}{interval}")
    return path


def _config(settings: Mapping[str, Any], **own: Any) -> GrpoConfig:
    for key in settings:
        if key in OWN:
            raise ConfigError(f"'{key}' is set by measure-grpo itself; leave it out of settings=")
    values = {**compose("grpo", []), **own, "threads": 1}
    for key, value in settings.items():
        if key not in values:
            raise ConfigError(f"unknown key '{key}' in settings=; {nearest(key, [name for name in values if name not in OWN])}")
        values[key] = value
    config: GrpoConfig = check_values("grpo", train_grpo, values)["config"]
    return config


def _train(fields: dict[str, Any]) -> Path:
    return train_grpo(GrpoConfig(**fields))
