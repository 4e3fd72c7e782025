"""What a student keeps of its teacher's driving, and what it owes to the teacher."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..errors import ConfigError, DataError
from ..evaluation.bootstrap import Estimate, bootstrap, ratio_of_means
from ..evaluation.evidence import evidence, merge_evidence, write_evidence, write_text
from ..evaluation.runner import run_suite
from ..evaluation.suites import load_suite, together
from ..policies import load_policy
from ..world import Policy


def measure_student(
    student: str,
    teacher: str,
    figure: str,
    alone: str,
    out: str,
    world: str,
    suite: str,
    episodes: int | None,
    workers: int | None,
    seed: int,
    draws: int,
    results: str,
) -> Path:
    """Score a student and its teacher on the same episodes and write how much of the score is left.

    Figures: the share, `student_share` or the name given as `figure`: the student's mean closed-loop EPDMS over the teacher's, with an
    interval over episodes drawn again in pairs; the same as a difference in points, with `_points` behind its name; both scores;
    `parameters_ratio`, the student's parameters over the teacher's, left out where the teacher is no network;
    `distilled_over_alone`, the student's score over that of `alone`.

    Args:
        student: name or folder.
        teacher: name or folder.
        figure: name of the share.
        alone: a network of the student's size that had no teacher to ask; "none" for none.
        out: folder for metrics.json and the scores; parts that are there are not measured again.
        world: what is driven in.
        suite: what is scored.
        episodes: only the first so many of the suite.
        workers: processes for the reference world; one per core when None.
        seed: added to the suite's seeds.
        draws: draws of the suite, of `seed`, `seed` + 1 and on; their episodes count together.
        results: evidence file that the figures are merged into; "none" for none.

    Raises:
        ConfigError: an unknown policy, world or suite, or no draw.
        DataError: no episode that all of them have a score of, or a teacher without any points.
    """
    if draws < 1:
        raise ConfigError(f"draws={draws} must be at least 1")
    began, folder = time.perf_counter(), Path(out)
    policies = {"student": student, "teacher": teacher} | ({} if alone == "none" else {"alone": alone})
    loaded = {role: load_policy(policy) for role, policy in policies.items()}
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    for role, policy in policies.items():
        what: dict[str, object] = {"policy": policy, "weights": digest(policy), "world": world, "suite": suite, "episodes": episodes}
        scored = lambda seed, role=role, what=what: _scores(folder / f"{role}_{seed}.json", what | {"seed": seed}, workers)
        scores[role] = together(draws, seed, scored)
    common = sorted(set.intersection(*(set(found) for found in scores.values())))
    if not common or not any(scores["teacher"][i] for i in common):
        raise DataError(f"no episode of '{suite}' in which teacher '{teacher}' has points; nothing to compare with")
    column = {role: [found[i] for i in common] for role, found in scores.items()}
    metrics: dict[str, Estimate | float] = {f"{role}_score": bootstrap(values) for role, values in column.items()}
    metrics[figure] = _share(column["student"], column["teacher"])
    metrics[f"{figure}_points"] = bootstrap(np.subtract(column["student"], column["teacher"]))
    if "alone" in column and any(column["alone"]):
        metrics["distilled_over_alone"] = _share(column["student"], column["alone"])
    sizes = {role: parameters(policy) for role, policy in loaded.items()}
    if sizes["student"] and sizes["teacher"]:
        metrics |= {f"{role}_parameters": float(count) for role, count in sizes.items() if count}
        metrics["parameters_ratio"] = sizes["student"] / sizes["teacher"]
    limit = "" if episodes is None else f" episodes={episodes}"
    command = f"xpeng-world measure-student student={student} teacher={teacher} figure={figure} alone={alone}"
    command += f" world={world} suite={suite}{limit} seed={seed}" + ("" if draws == 1 else f" draws={draws}")
    drawn = [episode.seed + 1_000_000 * (seed + draw) for draw in range(draws) for episode in load_suite(suite).first(episodes).episodes]
    record = evidence(metrics, command=command, seconds=time.perf_counter() - began, seeds=drawn)
    path = write_evidence(folder / "metrics.json", record)
    if results != "none":
        merge_evidence(results, record)
    for key, found in record["metrics"].items():
        interval = "" if found["low"] is None else f"  [{found['low']:.4g}, {found['high']:.4g}]"
        print(f"{key:22s} {found['value']:10.4g}{interval}")
    return path


def parameters(policy: Policy) -> int:
    """Numbers learnt in the networks that a policy holds; 0 for one without any."""
    counted: dict[int, int] = {}
    waiting: list[Any] = [policy]
    looked_at: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, nn.Module):
            counted |= {id(p): p.numel() for p in thing.parameters()}
        elif type(thing).__module__.startswith("xpeng_world") and id(thing) not in looked_at:
            looked_at.add(id(thing))
            waiting += getattr(thing, "__dict__", {}).values()
    return sum(counted.values())


def digest(policy: str) -> str:
    """What changes when the weights in a policy's folder or file do; empty for a policy that is only a name."""
    path = Path(policy)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    sum_of_all = hashlib.sha256()
    for file in files:
        sum_of_all.update(file.name.encode())
        sum_of_all.update(file.read_bytes())
    return sum_of_all.hexdigest()[:16] if files else ""


def _share(column: list[float], of: list[float]) -> Estimate:
    return bootstrap(np.column_stack((column, of)), statistic=_ratio)


def _ratio(rows: np.ndarray) -> np.ndarray:
    """The ratio of means, where a draw of episodes has points to divide by."""
    return ratio_of_means(np.where(rows.sum(-2, keepdims=True)[..., 1:] > 0, rows, np.array([0.0, 1.0])))


def _scores(kept: Path, what: dict[str, object], workers: int | None) -> dict[int, float]:
    """Points of every scored episode by its index; read from `kept` where the same was measured before."""
    if kept.is_file():
        page = json.loads(kept.read_text(encoding="utf-8"))
        if page.get("of") == what:
            return {int(index): points for index, points in page["points"].items()}
    episodes = what["episodes"]
    assert episodes is None or isinstance(episodes, int)
    suite = load_suite(str(what["suite"])).first(episodes)
    found = run_suite(str(what["policy"]), str(what["world"]), suite, workers=workers, seed=int(str(what["seed"])))
    points = {row.episode.index: row.scores["epdms"] for row in found.scored}
    write_text(kept, json.dumps({"of": what, "points": points}, indent=1) + "\n")
    return points
