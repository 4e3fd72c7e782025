"""How real the simulated road users are: realism on held-out recordings, what they do wrong, whether they react, and what they cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ...envs.render import render_birds_eye
from ...errors import DataError
from ...rewards.scores import wosac
from ...rewards.scores.wosac import GROUPS, TERMS, Realism
from ...scene import AgentKind, Track
from ..bootstrap import Estimate, bootstrap, ratio_of_means
from ..pictures import write_strip
from .conduct import COUNTS, conduct
from .pictures import SECOND
from .windows import BEGIN, Window, make_simulator, roll_out

STRIP_SECONDS = (0, 2, 4, 6, 8)  # s after the last recorded column
STRIP_METRES = 100.0  # m across


@dataclass(frozen=True)
class Judged:
    """One window under one kind of traffic."""

    window: Window
    kind: str
    realism: Realism
    counts: Tensor  # [4] of COUNTS, means of the rollouts
    log_counts: Tensor  # [4]


def judge(windows: Sequence[Window], kinds: Sequence[str], world: str, rollouts: int, seed: int) -> list[Judged]:
    """Simulate every window with every kind of traffic, the ego driving as recorded, and judge the road users.

    Windows that cannot be scored are left out for all kinds.

    Raises:
        DataError: none can be scored.
    """
    found: list[Judged] = []
    left_out = 0
    for number, window in enumerate(tqdm(windows, desc="traffic", unit="window", disable=None)):
        rows = [judge_window(window, kind, world, _seeds(rollouts, seed, number)) for kind in kinds]
        if any(row.realism.unscored for row in rows):
            left_out += 1
        else:
            found += rows
    if left_out:
        print(f"{left_out} of {len(windows)} windows could not be scored")
    if not found:
        raise DataError("no window can be scored: nobody is there after its first second")
    return found


def judge_window(window: Window, kind: str, world: str, seeds: Tensor) -> Judged:
    """Simulate one window once for each of `seeds` [R], and judge it."""
    log = window.log
    rolled = roll_out(make_simulator(kind, world, log), log, seeds)
    agents = log.agents.map(lambda value: value[0, BEGIN - 1])
    moving = agents.id[agents.valid & (agents.kind != int(AgentKind.STATIC))].tolist()
    return Judged(window, kind, wosac(log, rolled, BEGIN, evaluated=moving, ego=False), conduct(rolled).mean(0), conduct(log)[0])


def _seeds(rollouts: int, seed: int, window: int) -> Tensor:
    return 1_000_003 * seed + 10_007 * window + torch.arange(rollouts)


def realism_figures(judged: Sequence[Judged], kinds: Sequence[str]) -> dict[str, Estimate]:
    """Realism and its groups by data and kind, and what the first kind has over each other, drawn anew by clip."""
    figures: dict[str, Estimate] = {}
    for source in _sources(judged):
        total = {kind: _by_clip(judged, source, kind, lambda realism: realism.total) for kind in kinds}
        figures[f"{source}_clips"] = Estimate(float(len(total[kinds[0]])))
        for kind in kinds:
            figures[f"{source}_realism_{kind}"] = bootstrap(total[kind])
            for group in GROUPS:
                figures[f"{source}_{group}_{kind}"] = bootstrap(_by_clip(judged, source, kind, _of_group(group)))
            figures[f"{source}_min_ade_m_{kind}"] = bootstrap(_by_clip(judged, source, kind, lambda realism: realism.rates["min_ade_m"]))
        for kind in kinds[1:]:
            figures[f"{source}_realism_over_{kind}"] = bootstrap(total[kinds[0]] - total[kind])
    return figures


def _of_group(group: str) -> Callable[[Realism], float]:
    return lambda realism: realism.groups[group]


def _by_clip(judged: Sequence[Judged], source: str, kind: str, value: Callable[[Realism], float]) -> NDArray[np.float64]:
    """Means [clips] over the windows of each clip."""
    clips: dict[int, list[float]] = {}
    for one in judged:
        if one.window.source == source and one.kind == kind:
            clips.setdefault(one.window.clip, []).append(value(one.realism))
    return np.array([np.mean(values) for values in clips.values()])


def conduct_figures(judged: Sequence[Judged], kinds: Sequence[str]) -> dict[str, Estimate]:
    """Collisions per hour of road users, red lights run and road users that leave the road, by data and kind, beside the log's own."""
    figures: dict[str, Estimate] = {}
    for source in _sources(judged):
        for kind in kinds:
            rows = _count_rows(judged, source, kind)
            mine, log = rows[:, : len(COUNTS) + 2], rows[:, len(COUNTS) + 2 :]
            for name, top, bottom in (
                ("collisions_per_hour", "collisions", "hours"),
                ("red_runs_per_hour", "red_runs", "hours"),
                ("red_runs_per_approach", "red_runs", "red_approaches"),
                ("off_road_share", "off_road", "road_users"),
            ):
                columns = [[*COUNTS, "off_road", "road_users"].index(key) for key in (top, bottom)]
                own, true = mine[:, columns], log[:, columns]
                _add(figures, f"{source}_{name}_{kind}", own, ratio_of_means)
                _add(figures, f"{source}_{name}_log", true, ratio_of_means)
                both = np.concatenate((own, true), 1)
                _add(figures, f"{source}_{name}_ratio_{kind}", both, _ratio_of_rates)
                _add(figures, f"{source}_{name}_excess_{kind}", both, _excess)
    return figures


def headlines(figures: Mapping[str, Estimate], kinds: Sequence[str]) -> dict[str, Estimate]:
    """The figures by which the first kind is known, under short names; those that were not measured are missing."""
    kind = kinds[0]
    names = {
        "realism_logs": f"logs_realism_{kind}",
        "realism_human": f"human_realism_{kind}",
        **{f"realism_{source}_{other}": f"{source}_realism_{other}" for source in ("logs", "human") for other in kinds[1:]},
        "collision_ratio": f"logs_collisions_per_hour_ratio_{kind}",
        "keep_clear_rate": f"logs_keep_clear_{kind}",
        "red_light_excess": f"logs_red_runs_per_approach_excess_{kind}",
        "traffic_cost_share": f"step_share_{kind}_n64",
    }
    return {short: figures[long] for short, long in names.items() if long in figures}


def _excess(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio_of_means(rows[..., :2]) - ratio_of_means(rows[..., 2:])


def _ratio_of_rates(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio_of_means(rows[..., :2]) / ratio_of_means(rows[..., 2:])


def _add(figures: dict[str, Estimate], key: str, rows: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]]) -> None:
    """A ratio with its interval; no interval where some draws have nothing below the line, nothing at all where the data have not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(rows, statistic=statistic)
    if np.isfinite(found.value):
        known = found.low is not None and found.high is not None and np.isfinite(found.low) and np.isfinite(found.high)
        figures[key] = found if known else Estimate(found.value, n=len(rows))


def _count_rows(judged: Sequence[Judged], source: str, kind: str) -> NDArray[np.float64]:
    """Sums [clips, 12] over the windows of each clip: COUNTS, road users off the road and all of them; then those of the log."""
    clips: dict[int, NDArray[np.float64]] = {}
    for one in judged:
        if one.window.source == source and one.kind == kind:
            users, rates = one.realism.objects, one.realism.rates
            row = [*one.counts.tolist(), rates["off_road"] * users, users, *one.log_counts.tolist(), rates["log_off_road"] * users, users]
            clips[one.window.clip] = clips.get(one.window.clip, np.zeros(len(row))) + np.array(row)
    return np.stack(list(clips.values()))


def _sources(judged: Sequence[Judged]) -> list[str]:
    return sorted({one.window.source for one in judged})


def window_table(judged: Sequence[Judged]) -> str:
    """A CSV of all windows: realism, its terms, the counts of the rollouts and of the log."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", "clip", "seconds", "traffic", "road_users", "realism", *TERMS, *COUNTS, *(f"log_{name}" for name in COUNTS)])
    for one in judged:
        numbers = [one.realism.total, *one.realism.terms.values(), *one.counts.tolist(), *one.log_counts.tolist()]
        seconds = (one.window.log.steps - BEGIN) / SECOND
        table.writerow([one.window.source, one.window.clip, seconds, one.kind, one.realism.objects, *(f"{n:.4f}" for n in numbers)])
    return text.getvalue()


def draw_window(window: Window, kinds: Sequence[str], world: str, seed: int, path: Path) -> Path:
    """A strip of one window from above, the ego's forward up: the log, and one rollout of each kind of traffic."""
    rows: dict[str, Track] = {"log": window.log}
    rows |= {kind: roll_out(make_simulator(kind, world, window.log), window.log, _seeds(1, seed, 0)) for kind in kinds}
    seconds = [s for s in STRIP_SECONDS if BEGIN - 1 + s * SECOND < window.log.steps]
    picture = lambda track, s: torch.from_numpy(render_birds_eye(track.scene(BEGIN - 1 + s * SECOND), metres=STRIP_METRES))
    strip = {name.replace("_", " ")[:12]: [picture(track, s) for s in seconds] for name, track in rows.items()}
    return write_strip(path, strip, [f"{s} s" for s in seconds], enlarge=1)
