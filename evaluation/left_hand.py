"""How much worse a policy drives where traffic keeps left: as it is, and mirrored at its input."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ..policies.mirrored import PREFIX
from .bootstrap import Estimate, bootstrap
from .evidence import evidence, write_evidence
from .runner import Evaluation, run_suite
from .suites import load_suite

RIGHT, LEFT = "reference", "reference:left"


def measure_left(policy: str, out: str, suite: str, episodes: int | None, seed: int, workers: int | None) -> Path:
    """Score a policy in the reference world on roads of either side; writes metrics.json.

    Figures: `right_hand_score`, `left_hand_score`, `left_hand_score_mirrored` in points of closed-loop EPDMS, `left_hand_gap` and
    `left_hand_gap_mirrored`, what the right-hand score has over the other two. Networks of both sides are planned alike but are not
    mirror images, and traffic differs, so a gap has the noise of two draws of episodes even for a policy that is perfectly mirrored.

    Args:
        policy: name or folder of a policy that does not read the scene.
        out: folder for metrics.json.
        suite: what is scored.
        episodes: only the first so many of the suite.
        seed: added to the suite's seeds.
        workers: processes; one per core when None.

    Raises:
        ConfigError: no such policy or suite, or a policy that reads the scene.
        DataError: not one episode could be scored.
    """
    began, folder = time.perf_counter(), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = load_suite(suite).first(episodes)
    drives = {"right_hand_score": (policy, RIGHT), "left_hand_score": (policy, LEFT), "left_hand_score_mirrored": (PREFIX + policy, LEFT)}
    found = {key: run_suite(who, where, chosen, workers=workers, seed=seed) for key, (who, where) in drives.items()}
    limit = "" if episodes is None else f" episodes={episodes}"
    command = f"xpeng-world measure-left policy={Path(policy).name} suite={suite}{limit} seed={seed}"
    record = evidence(left_hand_figures(found), command=command, seconds=time.perf_counter() - began, seeds=[seed], threads=1)
    path = write_evidence(folder / "metrics.json", record)
    for key, figure in record["metrics"].items():
        print(f"{key}: {figure['value']:.1f} ({figure['low']:.1f} to {figure['high']:.1f})" if figure["low"] is not None else key)
    return path


def left_hand_figures(found: dict[str, Evaluation]) -> dict[str, Estimate]:
    """Scores, and the gaps on the episodes that all three have a score of."""
    points = {key: {row.episode.index: row.scores["epdms"] for row in one.scored} for key, one in found.items()}
    common = sorted(set.intersection(*(set(rows) for rows in points.values())))
    rows = {key: np.array([values[index] for index in common]) for key, values in points.items()}
    figures = {key: bootstrap(values) for key, values in rows.items()}
    figures["left_hand_gap"] = bootstrap(rows["right_hand_score"] - rows["left_hand_score"])
    figures["left_hand_gap_mirrored"] = bootstrap(rows["right_hand_score"] - rows["left_hand_score_mirrored"])
    return figures
