"""What is in an agent's way: the other agents and the ego as boxes, projected on the way ahead."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...scene import Agents, Ego, Scene

STEP_AHEAD = 2.5  # m between the points of an agent's way
POINTS_AHEAD = 48
SIDE_MARGIN = 0.3  # m beside a vehicle that must be free


class Others(NamedTuple):
    """Everything on the road as obstacles: the agents, then the ego; M = N + 1."""

    position: Tensor  # [B, M, 2]
    direction: Tensor  # [B, M, 2] unit vector
    half_length: Tensor  # [B, M]
    half_width: Tensor  # [B, M]
    speed: Tensor  # [B, M]
    valid: Tensor  # [B, M]


def obstacles(agents: Agents, lateral: Tensor, ego: Ego, scene: Scene) -> Others:
    """Agents and ego as one list of boxes; an agent on its way into a lane takes up what is left of that way (`lateral` [B, N] m)."""
    heading = torch.cat((agents.heading, ego.heading.unsqueeze(-1)), -1)
    direction = torch.stack((torch.cos(heading), torch.sin(heading)), -1)
    aside = 0.5 * lateral.unsqueeze(-1) * torch.stack((direction[:, :-1, 1], -direction[:, :-1, 0]), -1)
    join = lambda mine, egos: torch.cat((mine, egos.unsqueeze(1)), 1)
    return Others(
        position=join(agents.position + aside, ego.position),
        direction=direction,
        half_length=join(agents.length, scene.profile.length) / 2,
        half_width=join(agents.width + lateral.abs(), scene.profile.width) / 2,
        speed=join(agents.speed, ego.speed),
        valid=join(agents.valid, torch.ones_like(ego.speed, dtype=torch.bool)),
    )


def nearest_ahead(ahead: Tensor, lateral: Tensor, half_length: Tensor, half_width: Tensor, others: Others) -> tuple[Tensor, Tensor, Tensor]:
    """Find what each agent would run into first along its way.

    Args:
        ahead: [B, N, POINTS_AHEAD, 4] points and directions from its centre on.
        lateral: [B, N] m, its present offset from that way.
        half_length: [B, N] m.
        half_width: [B, N] m.
        others: all boxes; entry i < N is agent i itself.

    Returns:
        gap between bumpers [B, N] in m (infinite: nothing), the obstacle's speed along the way [B, N], and whether the
        ego is in the agent's own lane, before or behind it [B, N].
    """
    batch, agents, points, _ = ahead.shape
    dx = others.position[:, None, :, None, 0] - ahead[:, :, None, :, 0]
    dy = others.position[:, None, :, None, 1] - ahead[:, :, None, :, 1]
    nearest = dx.square_().addcmul_(dy, dy).argmin(-1)
    index = nearest.view(batch * agents, -1) + torch.arange(batch * agents, device=ahead.device).unsqueeze(-1) * points
    at = ahead.view(-1, 4)[index].view(batch, agents, -1, 4)
    relative = others.position.unsqueeze(1) - at[..., :2]
    ux, uy = at[..., 2], at[..., 3]
    along = relative[..., 0] * ux + relative[..., 1] * uy
    side = ux * relative[..., 1] - uy * relative[..., 0]
    arc = STEP_AHEAD * nearest + along
    direction = others.direction.unsqueeze(1)
    cos = ux * direction[..., 0] + uy * direction[..., 1]
    sin = (ux * direction[..., 1] - uy * direction[..., 0]).abs()
    length, width = others.half_length.unsqueeze(1), others.half_width.unsqueeze(1)
    off = (side - lateral.clamp_min(0).unsqueeze(-1)).clamp_min(0) + (lateral.clamp_max(0).unsqueeze(-1) - side).clamp_min(0)
    reach = width * cos.abs() + length * (sin - 0.1).clamp_min(0)
    beside = off < half_width.unsqueeze(-1) + reach + SIDE_MARGIN
    in_way = beside & (arc > 0) & (along.abs() < 2 * STEP_AHEAD) & others.valid.unsqueeze(1)
    in_way.diagonal(dim1=1, dim2=2).fill_(False)
    gap = arc - half_length.unsqueeze(-1) - length * cos.abs() - width * sin
    gap, leader = torch.where(in_way, gap, torch.full_like(gap, torch.inf)).min(-1)
    speed = (others.speed.unsqueeze(1) * cos).gather(-1, leader.unsqueeze(-1)).squeeze(-1)
    return gap, speed, (beside & (cos > 0.7))[..., -1]
