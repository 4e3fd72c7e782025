"""How true the pictures are a short while ahead: the video model paints the true scenes of held-out clips, beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ...data import Clip, read_clips
from ...data.shards import ClipAddress, has_scene, list_clips, load_clip
from ...errors import ConfigError, DataError
from ...scene import DT, Track
from ...world_model.learned import SHIPPED
from ...world_model.video.generator import FrameGenerator, LayoutLevel
from ..bootstrap import Estimate, bootstrap, ratio_of_means
from .baselines import METHODS, Generator, rollout
from .regions import FIGURES, REGIONS, difference, of_known, region_db, region_errors, region_mae, region_masks

SECOND = round(1 / DT)  # steps
SHORT_EVERY = 2 * SECOND  # steps between the starts of the rollouts of 1 s
MEAN_CLIPS = 32  # clips that the mean picture is of
BARE_AHEAD = 5 * SECOND  # steps of the rollouts without scenery and without a layout
TOGETHER = 24  # rollouts side by side


def load_generator(world: str, steps: int, layout: LayoutLevel = "full", shortcut: bool = False) -> Generator:
    """The video model of a world, sampling with so many denoising steps, shown so much of the layout.

    Raises:
        ConfigError: the reference world, no folder of that name, or a shortcut with weights that know none.
        CheckpointError: no video model in the folder.
    """
    if world == "reference":
        raise ConfigError("the reference world has no video model; give world=learned or the folder of a trained one")
    if world != "learned" and not Path(world).is_dir():
        raise ConfigError(f"no world '{world}': give learned or the folder of a trained one")
    return FrameGenerator.load(SHIPPED if world == "learned" else world, steps=steps, layout=layout, shortcut=shortcut)


def held_out_addresses(data: str, count: int, longest: int, start: int = 0) -> list[ClipAddress]:
    """Where up to `count` clips of the test split lie that have scenes and more than a second, those of more than `longest` frames first.

    Args:
        data: folder of recorded clips.
        count: most clips.
        longest: frames that are asked for; which of two longer clips comes first does not depend on their length.
        start: frames to leave out at the beginning of every clip.

    Raises:
        DataError: there is none.
    """
    found = [clip for clip in list_clips(data, split="test")[: 4 * count] if clip.steps > start + SECOND and has_scene(clip)]
    found.sort(key=lambda clip: -min(clip.steps, start + longest + 1))
    if not found:
        after = f" after the first {start}" if start else ""
        raise DataError(f"'{data}' has no clip of the test split with scenes and more than {SECOND} frames{after}; record some first")
    return found[:count]


def held_out_clips(data: str, count: int, longest: int, start: int = 0) -> list[Clip]:
    """The clips of `held_out_addresses`, without what is to be left out at their beginning."""
    found = (load_clip(address) for address in held_out_addresses(data, count, longest, start))
    return [clip.window(start, clip.steps - start) for clip in found]


def mean_picture(data: str) -> Tensor:
    """Mean frame [H, W, 3] uint8 of the train split, or of the test split where there is no other."""
    try:
        source = read_clips(data, split="train", track=False)
    except DataError:
        source = read_clips(data, split="test", track=False)
    means = [clip.frames[::10].float().mean(0) for clip in islice(source, MEAN_CLIPS)]
    return torch.stack(means).mean(0).round().to(torch.uint8)


def errors_ahead(
    generator: Generator, clips: Sequence[Clip], mean: Tensor, seed: int, ahead: int = SECOND, every: int = SHORT_EVERY
) -> dict[str, Tensor]:
    """Errors `ahead` steps after the last true picture, by method: sums [clips, R, 3] of `region_errors` over starts along each clip.

    Clips of `ahead` frames and less are left out.
    """
    rows: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    for clip in clips:
        if clip.steps <= ahead:
            continue
        track = track_of(clip)
        starts = range(0, clip.steps - ahead, every)
        sums = {method: torch.zeros(len(REGIONS), 3) for method in METHODS}
        for begin in range(0, len(starts), TOGETHER):
            group = starts[begin : begin + TOGETHER]
            parts = Track.cat([track.columns(slice(s, s + ahead + 1)) for s in group])
            first, true = (torch.stack([clip.frames[s + k] for s in group]) for k in (0, ahead))
            actions = torch.stack([clip.actions[s : s + ahead + 1] for s in group])
            *_, (last, layout) = rollout(generator, parts, first, actions, mean, seed + begin)
            masks = region_masks(layout)
            for method, found in last.items():
                sums[method] += region_errors(found, true, masks).sum(0)
        for method in METHODS:
            rows[method].append(sums[method])
    return {method: torch.stack(values) for method, values in rows.items() if values}


def short_figures(errors: dict[str, Tensor]) -> dict[str, Estimate]:
    """Figures 1 s ahead: the model's error over the baselines', each method's error and PSNR, and the gain over warping by region."""
    figures: dict[str, Estimate] = {}
    mae = {method: region_mae(sums) for method, sums in errors.items()}
    for name, method in (("copy", "copied"), ("warp", "warped"), ("composite", "composite")):
        if bool((mae[method] > 0).all()):
            figures[f"{name}_ratio_1s"] = bootstrap(torch.stack((mae["generated"], mae[method]), -1).numpy(), statistic=ratio_of_means)
    for method in METHODS:
        figures[f"{method}_mae_1s"] = bootstrap(mae[method].numpy())
        figures[f"{method}_db_1s"] = bootstrap(region_db(errors[method]).numpy())
    for region in FIGURES:
        for key, estimate in {
            f"{region}_db_1s": of_known(region_db(errors["generated"], region)),
            f"{region}_gain_db_1s": difference(errors, "warped", region),
        }.items():
            if estimate is not None:
                figures[key] = estimate
    if "important_gain_db_1s" in figures:
        figures["region_gain_db_1s"] = figures.pop("important_gain_db_1s")
    return figures


def bare_figures(errors: dict[str, Tensor], name: str) -> dict[str, Estimate]:
    """Figures 5 s ahead of a model that is not shown all of the layout, `name` saying what is missing."""
    figures = {}
    for key, estimate in {
        f"{name}_db_5s": of_known(region_db(errors["generated"])),
        f"{name}_warped_db_5s": of_known(region_db(errors["warped"])),
        f"{name}_copied_db_5s": of_known(region_db(errors["copied"])),
        f"{name}_mean_db_5s": of_known(region_db(errors["mean"])),
        f"{name}_gain_db_5s": difference(errors, "warped"),
    }.items():
        if estimate is not None:
            figures[key] = estimate
    return figures


def track_of(clip: Clip) -> Track:
    """The track of a clip that has one."""
    assert clip.track is not None
    return clip.track
