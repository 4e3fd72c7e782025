"""Overtaking on the side of the centre line only."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around, road_position
from ..rule import rule


@rule(
    kind="gate",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="Vienna Convention on Road Traffic, article 11(1); free choice of lane and slow queues as in German StVO, section 7 (2a), (3)",
)
def overtaking_side(
    track: Track, *, free_limit_mps: float = 13.9, queue_mps: float = 16.7, queue_excess_mps: float = 5.6, beside_m: float = 6.0
) -> Tensor:
    """0 in the step in which the ego passes somebody on the side of the kerb, else 1: [B, T].

    That is the right where traffic keeps right, the left where it keeps left. Passed is who went ahead of the ego's centre in the column
    before and no longer does, goes the same way, and is at most `beside_m` off. It is allowed where the limit is at most
    `free_limit_mps` (lanes may be chosen freely), and beside a queue of at most `queue_mps` by no more than `queue_excess_mps`.
    """
    near, place = track.derived(around), track.derived(road_position)
    apart = near.breadth + 0.5 * track.profile.width.view(-1, 1, 1)
    away = near.y * track.road.traffic_side.view(-1, 1, 1)  # positive: between the ego and the centre line
    beside = near.same_way & ~near.walks & (away > apart) & (away < beside_m)
    before = lambda values: torch.nn.functional.pad(values[:, :-1], (0, 0, 1, 0))
    same = torch.nn.functional.pad(track.agents.id[:, 1:] == track.agents.id[:, :-1], (0, 0, 1, 0))
    passed = same & beside & (near.x <= 0) & (before(near.x) > 0) & before(near.valid)
    queue = (near.forward <= queue_mps) & (track.ego.speed.unsqueeze(-1) - near.forward <= queue_excess_mps)
    strict = (place.speed_limit > free_limit_mps) & ~place.in_junction
    return (~(passed & ~queue & strict.unsqueeze(-1)).any(-1)).float()
