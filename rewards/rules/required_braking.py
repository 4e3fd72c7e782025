"""How hard the ego would have to brake for what is ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import way_ahead
from ..grading import falling
from ..rule import rule

LEAST_GAP = 0.5  # m, below which a gap counts as this


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="deceleration rate to avoid a crash, DRAC (Cooper and Ferguson, 1976; 3.35 m/s2 is critical: Archer, 2005), also to a red light",
)
def required_braking(track: Track, *, comfortable_mps2: float = 2.0, emergency_mps2: float = 5.0, margin_m: float = 1.0) -> Tensor:
    """1 while the ego need brake no harder than `comfortable_mps2`, falling to 0 at `emergency_mps2`: [B, T].

    Needed is the constant deceleration that takes the ego to the speed of the box ahead within the gap to it, or to a stand within
    the gap to a red light's stop line, each less `margin_m`. It speaks seconds before a collision or a crossed line does.
    """
    speed, way = track.ego.speed, track.derived(way_ahead)
    closing = (speed - way.lead_speed).clamp_min(0)
    for_lead = closing.square() / (2.0 * (way.lead_gap - margin_m).clamp_min(LEAST_GAP))
    for_light = speed.square() / (2.0 * (way.red_gap - margin_m).clamp_min(LEAST_GAP))
    needed = torch.maximum(for_lead, for_light)
    return falling(needed, comfortable_mps2, emergency_mps2)
