"""The light of a painter, fitted to true pictures: alone before the painter is trained, which takes minutes, and apart from it after."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .denoiser import UNKNOWN_APPEARANCE, FrameDenoiser
from .layout import COVER_CHANNELS
from .lighting import STANDING
from .store import FrameStore

BATCH = 16
LEARNING_RATE = 3e-3
_WHOLE = 0.98  # cover from which on nothing of the sky is seen
_STANDING_WEIGHT = 4.0  # of what has base colours, beside the ground
_UNSAID = 0.1  # share of the pictures whose weather is unsaid


def fit_light(painter: FrameDenoiser, store: FrameStore, seed: int, steps: int, device: str = "cpu", maps: bool = False) -> None:
    """Fit the painter's light to single pictures by gradient descent, and nothing else of it but its maps if asked to.

    Args:
        painter: with `light`.
        store: pictures with scenes; others are passed over.
        seed: of the draws.
        steps: of BATCH pictures each.
        device: where the painter is.
        maps: whether its maps of the sky and the ground learn, too; else they are used as they are.
    """
    assert painter.lighting is not None
    fitted = [painter.lighting, *(part for part in (painter.sky_map, painter.ground_maps) if maps and part is not None)]
    rng = np.random.default_rng([seed, 0x11647])
    first, chance = store.windows(1)
    optimiser = torch.optim.AdamW(
        [value for part in fitted for value in part.parameters()], lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in tqdm(range(steps), desc="fitting light", unit="step", disable=None):
        samples = store.samples(rng.choice(first, size=BATCH, p=chance), 1)
        known = samples.has_scene
        unsaid = torch.from_numpy(rng.random(BATCH) < _UNSAID)
        appearance = samples.appearance.masked_fill(unsaid, UNKNOWN_APPEARANCE)
        layout = samples.layout[:, 0].to(device)
        lit = painter.lit(layout, samples.gaze[:, 0].to(device), appearance.to(device), maps)
        loss = light_loss(lit, samples.frames[:, 1].to(device), layout.float() / 255, known.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


def light_loss(lit: Tensor, frames: Tensor, layout: Tensor, known: Tensor) -> Tensor:
    """Squared and absolute error where things or the sky cover a pixel alone, things that stand weighing more.

    Args:
        lit: [B, 3, H, W] in [0, 1].
        frames: [B, H, W, 3] uint8.
        layout: [B, C, H, W] in [0, 1].
        known: [B] bool, whose layout tells anything.
    """
    cover = layout[:, COVER_CHANNELS].sum(1)
    alone = ((cover > _WHOLE) | (cover == 0)) & known.view(-1, 1, 1)
    weight = alone * (1 + _STANDING_WEIGHT * (layout[:, STANDING].sum(1) > 0.5))
    error = lit - frames.permute(0, 3, 1, 2).float() / 255
    return ((25 * error.square() + error.abs()).mean(1) * weight).mean()
