"""Changing lanes without a reason."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import road_position, way_ahead
from ..history import trailing
from ..lane_changes import lane_change
from ..rule import rule

LOOK_BACK = 21  # columns: the reason may be two seconds old


@rule(
    kind="cost",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=0.0,
    source="ours; Vienna Convention on Road Traffic, article 10(3), asks for one lane without a reason to leave it",
)
def needless_lane_change(track: Track, *, slower_mps: float = 2.0, headway_s: float = 4.0) -> Tensor:
    """1 in the step in which the ego enters another lane although nothing asked for it, else 0: [B, T].

    Reasons: a box ahead within `headway_s` that was at least `slower_mps` slower than the limit at some time in the last 2 s, a lane before
    whose successors the route does not use, or a move back towards the kerb. The route is looked at one piece of lane (60 m at most) ahead.
    """
    place, way, turned = track.derived(road_position), track.derived(way_ahead), lane_change(track)
    hindered = (way.lead_gap < headway_s * track.ego.speed.clamp_min(1.0)) & (way.lead_speed < place.speed_limit - slower_mps)
    hindered = trailing(hindered, LOOK_BACK).any(-1)
    road = track.road
    successors = road.lane_values(road.successors, place.lane)  # [B, T, 4]
    usable = torch.nn.functional.pad(track.route.lane_mask(road.width.shape[1]), (0, 1))
    rows = torch.arange(len(usable), device=usable.device).view(-1, 1, 1)
    leads_on = (usable[rows, successors] & (successors >= 0)).any(-1) & (place.lane >= 0)
    asked = torch.nn.functional.pad(~leads_on[:, :-1], (1, 0), value=True)
    back = torch.where(road.traffic_side.unsqueeze(-1) > 0, turned.right, turned.left)
    return ((turned.left | turned.right) & ~hindered & ~asked & ~back).float()
