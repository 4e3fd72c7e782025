"""Changing lanes slowly enough for others to see it coming."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import DT, Track
from ..facts import road_position
from ..grading import falling
from ..history import run_length
from ..lane_changes import lane_change
from ..rule import rule

DRIFT = 0.1  # m/s across the lane, from which on a car is seen to leave its lane


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="ours, in place of the 3 s of signal of UN Regulation No. 79, 5.6.4; Vienna Convention on Road Traffic, article 14(3)",
)
def lane_change_notice(track: Track, *, enough_s: float = 1.5, least_s: float = 0.5) -> Tensor:
    """For how long a change of lane could be seen coming, in the step in which the ego enters the lane: [B, T].

    1 if the ego had been moving towards that lane for `enough_s` (at most 2.4 s) or longer, falling to 0 at `least_s`; 1 in all other
    steps. A `Scene` has no indicators, so the movement is the only signal that a car gives.
    """
    turned, place = lane_change(track), track.derived(road_position)
    across = track.ego.speed * torch.sin(place.heading_error)  # to the left
    never = torch.zeros_like(track.valid)
    seen = lambda way: DT * run_length((way * across > DRIFT) & track.valid, skip=never).float()
    graded = lambda way: falling(-seen(way), -enough_s, -least_s)
    return torch.where(turned.left, graded(1.0), torch.where(turned.right, graded(-1.0), 1.0))
