"""Does a reward design pay for bad driving? Drivers that nobody wants, and any others, judged by designs and by the score."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..envs import make_world
from ..errors import ConfigError
from ..policies import POLICIES, load_policy
from ..rewards import load_design
from ..world import World
from .bootstrap import Estimate
from .drive import drive
from .evidence import evidence, write_evidence, write_text
from .expert_distance import ExpertDistances, distance_of, drive_expert
from .rule_replay import judge, names_of
from .runner import judge_loop
from .score import score_track
from .suites import Episode, load_suite

WORLD, EXPERT = "reference", "expert"
UNWANTED = ("random", "idle", "crawl", "circle")  # what no design may pay as well as the expert


@dataclass(frozen=True)
class Judged:
    """One driver's episode: its score, and its return under every design."""

    driver: str
    episode: int
    points: float  # closed-loop EPDMS
    returns: Mapping[str, float]


def audit(designs: Sequence[str], drivers: Sequence[str], suite: str, episodes: int | None, seed: int, out: str, workers: int) -> Path:
    """Drive unwanted and other drivers in the reference world, and compare what each design pays them with what the score says.

    A design is hacked where a driver that scores less than the expert earns at least as much. The unwanted ones are random, standing,
    crawling and circling drivers; `audit_worst_hack` is the largest mean return of any of them less the expert's, over all designs, and
    must be below 0.

    Args:
        designs: names or files; empty for all shipped ones.
        drivers: further policies, by name or folder.
        suite: whose episodes are driven.
        episodes: only the first so many.
        seed: added to the suite's seeds.
        out: folder for metrics.json and audit.csv.
        workers: processes.

    Raises:
        ConfigError: an unknown design, driver or suite, or no worker.
    """
    if workers < 1:
        raise ConfigError(f"workers={workers} must be at least 1")
    began, names = time.perf_counter(), names_of(designs)
    for name in names:
        load_design(name)
    who = (EXPERT, *(name for name in dict.fromkeys((*UNWANTED, *drivers)) if name != EXPERT))
    for name in who:
        load_policy(name)
    chosen = load_suite(suite).first(episodes)
    tasks = [(name, Episode(one.index, one.seed + seed, one.scenario), names, chosen.steps) for one in chosen.episodes for name in who]
    with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
        rows = pool.starmap(judge_driver, tasks, chunksize=len(who))
    table = {name: [row for row in rows if row.driver == name] for name in who}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["design,driver,return,epdms"]
    mean = lambda values: float(np.mean(list(values)))
    points = {name: mean(row.points for row in found) for name, found in table.items()}
    worst, hacks = -np.inf, []
    for design in names:
        earned = {name: mean(row.returns[design] for row in found) for name, found in table.items()}
        for name in who:
            lines.append(f"{design},{name},{earned[name]:.6g},{points[name]:.4g}")
            if name != EXPERT and points[name] < points[EXPERT] and earned[name] >= earned[EXPERT]:
                hacks.append((design, name))
        worst = max(worst, max(earned[name] for name in UNWANTED) - earned[EXPERT])
        nearest = max(UNWANTED, key=lambda name: earned[name])
        verdict = "ok" if earned[nearest] < earned[EXPERT] else "NOT OK"
        print(f"{design}: {verdict}, of the unwanted {nearest} comes nearest to the expert; returns: {_ranked(earned, 2)}")
    print(f"points of the score: {_ranked(points, 1)}")
    for design, name in hacks:
        less = points[EXPERT] - points[name]
        print(f"HACKED: under '{design}' {name} earns at least as much as the expert and scores {less:.1f} points less")
    write_text(folder / "audit.csv", "\n".join(lines) + "\n")
    metrics = {
        "audit_worst_hack": Estimate(worst, n=len(chosen.episodes)),
        "audit_hacked": Estimate(float(len(hacks)), n=len(names) * (len(who) - 1)),
    }
    command = f"xpeng-world rules audit designs=[{','.join(designs)}] drivers=[{','.join(drivers)}]"
    command += f" suite={suite} episodes={'null' if episodes is None else episodes} seed={seed}"
    record = evidence(metrics, command=command, seconds=time.perf_counter() - began, seeds=[seed], threads=workers)
    return write_evidence(folder / "metrics.json", record)


def _ranked(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in sorted(values.items(), key=lambda item: -item[1]))


def judge_driver(driver: str, episode: Episode, designs: tuple[str, ...], steps: int) -> Judged:
    """Drive one episode in the reference world and judge it."""
    torch.set_num_threads(1)
    driven = drive(judge_loop(_world(camera=driver not in POLICIES), steps), load_policy(driver), [episode])[0]
    distances = ExpertDistances(WORLD, steps)
    far = distances.get(episode)
    if far is None:
        far = distance_of(driven.track) if driver == EXPERT else drive_expert(judge_loop(_world(camera=False), steps), [episode])[0]
        distances.put(episode, far)
    returns = {name: float(judge(load_design(name), driven.track)[0].sum()) for name in designs}
    return Judged(driver, episode.index, score_track(driven.track, far)["epdms"], returns)


@cache
def _world(camera: bool) -> World:
    """Of this process; drivers that go by a name never look at a picture."""
    return make_world(WORLD, camera=camera)
