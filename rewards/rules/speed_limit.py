"""Driving no faster than allowed."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="nuPlan speed_limit_compliance.py and CaRL: 1 - excess / 2.23 m/s")
def speed_limit(track: Track, *, tolerated_excess_mps: float = 2.23) -> Tensor:
    """1 up to the speed limit of the lane, falling to 0 at `tolerated_excess_mps` above it: [B, T]."""
    excess = (track.ego.speed - track.derived(road_position).speed_limit).clamp_min(0)
    return (1.0 - excess / tolerated_excess_mps).clamp_min(0)
