"""The sampler: a diffusers pipeline that paints the next frame in a few Euler steps of flow matching."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from .denoiser import Condition, FrameDenoiser

_SPREAD = 0x9E3779B97F4A7C15  # the golden ratio of 2^64
_STRIP = 2**20


class FramePipeline(DiffusionPipeline):
    """Denoiser and scheduler as one loadable thing (`save_pretrained`, `from_pretrained`)."""

    model_cpu_offload_seq = "denoiser"
    denoiser: FrameDenoiser
    scheduler: Any

    def __init__(self, denoiser: FrameDenoiser, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)  # type: ignore[attr-defined]

    @torch.no_grad()
    def __call__(self, condition: Condition, noise: Tensor, steps: int = 1, shortcut: bool = False) -> Tensor:
        """Paint frames.

        Args:
            condition: of B frames.
            noise: [B, 3, H, W], or the denoiser's own `canvas`: standard normal, the start of the path.
            steps: Euler steps from pure noise; one step is the denoiser's own estimate.
            shortcut: tell the denoiser how far its steps go, if it was trained to know.

        Returns:
            frames [B, 3, H, W] in [-1, 1].
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        scheduler = copy.copy(self.scheduler)  # it counts its steps, and several threads may paint at once
        scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)], device=noise.device)  # its own end just above 0
        sample = noise
        for i, timestep in enumerate(scheduler.timesteps):
            level = scheduler.sigmas[i].to(noise.device).expand(noise.shape[0])
            span = level - scheduler.sigmas[i + 1].to(noise.device) if shortcut else None
            clean = self.denoiser(sample, level, condition, span).float().clamp(-1, 1)
            if i + 1 < steps:
                velocity = (sample - clean) / level.view(-1, 1, 1, 1)
                sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
        frames = self.denoiser.decode(clean)
        return frames if frames is clean else frames.float().clamp(-1, 1)


def episode_noise(seeds: Sequence[int] | Tensor, steps: Sequence[int] | Tensor, shape: tuple[int, ...], salt: int = 0) -> Tensor:
    """Standard normal noise [B, *shape] that depends on each episode's own seed and step alone.

    It is cut out of one long strip of noise at places that seem random, as to draw it would cost a fiftieth of a frame.
    """
    count, strip = math.prod(shape), _strip(math.prod(shape))
    out = torch.empty(len(seeds), *shape)
    for b, (seed, step) in enumerate(zip(list(seeds), list(steps), strict=True)):
        mixed = (int(seed) * 1_000_003 + int(step) * 7_919 + salt) * _SPREAD % 2**64
        begin = (mixed >> 20) % (len(strip) - count)
        out[b] = strip[begin : begin + count].view(shape)
    return out


@functools.cache
def _strip(count: int) -> Tensor:
    """Noise enough for samples of so many numbers."""
    return torch.randn(max(_STRIP, 16 * count), generator=torch.Generator().manual_seed(0))


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of every frame pipeline: linear path from noise (sigma 1) to the frame (sigma 0)."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
