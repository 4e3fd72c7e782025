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
from ..world_model.video.generator import FrameGenerator, numbers_of
from ..world_model.video.layout import CHANNELS
from ..world_model.video.precision import resolve_precision
from ..world_model.video.sky import gaze

WARM_UP = 3  # batches; compilation happens in the first


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        ConfigError: an unknown or missing device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={device} cannot be used: {str(error).splitlines()[0]}") from None


@torch.inference_mode()
def painted_per_second(world: str, batch: int, frames: int, device: str, precision: str, compiled: bool) -> float:
    """Frames a second that the video model of a world paints in one denoising step each, `batch` at once, with its input on the device.

    Args:
        world: "learned" or folder of a trained world.
        batch: scenes at once.
        frames: that are timed, at least; rounded up to whole batches.
        device: name of a torch device.
        precision: float32, bfloat16 or auto.
        compiled: whether the model is compiled first, on CUDA into a graph.
    """
    model = FrameGenerator.load(SHIPPED if world == "learned" else Path(world), device=device).pipeline.denoiser
    kind = torch.device(device).type
    dtype = resolve_precision(precision, device)  # type: ignore[arg-type]
    painter = torch.compile(model, mode="reduce-overhead" if kind == "cuda" else None) if compiled else model
    condition, noise = random_condition(batch, device)
    level = torch.ones(batch, device=device)
    counts = -(-frames // batch)
    for count in (WARM_UP, counts):
        _wait(kind)
        began = time.perf_counter()
        for _ in range(count):
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                painter(noise, level, condition)
        _wait(kind)
    return counts * batch / (time.perf_counter() - began)


def random_condition(batch: int, device: str, seed: int = 0) -> tuple[Condition, torch.Tensor]:
    """Something to paint, and the noise to begin with."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda channels: torch.rand(batch, channels, CAMERA.height, CAMERA.width, generator=generator).to(device)
    heading = torch.from_numpy(np.random.default_rng(seed).uniform(-3, 3, batch).astype(np.float32))
    condition = Condition(
        warped=2 * draw(3) - 1,
        seen=torch.ones_like(draw(1)),
        layout=draw(len(CHANNELS)),
        numbers=numbers_of(torch.zeros(batch, 2), torch.zeros(batch, 7), True).to(device),
        appearance=torch.zeros(batch, dtype=torch.int64, device=device),
        context_noise=torch.zeros(batch, device=device),
        gaze=gaze(heading).to(device),
    )
    return condition, 2 * draw(3) - 1


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()
