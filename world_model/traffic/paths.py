"""Where an agent is going: a chain of lanes, the polyline along it, and points sampled on that."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import project_polyline, sample_polyline, wrap_angle
from ...road import LANE_POINTS, LaneKind, RoadMap
from ...scene import AgentKind, Agents
from .draws import uniform

AHEAD = 4  # lanes known beyond the present one
CHAIN = AHEAD + 2  # the lane behind, the present one, and those ahead
MAX_OFFSET = 6.0  # m from the nearest lane beyond which an agent is on no lane
WALKER_OFFSET = 2.5  # m that somebody on foot may be to the side of a lane, or of its prolongation


class Paths(NamedTuple):
    """Polylines along lane chains, V = CHAIN * LANE_POINTS vertices."""

    table: Tensor  # [B, N, V - 1, 6] of each segment: start x, y, unit direction x, y, arc at its start, length
    ends: Tensor  # [B, N, V - 1] arc at each segment's end, m
    piece_start: Tensor  # [B, N, CHAIN] arc where each lane begins
    piece_end: Tensor  # [B, N, CHAIN]

    def sample(self, arc: Tensor) -> Tensor:
        """Points and directions [B, N, K, 4] (x, y, unit x, unit y) at arcs [B, N, K], held at the path's ends."""
        segments = self.ends.shape[-1]
        arc = torch.minimum(arc.clamp_min(0), self.ends[..., -1:])
        index = torch.searchsorted(self.ends, arc).clamp_max(segments - 1)
        paths = self.ends.shape[0] * self.ends.shape[1]
        index = index.view(paths, -1) + torch.arange(paths, device=arc.device).unsqueeze(-1) * segments
        row = self.table.view(paths * segments, 6)[index].view(*arc.shape, 6)
        along = torch.minimum((arc - row[..., 4]).clamp_min(0), row[..., 5])
        return torch.cat((row[..., 0:2] + row[..., 2:4] * along.unsqueeze(-1), row[..., 2:4]), -1)


def lane_rows(road: RoadMap, lane: Tensor) -> Tensor:
    """Rows of lanes [B, ...] in per-lane fields whose batch and lane dimensions are flattened; -1 reads lane 0."""
    batch, lanes = road.width.shape
    base = (torch.arange(batch, device=lane.device) * lanes).view(-1, *([1] * (lane.ndim - 1)))
    return lane.clamp_min(0) + base


_FALLBACK = torch.tensor([0] + [LANE_POINTS - 1] * (CHAIN - 1))


def follow(road: RoadMap, chain: Tensor) -> Paths:
    """Lay the polyline along lane chains [B, N, CHAIN]; missing lanes (-1) add no length."""
    present = chain >= 0
    last = chain.gather(-1, present[..., 1:].sum(-1, keepdim=True).clamp_min(1))
    lane = torch.where(present, chain, last)
    lane[..., 0] = torch.where(present[..., 0], chain[..., 0], chain[..., 1])
    vertex = torch.arange(LANE_POINTS, device=chain.device)
    vertex = torch.where(present.unsqueeze(-1), vertex, _FALLBACK.to(chain.device).unsqueeze(-1))
    index = lane_rows(road, lane).unsqueeze(-1) * LANE_POINTS + vertex
    points = road.centreline.reshape(-1, 2)[index.flatten(2)]
    delta = points[..., 1:, :] - points[..., :-1, :]
    length = torch.hypot(delta[..., 0], delta[..., 1])
    ends = torch.cumsum(length, -1)
    starts = ends - length
    unit = delta / length.clamp_min(1e-6).unsqueeze(-1)
    table = torch.cat((points[..., :-1, :], unit, starts.unsqueeze(-1), length.unsqueeze(-1)), -1)
    piece_end = ends[..., LANE_POINTS - 2 :: LANE_POINTS]
    piece_start = torch.cat((torch.zeros_like(ends[..., :1]), ends[..., LANE_POINTS - 1 :: LANE_POINTS]), -1)
    return Paths(table, ends, piece_start, piece_end)


def choose_successor(road: RoadMap, lane: Tensor, draw: Tensor, arriving: Tensor | None = None) -> Tensor:
    """Draw the lane after each of `lane` [B, N] (-1: none), straight on more often than turns, by `draw` [B, N] in [0, 1).

    `arriving` [B, N] is the least speed in m/s an agent can come there with; slower lanes are then taken only if all are.
    """
    rows = lane_rows(road, lane)
    options = road.successors.reshape(-1, road.successors.shape[-1])[rows]
    option_rows = lane_rows(road, options)
    ends = road.centreline[:, :, -2:].reshape(-1, 2, 2)
    out = ends[rows][..., 1, :] - ends[rows][..., 0, :]
    far = ends[option_rows][..., 1, :] - ends[option_rows][..., 0, :]
    straight = torch.nn.functional.cosine_similarity(out.unsqueeze(-2), far, dim=-1)
    weight = (0.5 + 0.5 * straight).square() + 0.02
    if arriving is not None:
        slow = road.speed_limit.reshape(-1)[option_rows] < arriving.unsqueeze(-1)
        weight = torch.where(slow, 1e-4 * weight, weight)
    weight = torch.where(options >= 0, weight, torch.zeros_like(weight))
    total = torch.cumsum(weight, -1)
    pick = ((draw * total[..., -1]).unsqueeze(-1) >= total).sum(-1, keepdim=True).clamp_max(options.shape[-1] - 1)
    chosen = options.gather(-1, pick).squeeze(-1)
    return torch.where((lane >= 0) & (total[..., -1] > 0), chosen, torch.full_like(chosen, -1))


def find_lanes(road: RoadMap, agents: Agents) -> tuple[Tensor, Tensor, Tensor]:
    """Find the lane each agent [B, N] drives (or walks) on.

    Returns:
        lane [B, N] (-1: none within MAX_OFFSET, for people none that leads where they face), arc of its centre on it in m (of people also
        before its start and beyond its end), and its signed offset to the left in m.
    """
    driving = road.nearest_lanes(agents.position, 8)
    walking = road.nearest_lanes(agents.position, 8, (LaneKind.WALKING,))
    on_foot = (agents.kind == int(AgentKind.PEDESTRIAN)).unsqueeze(-1)
    candidates = torch.where(on_foot, walking, driving)
    lines = road.lane_values(road.centreline, candidates)
    arc, lateral, heading = project_polyline(agents.position.unsqueeze(-2), lines)
    turned = wrap_angle(agents.heading.unsqueeze(-1) - heading).abs()
    cost = lateral.abs() + torch.where(on_foot, 1.0, 3.0) * turned
    cost = torch.where((candidates >= 0) & ~(on_foot & (turned > math.pi / 2)), cost, torch.full_like(cost, torch.inf))
    best = cost.argmin(-1, keepdim=True)
    pick = lambda values: values.gather(-1, best).squeeze(-1)
    lane, cost, arc, lateral, heading = (pick(values) for values in (candidates, cost, arc, lateral, heading))
    usable = agents.valid & (agents.kind != int(AgentKind.STATIC)) & (cost < MAX_OFFSET)
    if bool(on_foot.any()):
        beyond, aside = _beyond_the_end(road, agents, lane, arc, heading)
        walks = on_foot.squeeze(-1)
        arc, lateral = torch.where(walks, arc + beyond, arc), torch.where(walks, aside, lateral)
        usable = usable & ~(walks & (aside.abs() > WALKER_OFFSET))
    return torch.where(usable, lane, torch.full_like(lane, -1)), arc, lateral


def _beyond_the_end(road: RoadMap, agents: Agents, lane: Tensor, arc: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """How far agents [B, N] are ahead (or behind) and to the left of the nearest points of their lanes, which are at arcs [B, N], in m.

    Ways go straight on from a lane's end to the start of the next, so somebody in between, where pavements meet, has an arc beyond the end.
    """
    nearest, _ = sample_polyline(road.lane_values(road.centreline, lane), arc.unsqueeze(-1))
    apart = agents.position - nearest.squeeze(-2)
    cos, sin = torch.cos(heading), torch.sin(heading)
    return apart[..., 0] * cos + apart[..., 1] * sin, apart[..., 1] * cos - apart[..., 0] * sin


def begin_chain(road: RoadMap, lane: Tensor, identity: Tensor, seed: Tensor, arriving: Tensor | None = None) -> Tensor:
    """Lane chains [B, N, CHAIN] of agents on lanes [B, N], drawn as in `complete`."""
    chain = torch.full((*lane.shape, CHAIN), -1, dtype=torch.int64, device=lane.device)
    chain[..., 0], chain[..., 1] = find_previous(road, lane), lane
    return complete(road, chain, torch.full_like(lane, AHEAD), identity, seed, arriving)


def find_previous(road: RoadMap, lane: Tensor) -> Tensor:
    """A lane that leads into each of `lane` [B, N]; -1 where there is none."""
    batch, lanes, ways = road.successors.shape
    index = torch.arange(lanes, device=lane.device).view(1, lanes, 1).expand(batch, lanes, ways)
    table = torch.full((batch, lanes + 1), -1, dtype=torch.int64, device=lane.device)
    target = torch.where(road.successors >= 0, road.successors, torch.full_like(road.successors, lanes))
    table = table.scatter_reduce(1, target.flatten(1), index.flatten(1), "amax")
    return torch.where(lane >= 0, table.gather(1, lane.clamp_min(0)), torch.full_like(lane, -1))


def advance(chain: Tensor, passed: Tensor) -> Tensor:
    """Shift chains [B, N, CHAIN] forward by `passed` [B, N] lanes; the places that come free hold -1 until `complete`."""
    index = torch.arange(CHAIN, device=chain.device) + passed.unsqueeze(-1)
    shifted = chain.gather(-1, index.clamp_max(CHAIN - 1))
    return torch.where(index < CHAIN, shifted, torch.full_like(shifted, -1))


def complete(road: RoadMap, chain: Tensor, missing: Tensor, identity: Tensor, seed: Tensor, arriving: Tensor | None = None) -> Tensor:
    """Draw the last `missing` [B, N] lanes of chains [B, N, CHAIN], from the episode's seed [B] and the agent's id [B, N].

    `arriving` [B, N] is for the lane right after the present one; see `choose_successor`.
    """
    most = int(missing.max()) if missing.numel() else 0
    chain = chain.clone() if most else chain
    for place in range(CHAIN - most, CHAIN):
        before = chain[..., place - 1]
        draw = uniform(seed.unsqueeze(-1), identity, before, 13)
        fresh = choose_successor(road, before, draw, arriving if place == 2 else None)
        chain[..., place] = torch.where(place >= CHAIN - missing, fresh, chain[..., place])
    return chain
