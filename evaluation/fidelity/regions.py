"""Errors of pictures, as a whole and where it matters: road users, signals and markings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...world_model.video.layout import AGENT_CHANNELS, CHANNEL, COVER_CHANNELS, MARKING_CHANNELS, SIGNAL_CHANNELS, Layout
from ..bootstrap import Estimate, bootstrap
from ..pictures import decibels

_NAMED = {
    "agents": AGENT_CHANNELS,
    "signals": SIGNAL_CHANNELS,
    "markings": MARKING_CHANNELS,
    "important": (*AGENT_CHANNELS, *SIGNAL_CHANNELS, *MARKING_CHANNELS),
    "buildings": (CHANNEL["building"],),
    "trees": (CHANNEL["tree"], CHANNEL["pole"]),
    "asphalt": (CHANNEL["road"], CHANNEL["junction"]),
    "ground": (CHANNEL["ground"],),
}
REGIONS = ("frame", *_NAMED, "sky")
FIGURES = ("agents", "signals", "markings", "important")  # regions with figures of their own


def region_masks(layout: Layout) -> Tensor:
    """Which pixels belong to each of REGIONS, bool [B, R, H, W]: those that it covers at least half; the sky is where nothing does."""
    covered = lambda channels: layout.channels[:, channels].int().sum(1) >= 128
    whole = torch.ones_like(layout.channels[:, 0], dtype=torch.bool)
    return torch.stack((whole, *(covered(list(channels)) for channels in _NAMED.values()), ~covered(COVER_CHANNELS)), 1)


def region_errors(found: Tensor, true: Tensor, masks: Tensor) -> Tensor:
    """Sums [B, R, 3] over regions: absolute error and squared error (means over the colours, 0..255 scale), and pixels.

    Args:
        found: [B, H, W, 3] uint8.
        true: the same.
        masks: [B, R, H, W] bool.
    """
    error = found.float() - true.float()
    parts = torch.stack((error.abs().mean(-1), error.square().mean(-1), torch.ones(error.shape[:-1])), 1)
    return torch.einsum("brhw,bchw->brc", masks.float(), parts)


def region_db(sums: Tensor, region: str = "frame") -> Tensor:
    """PSNR [...] in dB from sums [..., R, 3]; NaN where the region has no pixel."""
    part = sums[..., REGIONS.index(region), :]
    return torch.where(part[..., 2] > 0, decibels(part[..., 1] / part[..., 2].clamp_min(1)), torch.full_like(part[..., 1], torch.nan))


def region_mae(sums: Tensor, region: str = "frame") -> Tensor:
    """Mean absolute error [...] from sums [..., R, 3]."""
    part = sums[..., REGIONS.index(region), :]
    return part[..., 0] / part[..., 2].clamp_min(1)


def difference(sums: Mapping[str, Tensor], method: str, region: str = "frame") -> Estimate | None:
    """PSNR of the model over that of a baseline in dB, over clips [N, R, 3] that show the region; None where none does."""
    return of_known(region_db(sums["generated"], region) - region_db(sums[method], region))


def of_known(values: Tensor) -> Estimate | None:
    """The mean over the numbers of [N] that are not NaN, or None without any."""
    known = values[~values.isnan()].double().numpy()
    return bootstrap(np.asarray(known)) if len(known) else None
