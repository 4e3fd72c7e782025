"""Priority at junctions without lights: the one who comes from the right (in left-hand traffic, the left); at a stop sign, everybody."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scene import Track
from ..facts import around, at_stop_sign, road_position, signalled
from ..grading import falling, worst_of_agents
from ..rule import rule

LEAST_GAP = 0.5  # m, below which a gap counts as this
CROSSES = math.sin(math.radians(45.0))  # share of an agent's speed across the ego's heading, from which on it crosses
SLOWEST = 0.5  # m/s, of who has priority
SIGHT = 40.0  # m


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="Vienna Convention on Road Traffic, article 18(4); braking graded as in `required_braking`",
)
def yield_to_priority(
    track: Track,
    *,
    leeway_s: float = 2.0,
    comfortable_mps2: float = 2.0,
    emergency_mps2: float = 5.0,
    margin_m: float = 1.0,
) -> Tensor:
    """1 while the ego need brake no harder than `comfortable_mps2` for who has priority, falling to 0 at `emergency_mps2`: [B, T].

    Priority has whoever crosses the ego's heading from the right where traffic keeps right, from the left where it keeps left
    (countries with left-hand traffic differ: Australia has the right too), where no working light of the ego's route is near; at a
    stop sign of the ego's route whoever crosses from the other side has it too. It counts if, both keeping their velocity, the ego would
    reach its path within `leeway_s` of it. An ego in the junction already is past yielding.
    """
    near, ego = track.derived(around), track.ego
    side = track.road.traffic_side.view(-1, 1, 1)  # 1: traffic keeps right, so priority comes from y < 0 and moves to +y
    half_width, half_length = (0.5 * v.view(-1, 1, 1) for v in (track.profile.width, track.profile.length))
    pace = torch.hypot(near.sideways, near.forward)
    comes = lambda side: (near.y * side < -half_width) & (near.sideways * side > CROSSES * pace) & (pace > SLOWEST)
    from_priority = comes(side) | (comes(-side) & track.derived(at_stop_sign).unsqueeze(-1))
    gap = near.x - near.reach - half_length
    theirs = (near.y.abs() - near.breadth - half_width).clamp_min(0) / near.sideways.abs().clamp_min(1e-3)
    mine = gap.clamp_min(0) / ego.speed.unsqueeze(-1).clamp_min(1e-3)
    meets = ((mine - theirs).abs() < leeway_s) & (gap > 0) & (gap < SIGHT)
    free = ~track.derived(signalled) & ~track.derived(road_position).in_junction
    counts = near.valid & ~near.walks & from_priority & meets & free.unsqueeze(-1)
    needed = ego.speed.unsqueeze(-1).square() / (2.0 * (gap - margin_m).clamp_min(LEAST_GAP))
    value = falling(needed, comfortable_mps2, emergency_mps2)
    return worst_of_agents(torch.where(counts, value, 1.0))
