"""What a learned agent sees: itself, its way, the signals and lanes on it, and those around it, as numbers in its own frame.

On roads that drive on the left everything is mirrored, so that the network meets one kind of road only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...batched import Batched
from ...geometry import project_polyline
from ...road import LIGHTS, LaneKind, RoadMap, SignalState
from ...scene import AgentKind, Agents, Ego, Scene
from . import junctions
from .hazards import FAR_AHEAD, Hazards, forbidden_line, out_of_lane
from .memory import IdmMemory
from .paths import Paths, follow, lane_rows
from .sight import ending_lanes

ARCS = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 30.0, 36.0, 44.0, 52.0, 62.0, 74.0, 90.0, 120.0)  # m along a way
POINTS = len(ARCS)
PARTS = 4  # tokens that the way ahead is cut into
NEIGHBOURS = 12
NEAREST = 80.0  # m beyond which others are not seen
MEETING = 2.6  # m between two ways that counts as crossing, near
PATIENCE = 3.0  # how much farther aside than ahead somebody may be to be seen last
STANDSTILL_LINE = 1.0  # m past its line from where on an agent has passed a signal

SIDE_ROOM = (1.0, 1.2)  # m before and behind, and beside, that must be free to move there
CROSSING_TIME = 1.5  # s; whoever crosses farther ahead will be gone
YIELDING_TIME = 2.5  # s ahead that is looked for somebody on foot who will be in the way by then
WALKER_REACH = 1.6  # m beside the way's middle that must be free of people
STYLE = slice(10, 14)  # where an agent's own numbers tell its style, and whether it is known
OWN, WAY, OTHER = 40, POINTS // PARTS * 6, 27  # numbers of the agent, of one part of its way, of another road user


@dataclass(frozen=True)
class Views(Batched):
    """Views of M agents of B episodes."""

    own: Tensor  # [B, M, OWN]
    way: Tensor  # [B, M, PARTS, WAY]
    others: Tensor  # [B, M, NEIGHBOURS, OTHER]
    seen: Tensor  # bool [B, M, NEIGHBOURS], which others there are


class Ways(NamedTuple):
    """Where all N agents are going, [B, N] unless said."""

    paths: Paths
    here: Tensor  # m, arc of the centre on the path
    rows: Tensor  # [B, N, CHAIN] rows of the lanes in flattened per-lane fields
    on_lane: Tensor  # bool
    ahead: Tensor  # [B, N, POINTS, 4] points and directions at ARCS; straight on where there is no lane
    half: Tensor  # m, half of the length


def find_ways(road: RoadMap, agents: Agents, memory: IdmMemory) -> Ways:
    """Lay out the ways of all agents [B, N]."""
    paths = follow(road, memory.chain)
    here = paths.piece_start[..., 1] + memory.arc
    on_lane = agents.valid & (memory.chain[..., 1] >= 0)
    arcs = torch.tensor(ARCS, device=here.device)
    ahead = paths.sample(here.unsqueeze(-1) + arcs)
    end = paths.ends[..., -1:] - here.unsqueeze(-1)
    beyond = (arcs - end).clamp_min(0).unsqueeze(-1)  # the last direction goes on where the known way ends
    ahead = torch.cat((ahead[..., :2] + beyond * ahead[..., 2:], ahead[..., 2:]), -1)
    direction = torch.stack((torch.cos(agents.heading), torch.sin(agents.heading)), -1).unsqueeze(-2)
    straight = agents.position.unsqueeze(-2) + arcs.unsqueeze(-1) * direction
    straight = torch.cat((straight, direction.expand_as(straight)), -1)
    ahead = torch.where(on_lane[..., None, None], ahead, straight)
    return Ways(paths, here, lane_rows(road, memory.chain), on_lane, ahead, agents.length / 2)


def look_around(scene: Scene, ego: Ego, memory: IdmMemory, ways: Ways, slots: Tensor) -> tuple[Views, Hazards]:
    """The views of the agents in `slots` [B, M] of scenes [B], with the ego at `ego`, and what is in their way."""
    road, agents = scene.road, scene.agents
    side = road.traffic_side.to(agents.state.dtype).view(-1, 1)
    batch = torch.arange(slots.shape[0], device=slots.device).unsqueeze(-1)
    pick = lambda value: value[batch, slots]
    kinds = road.kind.reshape(-1)[ways.rows]
    limits = road.speed_limit.reshape(-1)[ways.rows]
    line, shown = next_signal(scene, ways, memory.chain)
    way = junctions.approach(ways.paths, memory.chain, kinds, ways.here, ways.half, agents.speed, ways.on_lane)
    everyone = _everyone(scene, ego, ways, line, shown, way, limits[..., 1], memory.waited)
    mine = _Mine(
        position=pick(agents.position), heading=pick(agents.heading), speed=pick(agents.speed), half=pick(ways.half),
        width=pick(agents.width), ahead=pick(ways.ahead), side=side,
    )  # fmt: skip
    others, seen, leader = _others(everyone, mine, slots)
    own = _own(scene, memory, ways, slots, mine, pick(line), pick(shown), way, limits, leader, batch)
    views = Views(own, _way(mine, ways, limits, kinds, batch, slots), others, seen)
    line = forbidden_line(pick(line), pick(shown), mine.speed)
    edge = out_of_lane(road, memory.lateral, ways.rows[..., 1], agents.width)[batch, slots] & pick(ways.on_lane).unsqueeze(-1)
    edge = torch.where(side.unsqueeze(-1) > 0, edge, edge.flip(-1))
    return views, Hazards(line, leader.hazard_gap, leader.hazard_speed, leader.beside, edge, leader.near)


def next_signal(scene: Scene, ways: Ways, chain: Tensor) -> tuple[Tensor, Tensor]:
    """The next stop line on each agent's way that has a signal.

    Returns:
        distance [B, N] in m from its front to the line, FAR_AHEAD where there is none, and what the signal shows (SignalState).
    """
    road = scene.road
    batch, lanes = road.width.shape
    table = torch.zeros(batch, lanes + 1, dtype=torch.int64, device=chain.device)
    lane = torch.where(road.signal_lane >= 0, road.signal_lane, torch.full_like(road.signal_lane, lanes))
    table.scatter_(1, lane, scene.signals)
    state = table[:, :lanes].reshape(-1)[ways.rows]
    room = ways.paths.piece_end - (ways.here + ways.half).unsqueeze(-1)
    counts = (state > int(SignalState.OFF)) & (chain >= 0) & (room > -STANDSTILL_LINE)
    counts[..., 0] = False
    room = torch.where(counts, room, torch.full_like(room, FAR_AHEAD)).clamp_max(FAR_AHEAD)
    line, place = room.min(-1)
    shown = torch.where(line < FAR_AHEAD, state.gather(-1, place.unsqueeze(-1)).squeeze(-1), torch.zeros_like(place))
    return line, shown


class _Leader(NamedTuple):
    """Who is in the way, [B, M]."""

    gap: Tensor  # m
    speed: Tensor  # m/s along the way
    hazard_gap: Tensor  # m, to those alone that will still be there
    hazard_speed: Tensor  # m/s
    beside: Tensor  # bool [B, M, 2]
    near: Tensor  # [B, M, K, 8], see `Hazards`


class _Everyone(NamedTuple):
    """All agents, then the ego: [B, N + 1]."""

    position: Tensor
    heading: Tensor
    speed: Tensor
    acceleration: Tensor
    length: Tensor
    width: Tensor
    kind: Tensor
    valid: Tensor
    ahead: Tensor  # [B, N + 1, POINTS, 4]
    line: Tensor  # m to its signal
    shown: Tensor
    junction: Tensor  # m to its next junction
    turn: Tensor
    inside: Tensor
    limit: Tensor
    waited: Tensor


class _Mine(NamedTuple):
    """The agents that look: [B, M]."""

    position: Tensor
    heading: Tensor
    speed: Tensor
    half: Tensor
    width: Tensor
    ahead: Tensor
    side: Tensor  # [B, 1]


def _everyone(
    scene: Scene, ego: Ego, ways: Ways, line: Tensor, shown: Tensor, way: junctions.Approach, limit: Tensor, waited: Tensor
) -> _Everyone:
    agents, profile = scene.agents, scene.profile
    join = lambda a, b: torch.cat((a, b.unsqueeze(1).to(a.dtype)), 1)
    zero, one = torch.zeros_like(ego.speed), torch.ones_like(ego.speed)
    return _Everyone(
        position=join(agents.position, ego.position),
        heading=join(agents.heading, ego.heading),
        speed=join(agents.speed, ego.speed),
        acceleration=join(agents.acceleration, ego.acceleration),
        length=join(agents.length, profile.length),
        width=join(agents.width, profile.width),
        kind=join(agents.kind, torch.full_like(zero, int(AgentKind.CAR))),
        valid=join(agents.valid, one),
        ahead=join(ways.ahead, ego_way(scene, ego)),
        line=join(line, FAR_AHEAD * one),
        shown=join(shown, zero),
        junction=join(torch.where(way.present, way.line, torch.full_like(way.line, junctions.LOOK)), junctions.LOOK * one),
        turn=join(way.turn * way.present, zero),
        inside=join(way.present & way.inside, zero),
        limit=join(limit, zero),
        waited=join(waited, zero),
    )


def ego_way(scene: Scene, ego: Ego) -> Tensor:
    """Where the ego [B] is going, [B, POINTS, 4]: along its route while it follows that, ahead at its yaw rate otherwise."""
    arcs = torch.tensor(ARCS, device=ego.state.device)
    bend = (ego.yaw_rate / ego.speed.clamp_min(1.0)).unsqueeze(-1)
    course = ego.heading.unsqueeze(-1) + bend * arcs.clamp_max(30.0)
    chord = ego.heading.unsqueeze(-1) + 0.5 * bend * arcs.clamp_max(30.0)
    free = ego.position.unsqueeze(-2) + arcs.unsqueeze(-1) * torch.stack((torch.cos(chord), torch.sin(chord)), -1)
    free = torch.cat((free, torch.cos(course).unsqueeze(-1), torch.sin(course).unsqueeze(-1)), -1)
    along, lateral, heading = project_polyline(ego.position, scene.route.points)
    planned = scene.route.ahead(along - 2.0, int(ARCS[-1] / 2) + 2, 2.0)
    step = planned[:, 1:] - planned[:, :-1]
    length = step.norm(dim=-1, keepdim=True)
    index = (arcs / 2).long()
    direction = torch.where(length > 0.1, step / length.clamp_min(1e-6), free[:, :1, 2:])
    route = torch.cat((planned[:, index], direction[:, index]), -1)
    follows = (lateral.abs() < junctions.ON_ROUTE) & (torch.cos(heading - ego.heading) > 0)
    return torch.where(follows.view(-1, 1, 1), route, free)


def _others(everyone: _Everyone, mine: _Mine, slots: Tensor) -> tuple[Tensor, Tensor, _Leader]:
    """The nearest others [B, M, NEIGHBOURS, OTHER], which there are, and gap and speed of the leader on the own way [B, M]."""
    cos, sin = torch.cos(mine.heading).unsqueeze(-1), torch.sin(mine.heading).unsqueeze(-1)
    dx = everyone.position[:, None, :, 0] - mine.position[..., 0:1]
    dy = everyone.position[:, None, :, 1] - mine.position[..., 1:2]
    x, y = dx * cos + dy * sin, (dy * cos - dx * sin) * mine.side.unsqueeze(-1)
    there = everyone.valid.bool().unsqueeze(1) & (x.abs() < FAR_AHEAD) & (y.abs() < NEAREST)
    itself = torch.arange(x.shape[-1], device=x.device) == slots.unsqueeze(-1)
    there = there & ~itself
    behind = torch.where(x < 0, 2.0 * x, x)
    rank = (behind.square() + (1.5 * y).square()).sqrt()
    rank = torch.where(there, rank, torch.full_like(rank, torch.inf))
    count = min(NEIGHBOURS, rank.shape[-1])
    near, index = rank.topk(count, -1, largest=False)
    seen = torch.isfinite(near)
    batch = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1)
    its = _Everyone(*(value[batch, index] for value in everyone))
    take = lambda value: value.gather(-1, index)
    x, y = take(x), take(y)
    turned = (its.heading - mine.heading.unsqueeze(-1)) * mine.side.unsqueeze(-1)
    speed, own_speed = its.speed, mine.speed.unsqueeze(-1)

    arc, aside, cos_way, sin_way = _on_way(mine, its)
    gap = arc - mine.half.unsqueeze(-1) - 0.5 * its.length * cos_way.abs() - 0.5 * its.width * sin_way.abs()
    in_way = seen & (aside.abs() < 0.5 * its.width + 1.3) & (arc > 0)
    leading, leader = torch.where(in_way, gap, torch.full_like(gap, FAR_AHEAD)).min(-1, keepdim=True)
    leader_speed = torch.where(leading < FAR_AHEAD, (speed * cos_way).gather(-1, leader), own_speed)
    meets, mine_to, its_to, angle = _meeting(mine, its)
    times = (mine_to / own_speed.clamp_min(1.0)).clamp_max(10.0), (its_to / speed.clamp_min(1.0)).clamp_max(10.0)
    red = (its.shown == int(SignalState.RED)) | (its.shown == int(SignalState.YELLOW))
    kind = its.kind
    numbers = (
        x / 40, y / 20, torch.cos(turned), torch.sin(turned), speed / 15, (speed - own_speed) / 10, its.acceleration.clamp(-8, 4) / 4,
        its.length / 10, its.width / 3, kind == int(AgentKind.BICYCLE), kind == int(AgentKind.PEDESTRIAN), kind == int(AgentKind.STATIC),
        arc / 60, aside * mine.side.unsqueeze(-1) / 4, cos_way, in_way, torch.exp(-gap.clamp_min(0) / 20) * in_way,
        meets, mine_to / 40 * meets, its_to / 40 * meets, (times[0] - times[1]) / 5 * meets, angle * mine.side.unsqueeze(-1) * meets,
        red * torch.exp(-its.line.clamp_min(0) / 30), torch.exp(-its.junction.clamp_min(0) / 20), its.turn * mine.side.unsqueeze(-1),
        its.inside, its.limit / 15 + 0.1 * its.waited.clamp_max(10),
    )  # fmt: skip
    others = torch.stack([n.to(x.dtype) for n in numbers], -1) * seen.unsqueeze(-1)
    motion = speed * torch.cos(turned), speed * torch.sin(turned)
    close_by = torch.stack((x, y, *motion, turned, its.length, its.width, seen.to(x.dtype)), -1)
    later = aside + speed * sin_way * (gap.clamp_min(0) / own_speed.clamp_min(1.0)).clamp_max(YIELDING_TIME)
    walks = seen & (kind == int(AgentKind.PEDESTRIAN)) & (speed > 0.3)
    steps_in = walks & (arc > 0) & (later.abs() < 0.5 * its.width + WALKER_REACH)
    stays = (in_way & ((cos_way > 0.5) | (speed < 1.0) | (gap < CROSSING_TIME * own_speed))) | steps_in
    hazard, blocker = torch.where(stays, gap, torch.full_like(gap, FAR_AHEAD)).min(-1, keepdim=True)
    hazard_speed = torch.where(hazard < FAR_AHEAD, (speed * cos_way).gather(-1, blocker), own_speed)
    closing = 0.5 * (speed * torch.cos(turned) - own_speed).abs()
    along = x.abs() < mine.half.unsqueeze(-1) + 0.5 * its.length + SIDE_ROOM[0] + closing
    aside_gap = y.abs() - 0.5 * its.width - 0.5 * mine.width.unsqueeze(-1)
    close = seen & along & (aside_gap < SIDE_ROOM[1])
    beside = torch.stack(((close & (y > 0)).any(-1), (close & (y <= 0)).any(-1)), -1)
    leading, leader_speed, hazard, hazard_speed = (value.squeeze(-1) for value in (leading, leader_speed, hazard, hazard_speed))
    if count < NEIGHBOURS:
        others = torch.nn.functional.pad(others, (0, 0, 0, NEIGHBOURS - count))
        seen = torch.nn.functional.pad(seen, (0, NEIGHBOURS - count))
    return others, seen, _Leader(leading, leader_speed, hazard, hazard_speed, beside, close_by)


def _on_way(mine: _Mine, its: _Everyone) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where others are on one's own way: arc and offset to the left in m, cosine and sine of their heading to it, all [B, M, K]."""
    dx = its.position[..., 0].unsqueeze(-1) - mine.ahead[:, :, None, :, 0]
    dy = its.position[..., 1].unsqueeze(-1) - mine.ahead[:, :, None, :, 1]
    ux, uy = mine.ahead[:, :, None, :, 2], mine.ahead[:, :, None, :, 3]
    along, across = dx * ux + dy * uy, ux * dy - uy * dx
    arcs = torch.tensor(ARCS, device=dx.device)
    steps = torch.diff(arcs, append=arcs[-1:] + 30.0)
    over = along - along.clamp_min(0).minimum(steps)
    over[..., 0] = torch.where(along[..., 0] < 0, 0.0, over[..., 0])  # behind: on the straight line through the agent
    nearest = (over.square() + across.square()).argmin(-1, keepdim=True)
    pick = lambda value: value.expand_as(along).gather(-1, nearest).squeeze(-1)
    cos_its, sin_its = torch.cos(its.heading), torch.sin(its.heading)
    cos_way = pick(ux) * cos_its + pick(uy) * sin_its
    sin_way = pick(ux) * sin_its - pick(uy) * cos_its
    return (pick(arcs) + pick(along)).clamp(-FAR_AHEAD, FAR_AHEAD), pick(across).clamp(-NEAREST, NEAREST), cos_way, sin_way


def _meeting(mine: _Mine, its: _Everyone) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether two ways meet [B, M, K], how far each has to go there in m, and the sine between them there."""
    x = mine.ahead[:, :, None, :, None, 0] - its.ahead[:, :, :, None, :, 0]
    y = mine.ahead[:, :, None, :, None, 1] - its.ahead[:, :, :, None, :, 1]
    arcs = torch.tensor(ARCS, device=x.device)
    spacing = torch.diff(arcs, append=arcs[-1:] + 30.0)
    reach = MEETING + 0.35 * torch.maximum(spacing.unsqueeze(-1), spacing)
    close = x.square().addcmul_(y, y) < reach.square()
    total = torch.where(close, arcs.unsqueeze(-1) + arcs, torch.full_like(x, torch.inf)).flatten(-2)
    least, index = total.min(-1)
    meets = torch.isfinite(least)
    p, q = index // POINTS, index % POINTS
    own = mine.ahead[:, :, None].expand(*index.shape, POINTS, 4).gather(-2, p[..., None, None].expand(*p.shape, 1, 4)).squeeze(-2)
    other = its.ahead.gather(-2, q[..., None, None].expand(*q.shape, 1, 4)).squeeze(-2)
    sine = own[..., 2] * other[..., 3] - own[..., 3] * other[..., 2]
    return meets, arcs[p], arcs[q], sine


def _own(
    scene: Scene, memory: IdmMemory, ways: Ways, slots: Tensor, mine: _Mine, line: Tensor, shown: Tensor,
    way: junctions.Approach, limits: Tensor, leader: _Leader, batch: Tensor,
) -> Tensor:  # fmt: skip
    pick = lambda value: value[batch, slots]
    road, agents, side, speed = scene.road, scene.agents, mine.side, mine.speed
    turned = (pick(agents.heading) - torch.atan2(mine.ahead[..., 0, 3], mine.ahead[..., 0, 2])) * side
    kind = pick(agents.kind)
    limit = torch.where(pick(ways.on_lane), pick(limits)[..., 1], torch.full_like(speed, 1.5))
    gap, leader_speed = leader.gap, leader.speed
    closing = (speed - leader_speed).clamp_min(0)
    brake_leader = closing.square() / 2 / gap.clamp_min(0.5)
    brake_line = speed.square() / 2 / line.clamp_min(0.5)
    present, junction = pick(way.present), pick(torch.where(way.present, way.line, torch.full_like(way.line, junctions.LOOK)))
    ends = pick(ending_lanes(road, memory.chain))
    room = pick(ways.paths.ends[..., -1] - ways.here)
    rows = pick(ways.rows[..., 1])
    beside = torch.stack((road.left.reshape(-1)[rows], road.right.reshape(-1)[rows]), -1) >= 0
    beside = torch.where(side.unsqueeze(-1) > 0, beside, beside.flip(-1)) & pick(ways.on_lane).unsqueeze(-1)
    bend, slow = _bends(mine)
    style = pick(memory.character)[..., :2]
    known = style > 0
    style = torch.where(known, (style - style.new_tensor((1.0, 1.3))) / style.new_tensor((0.15, 0.5)), torch.zeros_like(style))
    lit = [shown == int(state) for state in (*LIGHTS, SignalState.STOP_SIGN)]
    numbers = (
        speed / 15, pick(agents.acceleration).clamp(-8, 4) / 4, pick(memory.lateral) * side / 2, pick(memory.drift) * side,
        torch.sin(turned), pick(agents.length) / 10, pick(agents.width) / 3, kind == int(AgentKind.BICYCLE),
        kind == int(AgentKind.PEDESTRIAN), (kind == int(AgentKind.TRUCK)) | (kind == int(AgentKind.BUS)),
        *style.unbind(-1), *known.unbind(-1), pick(memory.waited).clamp_max(20) / 10, limit / 15, (limit - speed) / 5, pick(ways.on_lane),
        torch.exp(-gap.clamp_min(0) / 15), gap.clamp(0, 100) / 50, (leader_speed - speed) / 10, brake_leader.clamp_max(10) / 4,
        (gap / speed.clamp_min(1.0)).clamp(0, 5) / 2,
        torch.exp(-line.clamp_min(0) / 15), line.clamp(-1, 100) / 50, brake_line.clamp_max(10) / 4, *lit,
        present, torch.exp(-junction.clamp_min(0) / 15), pick(way.inside) & present, pick(way.turn) * side * present,
        ends, ends * torch.exp(-room.clamp_min(0) / 50), *beside.unbind(-1), bend * side * 10, slow / 15,
    )  # fmt: skip
    return torch.stack([n.to(speed.dtype) for n in numbers], -1)


def _bends(mine: _Mine) -> tuple[Tensor, Tensor]:
    """The bend of the way just ahead in 1/m, positive to the left, and the speed in m/s that the bends ahead allow, both [B, M]."""
    ahead = mine.ahead
    arcs = torch.tensor(ARCS, device=ahead.device)
    sine = ahead[..., :-1, 2] * ahead[..., 1:, 3] - ahead[..., :-1, 3] * ahead[..., 1:, 2]
    bend = sine / torch.diff(arcs)
    allowed = (2.5 / bend.abs().clamp_min(1e-3) + 3.0 * arcs[:-1]).sqrt().amin(-1)
    return bend[..., :3].mean(-1), allowed.clamp_max(40.0)


def _way(mine: _Mine, ways: Ways, limits: Tensor, kinds: Tensor, batch: Tensor, slots: Tensor) -> Tensor:
    """The way ahead as PARTS tokens [B, M, PARTS, WAY]."""
    cos, sin = torch.cos(mine.heading).unsqueeze(-1), torch.sin(mine.heading).unsqueeze(-1)
    side = mine.side.unsqueeze(-1)
    dx, dy = mine.ahead[..., 0] - mine.position[..., 0:1], mine.ahead[..., 1] - mine.position[..., 1:2]
    ux, uy = mine.ahead[..., 2], mine.ahead[..., 3]
    arcs = torch.tensor(ARCS, device=dx.device)
    ends = ways.paths.piece_end[batch, slots][..., 1:-1]
    place = (arcs + ways.here[batch, slots].unsqueeze(-1)).unsqueeze(-1) >= ends.unsqueeze(-2)
    piece = 1 + place.sum(-1)
    limit = limits[batch, slots].gather(-1, piece)
    inside = kinds[batch, slots].gather(-1, piece) == int(LaneKind.JUNCTION)
    numbers = (
        (dx * cos + dy * sin) / 40, (dy * cos - dx * sin) * side / 20, ux * cos + uy * sin, (uy * cos - ux * sin) * side,
        limit / 15, inside,
    )  # fmt: skip
    return torch.stack([n.to(dx.dtype) for n in numbers], -1).unflatten(-2, (PARTS, -1)).flatten(-2)
