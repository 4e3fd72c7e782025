"""DAC: the whole ego on the drivable area."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..rule import rule


@rule(kind="gate", unit="1", low=0.0, high=1.0, neutral=1.0, source="NAVSIM pdm_scorer.py `_calculate_drivable_area_compliance`")
def drivable_area(track: Track) -> Tensor:
    """1 while all four corners of the ego are on a driving lane, shoulder or junction, else 0, without tolerance: [B, T]."""
    return track.derived(road_position).corners_on_road.float()
