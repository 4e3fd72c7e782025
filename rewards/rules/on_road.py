"""The ego's centre on the drivable area: what ends an episode, where `drivable_area` only spoils it."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(kind="gate", unit="1", low=0.0, high=1.0, neutral=1.0, source="CARLA leaderboard, outside route lanes (centre of the vehicle)")
def on_road(track: Track) -> Tensor:
    """1 while the centre of the ego is on a driving lane, shoulder or junction, else 0: [B, T]."""
    return track.derived(road_position).on_road.float()
