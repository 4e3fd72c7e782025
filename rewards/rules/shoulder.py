"""Keeping off the hard shoulder."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="Vienna Convention on Road Traffic, article 25(4): emergency lanes")
def shoulder(track: Track, *, least_speed_mps: float = 0.5) -> Tensor:
    """0 while the ego moves with its centre on a shoulder and on no lane, else 1: [B, T]."""
    return (~(track.derived(road_position).on_shoulder & (track.ego.speed > least_speed_mps))).float()
