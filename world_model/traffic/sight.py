"""What each agent sees of its way: lanes, leader, next junction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...road import RoadMap
from ...scene import Ego, Scene
from . import junctions
from .memory import IdmMemory
from .obstacles import POINTS_AHEAD, STEP_AHEAD, Others, nearest_ahead, obstacles
from .paths import Paths, follow, lane_rows


class Sight(NamedTuple):
    """All agents' views [B, N]."""

    paths: Paths
    here: Tensor  # [B, N] m, arc of the centre on the path
    rows: Tensor  # [B, N, CHAIN] of the lanes in flattened per-lane fields
    limits: Tensor  # [B, N, CHAIN] m/s
    on_lane: Tensor  # bool [B, N]
    half_length: Tensor  # [B, N] m
    ahead: Tensor  # [B, N, POINTS_AHEAD, 4] points and directions ahead
    others: Others
    gap: Tensor  # [B, N] m to whatever is in the way first
    leader_speed: Tensor  # [B, N] m/s along the way
    ego_in_lane: Tensor  # bool [B, N]
    way: junctions.Approach
    ends: Tensor  # bool [B, N], the lane ends where the one beside it goes on


def look(scene: Scene, ego: Ego, memory: IdmMemory) -> Sight:
    """See scenes [B] through their agents' eyes, with the ego at `ego`."""
    road, agents, chain = scene.road, scene.agents, memory.chain
    half_length, half_width = agents.length / 2, agents.width / 2
    paths = follow(road, chain)
    here = paths.piece_start[..., 1] + memory.arc
    rows = lane_rows(road, chain)
    kinds = road.kind.reshape(-1)[rows]
    on_lane = agents.valid & (chain[..., 1] >= 0)
    ahead = paths.sample(here.unsqueeze(-1) + STEP_AHEAD * torch.arange(POINTS_AHEAD, device=here.device))
    others = obstacles(agents, memory.lateral, ego, scene)
    gap, leader_speed, ego_in_lane = nearest_ahead(ahead, memory.lateral, half_length, half_width, others)
    return Sight(
        paths=paths,
        here=here,
        rows=rows,
        limits=road.speed_limit.reshape(-1)[rows],
        on_lane=on_lane,
        half_length=half_length,
        ahead=ahead,
        others=others,
        gap=gap,
        leader_speed=leader_speed,
        ego_in_lane=ego_in_lane,
        way=junctions.approach(paths, chain, kinds, here, half_length, agents.speed, on_lane),
        ends=ending_lanes(road, chain),
    )


def ending_lanes(road: RoadMap, chain: Tensor) -> Tensor:
    """Whether an agent's known way [B, N] ends where the lane beside it goes on (and not at the edge of the map)."""
    ends = chain[..., -1] < 0
    if not bool(ends.any()):
        return ends
    last = chain.gather(-1, (chain[..., 1:] >= 0).sum(-1, keepdim=True).clamp_min(1)).squeeze(-1)
    onward = road.successors[..., 0].reshape(-1)
    goes_on = torch.zeros_like(ends)
    for side in (road.left, road.right):
        beside = side.reshape(-1)[lane_rows(road, last)]
        goes_on |= (beside >= 0) & (onward[lane_rows(road, beside)] >= 0)
    return ends & goes_on & (last >= 0)
