"""How far the ego is from its route."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import route_position
from ..rule import rule

FARTHEST = 1000.0  # m


@rule(kind="cost", unit="m", low=0.0, high=FARTHEST, neutral=0.0, source="CARLA leaderboard 2.0: more than 30 m off the route ends it")
def off_route(track: Track) -> Tensor:
    """Distance of the ego's centre from the route's line in metres, at most 1000: [B, T]."""
    return track.derived(route_position).offset.abs().clamp_max(FARTHEST)
