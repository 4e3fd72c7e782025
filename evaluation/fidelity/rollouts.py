"""Long rollouts: the video model paints a minute of a held-out clip from its own pictures, and what became of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ...data import Clip
from ...scene import DT, AgentKind, Scene, Track
from ...world_model.video.layout import LayoutRasteriser
from ..bootstrap import Estimate, bootstrap
from ..pictures import decibels
from .baselines import BASELINES, METHODS, Generator, painted, rollout
from .pictures import SECOND, track_of
from .regions import REGIONS, of_known, region_db, region_errors, region_mae, region_masks

TOGETHER = 8  # rollouts side by side
LARGE = 0.05  # share of the picture that a large near vehicle covers
VEHICLES = (AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS)
NEAR_WINDOW = 5 * SECOND  # large vehicles are looked for so long before and after a moment, being rare
STRIP_STEPS = (1, 10, 50, 100, 200, 400, 600)


@dataclass(frozen=True)
class Rollouts:
    """N clips painted for K steps; column 0 of the pictures is the true first one."""

    track: Track  # [N, K + 1]
    true: Tensor  # [N, K + 1, H, W, 3] uint8
    generated: Tensor  # the same
    sums: dict[str, Tensor]  # by method, [N, K, R, 3] as of `region_errors`; empty for those that are not judged
    near: dict[str, Tensor]  # by method, [N, K, 2]: squared error and pixels of large near vehicles; likewise
    strips: list[dict[str, list[Tensor]]]  # pictures by method at STRIP_STEPS, of the first clips

    @property
    def steps(self) -> int:
        """Painted steps K."""
        return self.true.shape[1] - 1


def roll_out(generator: Generator, clips: Sequence[Clip], mean: Tensor | None, seed: int, steps: int, strips: int) -> Rollouts | None:
    """Paint `steps` frames of every clip that has more; None where none has.

    Without a `mean` picture they are not judged: nothing is painted but the model's pictures, which takes half the time.
    """
    long_enough = [clip for clip in clips if clip.steps > steps]
    if not long_enough:
        return None
    parts: list[Rollouts] = []
    bar = tqdm(total=len(long_enough) * steps, desc="painting", unit="frame", disable=None)
    for begin in range(0, len(long_enough), TOGETHER):
        group = long_enough[begin : begin + TOGETHER]
        if mean is None:
            parts.append(_painted(generator, group, seed + begin, steps, bar))
        else:
            parts.append(_roll_out(generator, group, mean, seed + begin, steps, max(0, strips - begin), bar))
    bar.close()
    return Rollouts(
        track=Track.cat([part.track for part in parts]),
        true=torch.cat([part.true for part in parts]),
        generated=torch.cat([part.generated for part in parts]),
        sums={method: torch.cat([part.sums[method] for part in parts]) for method in parts[0].sums},
        near={method: torch.cat([part.near[method] for part in parts]) for method in parts[0].near},
        strips=[strip for part in parts for strip in part.strips],
    )


def driven(clips: Sequence[Clip], columns: slice) -> tuple[Track, Tensor, Tensor]:
    """Tracks [B, T], pictures [B, T, H, W, 3] and actions [B, T, 2] of clips, in some of their columns."""
    frames, actions = (torch.stack([getattr(clip, name)[columns] for clip in clips]) for name in ("frames", "actions"))
    return Track.cat([track_of(clip).columns(columns) for clip in clips]), frames, actions


def _painted(generator: Generator, clips: Sequence[Clip], seed: int, steps: int, bar: tqdm) -> Rollouts:
    track, true, actions = driven(clips, slice(0, steps + 1))
    generated = [true[:, 0]]
    for picture in painted(generator, track, true[:, 0], actions, seed):
        generated.append(picture)
        bar.update(len(clips))
    return Rollouts(track, true, torch.stack(generated, 1), {}, {}, [])


def _roll_out(generator: Generator, clips: Sequence[Clip], mean: Tensor, seed: int, steps: int, strips: int, bar: tqdm) -> Rollouts:
    track, true, actions = driven(clips, slice(0, steps + 1))
    rasteriser = LayoutRasteriser()
    sums: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    near: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    generated = [true[:, 0]]
    drawn: list[dict[str, list[Tensor]]] = [{name: [] for name in ("true", *METHODS)} for _ in clips[:strips]]
    for step, (pictures, layout) in enumerate(rollout(generator, track, true[:, 0], actions, mean, seed), 1):
        masks = region_masks(layout)
        large = large_vehicles(track.scene(step), rasteriser)
        for method, found in pictures.items():
            sums[method].append(region_errors(found, true[:, step], masks))
            near[method].append(region_errors(found, true[:, step], large.unsqueeze(1))[:, 0, 1:])
        generated.append(pictures["generated"])
        if step in STRIP_STEPS:
            for row, sheet in enumerate(drawn):
                for name, found in {"true": true[:, step], **pictures}.items():
                    sheet[name].append(found[row])
        bar.update(len(clips))
    stacked = lambda columns: {method: torch.stack(values, 1) for method, values in columns.items()}
    return Rollouts(track, true, torch.stack(generated, 1), stacked(sums), stacked(near), drawn)


def large_vehicles(scene: Scene, rasteriser: LayoutRasteriser) -> Tensor:
    """Pixels [B, H, W] of vehicles that cover more than LARGE of the picture each."""
    owner = rasteriser.instances(scene)
    height, width = owner.shape[1:]
    slots = scene.agents.valid.shape[1]
    pixels = torch.zeros(owner.shape[0], slots + 1, dtype=torch.int64)
    pixels.scatter_add_(1, owner.clamp_min(-1).flatten(1) + 1, torch.ones_like(owner).flatten(1))
    vehicle = torch.stack([scene.agents.kind == int(kind) for kind in VEHICLES]).any(0)
    large = (pixels[:, 1:] > LARGE * height * width) & vehicle & scene.agents.valid
    large = torch.cat((torch.zeros_like(large[:, :1]), large), 1)
    return large.gather(1, owner.clamp_min(-1).flatten(1) + 1).view_as(owner)


def long_figures(rolled: Rollouts) -> dict[str, Estimate]:
    """PSNR in the last second before 20 s and 60 s, of the model and its margin over each baseline, and of large near vehicles."""
    db = {method: region_db(sums) for method, sums in rolled.sums.items()}
    figures: dict[str, Estimate] = {}
    for seconds in (20, 60):
        end = seconds * SECOND
        if rolled.steps < end:
            continue
        last = {method: values[:, end - SECOND : end].mean(1) for method, values in db.items()}
        figures[f"rollout_db_{seconds}s"] = bootstrap(last["generated"].numpy())
        for method in BASELINES:
            figures[f"{method}_db_{seconds}s"] = bootstrap(last[method].numpy())
            figures[f"{method}_margin_db_{seconds}s"] = bootstrap((last["generated"] - last[method]).numpy())
        around = slice(max(0, end - NEAR_WINDOW), end + NEAR_WINDOW)
        for method, name in (("generated", "near_vehicle"), ("warped", "near_vehicle_warped"), ("composite", "near_vehicle_composite")):
            squared, pixels = rolled.near[method][:, around].sum(1).unbind(-1)
            shown = torch.where(pixels > 0, decibels(squared / pixels.clamp_min(1)), torch.full_like(pixels, torch.nan))
            estimate = of_known(shown)
            if estimate is not None:
                figures[f"{name}_db_{seconds}s"] = estimate
    figures[f"rollout_mean_db_{rolled.steps // SECOND}s"] = bootstrap(db["generated"].mean(1).numpy())
    return figures


def horizon_table(rolled: Rollouts | None) -> str:
    """A CSV: error and PSNR of every method at every step."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", "seconds", *(f"{method}_{kind}" for method in METHODS for kind in ("mae", "db"))])
    if rolled is not None:
        means = {method: (region_mae(sums).mean(0), region_db(sums).mean(0)) for method, sums in rolled.sums.items()}
        for step in range(rolled.steps):
            numbers = [f"{float(series[step]):.3f}" for method in METHODS for series in means[method]]
            table.writerow([step + 1, f"{(step + 1) * DT:.1f}", *numbers])
    return text.getvalue()


def region_table(rolled: Rollouts | None) -> str:
    """A CSV: each region's share of the pixels and of the model's squared error, and its PSNR, around 20 s or in the last 10 s before."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["region", "pixels", "error", "db"])
    if rolled is not None:
        end = min(rolled.steps, 20 * SECOND + NEAR_WINDOW)
        sums = rolled.sums["generated"][:, max(0, end - 2 * NEAR_WINDOW) : end].sum((0, 1)).double()  # [R, 3]
        whole = sums[REGIONS.index("frame")]
        for region, (_, squared, pixels) in zip(REGIONS, sums.tolist(), strict=True):
            if pixels:
                db = float(decibels(torch.tensor(squared / pixels)))
                table.writerow([region, f"{pixels / float(whole[2]):.4f}", f"{squared / max(float(whole[1]), 1e-9):.4f}", f"{db:.2f}"])
    return text.getvalue()
