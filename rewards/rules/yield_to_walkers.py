"""Yielding to people on foot who are on the ego's way or about to be."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around
from ..grading import falling, worst_of_agents
from ..rule import rule

CLEARANCE = 0.5  # m beside the ego's box that a walker needs
LEAST_GAP = 0.5  # m, below which a gap counts as this


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="Vienna Convention on Road Traffic, article 21(2); braking graded as in `required_braking`",
)
def yield_to_walkers(
    track: Track,
    *,
    horizon_s: float = 4.0,
    leeway_s: float = 1.0,
    comfortable_mps2: float = 2.0,
    emergency_mps2: float = 5.0,
    margin_m: float = 2.0,
) -> Tensor:
    """1 while the ego need brake no harder than `comfortable_mps2` to let walkers cross its way, falling to 0 at `emergency_mps2`: [B, T].

    A walker counts if, both keeping their velocity, it is in the ego's way (its width and half a metre on each side, straight on)
    within `leeway_s` of the moment at which the ego arrives there, and that within `horizon_s`. Braking is to a stand `margin_m` before it.
    """
    near, speed = track.derived(around), track.ego.speed.unsqueeze(-1)
    half = 0.5 * track.profile.width.view(-1, 1, 1) + CLEARANCE + near.breadth
    gap = near.x - near.reach - 0.5 * track.profile.length.view(-1, 1, 1)
    toward = torch.where(near.sideways.abs() < 1e-3, 1e-3, near.sideways)
    first, last = ((-torch.sign(toward) * half - near.y) / toward, (torch.sign(toward) * half - near.y) / toward)
    arrival = gap.clamp_min(0) / speed.clamp_min(1e-3)
    meets = (arrival > first - leeway_s) & (arrival < last + leeway_s) & (arrival < horizon_s) & (last > 0)
    counts = near.walks & (gap > -near.reach) & meets
    needed = speed.square() / (2.0 * (gap - margin_m).clamp_min(LEAST_GAP))
    value = falling(needed, comfortable_mps2, emergency_mps2)
    return worst_of_agents(torch.where(counts, value, 1.0))
