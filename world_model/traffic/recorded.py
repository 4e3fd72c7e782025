"""Recorded road users in the learned agents' terms: the ways they took, what they did next, and how they drive."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...batched import Batched
from ...geometry import project_polyline, wrap_angle
from ...road import LaneKind, RoadMap
from ...scene import DT, AgentKind, Agents, Scene, Track
from .draws import uniform
from .learned import PERIOD, LearnedMemory, begin
from .paths import AHEAD, CHAIN, MAX_OFFSET, choose_successor, find_previous, follow
from .vocabulary import HORIZON

CANDIDATES = 8  # lanes near an agent that it may be on
FUTURE = 100  # steps looked ahead for the way an agent takes
EVERY = 2  # steps between the points of that future
REACHED = 4.0  # m from a recorded future within which a lane counts as taken
CAP = 4.0  # m, the most that a lane's distance from the future counts
STANDING = 0.3  # m/s
FREE_SHARE = 0.7  # of the limit that an agent must once have reached for its wish to be known
FOLLOWING = (0.3, 4.0)  # s, headways that count as following
FAST_ENOUGH = 4.0  # m/s to tell a headway


@dataclass(frozen=True)
class Moments(Batched):
    """F moments of recordings, with what the agents remember there and what they did next."""

    scene: Scene  # [F]
    memory: LearnedMemory  # [F, N]
    motion: Tensor  # [F, N, 2] change of speed (m/s) and motion to the left (m) within HORIZON; mirrored on the left
    known: Tensor  # bool [F, N], the agent is there and is recorded for HORIZON more


class Future(NamedTuple):
    """Where agents go: points [F, N, Q, 2], infinitely far where they are not recorded."""

    points: Tensor


def recorded_moments(track: Track, columns: Tensor, seed: int = 0) -> Moments:
    """Read the columns [F] of a track [1, T] as F moments.

    An agent's way is the chain of lanes that its recorded future follows, and drawn from `seed` beyond that.
    """
    count = len(columns)
    row = lambda value: value.expand(count, *value.shape[1:])
    road = track.road.map(row)
    at = lambda value, shift=0: value[0, (columns + shift).clamp(0, track.steps - 1)]
    agents = track.agents.map(at)
    scene = Scene(
        ego=track.ego.map(at), agents=agents, signals=at(track.signals), time=at(track.time), appearance=row(track.appearance), road=road,
        route=track.route.map(row), profile=track.profile.map(row),
    )  # fmt: skip
    future = Future(_future(track, columns, agents))
    lane, arc, lateral = find_recorded_lanes(road, agents, future)
    chain = recorded_chain(road, lane, agents, future, torch.full((count,), seed))
    waited = _waited(track.agents)[columns]
    memory = begin(road, agents, chain, arc, lateral, recorded_styles(track)[columns])
    push, slide = _past_motion(track, columns, memory, road)
    memory = dataclasses.replace(memory, waited=waited, push=push, slide=slide, drift=slide)

    later = track.agents.map(lambda value: at(value, PERIOD))
    same = agents.valid & later.valid & (agents.id == later.id) & (columns + PERIOD < track.steps).unsqueeze(-1)
    aside = positions_aside(road, chain, agents, later.position)
    side = road.traffic_side.view(-1, 1)
    motion = torch.stack((later.speed - agents.speed, (aside - memory.lateral) * side), -1)
    return Moments(scene, memory, torch.where(same.unsqueeze(-1), motion, torch.zeros_like(motion)), same)


def positions_aside(road: RoadMap, chain: Tensor, agents: Agents, position: Tensor) -> Tensor:
    """How far left of the agents' ways [B, N, CHAIN] positions [B, N, 2] are, in m; of a straight line where there is no lane."""
    return project_on_way(road, chain, agents, position)[1]


def project_on_way(road: RoadMap, chain: Tensor, agents: Agents, position: Tensor) -> tuple[Tensor, Tensor]:
    """Arc along the agents' ways in m and offset to the left [B, N] of positions [B, N, 2].

    Without a lane the way is the straight line through the agent, at arc 0.
    """
    table = follow(road, chain).table  # [B, N, S, 6]
    delta = position.unsqueeze(-2) - table[..., :2]
    along = (delta * table[..., 2:4]).sum(-1)
    across = table[..., 2] * delta[..., 1] - table[..., 3] * delta[..., 0]
    inside = along.clamp_min(0).minimum(table[..., 5])
    real = table[..., 5] > 1e-4
    gap = torch.where(real, (along - inside).square() + across.square(), torch.full_like(along, torch.inf))
    best = gap.argmin(-1, keepdim=True)
    pick = lambda value: value.gather(-1, best).squeeze(-1)
    cos, sin = torch.cos(agents.heading), torch.sin(agents.heading)
    apart = position - agents.position
    on_lane = chain[..., 1] >= 0
    arc = torch.where(on_lane, pick(table[..., 4] + along), apart[..., 0] * cos + apart[..., 1] * sin)
    return arc, torch.where(on_lane, pick(across), apart[..., 1] * cos - apart[..., 0] * sin)


def find_recorded_lanes(road: RoadMap, agents: Agents, future: Future) -> tuple[Tensor, Tensor, Tensor]:
    """The lane each agent [F, N] is on, by its pose and by where it goes; arc and offset as in `find_lanes`."""
    driving = road.nearest_lanes(agents.position, CANDIDATES)
    walking = road.nearest_lanes(agents.position, CANDIDATES, (LaneKind.WALKING,))
    on_foot = (agents.kind == int(AgentKind.PEDESTRIAN)).unsqueeze(-1)
    candidates = torch.where(on_foot, walking, driving)
    lines = road.lane_values(road.centreline, candidates)
    arc, lateral, heading = project_polyline(agents.position.unsqueeze(-2), lines)
    turned = wrap_angle(agents.heading.unsqueeze(-1) - heading).abs()
    ahead = _distance(lines[..., -1, :], future).clamp_max(CAP)
    cost = lateral.abs() + torch.where(on_foot, 1.0, 3.0) * turned
    cost = torch.where(candidates >= 0, cost, torch.full_like(cost, torch.inf))
    best = (cost + 0.5 * ahead).argmin(-1, keepdim=True)
    pick = lambda values: values.gather(-1, best).squeeze(-1)
    usable = agents.valid & (agents.kind != int(AgentKind.STATIC)) & (pick(cost) < MAX_OFFSET)
    return torch.where(usable, pick(candidates), torch.full_like(pick(candidates), -1)), pick(arc), pick(lateral)


def recorded_chain(road: RoadMap, lane: Tensor, agents: Agents, future: Future, seed: Tensor) -> Tensor:
    """Lane chains [F, N, CHAIN] from `lane` [F, N] on, along the recorded future as far as it goes."""
    chain = torch.full((*lane.shape, CHAIN), -1, dtype=torch.int64, device=lane.device)
    chain[..., 0], chain[..., 1] = find_previous(road, lane), lane
    for place in range(2, 2 + AHEAD):
        before = chain[..., place - 1]
        options = torch.where((before >= 0).unsqueeze(-1), road.lane_values(road.successors, before), -1)
        lines = road.lane_values(road.centreline, options)
        apart = 0.5 * (_distance(lines[..., -1, :], future) + _distance(lines[..., lines.shape[-2] // 2, :], future))
        apart = torch.where(options >= 0, apart, torch.full_like(apart, torch.inf))
        nearest, best = apart.min(-1, keepdim=True)
        draw = uniform(seed.unsqueeze(-1), agents.id, before, 13)
        drawn = choose_successor(road, before, draw)
        chain[..., place] = torch.where(nearest.squeeze(-1) < REACHED, options.gather(-1, best).squeeze(-1), drawn)
    return chain


def recorded_styles(track: Track) -> Tensor:
    """What recordings [1, T] tell of how their agents drive: [T, N, 4], speed over the limit and headway in s, 0 where unknown.

    Every agent has one style for as long as it keeps its id; columns 2 and 3 are zero.
    """
    agents = track.agents
    road = track.road
    limit = _limits(road, agents)
    wish = torch.where(agents.valid[0] & (limit > 0), agents.speed[0] / limit.clamp_min(1.0), torch.zeros_like(limit))
    headway = _headways(agents)
    styles = torch.zeros(*wish.shape, 4)
    for identity in agents.id[0][agents.valid[0]].unique().tolist():
        mine = (agents.id[0] == identity) & agents.valid[0]
        most = float(wish[mine].max())
        kept = headway[mine]
        kept = kept[(kept > FOLLOWING[0]) & (kept < FOLLOWING[1])]
        if most >= FREE_SHARE:
            styles[..., 0][mine] = min(most, 1.5)
        if len(kept) >= 5:
            styles[..., 1][mine] = float(kept.median())
    return styles


def _limits(road: RoadMap, agents: Agents) -> Tensor:
    """The speed limit [T, N] at the agents of a track [1, T, N]; 0 where there is no lane."""
    steps, count = agents.valid.shape[1:]
    limit = torch.zeros(steps, count)
    for start in range(0, steps, 10):  # every second is enough
        lane = road.nearest_lanes(agents.position[:, start], 1)[0, :, 0]
        value = torch.where(lane >= 0, road.speed_limit[0, lane.clamp_min(0)], torch.zeros(count))
        limit[start : start + 10] = value
    return limit


def _headways(agents: Agents) -> Tensor:
    """Time [T, N] in s to whoever drives straight ahead; infinite where nobody does or the agent is slow."""
    position, heading = agents.position[0], agents.heading[0]
    delta = position.unsqueeze(1) - position.unsqueeze(2)
    cos, sin = torch.cos(heading).unsqueeze(-1), torch.sin(heading).unsqueeze(-1)
    x, y = delta[..., 0] * cos + delta[..., 1] * sin, delta[..., 1] * cos - delta[..., 0] * sin
    gap = x - 0.5 * (agents.length[0].unsqueeze(-1) + agents.length[0].unsqueeze(-2))
    there = agents.valid[0].unsqueeze(1) & (y.abs() < 1.5) & (x > 0.5)
    gap = torch.where(there, gap, torch.full_like(gap, torch.inf)).amin(-1)
    fast = agents.valid[0] & (agents.speed[0] > FAST_ENOUGH)
    return torch.where(fast, gap / agents.speed[0].clamp_min(0.1), torch.full_like(gap, torch.inf))


def _future(track: Track, columns: Tensor, agents: Agents) -> Tensor:
    """Positions [F, N, Q, 2] of the agents of F columns from there on."""
    shifts = torch.arange(0, FUTURE + 1, EVERY)
    index = columns.unsqueeze(-1) + shifts
    inside = index < track.steps
    index = index.clamp_max(track.steps - 1)
    position, valid, identity = track.agents.position[0][index], track.agents.valid[0][index], track.agents.id[0][index]
    there = valid & (identity == agents.id.unsqueeze(1)) & inside.unsqueeze(-1)
    position = torch.where(there.unsqueeze(-1), position, torch.full_like(position, torch.inf))
    return position.transpose(1, 2)


def _distance(points: Tensor, future: Future) -> Tensor:
    """Distance [F, N, C] in m of points [F, N, C, 2] from the line through the future."""
    start, end = future.points[:, :, None, :-1], future.points[:, :, None, 1:]
    known = torch.isfinite(start).all(-1) & torch.isfinite(end).all(-1)
    start, end = torch.where(known.unsqueeze(-1), start, 0.0), torch.where(known.unsqueeze(-1), end, 0.0)
    step = end - start
    share = ((points.unsqueeze(-2) - start) * step).sum(-1) / step.square().sum(-1).clamp_min(1e-6)
    apart = (points.unsqueeze(-2) - start - share.clamp(0, 1).unsqueeze(-1) * step).norm(dim=-1)
    return torch.where(known, apart, torch.full_like(apart, 1e3)).amin(-1)


def _waited(agents: Agents) -> Tensor:
    """How long each agent [1, T, N] has stood, in s: [T, N]."""
    waited = torch.zeros(agents.valid.shape[1:])
    for step in range(1, waited.shape[0]):
        stands = (agents.speed[0, step] < STANDING) & agents.valid[0, step] & (agents.id[0, step] == agents.id[0, step - 1])
        waited[step] = torch.where(stands, waited[step - 1] + DT, torch.zeros_like(waited[step]))
    return waited


def _past_motion(track: Track, columns: Tensor, memory: LearnedMemory, road: RoadMap) -> tuple[Tensor, Tensor]:
    """Acceleration in m/s2 and sideways speed in m/s [F, N] over the last HORIZON, as far as it is recorded."""
    now = track.agents.map(lambda value: value[0, columns])
    past = track.agents.map(lambda value: value[0, (columns - PERIOD).clamp_min(0)])
    same = now.valid & past.valid & (now.id == past.id) & (columns >= PERIOD).unsqueeze(-1)
    push = torch.where(same, (now.speed - past.speed) / HORIZON, memory.push)
    aside = positions_aside(road, memory.chain, now, past.position)
    slide = torch.where(same & (memory.chain[..., 1] >= 0), (memory.lateral - aside) / HORIZON, memory.slide)
    return push.clamp(-8.0, 4.0), slide.clamp(-2.0, 2.0)
