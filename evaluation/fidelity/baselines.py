"""Rollouts of the video model along the true scenes of a clip, and of the baselines that every figure stands beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ...scene import Scene, Track
from ...world_model.video.layout import Layout, LayoutRasteriser, composite
from ...world_model.video.warp import warp

BASELINES = ("copied", "warped", "mean", "composite")
METHODS = ("generated", *BASELINES)


class Generator(Protocol):
    """The part of the video model that a rollout needs."""

    @property
    def layout_level(self) -> str:
        """How much of the layout it is shown."""
        ...

    def next(self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        """The frame [B, H, W, 3] uint8 of `scene`, after `frame` of `previous`; see `FrameGenerator.next`."""
        ...


@torch.inference_mode()
def painted(generator: Generator, track: Track, frame: Tensor, actions: Tensor, seed: int) -> Iterator[Tensor]:
    """Paint the scenes of tracks one after the other, each from the model's own last picture: [B, H, W, 3] at columns 1, 2, ...

    Arguments as of `rollout`.
    """
    seeds = torch.arange(track.batch_size) + seed
    for column in range(1, track.steps):
        step = torch.full((track.batch_size,), column, dtype=torch.int64)
        frame = generator.next(track.scene(column - 1), track.scene(column), frame, actions[:, column - 1], seeds, step)
        yield frame[..., :3]


@torch.inference_mode()
def rollout(
    generator: Generator, track: Track, frame: Tensor, actions: Tensor, mean: Tensor, seed: int
) -> Iterator[tuple[dict[str, Tensor], Layout]]:
    """Paint the scenes of tracks one after the other, each from the model's own last picture.

    Args:
        generator: the video model.
        track: [B, T] the true scenes; T - 1 pictures follow.
        frame: [B, H, W, 3] uint8, the true first picture.
        actions: [B, T, 2] the true actions.
        mean: [H, W, 3] the mean picture of the training data.
        seed: of the model's noise.

    Yields:
        pictures [B, H, W, 3] by method at columns 1, 2, ...: the model's ("generated"), the first picture ("copied"), the first
        picture moved by the motion that the model is told of and sampled once ("warped"), the mean picture, and the flat
        picture of what the model is shown of the layout ("composite"); and the whole layout of each column.
    """
    from ...world_model.video.generator import shown_layout

    rasteriser = LayoutRasteriser()
    first = frame.permute(0, 3, 1, 2).float()
    height, width = first.shape[-2:]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    origin = torch.stack((u, v)).expand(track.batch_size, 2, height, width)  # where each pixel was in the first picture
    for column, generated in enumerate(painted(generator, track, frame, actions, seed), 1):
        previous, scene = track.scene(column - 1), track.scene(column)
        layout = rasteriser(scene, previous)
        shown = shown_layout(layout, scene, previous, generator.layout_level)
        origin, _ = warp(origin, shown.flow)
        warped, _ = warp(first, origin)
        pictures = {
            "generated": generated,
            "copied": frame,
            "warped": warped.permute(0, 2, 3, 1).round().to(torch.uint8),
            "mean": mean.expand_as(frame),
            "composite": composite(shown),
        }
        yield pictures, layout
