"""Changing lanes only where nobody has to brake for it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around
from ..grading import falling
from ..lane_changes import HALF_LANE, lane_change
from ..rule import rule

LEAST_GAP = 0.1  # m, below which a gap counts as this


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="MOBIL's safety criterion (Kesting et al., 2007: 4 m/s2); Vienna Convention on Road Traffic, article 11(2d), 14(1)",
)
def lane_change_gap(track: Track, *, comfortable_mps2: float = 2.0, safe_mps2: float = 4.0) -> Tensor:
    """What a change of lane asks of others, in the step in which the ego enters the lane: [B, T].

    1 if who follows there need brake no harder than `comfortable_mps2`, falling to 0 at `safe_mps2`; 1 in all other steps. The ego changes
    lanes when its nearest centreline does. Its own braking for whoever is ahead in the new lane counts in the same way.
    """
    near, speed = track.derived(around), track.ego.speed.unsqueeze(-1)
    turned = lane_change(track)
    in_new = near.same_way & ((near.y - turned.target.unsqueeze(-1)).abs() < HALF_LANE)
    room = near.x.abs() - near.reach - 0.5 * track.profile.length.view(-1, 1, 1)
    closing = torch.where(near.x < 0, near.forward - speed, speed - near.forward).clamp_min(0)
    needed = closing.square() / (2.0 * room.clamp_min(LEAST_GAP))
    needed = torch.where(room <= 0, torch.inf, needed).masked_fill(~in_new, 0.0)
    worst = torch.nn.functional.pad(needed, (0, 1)).amax(-1)
    value = falling(worst, comfortable_mps2, safe_mps2)
    return torch.where(turned.left | turned.right, value, 1.0)
