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
AHEAD_ANGLE = math.radians(30.0)  # seen from the ego's rear axle
BEHIND_ANGLE = math.radians(150.0)
BUMPER_DEPTH = 0.02  # m, the front bumper as a box


@dataclass(frozen=True)
class AgentRelations(Batched):
    """How each agent stands to the ego; every field bool [B, T, N], False for invalid slots."""

    overlap: Tensor  # the boxes overlap
    front: Tensor  # its box overlaps the ego's front bumper
    behind: Tensor  # its centre is more than 150 degrees off the ego's heading, seen from the rear axle


def agent_corners(track: Track) -> Tensor:
    """Corners of the agents' boxes [B, T, N, 4, 2] in m."""
    agents = track.agents
    return box_corners(agents.position, agents.heading, agents.length, agents.width)


def bearing(track: Track, centres: Tensor) -> Tensor:
    """Angle [B, T, ...] in [0, pi] between the ego's heading and points [B, T, ..., 2], seen from its rear axle."""
    ego = track.ego
    forward = torch.stack((torch.cos(ego.heading), torch.sin(ego.heading)), -1)
    axle = ego.position - track.profile.rear_axle.view(-1, 1, 1) * forward
    shape = (*axle.shape[:2], *([1] * (centres.ndim - 3)), 2)
    vector, forward = centres - axle.view(shape), forward.view(shape)
    along = (vector * forward).sum(-1)
    across = vector[..., 0] * forward[..., 1] - vector[..., 1] * forward[..., 0]
    return torch.atan2(across.abs(), along)


def agent_relations(track: Track) -> AgentRelations:
    """Overlaps and sides of all agents."""
    ego = track.derived(ego_corners)
    left, right = ego[:, :, 0], ego[:, :, 3]
    back = (ego[:, :, 1] - left) * (BUMPER_DEPTH / track.profile.length.view(-1, 1, 1))
    bumper = torch.stack((left, left + back, right + back, right), 2)
    boxes = torch.stack((ego, bumper), 2).unsqueeze(3)  # [B, T, 2, 1, 4, 2]
    hits = boxes_overlap(boxes, track.derived(agent_corners).unsqueeze(2)) & track.agents.valid.unsqueeze(2)
    behind = (bearing(track, track.agents.position) > BEHIND_ANGLE) & track.agents.valid
    return AgentRelations(overlap=hits[:, :, 0], front=hits[:, :, 1], behind=behind)


@lru_cache(maxsize=32)
def imminent_collision(horizon_s: float) -> Callable[[Track], Tensor]:
    """The fact whether the ego is about to hit someone within a horizon, all at constant velocity: bool [B, T, N].

    Source: NAVSIM pdm_scorer.py, `_calculate_ttc`; there the others follow their recorded future, which a causal rule cannot know.
    """
    steps = math.floor(horizon_s / TTC_STEP + 1e-6) + 1

    def imminent(track: Track) -> Tensor:
        ego, agents, place = track.ego, track.agents, track.derived(road_position)
        later = TTC_STEP * torch.arange(steps, device=ego.state.device).view(1, 1, -1, 1)
        ego_move = _velocity(ego.speed, ego.heading)[:, :, None, None] * later.unsqueeze(-1)  # [B, T, K, 1, 2]
        agent_move = _velocity(agents.speed, agents.heading).unsqueeze(2) * later.unsqueeze(-1)  # [B, T, K, N, 2]
        ego_boxes = track.derived(ego_corners)[:, :, None, None] + ego_move.unsqueeze(-2)
        agent_boxes = track.derived(agent_corners).unsqueeze(2) + agent_move.unsqueeze(-2)
        hit = boxes_overlap(ego_boxes, agent_boxes)
        angle = bearing(track, agents.position.unsqueeze(2) + agent_move)
        exposed = place.multiple_lanes | ~place.corners_on_road | place.in_junction
        counts = (angle < AHEAD_ANGLE) | (exposed[:, :, None, None] & (angle <= BEHIND_ANGLE))
        moving = (ego.speed >= TTC_STOPPED_SPEED).unsqueeze(-1)
        return (hit & counts).any(2) & agents.valid & moving

    return imminent


def _velocity(speed: Tensor, heading: Tensor) -> Tensor:
    return speed.unsqueeze(-1) * torch.stack((torch.cos(heading), torch.sin(heading)), -1)
