"""How fast the video model alone paints: many scenes at once, on any device, with or without compilation."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from ..camera import CAMERA
from ..errors import ConfigError
from ..world_model.learned import SHIPPED
from ..world_model.video.denoiser import Condition
from ..world_model.video.gaze import gaze
from ..world_model.video.generator import FrameGenerator, numbers_of
from ..world_model.video.layout import CHANNELS
from ..world_model.video.precision import check_device, resolve_precision

WARM_UP = 3  # batches; compilation happens in the first


@torch.inference_mode()
def painter_rates(world: str, batch: int, frames: int, repeats: int, device: str, precision: str, compiled: bool) -> list[float]:
    """Frames a second that the video model of a world paints in one denoising step each, with its input on the device; of each repeat.

    Args:
        world: "learned" or folder of a trained world.
        batch: scenes at once.
        frames: that are timed in each repeat, at least; rounded up to whole batches.
        repeats: of the timing; the model is loaded and compiled once.
        device: name of a torch device.
        precision: float32, bfloat16 or auto.
        compiled: whether the model is compiled first, on CUDA into a graph.

    Raises:
        ConfigError: a batch below 1, a device that torch does not have, or an unknown precision.
        CheckpointError: no video model in the folder.
    """
    if batch < 1:
        raise ConfigError(f"painter={batch} must be at least 1, or 0 to time the world")
    check_device(device)
    half = resolve_precision(precision, device) == "bfloat16"
    kind = torch.device(device).type
    model = FrameGenerator.load(SHIPPED if world == "learned" else Path(world), device=device).pipeline.denoiser
    painter = torch.compile(model, mode="reduce-overhead" if kind == "cuda" else None) if compiled else model
    condition = random_condition(batch, device)
    noise = torch.randn(batch, *model.canvas(CAMERA.height, CAMERA.width), device=device)
    level = torch.ones(batch, device=device)

    def seconds(batches: int) -> float:
        _wait(kind)
        began = time.perf_counter()
        for _ in range(batches):
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
                model.decode(painter(noise, level, condition))
        _wait(kind)
        return time.perf_counter() - began

    seconds(WARM_UP)
    batches = -(-frames // batch)
    return [batches * batch / seconds(batches) for _ in range(repeats)]


def random_condition(batch: int, device: str, seed: int = 0) -> Condition:
    """Something to paint."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda channels: torch.rand(batch, channels, CAMERA.height, CAMERA.width, generator=generator).to(device)
    pose = torch.from_numpy(np.random.default_rng(seed).uniform(-3, 3, (batch, 3)).astype(np.float32))
    return Condition(
        warped=2 * draw(3) - 1,
        seen=torch.ones_like(draw(1)),
        layout=(255 * draw(len(CHANNELS))).to(torch.uint8),
        numbers=numbers_of(torch.zeros(batch, 2), torch.zeros(batch, 7), True).to(device),
        appearance=torch.zeros(batch, dtype=torch.int64, device=device),
        context_noise=torch.zeros(batch, device=device),
        gaze=gaze(pose).to(device),
    )


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()
