"""Who waits at a junction: agents whose ways cross are ordered by right of way, and the later one holds before the line."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...road import ROUTE_STEP, LaneKind, Route
from ...scene import Ego
from .paths import Paths

ZONE_POINTS = 8  # points of an agent's way through its next junction
LOOK = 60.0  # m before a junction from where on it is considered
STANDOFF = 1.0  # m between a waiting vehicle's front and the line
ENTERED = -0.6  # m before the line from where on a vehicle counts as inside
CLEARANCE = 0.6  # m between two vehicles' sides that still counts as crossing
SPARE = 1.0  # s between one vehicle's leaving and the other's arrival
PULL_AWAY = 1.5  # m/s2 assumed when arrival times are guessed
COMMITTED_BRAKING = 6.0  # m/s2 beyond which a vehicle no longer stops for right of way
EGO_HORIZON = 3.0  # s the ego's motion is extrapolated
EGO_POINTS = 32  # points, ROUTE_STEP apart
ON_ROUTE = 2.5  # m from its route within which the ego is taken to follow it


class Approach(NamedTuple):
    """Each agent's next junction (or the one it is in), all [B, N] unless said."""

    present: Tensor  # bool, there is one within LOOK
    inside: Tensor  # bool, its front has entered, or can no longer stop before it
    line: Tensor  # m from its front to the junction
    way: Tensor  # [B, N, ZONE_POINTS, 2] what remains of its way through
    turn: Tensor  # sine of the turn in the junction, positive to the left
    from_lane: Tensor  # lane before the junction, -1 unknown
    junction_lane: Tensor  # first lane inside
    arrives: Tensor  # s until it enters
    clears: Tensor  # s until its rear has left


def approach(paths: Paths, chain: Tensor, kinds: Tensor, here: Tensor, half_length: Tensor, speed: Tensor, active: Tensor) -> Approach:
    """Find each agent's next junction along its chain; `kinds` [B, N, CHAIN] and `here` [B, N], its arc on the path."""
    junction = (kinds == int(LaneKind.JUNCTION)) & (chain >= 0)
    junction[..., 0] = False
    present = junction.any(-1) & active
    first = junction.float().argmax(-1, keepdim=True).clamp_min(1)
    position = torch.arange(chain.shape[-1], device=chain.device)
    after = position >= first
    run = after & ((after & ~junction).cumsum(-1) == 0)
    entry = paths.piece_start.gather(-1, first).squeeze(-1) - here
    leave = torch.where(run, paths.piece_end, torch.zeros_like(paths.piece_end)).amax(-1) - here
    line = entry - half_length
    present = present & (line < LOOK)
    low = torch.maximum(entry, -half_length)
    share = torch.linspace(0, 1, ZONE_POINTS, device=chain.device)
    arcs = here.unsqueeze(-1) + low.unsqueeze(-1) + (leave - low).unsqueeze(-1) * share
    way = paths.sample(arcs)
    begin, end = way[..., 0, 2:], way[..., -1, 2:]
    turn = begin[..., 0] * end[..., 1] - begin[..., 1] * end[..., 0]
    reach = torch.stack((line, leave + half_length), -1).clamp_min(0)
    v = speed.unsqueeze(-1)
    times = (torch.sqrt(v.square() + 2 * PULL_AWAY * reach) - v) / PULL_AWAY
    committed = (speed.square() / (2 * COMMITTED_BRAKING) - STANDOFF).clamp_min(ENTERED)
    return Approach(
        present=present,
        inside=present & (line < committed),
        line=line,
        way=way[..., :2],
        turn=turn,
        from_lane=chain.gather(-1, first - 1).squeeze(-1),
        junction_lane=chain.gather(-1, first).squeeze(-1),
        arrives=times[..., 0],
        clears=times[..., 1],
    )


def hold_distance(
    way: Approach,
    held: Tensor,
    approach_limit: Tensor,
    waited: Tensor,
    half_width: Tensor,
    speed: Tensor,
    side: Tensor,
    ego: Ego,
    ego_half_width: Tensor,
    ego_in_lane: Tensor,
    route: Route,
) -> Tensor:
    """Distance [B, N] in m that each agent may still go before it must wait for others; infinite where it need not.

    Args:
        way: from `approach`.
        held: bool [B, N], the agent will not enter now (red light, or somebody stands before it).
        approach_limit: [B, N] speed limit it comes from, m/s; the faster road goes first.
        waited: [B, N] s it has stood; whoever waited long goes first.
        half_width: [B, N] m.
        speed: [B, N] m/s.
        side: [B] traffic side, 1 right, -1 left; turns across the oncoming lane go last.
        ego: [B].
        ego_half_width: [B] m.
        ego_in_lane: bool [B, N], the ego is before or behind the agent in its own lane (following handles that).
        route: [B], the ego's.
    """
    agents = way.line.shape[1]
    across = (way.turn * side.unsqueeze(-1)).clamp_min(0)
    rank = torch.arange(agents, device=way.line.device) * 1e-3
    key = approach_limit - 6 * across - 2 * way.turn.abs() - 0.5 * way.arrives.clamp_max(20) + waited - rank
    key = key + 1000 * way.inside
    waits = way.present & ~way.inside

    x, y = way.way[..., 0].flatten(1), way.way[..., 1].flatten(1)
    dx, dy = x.unsqueeze(-1) - x.unsqueeze(-2), y.unsqueeze(-1) - y.unsqueeze(-2)
    apart = dx.square_().addcmul_(dy, dy).view(-1, agents, ZONE_POINTS, agents, ZONE_POINTS).amin(-1).amin(2)
    margin = half_width.unsqueeze(-1) + half_width.unsqueeze(-2) + CLEARANCE
    meet = apart < margin.square()
    other = lambda value: value.unsqueeze(-2)
    own = lambda value: value.unsqueeze(-1)
    same = ((own(way.from_lane) == other(way.from_lane)) & (own(way.from_lane) >= 0)) | (own(way.junction_lane) == other(way.junction_lane))
    comes = other(way.present & ~held) & (other(way.arrives) < own(way.clears) + SPARE)
    goes_first = other(way.inside) | (comes & (other(key) > own(key)))
    wait = (meet & ~same & goes_first & other(way.present)).any(-1)

    track, reached = _extrapolate(ego, route)
    gap = (way.way.unsqueeze(-2) - track[:, None, None]).square().sum(-1).amin(2)
    gap = torch.where(reached.unsqueeze(1), gap, torch.full_like(gap, torch.inf)).amin(-1)
    ego_crosses = gap < (half_width + ego_half_width.unsqueeze(-1) + CLEARANCE).square()
    wait = wait | (ego_crosses & ~ego_in_lane)
    return torch.where(waits & wait, way.line - STANDOFF, torch.full_like(way.line, torch.inf))


def _extrapolate(ego: Ego, route: Route) -> tuple[Tensor, Tensor]:
    """Where the ego [B] may come within EGO_HORIZON: points [B, EGO_POINTS, 2], and which of them it reaches.

    They lie on its route while it follows that (its turn signals tell), and ahead of it at its present yaw rate otherwise.
    """
    index = torch.arange(EGO_POINTS, device=ego.state.device)
    until_stop = ego.speed / (-ego.acceleration).clamp_min(1e-3)
    time = until_stop.clamp_max(EGO_HORIZON)
    reach = ego.speed * time + 0.5 * ego.acceleration * time.square()
    distance = ROUTE_STEP * index
    bend = ego.yaw_rate / ego.speed.clamp_min(1.0)
    heading = ego.heading.unsqueeze(-1) + 0.5 * bend.unsqueeze(-1) * distance
    free = ego.position.unsqueeze(-2) + distance.unsqueeze(-1) * torch.stack((torch.cos(heading), torch.sin(heading)), -1)

    away, nearest = (route.points - ego.position.unsqueeze(1)).square().sum(-1).min(-1)
    place = (nearest.unsqueeze(-1) + index).clamp_max(route.points.shape[1] - 1)
    batch = torch.arange(place.shape[0], device=place.device).unsqueeze(-1)
    planned = route.points[batch, place]
    course = planned[:, 2] - planned[:, 0]
    along = course[:, 0] * torch.cos(ego.heading) + course[:, 1] * torch.sin(ego.heading) > 0
    on_route = (away < ON_ROUTE**2) & along
    return torch.where(on_route.view(-1, 1, 1), planned, free), distance <= reach.clamp_min(0).unsqueeze(-1)
