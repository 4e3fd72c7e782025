"""What learned agents must not drive into, as far as it can be said without a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...road import RoadMap, SignalState

FAR_AHEAD = 120.0  # m, stands for nothing ahead
YELLOW_BRAKING = 3.0  # m/s2 above which a yellow light is passed
PAST_STOPPING = 9.0  # m/s2 above which even a red one is
OVER_EDGE = 1.2  # m that an agent may stick out of its lane


class Hazards(NamedTuple):
    """What agents must not drive into, [B, M]; FAR_AHEAD where there is nothing."""

    line: Tensor  # m from the front to a stop line whose signal forbids to go on
    gap: Tensor  # m from the front to whoever is in the way
    leader_speed: Tensor  # m/s, its speed along the way
    beside: Tensor  # bool [B, M, 2], somebody is close on the left, on the right (turned round where traffic drives on the left)
    edge: Tensor  # bool [B, M, 2], out of the lane with none beside it on the left, on the right (turned round likewise)
    near: Tensor  # [B, M, K, 8] the nearest others: x, y, vx, vy, heading in the agent's frame, length, width, whether there is one


def forbidden_line(line: Tensor, shown: Tensor, speed: Tensor) -> Tensor:
    """Distance [B, M] to the line where a light is red, or yellow with room to stop; FAR_AHEAD elsewhere."""
    needed = speed.square() / 2 / line.clamp_min(0.1)
    red = (shown == int(SignalState.RED)) & (needed < PAST_STOPPING)
    yellow = (shown == int(SignalState.YELLOW)) & (needed < YELLOW_BRAKING)
    return torch.where((red | yellow) & (line > 0), line, torch.full_like(line, FAR_AHEAD))


def out_of_lane(road: RoadMap, lateral: Tensor, rows: Tensor, width: Tensor) -> Tensor:
    """Whether agents are out of their lanes on the left, on the right, where no other lane is: [B, N, 2].

    Args:
        road: [B].
        lateral: [B, N] m left of the lane's centre.
        rows: [B, N] of the lanes, see `lane_rows`.
        width: [B, N] m, of the agents.
    """
    room = 0.5 * (road.width.reshape(-1)[rows] - width).clamp_min(0) + OVER_EDGE
    alone = torch.stack((road.left.reshape(-1)[rows], road.right.reshape(-1)[rows]), -1) < 0
    return alone & torch.stack((lateral > room, -lateral > room), -1)
