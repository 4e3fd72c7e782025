"""How true the learned world's pictures are: the video model paints the true scenes of held-out clips, beside its baselines."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..data import Clip, read_clips
from ..errors import ConfigError, DataError
from ..scene import DT, Track
from .baselines import BASELINES, METHODS, Generator, rollout
from .bootstrap import Estimate, bootstrap, ratio_of_means
from .evidence import evidence, write_evidence, write_text
from .pictures import absolute_error, decibels, squared_error, write_strip

SECOND = round(1 / DT)  # steps
LONG = 20 * SECOND  # steps of the long rollout
STRIP_STEPS = (1, 10, 50, 100, 200)
SHORT_EVERY = 2 * SECOND  # steps between the starts of the rollouts of 1 s
TOGETHER = 8  # rollouts side by side
MEAN_CLIPS = 32  # clips that the mean picture is of


def fidelity(world: str, data: str, out: str, clips: int, steps: int, strips: int, seed: int) -> Path:
    """Measure a world's video model on the test split of recorded clips; writes metrics.json, horizon.csv and strips.

    Raises:
        ConfigError: no such world.
        DataError: no clip of the test split with scenes, or none long enough.
    """
    if clips < 1 or steps < 1:
        raise ConfigError(f"clips={clips} and steps={steps} must be at least 1")
    began = time.perf_counter()
    generator = load_generator(world, steps)
    held_out = _clips(data, clips)
    mean = mean_picture(data)
    short = short_errors(generator, held_out, mean, seed)
    long_, sheets = long_errors(generator, held_out, mean, seed, strips)
    figures = {**short_figures(short), **long_figures(long_)}

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "horizon.csv", _horizon_table(long_))
    for index, rows in enumerate(sheets):
        columns = [f"{k} frames ({k * DT:.0f} s)" if k >= SECOND else f"{k} frame" for k in STRIP_STEPS[: len(rows["true"])]]
        write_strip(folder / f"strip_{index}.png", rows, columns)
    command = f"xpeng-world fidelity world={world} data={Path(data).name} clips={clips} steps={steps} seed={seed}"
    record = evidence(figures, command=command, seconds=time.perf_counter() - began, seeds=[seed])
    path = write_evidence(folder / "metrics.json", record)
    _print(figures, len(held_out), path)
    return path


def load_generator(world: str, steps: int) -> Generator:
    """The video model of a world, sampling with so many denoising steps."""
    from ..envs import make_world

    if world == "reference":
        raise ConfigError("the reference world has no video model; give world=learned or the folder of a trained one")
    generator: Generator = make_world(world, steps=steps).generator  # type: ignore[attr-defined]
    return generator


def mean_picture(data: str) -> Tensor:
    """Mean frame [H, W, 3] uint8 of the train split, or of the test split where there is no other."""
    try:
        source = read_clips(data, split="train", track=False)
    except DataError:
        source = read_clips(data, split="test", track=False)
    means = [clip.frames[::10].float().mean(0) for clip in islice(source, MEAN_CLIPS)]
    return torch.stack(means).mean(0).round().to(torch.uint8)


def short_errors(generator: Generator, clips: Sequence[Clip], mean: Tensor, seed: int) -> dict[str, Tensor]:
    """Errors 1 s ahead by method: [clips, 2], mean absolute and mean squared, over starts spread along each clip."""
    rows: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    for clip in clips:
        track = _track(clip)
        starts = range(0, clip.steps - SECOND, SHORT_EVERY)
        parts = Track.cat([track.columns(slice(s, s + SECOND + 1)) for s in starts])
        first = torch.stack([clip.frames[s] for s in starts])
        actions = torch.stack([clip.actions[s : s + SECOND + 1] for s in starts])
        true = torch.stack([clip.frames[s + SECOND] for s in starts])
        *_, last = rollout(generator, parts, first, actions, mean, seed)
        for method, found in last.items():
            rows[method].append(torch.stack((absolute_error(found, true).mean(), squared_error(found, true).mean())))
    return {method: torch.stack(values) for method, values in rows.items()}


def long_errors(
    generator: Generator, clips: Sequence[Clip], mean: Tensor, seed: int, strips: int
) -> tuple[dict[str, Tensor], list[dict[str, list[Tensor]]]]:
    """Errors over 20 s by method: [clips, LONG, 2]; and pictures for the first `strips` clips. Shorter clips are left out."""
    long_enough = [clip for clip in clips if clip.steps > LONG]
    errors: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    sheets: list[dict[str, list[Tensor]]] = []
    for begin in range(0, len(long_enough), TOGETHER):
        group = long_enough[begin : begin + TOGETHER]
        track = Track.cat([_track(clip).columns(slice(0, LONG + 1)) for clip in group])
        frames = torch.stack([clip.frames[: LONG + 1] for clip in group])
        actions = torch.stack([clip.actions[: LONG + 1] for clip in group])
        drawn: list[dict[str, list[Tensor]]] = [{name: [] for name in ("true", *METHODS)} for _ in group]
        columns: dict[str, list[Tensor]] = {method: [] for method in METHODS}
        for step, found in enumerate(rollout(generator, track, frames[:, 0], actions, mean, seed + begin), 1):
            true = frames[:, step]
            for method in METHODS:
                columns[method].append(torch.stack((absolute_error(found[method], true), squared_error(found[method], true)), -1))
            if step in STRIP_STEPS:
                for row, sheet in enumerate(drawn):
                    for name, pictures in {"true": true, **found}.items():
                        sheet[name].append(pictures[row])
        for method in METHODS:
            errors[method].append(torch.stack(columns[method], 1))
        sheets += drawn
    return {method: torch.cat(values) for method, values in errors.items() if values}, sheets[:strips]


def short_figures(errors: dict[str, Tensor]) -> dict[str, Estimate]:
    """Figures 1 s ahead: the model's error over the baselines', and each method's error and PSNR."""
    figures: dict[str, Estimate] = {}
    for name, method in (("copy", "copied"), ("warp", "warped"), ("composite", "composite")):
        pairs = torch.stack((errors["generated"][:, 0], errors[method][:, 0]), -1)
        if bool((pairs[:, 1] > 0).all()):
            figures[f"{name}_ratio_1s"] = bootstrap(pairs.numpy(), statistic=ratio_of_means)
    for method in METHODS:
        figures[f"{method}_mae_1s"] = bootstrap(errors[method][:, 0].numpy())
        figures[f"{method}_db_1s"] = bootstrap(decibels(errors[method][:, 1]).numpy())
    return figures


def long_figures(errors: dict[str, Tensor]) -> dict[str, Estimate]:
    """PSNR over the last second of a rollout of 20 s, of the model ("rollout_db_20s") and of each baseline; none for short clips."""
    if not errors:
        return {}
    db = {method: decibels(values[..., 1]) for method, values in errors.items()}
    last = {method: values[:, -SECOND:].mean(1).numpy() for method, values in db.items()}
    figures = {"rollout_db_20s": bootstrap(last["generated"]), "rollout_mean_db_20s": bootstrap(db["generated"].mean(1).numpy())}
    for method in BASELINES:
        figures[f"{method}_db_20s"] = bootstrap(last[method])
    return figures


def _clips(data: str, count: int) -> list[Clip]:
    found = [clip for clip in islice(read_clips(data, split="test"), 4 * count) if clip.track is not None and clip.steps > SECOND]
    found.sort(key=lambda clip: clip.steps <= LONG)
    if not found:
        raise DataError(f"'{data}' has no clip of the test split with scenes and more than {SECOND} frames; record some first")
    return found[:count]


def _track(clip: Clip) -> Track:
    assert clip.track is not None
    return clip.track


def _horizon_table(errors: dict[str, Tensor]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", "seconds", *(f"{method}_{kind}" for method in METHODS for kind in ("mae", "db"))])
    means = {method: (values[..., 0].mean(0), decibels(values[..., 1]).mean(0)) for method, values in errors.items()}
    for step in range(LONG if errors else 0):
        numbers = [f"{float(series[step]):.3f}" for method in METHODS for series in means[method]]
        table.writerow([step + 1, f"{(step + 1) * DT:.1f}", *numbers])
    return text.getvalue()


def _print(figures: dict[str, Estimate], clips: int, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *METHODS, title=f"Pictures on {clips} held-out clips")
    show = lambda key: f"{figures[key].value:.2f}" if key in figures else "-"
    table.add_row("error 1 s ahead", *(show(f"{m}_mae_1s") for m in METHODS))
    table.add_row("dB 1 s ahead", *(show(f"{m}_db_1s") for m in METHODS))
    table.add_row("dB after 20 s", *(show("rollout_db_20s" if m == "generated" else f"{m}_db_20s") for m in METHODS))
    Console().print(table)
    if "rollout_db_20s" not in figures:
        print(f"no clip has more than {LONG} frames, so nothing is said of rollouts of 20 s")
    print(f"error over copying {show('copy_ratio_1s')}, over warping {show('warp_ratio_1s')}; figures in {path}")
