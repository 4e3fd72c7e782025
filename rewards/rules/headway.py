"""The two-second rule."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import way_ahead
from ..rule import rule


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="two-second rule (UK Highway Code, rule 126); Vienna Convention on Road Traffic, article 13(5)",
)
def headway(track: Track, *, seconds_s: float = 2.0, least_speed_mps: float = 2.0) -> Tensor:
    """Time to the place where the box ahead is now, over `seconds_s`, at most 1; 1 below `least_speed_mps`: [B, T]."""
    speed, way = track.ego.speed, track.derived(way_ahead)
    share = (way.lead_gap / (speed.clamp_min(1e-3) * seconds_s)).clamp(0, 1)
    return torch.where(speed < least_speed_mps, 1.0, share)
