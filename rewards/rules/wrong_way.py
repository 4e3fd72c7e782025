"""Driving against the traffic."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(
    kind="gate",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="Vienna Convention on Road Traffic, article 10; CARLA scenario_runner WrongLaneTest (heading against the lane)",
)
def wrong_way(track: Track, *, least_speed_mps: float = 0.5) -> Tensor:
    """0 while the ego moves, its centre in lanes that all lead against its heading and in no junction, else 1: [B, T]."""
    against = track.derived(road_position).wrong_way & (track.ego.speed > least_speed_mps)
    return (~against).float()
