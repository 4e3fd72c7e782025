"""What a critic may know and the car cannot see: facts of the scene as numbers, for asymmetric actor-critic training."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..geometry import to_frame, wrap_angle
from ..rewards.facts import road_position, route_position, way_ahead
from ..scene import Track

NEAREST_AGENTS = 6
AGENT_RANGE = 60.0  # m, beyond which nobody is told
SIGHT = 80.0  # m, gaps are cut off here
FACTS = ("lead_gap", "lead_speed", "red_gap", "route_offset", "route_heading_error", "lane_offset", "speed_limit", "in_junction")
AGENT_FACTS = ("there", "x", "y", "cos_heading", "sin_heading", "speed", "length", "width")
PRIVILEGED_SIZE = len(FACTS) + NEAREST_AGENTS * len(AGENT_FACTS)
PRIVILEGED_LIMIT = 200.0


def privileged_space() -> spaces.Box:
    """FACTS, then AGENT_FACTS of the nearest agents, nearest first: float32 [56] in SI units, the ego frame and radians."""
    return spaces.Box(-PRIVILEGED_LIMIT, PRIVILEGED_LIMIT, (PRIVILEGED_SIZE,), np.float32)


def privileged_facts(track: Track) -> Tensor:
    """Facts [B, PRIVILEGED_SIZE] of the last column of a track [B, T]; absent agents are zeros.

    Gaps are in m from the ego's front, SIGHT where there is nothing; the lead is the nearest box on the ego's way.
    """
    now = track.columns(slice(track.steps - 1, None))
    way, route, road = now.derived(way_ahead), now.derived(route_position), now.derived(road_position)
    ego, agents = now.ego, now.agents
    facts = torch.stack(
        (
            way.lead_gap.clamp_max(SIGHT),
            way.lead_speed,
            way.red_gap.clamp_max(SIGHT),
            route.offset.clamp(-SIGHT, SIGHT),
            wrap_angle(ego.heading - route.heading),
            road.offset.clamp(-SIGHT, SIGHT),
            road.speed_limit,
            road.in_junction.float(),
        ),
        -1,
    )[:, 0]
    place = to_frame(agents.position[:, 0], ego.position, ego.heading[:, 0].unsqueeze(-1))  # [B, N, 2]
    distance = place.norm(dim=-1).masked_fill(~agents.valid[:, 0], torch.inf)
    turned = agents.heading[:, 0] - ego.heading
    there = (distance < AGENT_RANGE).float()
    fields = (there, place[..., 0], place[..., 1], turned.cos(), turned.sin(), agents.speed[:, 0], agents.length[:, 0], agents.width[:, 0])
    table = torch.where(there.bool().unsqueeze(-1), torch.stack(fields, -1), 0.0)
    table = torch.nn.functional.pad(table, (0, 0, 0, NEAREST_AGENTS))
    order = torch.nn.functional.pad(distance, (0, NEAREST_AGENTS), value=torch.inf).argsort(-1)[:, :NEAREST_AGENTS]
    nearest = table.gather(1, order.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
    return torch.cat((facts, nearest.flatten(1)), -1).clamp(-PRIVILEGED_LIMIT, PRIVILEGED_LIMIT).float()
