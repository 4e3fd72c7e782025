"""What the route ahead asks of the car, worked out of the observation's points."""

from __future__ import annotations

import torch
from torch import Tensor

from ...world import ROUTE_AHEAD_SPACING
from .bins import LATERAL_AT, STANDARD

LOOK_AHEAD_S = 0.45
LOOK_AHEAD = (ROUTE_AHEAD_SPACING, 16.0)  # m, least and most; nearer points of the route are not observed
LATERAL_ACCELERATION = 2.2  # m/s2 in bends
BEND_BRAKING = 1.4  # m/s2 ahead of them


def turn(speed: Tensor, route: Tensor) -> Tensor:
    """Share of full steering [B] in [-1, 1] for the arc through the route's point LOOK_AHEAD_S ahead.

    Args:
        speed: [B] m/s.
        route: [B, P, 2] m, the points ROUTE_AHEAD_SPACING, twice that, ... ahead in the ego frame.

    The arc and full steering are those of the standard car. Source: pure pursuit, Coulter 1992.
    """
    place = ((LOOK_AHEAD_S * speed).clamp(*LOOK_AHEAD) / ROUTE_AHEAD_SPACING - 1).clamp_max(route.shape[1] - 1.001)
    low = place.clamp_min(0).long()
    batch = torch.arange(len(speed), device=speed.device)
    start, end = route[batch, low], route[batch, low + 1]
    x, y = (start + (place - low).unsqueeze(-1) * (end - start)).unbind(-1)
    curvature = 2 * y / (x.square() + y.square() + 2 * x.clamp_min(0) * STANDARD["rear_axle"]).clamp_min(1.0)
    limited = torch.atan(STANDARD["wheelbase"] * STANDARD["max_lateral_acceleration"] / speed.square().clamp_min(1e-3))
    return (torch.atan(STANDARD["wheelbase"] * curvature) / limited.clamp_max(STANDARD["max_steering"])).clamp(-1, 1)


def lateral(route: Tensor) -> Tensor:
    """Sideways offsets [B, len(LATERAL_AT)] in m of the route at those distances; left positive."""
    index = [round(distance / ROUTE_AHEAD_SPACING) - 1 for distance in LATERAL_AT]
    return route[:, index, 1]


def bend_speed(route: Tensor) -> Tensor:
    """The highest speed [B] in m/s now from which the bends ahead can be met by mild braking; 60 where there is none."""
    before, after = route[:, 1:-1] - route[:, :-2], route[:, 2:] - route[:, 1:-1]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    sides = before.norm(dim=-1) * after.norm(dim=-1) * (before + after).norm(dim=-1)
    curvature = torch.where(sides > 1.0, 2 * cross.abs() / sides.clamp_min(1.0), torch.zeros_like(sides))
    curvature = torch.nn.functional.avg_pool1d(curvature.unsqueeze(1), 3, stride=1, padding=1, count_include_pad=False).squeeze(1)
    distance = ROUTE_AHEAD_SPACING * torch.arange(2, route.shape[1], device=route.device)
    allowed = (LATERAL_ACCELERATION / curvature.clamp_min(1e-4) + 2 * BEND_BRAKING * distance).sqrt()
    return allowed.amin(-1).clamp_max(60.0)


def remaining(route: Tensor) -> Tensor:
    """Length [B] in m of the route in sight."""
    return route[:, :1].norm(dim=-1).squeeze(1) + (route[:, 1:] - route[:, :-1]).norm(dim=-1).sum(-1)
