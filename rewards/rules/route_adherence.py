"""Staying on the lanes of the route."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="CARLA scenario_runner OutsideRouteLanesTest")
def route_adherence(track: Track) -> Tensor:
    """1 while the ego's centre is on a lane of the route or in a junction, else 0: [B, T]."""
    place = track.derived(road_position)
    return (place.on_route | place.in_junction).float()
