"""How the other road users stand to the ego: who overlaps it, who is ahead, whom it would hit soon."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..batched import Batched
from ..geometry import box_corners, boxes_overlap
from ..scene import Track
from .lane_facts import ego_corners, road_position

STOPPED_SPEED = 0.05  # m/s, at or below which an ego or an agent counts as stopped in a collision
TTC_STOPPED_SPEED = 0.005  # m/s, below which time to collision is skipped
TTC_STEP = 0.3  # s between the projections
TTC_HORIZON = 0.9  # s
AHEAD_ANGLE = math.radians(30.0)  # seen from the ego's rear axle
BEHIND_ANGLE = math.radians(150.0)
BUMPER_DEPTH = 0.02  # m, the front bumper as a box


@dataclass(frozen=True)
class AgentRelations(Batched):
    """How each agent stands to the ego; every field bool [B, T, N], False for invalid slots."""

    overlap: Tensor  # the boxes overlap
    front: Tensor  # its box overlaps the ego's front bumper
    behind: Tensor  # its centre is more than 150 degrees off the ego's heading, seen from the rear axle
    imminent: Tensor  # the ego is about to hit it, see `relations_within`


def agent_corners(track: Track) -> Tensor:
    """Corners of the agents' boxes [B, T, N, 4, 2] in m."""
    agents = track.agents
    return box_corners(agents.position, agents.heading, agents.length, agents.width)


@lru_cache(maxsize=32)
def relations_within(horizon_s: float, step_s: float = TTC_STEP) -> Callable[[Track], AgentRelations]:
    """The fact how the agents stand to the ego, now and within a horizon in s, over which all keep their velocity.

    A hit is imminent where, every `step_s` (0, 0.3, 0.6 ... s) ahead, the boxes overlap and the agent is then ahead of the ego (within
    30 degrees of its heading, from the rear axle), or not behind while the ego is in several lanes, in a junction or off the
    drivable area.
    Source: NAVSIM pdm_scorer.py, `_calculate_ttc`; there the others follow their recorded future, which a causal rule cannot know.
    """
    steps = math.floor(horizon_s / step_s + 1e-6) + 1

    def relations(track: Track) -> AgentRelations:
        ego, agents, place = track.ego, track.agents, track.derived(road_position)
        later = step_s * torch.arange(steps + 1, device=ego.state.device)
        later[steps] = 0.0  # the last one is for the bumper, now
        later = later.view(1, 1, -1, 1, 1)
        forward = _direction(ego.heading)
        ego_move = (ego.speed.unsqueeze(-1) * forward)[:, :, None, None] * later  # [B, T, K, 1, 2]
        agent_move = (agents.speed.unsqueeze(-1) * _direction(agents.heading)).unsqueeze(2) * later  # [B, T, K, N, 2]
        box = track.derived(ego_corners)
        shapes = torch.stack((box,) * steps + (_bumper(track, box),), 2).unsqueeze(3)  # [B, T, K, 1, 4, 2]
        others = track.derived(agent_corners).unsqueeze(2) + agent_move.unsqueeze(-2)
        hit = boxes_overlap(shapes + ego_move.unsqueeze(-2), others) & agents.valid.unsqueeze(2)

        axle = ego.position - track.profile.rear_axle.view(-1, 1, 1) * forward
        angle = bearing(axle, forward, agents.position.unsqueeze(2) + agent_move)  # [B, T, K, N]
        behind = angle > BEHIND_ANGLE
        exposed = place.multiple_lanes | ~place.corners_on_road | place.in_junction
        counts = (angle < AHEAD_ANGLE) | (exposed[:, :, None, None] & ~behind)
        moving = (ego.speed >= TTC_STOPPED_SPEED).unsqueeze(-1)
        imminent = (hit & counts)[:, :, :steps].any(2) & moving
        return AgentRelations(hit[:, :, 0], hit[:, :, steps], behind[:, :, 0] & agents.valid, imminent)

    return relations


agent_relations = relations_within(TTC_HORIZON, TTC_STEP)


def bearing(origin: Tensor, forward: Tensor, points: Tensor) -> Tensor:
    """Angle [B, T, K, N] in [0, pi] between directions [B, T, 2] and points [B, T, K, N, 2], seen from origins [B, T, 2]."""
    x, y = (points - origin[:, :, None, None]).unbind(-1)
    forward_x, forward_y = forward[:, :, None, None].unbind(-1)
    return torch.atan2((x * forward_y - y * forward_x).abs(), x * forward_x + y * forward_y)


def _bumper(track: Track, box: Tensor) -> Tensor:
    """The ego's front bumper as a thin box [B, T, 4, 2]."""
    inwards = (box[:, :, 1:3] - box[:, :, 0:4:3]) * (BUMPER_DEPTH / track.profile.length.view(-1, 1, 1, 1))
    left_right = box[:, :, 0:4:3]
    left_back, right_back = (left_right + inwards).unbind(2)
    left, right = left_right.unbind(2)
    return torch.stack((left, left_back, right_back, right), 2)


def _direction(heading: Tensor) -> Tensor:
    return torch.stack((torch.cos(heading), torch.sin(heading)), -1)
