"""What learned agents must not drive into, and which motions would lead them there: what can be said without a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...road import RoadMap, SignalState
from ...scene import Agents
from .vocabulary import HORIZON

FAR_AHEAD = 120.0  # m, stands for nothing ahead
YELLOW_BRAKING = 3.0  # m/s2 above which a yellow light is passed
PAST_STOPPING = 9.0  # m/s2 above which even a red one is
OVER_EDGE = 1.2  # m that an agent may stick out of its lane
FIRM_BRAKING = 4.6  # m/s2 that agents keep in reserve
HARD_BRAKING = 4.6  # m/s2 that whoever is ahead may brake with
SIDEWAYS = 0.03  # m within HORIZON that counts as moving to a side
LINE_MARGIN = 0.3  # m before a stop line
GAP_MARGIN = 0.8  # m behind whoever is ahead
BUMP_TIMES = (0.5, 1.0)  # s ahead at which somebody on foot must not have come upon anybody
BUMP_ROOM = 0.1  # m


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


def leads_astray(motions: Tensor, speed: Tensor, hazards: Hazards) -> Tensor:
    """Which motions [V, 2] lead agents [B, M] to where FIRM_BRAKING no longer helps: bool [B, M, V].

    Where all do, those that brake hardest are let through.
    """
    after = (speed.unsqueeze(-1) + motions[:, 0]).clamp_min(0)
    driven = 0.5 * (speed.unsqueeze(-1) + after) * HORIZON
    stopping = after.square() / (2 * FIRM_BRAKING)
    leader = hazards.leader_speed.clamp_min(0).unsqueeze(-1)
    its_way = leader * HORIZON + leader.square() / (2 * HARD_BRAKING)
    short = (driven + stopping > (hazards.line - LINE_MARGIN).unsqueeze(-1)) & (hazards.line < FAR_AHEAD).unsqueeze(-1)
    close = driven + stopping > (hazards.gap - GAP_MARGIN).unsqueeze(-1) + its_way
    astray = (short | (close & (hazards.gap < FAR_AHEAD).unsqueeze(-1))) & (after > 0)
    astray = astray | to_a_side(motions, hazards.beside | hazards.edge)
    hardest = motions[:, 0] <= 0.8 * motions[:, 0].amin()
    return torch.where(astray.all(-1, keepdim=True), ~hardest, astray)


def to_a_side(motions: Tensor, closed: Tensor) -> Tensor:
    """Which motions [V, 2] lead to a side that is closed [B, M, 2]: bool [B, M, V]."""
    sides = torch.stack((motions[:, 1] > SIDEWAYS, motions[:, 1] < -SIDEWAYS))
    return (closed.unsqueeze(-1) & sides).any(-2)


def bumps_into(motions: Tensor, agents: Agents, hazards: Hazards) -> Tensor:
    """Which motions [V, 2] lead people [B, N] off their pavement or nearer to somebody than they may come: bool [B, N, V].

    All others are taken to go straight on. Where all motions do, those that stop are let through.
    """
    speed = agents.speed.unsqueeze(-1)
    after = (speed + motions[:, 0]).clamp_min(0)
    reach = (0.5 * torch.hypot(agents.length, agents.width) + BUMP_ROOM)[..., None, None]
    x, y, vx, vy, turned, length, width, there = (value.unsqueeze(-2) for value in hazards.near.unbind(-1))  # [B, N, 1, K]

    def room(ahead: Tensor, aside: Tensor, time: float) -> Tensor:
        dx, dy = ahead - x - time * vx, aside - y - time * vy
        cos, sin = torch.cos(turned), torch.sin(turned)
        along, across = (dx * cos + dy * sin).abs() - length / 2, (dy * cos - dx * sin).abs() - width / 2
        return torch.hypot(along.clamp_min(0), across.clamp_min(0)) - reach

    now = room(torch.zeros_like(x), torch.zeros_like(x), 0.0)
    astray = to_a_side(motions, hazards.edge)
    for time in BUMP_TIMES:
        ahead = 0.5 * (speed + after) * HORIZON + after * (time - HORIZON)
        then = room(ahead.unsqueeze(-1), motions[:, 1].view(-1, 1), time)
        astray = astray | ((then < 0) & (then < now) & (there > 0)).any(-1)
    return torch.where(astray.all(-1, keepdim=True), after > after.amin(-1, keepdim=True) + 0.1, astray)
