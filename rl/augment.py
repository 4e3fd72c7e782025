"""Changes to a picture that leave the right action as it is, so that a network learns to see rather than to remember."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def augment(camera: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Pictures [B, 3 or 6, H, W] in [0, 1] with other brightness, contrast, tint, grain, a shift of a few pixels, and a covered patch.

    Each moment has its own draws. Two pictures of one moment come as [B, 6, H, W], the present one first, and share them, so that they
    differ by what has moved; the grain alone is each picture's own, as a camera's is. `strength` 1 shifts by up to 4 pixels sideways and 2
    up or down, changes brightness and tint by up to 15 %, contrast by up to 30 %, and covers a patch in three moments of ten; 0 changes
    nothing.
    """
    if strength <= 0:
        return camera
    batch, channels, height, width = camera.shape
    draw = lambda *shape: torch.from_numpy(rng.uniform(-1, 1, shape)).float() * strength
    column = lambda t: t.view(batch, -1, 1, 1)
    mean = camera[:, :3].mean((1, 2, 3), keepdim=True)
    out = (camera - mean) * (1 + 0.3 * column(draw(batch))) + mean * (1 + 0.15 * column(draw(batch)))
    out = out * (1 + 0.15 * column(draw(batch, 3).repeat(1, channels // 3)))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    out = out + 0.03 * column(draw(batch)).abs() * torch.randn(camera.shape, generator=generator)
    out = _shifted(out, (4 * draw(batch)).round().long(), (2 * draw(batch)).round().long())
    for row in np.flatnonzero(rng.random(batch) < 0.3 * strength):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        out[row, :, top : top + int(rng.integers(4, 16)), left : left + int(rng.integers(4, 24))] = float(rng.random())
    return out.clamp(0, 1)


def _shifted(camera: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Each picture moved by its own number of pixels [B]; edges are repeated."""
    _, channels, height, width = camera.shape
    rows = (torch.arange(height) - down.unsqueeze(1)).clamp(0, height - 1)
    columns = (torch.arange(width) - right.unsqueeze(1)).clamp(0, width - 1)
    camera = camera.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return camera.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))
