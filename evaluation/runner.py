"""Scoring a policy: every episode of a suite driven to its end, scored, and written down with its worst and best."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ..envs import make_world
from ..envs.core import DrivingLoop
from ..envs.worlds import is_reference
from ..errors import ConfigError, DataError, XPengWorldError
from ..policies import load_policy
from ..rewards import load_design
from ..world import Policy, World
from .drive import Drive, drive
from .expert_distance import ExpertDistances, drive_expert
from .score import score_track
from .suites import Episode, Suite, load_suite

JUDGE = "default"  # the reward design whose terminations end an evaluated episode


@dataclass(frozen=True)
class Row:
    """What an episode came to: its scores, or why there are none."""

    episode: Episode
    ended: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    unscored: str = ""  # the reason, where an episode could not be driven or scored
    kept: Path | None = None  # the saved drive


@dataclass(frozen=True)
class Evaluation:
    """All episodes of a suite, as one policy drove them in one world."""

    policy: str
    world: str
    suite: Suite
    rows: list[Row]
    seconds: float

    @property
    def scored(self) -> list[Row]:
        """The episodes that have scores."""
        return [row for row in self.rows if not row.unscored]

    @property
    def score(self) -> float:
        """Mean closed-loop EPDMS in points over the scored episodes."""
        values = [row.scores["epdms"] for row in self.scored]
        return sum(values) / len(values)


def evaluate(policy: str, world: str, suite: str, episodes: int | None, out: str, workers: int | None, batch: int, seed: int) -> Path:
    """Score a policy in a world over a suite; writes metrics.json, episodes.csv, report.html and two videos, prints the scorecard.

    Raises:
        ConfigError: no such policy, world or suite.
        DataError: not one episode could be scored.
    """
    from .report import print_scorecard, write_report

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drives-", dir=folder) as drives:
        found = run_suite(policy, world, load_suite(suite).first(episodes), workers=workers, batch=batch, seed=seed, keep=Path(drives))
        limit = "" if episodes is None else f" episodes={episodes}"
        command = f"xpeng-world eval policy={_name(policy)} world={_name(world)} suite={suite}{limit} seed={seed}"
        path = write_report(found, folder, command)
    print_scorecard(found, path)
    return path


def run_suite(
    policy: str | Policy,
    world: str | World,
    suite: str | Suite,
    *,
    workers: int | None = None,
    batch: int = 16,
    seed: int = 0,
    keep: Path | None = None,
) -> Evaluation:
    """Drive and score every episode of a suite.

    Args:
        policy: a name, a folder, or a policy of one's own.
        world: a name, a folder, or a world of one's own.
        suite: a name, a YAML file, or a suite.
        workers: processes for the reference world; one per core when None. A world or policy of one's own runs in this process.
        batch: episodes side by side in any other world.
        seed: added to the suite's seeds.
        keep: folder for the drives of the worst and the best episode.

    Raises:
        ConfigError: no such policy, world or suite, or a number out of range.
        DataError: not one episode could be scored; the message has the first reason.
    """
    if batch < 1 or (workers is not None and workers < 1) or seed < 0:
        raise ConfigError(f"batch={batch} and workers={workers} must be at least 1, seed={seed} at least 0")
    suite = load_suite(suite) if isinstance(suite, str) else suite
    suite = replace(suite, episodes=tuple(replace(e, seed=e.seed + 1_000_000 * seed) for e in suite.episodes))
    began = time.perf_counter()
    if isinstance(policy, str):
        load_policy(policy)
    if isinstance(world, str) and is_reference(world) and isinstance(policy, str):
        from .workers import run_in_processes

        results = run_in_processes(policy, world, suite, workers, keep)
    else:
        results = run_in_batches(policy, world, suite, 1 if is_reference(world) else batch, keep)
    rows: list[Row] = []
    for row in tqdm(results, total=len(suite.episodes), desc="driving", unit="episode", disable=None):
        rows.append(row)
        _keep_extremes(rows)
    rows.sort(key=lambda row: row.episode.index)
    found = Evaluation(_label(policy), _label(world), suite, rows, time.perf_counter() - began)
    if not found.scored:
        raise DataError(f"none of {len(rows)} episodes could be scored; the first: {rows[0].unscored}")
    return found


def run_in_batches(policy: str | Policy, world: str | World, suite: Suite, batch: int, keep: Path | None) -> Iterator[Row]:
    """Rows of a suite driven in this process, `batch` episodes at a time."""
    driver = load_policy(policy) if isinstance(policy, str) else policy
    loop = judge_loop(make_world(world), suite.steps)
    blind = judge_loop(_without_camera(world), suite.steps)
    distances = ExpertDistances(world if isinstance(world, str) else None, suite.steps)
    for begin in range(0, len(suite.episodes), batch):
        yield from run_together(driver, loop, blind, suite.episodes[begin : begin + batch], distances, keep)


def run_together(
    policy: Policy,
    loop: DrivingLoop,
    blind: DrivingLoop,
    episodes: tuple[Episode, ...],
    distances: ExpertDistances,
    keep: Path | None,
) -> list[Row]:
    """Rows of episodes driven side by side; `blind` is the same loop without a camera, for the expert."""
    try:
        new = [episode for episode in episodes if distances.get(episode) is None]
        if new:
            for episode, distance in zip(new, drive_expert(blind, new), strict=True):
                distances.put(episode, distance)
        drives = drive(loop, policy, episodes)
    except ConfigError:
        raise
    except XPengWorldError as error:
        if len(episodes) == 1:
            return [Row(episodes[0], unscored=str(error))]
        return [row for e in episodes for row in run_together(policy, loop, blind, (e,), distances, keep)]
    return [score_drive(driven, distances.get(driven.episode) or 0.0, keep) for driven in drives]


def score_drive(driven: Drive, expert_distance: float, keep: Path | None) -> Row:
    """The row of a drive, which is saved below `keep`."""
    try:
        scores = score_track(driven.track, expert_distance)
    except (XPengWorldError, ValueError) as error:
        return Row(driven.episode, driven.ended, unscored=f"scoring failed: {error}")
    broken = [name for name, value in scores.items() if not math.isfinite(value)]
    if broken:
        return Row(driven.episode, driven.ended, unscored=f"{broken[0]} is {scores[broken[0]]}")
    path = None
    if keep is not None:
        path = keep / f"{driven.episode.index:04d}.safetensors"
        driven.save(path)
    return Row(driven.episode, driven.ended, scores, kept=path)


def judge_loop(world: World, steps: int) -> DrivingLoop:
    """The loop that evaluated episodes are driven in."""
    return DrivingLoop(world, load_design(JUDGE), max_episode_steps=steps, record=True)


def worst_and_best(rows: list[Row]) -> tuple[Row, Row]:
    """The scored rows of least and most points, the first of equals."""
    scored = [row for row in rows if not row.unscored]
    order = sorted(scored, key=lambda row: (row.scores["epdms"], row.episode.index))
    best = [row for row in order if row.scores["epdms"] == order[-1].scores["epdms"]]
    return order[0], best[0]


def _keep_extremes(rows: list[Row]) -> None:
    """Delete the saved drives of all rows but the worst and the best."""
    if not any(row.kept for row in rows):
        return
    extremes = worst_and_best(rows)
    for row in rows:
        if row.kept is not None and all(row is not extreme for extreme in extremes):
            row.kept.unlink(missing_ok=True)


def _without_camera(world: str | World) -> World:
    return make_world(world, camera=False) if isinstance(world, str) else world


def _label(thing: object) -> str:
    if isinstance(thing, str):
        return _name(thing)
    return getattr(thing, "name", type(thing).__name__)


def _name(name_or_path: str) -> str:
    """A name as it is, the last part of a path."""
    return Path(name_or_path).name or name_or_path
