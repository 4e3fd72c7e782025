"""RSS across the way: room beside whoever drives alongside."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around, side_speeds
from ..grading import worst_of_agents
from ..rule import rule


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="RSS (Shalev-Shwartz et al., 2017, definition 6; IEEE 2846); defaults of the open-source ad-rss-lib",
)
def side_distance(
    track: Track,
    *,
    response_s: float = 1.0,
    acceleration_mps2: float = 0.2,
    braking_mps2: float = 0.8,
    margin_m: float = 0.0,
) -> Tensor:
    """Smallest gap to a box alongside over the least safe gap, at most 1: [B, T].

    Alongside is who overlaps the ego along its heading. The safe gap is `margin_m` plus what both can drift towards each other when
    each accelerates sideways by `acceleration_mps2` for `response_s` and then brakes that by `braking_mps2`. A standing ego keeps any gap.
    """
    near, half = track.derived(around), 0.5 * track.profile.width.view(-1, 1, 1)
    alongside = near.valid & (near.x.abs() < near.reach + 0.5 * track.profile.length.view(-1, 1, 1))
    gap = (near.y.abs() - near.breadth - half).clamp_min(0)
    to_left = torch.sign(near.y)
    drift = lambda towards: _drift(towards.clamp_min(0), response_s, acceleration_mps2, braking_mps2)
    own, others = side_speeds(track)
    mine, theirs = to_left * own.unsqueeze(-1), -to_left * others
    safe = margin_m + drift(mine) + drift(theirs)
    held = torch.where(gap >= safe, 1.0, gap / safe.clamp_min(1e-6))
    moving = (track.ego.speed > 0.05).unsqueeze(-1)
    return worst_of_agents(torch.where(alongside & moving, held, 1.0))


def _drift(speed: Tensor, response_s: float, acceleration: float, braking: float) -> Tensor:
    """Metres covered sideways: mean speed over the response, then braked to a stand."""
    later = speed + response_s * acceleration
    return 0.5 * (speed + later) * response_s + later.square() / (2.0 * braking)
