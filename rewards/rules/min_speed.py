"""Not slower than the others."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around
from ..rule import rule

MOVING = 0.5  # m/s, from which on an agent counts


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="CARLA scenario_runner MinimumSpeedRouteTest, step by step")
def min_speed(track: Track, *, radius_m: float = 50.0) -> Tensor:
    """The ego's speed over the mean speed of the vehicles that move its way within `radius_m`, at most 1; 1 without any: [B, T]."""
    near = track.derived(around)
    counts = near.same_way & ~near.walks & (near.forward > MOVING) & (torch.hypot(near.x, near.y) < radius_m)
    number = counts.sum(-1)
    mean = torch.where(counts, near.forward, 0.0).sum(-1) / number.clamp_min(1)
    return torch.where(number > 0, (track.ego.speed / mean.clamp_min(MOVING)).clamp(0, 1), 1.0)
