"""What PPO in the learned world gains in the judge's: runs with several seeds from one imitated start, scored on held-out roads."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..evaluation.bootstrap import RESAMPLES, Estimate, bootstrap
from ..evaluation.evidence import evidence, merge_evidence, write_text
from ..evaluation.runner import run_suite
from ..evaluation.suites import Suite, load_suite, together
from ..rl.distil_measure import digest
from ..rl.ppo import PpoConfig, train_ppo


def crossed_bootstrap(samples: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of samples [seeds, episodes] with a 95 % interval over both: seeds and episodes are drawn again together."""
    rng = np.random.default_rng(seed)
    runs, episodes = samples.shape
    means = [samples[rng.integers(runs, size=runs)][:, rng.integers(episodes, size=episodes)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(samples.mean()), float(low), float(high), runs)


def gains(
    method: str, judge: str, start: Mapping[int, float], runs: Sequence[Mapping[int, float]], seeds: Sequence[int], before: str
) -> dict[str, Estimate]:
    """Figures of one judge from the points by episode of the start and of each seed's run; that of the start is called by `before`.

    Raises:
        DataError: no episode that all have points of.
    """
    common = sorted(set(start).intersection(*runs))
    if not common:
        raise DataError(f"no episode that start and results all have a score of in the world '{judge}'; nothing to compare")
    table = np.asarray([[run[i] - start[i] for i in common] for run in runs])
    return {
        f"{method}_gain_{judge}": crossed_bootstrap(table),
        f"{before}_{judge}": bootstrap([start[i] for i in common]),
        f"{method}_score_{judge}": bootstrap(np.asarray([[run[i] for run in runs] for i in common])),
        **{f"{method}_gain_{judge}_seed{seed}": bootstrap(row) for seed, row in zip(seeds, table, strict=True)},
    }


def scores(kept: Path, what: dict[str, Any], suite: Suite, workers: int | None) -> dict[int, float]:
    """Points of every scored episode by its index; read from `kept` where the same weights were scored so before."""
    of = {**what, "weights": digest(what["policy"]), "world_weights": digest(what["world"])}
    if kept.is_file():
        page = json.loads(kept.read_text(encoding="utf-8"))
        if page.get("of") == of:
            return {int(index): points for index, points in page["points"].items()}
    found = run_suite(what["policy"], what["world"], suite, workers=workers, seed=what["seed"])
    points = {row.episode.index: row.scores["epdms"] for row in found.scored}
    write_text(kept, json.dumps({"of": of, "points": points}, indent=1) + "\n")
    return points


def measure_gain(
    init: str,
    out: str,
    seeds: list[int],
    steps: int,
    world: str,
    suite: str,
    seed: int,
    draws: int,
    judges: list[str],
    episodes: int | None,
    processes: int,
    results: str,
) -> Path:
    """Train PPO with every seed, score start and results in every judge, and write the gains in points of closed-loop EPDMS.

    Args:
        init: folder of the imitated car network.
        out: folder for the runs; finished parts are not repeated.
        seeds: of PPO, one run each.
        steps: environment steps of a run.
        world: what PPO drives in.
        suite: what is scored.
        seed: added to the suite's seeds: another draw of episodes in the same circumstances.
        draws: draws of the suite, of `seed`, `seed` + 1 and on; their episodes count together.
        judges: worlds that score, "reference" and "learned" say.
        episodes: only the first so many of the suite.
        processes: runs trained at a time, one thread each.
        results: evidence file that the figures are merged into; "none" for none.

    Raises:
        ConfigError: no seed or judge, or less than one process or draw.
        DataError: no episode that all have a score of.
    """
    if not seeds or not judges or min(processes, draws) < 1:
        raise ConfigError(f"seeds={seeds}, judges={judges}, draws={draws} and processes={processes}: give at least one of each")
    began, folder, chosen = time.perf_counter(), Path(out), load_suite(suite).first(episodes)
    folder.mkdir(parents=True, exist_ok=True)
    configs = [PpoConfig(init=init, out=str(folder / f"seed{s}"), world=world, seed=s, steps=steps, threads=1) for s in seeds]
    with multiprocessing.get_context("spawn").Pool(min(processes, len(configs))) as pool:
        trained = [str(path) for path in pool.map(_train, [asdict(c) for c in configs], chunksize=1)]
    metrics: dict[str, Estimate] = {}
    for judge in judges:
        score = lambda who, policy, judge=judge: together(
            draws,
            seed,
            lambda drawn: scores(
                folder / f"{who}-{Path(judge).name}-{Path(suite).stem}-{drawn}.json",
                {"policy": policy, "world": judge, "suite": suite, "seed": drawn, "episodes": episodes},
                chosen,
                None,
            ),
        )
        start, runs = score("start", init), [score(f"seed{s}", path) for s, path in zip(seeds, trained, strict=True)]
        metrics |= gains("ppo", "reference" if judge == "reference" else "learned", start, runs, seeds, "start_score")
    command = f"xpeng-world measure-gain init={init} seeds=[{','.join(map(str, seeds))}] steps={steps} suite={suite} seed={seed}"
    command += "" if draws == 1 else f" draws={draws}"
    command += f" world={world} judges=[{','.join(judges)}]" + ("" if episodes is None else f" episodes={episodes}")
    record = evidence(metrics, command=command, seconds=time.perf_counter() - began, seeds=seeds)
    path = merge_evidence(folder / "metrics.json", record)
    if results != "none":
        merge_evidence(results, record)
    for key, value in metrics.items():
        print(
            f"{key:28s} {value.value:7.2f}  [{value.low:.2f}, {value.high:.2f}]"
            if value.low is not None
            else f"{key:28s} {value.value:7.2f}"
        )
    return path


def _train(fields: dict[str, object]) -> Path:
    return train_ppo(PpoConfig(**fields))  # type: ignore[arg-type]
