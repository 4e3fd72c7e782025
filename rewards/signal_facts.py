"""Which stop lines concern the ego, and what limits its speed ahead: the next red light or stop sign and the vehicle in front."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batched import Batched
from ..geometry import box_corners, boxes_overlap, project_polyline, wrap_angle
from ..road import ROUTE_STEP, SignalState
from ..scene import Track
from .lane_facts import ego_corners, route_position

STOP_REGION_DEPTH = 2.0  # m past the stop line
STOP_REGION_SHARE = 0.5  # middle share of the stop line, so that a neighbouring lane's light is not touched in passing
ALIGNED = math.radians(60.0)  # a light concerns the ego if it serves traffic within this of its heading
SIGNAL_CANDIDATES = 4
NEAR_LINE = 15.0  # m from the middle of a stop line, out of which no vehicle touches its stop region
LOOK_BACK = 2  # points of the route, ROUTE_STEP apart
LOOK_AHEAD_STRIDE = 2  # points of the route
LOOK_AHEAD_POINTS = 18  # every LOOK_AHEAD_STRIDE-th point of the route: 64 m ahead
CORRIDOR_MARGIN = 0.3  # m beside the ego's box that count as its way
YELLOW_BRAKING = 3.0  # m/s2, a yellow light stops whoever can stop with this
LINE_PASSED = 1.0  # m past the line, from where on the light is behind


@dataclass(frozen=True)
class WayAhead(Batched):
    """What limits the ego's speed ahead, every field [B, T]; gaps are from its front, infinite for nothing in sight."""

    lead_gap: Tensor  # m to the nearest box on its way
    lead_speed: Tensor  # m/s of that box along the ego's heading, 0 if none
    red_gap: Tensor  # m to the stop line of a red light, or of a yellow one it can still stop at
    sign_gap: Tensor  # m to the stop line of a stop sign, whether it has stood there or not


@dataclass(frozen=True)
class NearSignals(Batched):
    """The lights and stop signs nearest to the ego that stand on its route and serve traffic that heads its way."""

    index: Tensor  # [B, T, K] int64
    exists: Tensor  # [B, T, K] bool
    close: Tensor  # [B, T, K] bool, the ego may reach its stop region


def near_signals(track: Track) -> NearSignals:
    """Find the SIGNAL_CANDIDATES nearest signals that concern the ego (fewer where the road has fewer)."""
    road, ego = track.road, track.ego
    on_route = road.lane_values(track.route.lane_mask(road.width.shape[1]), road.signal_lane) & (road.signal_lane >= 0)
    turned = wrap_angle(road.signal_head[..., 3].unsqueeze(1) - ego.heading.unsqueeze(-1)).abs()
    concerned = (turned < ALIGNED) & on_route.unsqueeze(1)
    square = (road.stop_line.mean(2).unsqueeze(1) - ego.position.unsqueeze(2)).square().sum(-1).masked_fill(~concerned, torch.inf)
    value, index = square.topk(min(SIGNAL_CANDIDATES, square.shape[-1]), dim=-1, largest=False)
    return NearSignals(index, torch.isfinite(value), value < NEAR_LINE**2)


def stop_regions_entered(track: Track) -> Tensor:
    """Whether the ego's box is in the stop region of each signal of its route: bool [B, T, S].

    A stop region reaches from the stop line STOP_REGION_DEPTH past it, over the middle STOP_REGION_SHARE of its length.
    """
    road, near = track.road, track.derived(near_signals)
    nowhere = torch.zeros_like(track.signals, dtype=torch.bool)
    if not bool(near.close.any()):
        return nowhere
    line = road.lane_values(road.stop_line, near.index)  # [B, T, K, 2, 2]
    heading = road.lane_values(road.signal_head[..., 3], near.index)
    across = (line[..., 0, :] - line[..., 1, :]).norm(dim=-1)
    forward = torch.stack((torch.cos(heading), torch.sin(heading)), -1)
    depth = torch.full_like(across, STOP_REGION_DEPTH)
    region = box_corners(line.mean(-2) + 0.5 * STOP_REGION_DEPTH * forward, heading, depth, STOP_REGION_SHARE * across)
    inside = boxes_overlap(track.derived(ego_corners).unsqueeze(2), region) & near.close
    return nowhere.scatter(-1, near.index, inside)


def way_ahead(track: Track) -> WayAhead:
    """The nearest box, red light and stop sign on the ego's way, which follows the route at the ego's own offset from it."""
    ego, agents = track.ego, track.agents
    near = track.derived(near_signals)
    line = track.road.lane_values(track.road.stop_line, near.index)  # [B, T, K, 2, 2]
    points = torch.cat((ego.position.unsqueeze(2), agents.position, line.mean(-2)), 2)
    arc, offset, heading = project_polyline(points, _route_ahead(track).unsqueeze(2))
    gap = arc[..., 1:] - arc[..., :1] - 0.5 * track.profile.length.view(-1, 1, 1)  # from the ego's front
    aside = (offset[..., 1:] - offset[..., :1]).abs()
    count = agents.valid.shape[-1]

    relative = agents.heading - heading[..., 1 : 1 + count]
    cos, sin = torch.cos(relative), torch.sin(relative).abs()
    reach = 0.5 * (cos.abs() * agents.length + sin * agents.width)
    breadth = 0.5 * (sin * agents.length + cos.abs() * agents.width)
    clear = aside[..., :count] - breadth - 0.5 * track.profile.width.view(-1, 1, 1)
    ahead = agents.valid & (clear < CORRIDOR_MARGIN) & (arc[..., 1 : 1 + count] > arc[..., :1])
    lead_gap = (gap[..., :count] - reach).clamp_min(0).masked_fill(~ahead, torch.inf)
    lead_gap, lead = torch.nn.functional.pad(lead_gap, (0, 1), value=torch.inf).min(-1)
    along = torch.nn.functional.pad((agents.speed * cos).clamp_min(0).masked_fill(~ahead, 0.0), (0, 1))
    lead_speed = along.gather(-1, lead.unsqueeze(-1)).squeeze(-1)

    state = track.signals.gather(-1, near.index)
    gap = gap[..., count:]
    stoppable = gap > ego.speed.square().unsqueeze(-1) / (2.0 * YELLOW_BRAKING)
    stops = (state == int(SignalState.RED)) | ((state == int(SignalState.YELLOW)) & stoppable)
    half = 0.5 * (line[..., 0, :] - line[..., 1, :]).norm(dim=-1)
    mine = near.exists & (aside[..., count:] < half) & (gap > -LINE_PASSED)
    nearest = lambda counts: torch.nn.functional.pad(gap.clamp_min(0).masked_fill(~(mine & counts), torch.inf), (0, 1), value=torch.inf)
    sign = state == int(SignalState.STOP_SIGN)
    return WayAhead(lead_gap, lead_speed, nearest(stops).amin(-1), nearest(sign).amin(-1))


def _route_ahead(track: Track) -> Tensor:
    """The route from a little behind the ego on, as a polyline [B, T, LOOK_AHEAD_POINTS, 2] of every second stored point."""
    points = track.route.points
    begin = (track.derived(route_position).arc / ROUTE_STEP).long() - LOOK_BACK
    index = begin.unsqueeze(-1) + LOOK_AHEAD_STRIDE * torch.arange(LOOK_AHEAD_POINTS, device=points.device)
    return track.road.lane_values(points, index.clamp(0, points.shape[1] - 1))
