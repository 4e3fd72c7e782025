"""What frames cost elsewhere: a pixel-space diffusion U-Net of the size of DIAMOND's, as diffusers builds it, with fresh weights.

E. Alonso and others, "Diffusion for World Modeling: Visual Details Matter in Atari" (2024): 4.4 million parameters, 64x64 pixels,
four frames of context, three denoising steps a frame. Its speed does not depend on what the weights are.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel

SIZE = 64  # pixels a side
CONTEXT = 4  # frames
STEPS = 3  # denoising steps a frame


def rival_network() -> Any:
    """The U-Net: four scales of as many channels, no attention, about 4.4 million parameters."""
    network: Any = UNet2DModel(
        sample_size=SIZE,
        in_channels=3 * (CONTEXT + 1),
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(80, 80, 80, 80),
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
    )
    return network.eval()


@torch.inference_mode()
def rival_seconds(batch: int, frames: int) -> float:
    """Seconds a frame that the rival takes to paint `frames` steps of `batch` videos, the first one not counted."""
    network = rival_network()
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    context = torch.rand(batch, 3 * CONTEXT, SIZE, SIZE)
    began = 0.0
    for frame in range(frames + 1):
        if frame == 1:
            began = time.perf_counter()
        sample = torch.randn(batch, 3, SIZE, SIZE)
        scheduler.set_timesteps(STEPS)
        for moment in scheduler.timesteps:
            noisy = torch.cat((sample, context), 1)
            sample = scheduler.step(network(noisy, moment).sample, moment, sample).prev_sample
        context = torch.cat((context[:, 3:], sample.clamp(-1, 1)), 1)
    return (time.perf_counter() - began) / (frames * batch)
