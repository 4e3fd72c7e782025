"""What an evaluation leaves behind: figures, a table of episodes, two videos, a page to look at, and the scorecard in the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..rewards.scores import EPDMS_WEIGHTS, GATES
from .bootstrap import Estimate, bootstrap, ratio_of_means
from .drive import load_drive
from .evidence import evidence, write_evidence, write_text
from .runner import Evaluation, Row, worst_and_best
from .score import EVENTS, MEANS, OTHERS
from .video import write_video

HUNDRED_KM = 1e5  # m
TERMS = (*GATES, *(name for name in EPDMS_WEIGHTS if name != "extended_comfort"))
LABELS = {
    "epdms": "closed-loop EPDMS, points",
    "no_at_fault_collision": "NC no at-fault collision",
    "drivable_area": "DAC drivable area",
    "driving_direction": "DDC driving direction",
    "traffic_light": "TLC traffic lights",
    "ego_progress": "EP ego progress",
    "time_to_collision": "TTC time to collision",
    "lane_keeping": "LK lane keeping",
    "history_comfort": "HC comfort",
    "mean_speed_mps": "mean speed, m/s",
    "distance_km": "distance driven, km",
    "nuplan_cls": "nuPlan closed-loop score",
    "carla_ds_2_0": "CARLA driving score 2.0",
    "carla_ds_2_1": "CARLA driving score 2.1",
    "bench2drive_success": "Bench2Drive success",
    "bench2drive_efficiency": "Bench2Drive efficiency, %",
    "bench2drive_smoothness": "Bench2Drive smoothness",
}


def figures(found: Evaluation) -> dict[str, Estimate]:
    """The figures of an evaluation with 95 % intervals over episodes."""
    rows = found.scored
    column = lambda name: [row.scores[name] for row in rows]
    out = {name: bootstrap(column(name)) for name in ("epdms", *TERMS, *MEANS, *OTHERS)}
    distance = column("distance_m")
    for event in EVENTS:
        if sum(distance) > 0:
            out[f"{event}_per_100km"] = per_distance(np.array([column(event), distance]).T)
    out["distance_km"] = Estimate(sum(distance) / 1000)
    out["episodes"] = Estimate(len(rows))
    out["unscored"] = Estimate(len(found.rows) - len(rows))
    return out


def per_distance(pairs: np.ndarray) -> Estimate:
    """Events per 100 km from rows [n, 2] of counts and metres; no interval where a resample could have no metres at all."""
    if (pairs[:, 1] <= 0).any():
        return Estimate(float(pairs[:, 0].sum() / pairs[:, 1].sum()) * HUNDRED_KM, None, None, len(pairs))
    found = bootstrap(pairs, statistic=ratio_of_means)
    scale = lambda number: None if number is None else number * HUNDRED_KM
    return Estimate(found.value * HUNDRED_KM, scale(found.low), scale(found.high), found.n)


def write_report(found: Evaluation, folder: Path, command: str) -> Path:
    """Write metrics.json, episodes.csv, worst.mp4, best.mp4 and report.html; returns the path of the first."""
    seeds = [row.episode.seed for row in found.rows]
    threads = 1 if found.world.startswith("reference") else None
    record = evidence(figures(found), command=command, seconds=found.seconds, seeds=seeds, threads=threads)
    write_text(folder / "episodes.csv", episode_table(found.rows))
    videos = []
    for name, row in zip(("worst", "best"), worst_and_best(found.rows), strict=True):
        if row.kept is not None and row.kept.exists():
            videos.append(write_drive_video(folder / f"{name}.mp4", row.kept, f"{name}: episode {row.episode.index}, {_points(row)}"))
    from .page import page

    write_text(folder / "report.html", page(found, record, videos))
    return write_evidence(folder / "metrics.json", record)


def episode_table(rows: Sequence[Row]) -> str:
    """One line of CSV an episode: its circumstances, how it ended, its scores, or why it has none."""
    names = list(next(row for row in rows if row.scores).scores)
    circumstances = list(rows[0].episode.scenario)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["episode", "seed", *circumstances, "ended", *names, "unscored"])
    for row in rows:
        scores = [f"{row.scores[name]:.6g}" if name in row.scores else "" for name in names]
        scenario = [row.episode.scenario.get(key, "") for key in circumstances]
        table.writerow([row.episode.index, row.episode.seed, *scenario, row.ended, *scores, row.unscored])
    return text.getvalue()


@torch.inference_mode()
def write_drive_video(path: Path, drive_path: Path, title: str) -> Path:
    """Draw a saved drive, the camera beside the view from above."""
    from ..envs.render import render_episode

    track, frames = load_drive(drive_path)

    def pictures() -> list[np.ndarray]:
        out = []
        for column in range(track.steps):
            scene = track.scene(column)
            line = f"{float(scene.time):5.1f} s  {float(scene.ego.speed) * 3.6:5.1f} km/h"
            out.append(render_episode(scene, frames[column], [title, line]))
        return out

    return write_video(path, pictures())


def print_scorecard(found: Evaluation, path: Path) -> None:
    """Print the figures as a table, and what could not be scored."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "95 % interval", title=f"{found.policy} in {found.world}: {found.suite.name}, {len(found.rows)} episodes")
    for key, estimate in figures(found).items():
        interval = "" if estimate.low is None or estimate.high is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
        table.add_row(LABELS.get(key, key.replace("_", " ")), f"{estimate.value:.4g}", interval, style="bold" if key == "epdms" else None)
    Console().print(table)
    for row in found.rows:
        if row.unscored:
            print(f"not scored and in no mean: episode {row.episode.index} (seed {row.episode.seed}): {row.unscored}")
    print(f"figures in {path}")


def _points(row: Row) -> str:
    return f"{row.scores['epdms']:.1f} points, {row.ended.replace('_', ' ')}"
