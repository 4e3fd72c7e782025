"""Driving frames out of recorded clips: what an exported policy is calibrated with and compared on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...data.shards import clip_order, list_clips, load_clip
from ...errors import ConfigError, DataError
from ...scene import Scene
from ...world import Observation, WorldState, observe


@dataclass(frozen=True)
class DrivingFrames(Observation):
    """Observations, and for a policy with a lag the pictures before them."""

    earlier: Tensor | None = None  # [B, H, W, 3] uint8


@torch.no_grad()
def driving_frames(data: str | Path, split: str, count: int, seed: int = 0, lag: int = 0) -> DrivingFrames:
    """Observations [count] of recorded scenes, spread evenly over the clips of a split and over each clip.

    Args:
        data: folder of shards.
        split: train, validation or test.
        count: how many frames.
        seed: of the clips' order; with fewer frames than clips it decides which clips are read.
        lag: frames that the earlier pictures lie back in their clip, its first one near its start; 0 for none.

    Raises:
        ConfigError: a count below 1.
        DataError: no such clips, or fewer frames with a scene than `count`.
    """
    if count < 1:
        raise ConfigError(f"{count} driving frames of the {split} split are too few; use 1 or more")
    addresses = list_clips(data, split)
    order = [addresses[i] for i in clip_order(len(addresses), seed, 0)]
    parts: list[DrivingFrames] = []
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
        seen = observe(WorldState(scene, clip.frames[columns], number, number))
        earlier = clip.frames[[max(0, column - lag) for column in columns]] if lag else None
        parts.append(DrivingFrames(seen.camera, seen.ego, seen.route, earlier))
        gathered += wanted
    if gathered < count:
        raise DataError(f"'{data}' has only {gathered} such frames with a scene in its {split} split, not {count}; record more clips")
    return DrivingFrames.cat(parts)
