"""Driving frames out of recorded clips: what an exported policy is calibrated with and compared on."""

from __future__ import annotations

from pathlib import Path

import torch

from ...data.shards import clip_order, list_clips, load_clip
from ...errors import ConfigError, DataError
from ...scene import Scene
from ...world import Observation, WorldState, observe


@torch.no_grad()
def driving_frames(data: str | Path, split: str, count: int, seed: int = 0) -> Observation:
    """Observations [count] of recorded scenes, spread evenly over the clips of a split and over each clip.

    Args:
        data: folder of shards.
        split: train, validation or test.
        count: how many frames.
        seed: of the clips' order; with fewer frames than clips it decides which clips are read.

    Raises:
        ConfigError: a count below 1.
        DataError: no such clips, or fewer frames with a scene than `count`.
    """
    if count < 1:
        raise ConfigError(f"{count} driving frames of the {split} split are too few; use 1 or more")
    addresses = list_clips(data, split)
    order = [addresses[i] for i in clip_order(len(addresses), seed, 0)]
    parts: list[Observation] = []
    gathered, left = 0, len(order)
    for address in order:
        if gathered == count:
            break
        clip = load_clip(address)
        wanted = min(-(-(count - gathered) // left), clip.steps)
        left -= 1
        if clip.track is None:
            continue
        columns = [(2 * k + 1) * clip.steps // (2 * wanted) for k in range(wanted)]
        scene = Scene.cat([clip.track.scene(column) for column in columns])
        number = torch.zeros(wanted, dtype=torch.int64)
        parts.append(observe(WorldState(scene, clip.frames[columns], number, number)))
        gathered += wanted
    if gathered < count:
        raise DataError(f"'{data}' has only {gathered} such frames with a scene in its {split} split, not {count}; record more clips")
    return Observation.cat(parts)
