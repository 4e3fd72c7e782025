"""Arrivals: agents that were left behind are replaced by new ones on lanes around the ego, far away or out of its sight."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ...geometry import to_frame
from ...road import LaneKind, RoadMap
from ...scene import AgentKind, Agents, Ego
from .draws import uniform
from .memory import MemoryT, character
from .paths import begin_chain

FAR = 135.0  # m from the ego beyond which an agent is dropped
NEAR_RING = (55.0, 95.0)  # m, nearest arrivals out of the camera's view and in it
FAR_RING = 120.0  # m, farthest arrivals
VIEW = math.radians(50.0)  # half of the angle ahead that counts as seen
EVERY = 3  # steps between arrivals
TRIES = 8  # places tried for an arrival
OTHER_DRAWS = 5 + TRIES  # looks, and where on the lanes
LONGEST_WAY = 8.0  # m, shortest lane that takes an arrival
APPROACH_BRAKING = 2.5  # m/s2, an arrival can stop at its lane's end with this
ROOM = (10.0, 0.6)  # m and s, distance to others in an arrival's lane at its speed
BESIDE = 2.6  # m from its lane's centre that counts as in it
STOPPING = 5.0  # m/s at which an arrival may come to a signal

# where there are pavements
WALKERS, CYCLISTS = 0.35, 0.10  # shares of the arrivals
MOST_WALKERS = 10  # around the ego
WALKER_RING, WALKER_FAR = (40.0, 50.0), 65.0  # m, as NEAR_RING and FAR_RING
WALKER_WAY = 15.0  # m, shortest pavement that takes an arrival; nobody appears on a crossing
WALKER_ROOM, WALKER_BESIDE = (1.5, 0.6), 1.0  # as ROOM and BESIDE
WALKER_SIZE, WALKER_SPEED = (0.5, 0.6, 1.75), 1.4  # m, m/s
CYCLIST_SIZE, CYCLIST_SPEED = (1.8, 0.65, 1.7), 5.0  # m, m/s

# kind, length, width, height (m) and share of the bodies on the road
BODIES = (
    (AgentKind.CAR, 4.1, 1.75, 1.48, 0.26), (AgentKind.CAR, 4.7, 1.85, 1.46, 0.30), (AgentKind.CAR, 4.75, 1.95, 1.75, 0.20),
    (AgentKind.CAR, 5.6, 2.05, 2.4, 0.10), (AgentKind.TRUCK, 8.6, 2.5, 3.4, 0.06), (AgentKind.TRUCK, 13.5, 2.55, 3.9, 0.03),
    (AgentKind.BUS, 12.0, 2.55, 3.2, 0.05),
)  # fmt: skip
# red, green, blue and share of the paints
PAINTS = (
    (0.92, 0.92, 0.92, 0.24), (0.75, 0.76, 0.78, 0.17), (0.42, 0.44, 0.47, 0.15), (0.10, 0.10, 0.11, 0.15), (0.60, 0.10, 0.09, 0.08),
    (0.11, 0.20, 0.45, 0.08), (0.30, 0.45, 0.62, 0.05), (0.16, 0.33, 0.22, 0.03), (0.80, 0.62, 0.18, 0.03), (0.55, 0.42, 0.30, 0.02),
)  # fmt: skip


def spawn(road: RoadMap, agents: Agents, memory: MemoryT, ego: Ego, seed: Tensor, step: Tensor) -> tuple[Agents, MemoryT]:
    """Let at most one agent appear per episode, where agents are fewer than `memory.target`.

    Everything is drawn from (seed, step); an arrival stands on a driving lane, clear of all others. On roads with pavements some arrivals
    walk there and some ride a bicycle.
    """
    need = (step % EVERY == 0) & (agents.valid.sum(-1) < memory.target) & ~agents.valid.all(-1)
    if not bool(need.any()):
        return agents, memory
    lanes = torch.arange(-OTHER_DRAWS, road.width.shape[1], device=seed.device)
    looks, shares, draw = uniform(seed.unsqueeze(-1), step.unsqueeze(-1), lanes, 17).split((5, TRIES, road.width.shape[1]), -1)
    walks, cycles = _on_foot_or_bicycle(road, agents, seed, step)
    lane, arc, place, direction, speed, found = _choose_place(road, agents, ego, shares, draw, walks)
    found = found & need
    if not bool(found.any()):
        return agents, memory
    kind, size, colour = _choose_looks(looks)
    for those, one, measures, fastest in (
        (walks, AgentKind.PEDESTRIAN, WALKER_SIZE, WALKER_SPEED),
        (cycles, AgentKind.BICYCLE, CYCLIST_SIZE, CYCLIST_SPEED),
    ):
        kind = torch.where(those, int(one), kind)
        size = torch.where(those.unsqueeze(-1), size.new_tensor(measures), size)
        speed = torch.where(those, speed.clamp_max(fastest), speed)
    slot = (~agents.valid).float().argmax(-1, keepdim=True)
    heading = torch.atan2(direction[:, 1], direction[:, 0])
    fresh = torch.stack((place[:, 0], place[:, 1], heading, speed, torch.zeros_like(speed), *size.unbind(-1)), -1)
    mark = torch.zeros_like(agents.valid).scatter(1, slot, found.unsqueeze(-1))
    wide = mark.unsqueeze(-1)
    new = lambda value: value.unsqueeze(1)
    arrived = Agents(
        state=torch.where(wide, new(fresh), agents.state),
        kind=torch.where(mark, new(kind), agents.kind),
        valid=agents.valid | mark,
        id=torch.where(mark, new(memory.next_id), agents.id),
        brake=agents.brake & ~mark,
        colour=torch.where(wide, new(colour), agents.colour),
    )
    identity = memory.next_id.unsqueeze(1)
    chain = begin_chain(road, new(lane), identity, seed)
    remembered = dataclasses.replace(
        memory,
        chain=torch.where(wide, chain, memory.chain),
        arc=torch.where(mark, new(arc), memory.arc),
        lateral=memory.lateral * ~mark,
        drift=memory.drift * ~mark,
        character=torch.where(wide, character(seed, identity, new(kind)), memory.character),
        waited=memory.waited * ~mark,
        next_id=memory.next_id + mark.any(-1),
    )
    return arrived, remembered


def _on_foot_or_bicycle(road: RoadMap, agents: Agents, seed: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Which arrivals walk, and which ride a bicycle, both [B]."""
    paved = (road.kind == int(LaneKind.WALKING)).any(-1)
    draw = uniform(seed, step, torch.zeros_like(step), 19)
    few = ((agents.kind == int(AgentKind.PEDESTRIAN)) & agents.valid).sum(-1) < MOST_WALKERS
    return paved & few & (draw < WALKERS), paved & (draw > 1 - CYCLISTS)


def _choose_place(
    road: RoadMap, agents: Agents, ego: Ego, shares: Tensor, draw: Tensor, walks: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Lane [B], arc, position [B, 2], direction [B, 2], speed, and whether a free place was found [B].

    `shares` [B, TRIES] say where on the lanes that `draw` [B, L] chooses, on pavements where `walks` [B].
    """
    foot = walks.unsqueeze(-1)
    either = lambda walking, driving: torch.where(foot, walking, driving).to(road.centreline.dtype)
    first, last = road.centreline[:, :, 0], road.centreline[:, :, -1]
    length = (last - first).norm(dim=-1)
    middle = (0.5 * (first + last) - ego.position.unsqueeze(1)).norm(dim=-1)
    farthest = either(WALKER_FAR, FAR_RING)
    usable = (road.kind == torch.where(foot, int(LaneKind.WALKING), int(LaneKind.DRIVING))) & (length > either(WALKER_WAY, LONGEST_WAY))
    usable = usable & (middle > either(WALKER_RING[0], NEAR_RING[0])) & (middle < farthest)
    race = torch.where(usable, -torch.log(draw.clamp_min(1e-7)) / length.clamp_min(1), torch.full_like(length, torch.inf))
    value, lane = race.topk(min(TRIES, draw.shape[1]), dim=-1, largest=False)

    batch = torch.arange(lane.shape[0], device=lane.device).unsqueeze(-1)
    line = road.centreline[batch, lane]
    delta = line[..., 1:, :] - line[..., :-1, :]
    run = delta.norm(dim=-1)
    ends = run.cumsum(-1)
    arc = 2.5 + shares[:, : lane.shape[1]] * (ends[..., -1] - 5.0).clamp_min(0)
    segment = (ends < arc.unsqueeze(-1)).sum(-1, keepdim=True).clamp_max(run.shape[-1] - 1)
    pick = lambda values: values.gather(-1, segment).squeeze(-1)
    pick2 = lambda values: values.gather(-2, segment.unsqueeze(-1).expand(*segment.shape, 2)).squeeze(-2)
    direction = pick2(delta) / pick(run).clamp_min(1e-6).unsqueeze(-1)
    place = pick2(line[..., :-1, :]) + (arc - pick(ends - run)).unsqueeze(-1) * direction
    limit = road.speed_limit[batch, lane]
    onward = road.successors[batch, lane, 0]
    signalled = (lane.unsqueeze(-1) == road.signal_lane.unsqueeze(1)).any(-1)
    beyond = torch.where(signalled, STOPPING, road.speed_limit.gather(1, onward.clamp_min(0)))
    beyond = torch.where(onward >= 0, beyond, limit)
    room = (ends[..., -1] - arc).clamp_min(0)
    speed = 0.9 * torch.minimum(limit, torch.sqrt(beyond.square() + 2 * APPROACH_BRAKING * room))

    local = to_frame(place, ego.position.unsqueeze(1), ego.heading.unsqueeze(1))
    away = local.norm(dim=-1)
    seen = torch.atan2(local[..., 1], local[..., 0]).abs() < VIEW
    nearest = torch.where(seen, either(WALKER_RING[1], NEAR_RING[1]), either(WALKER_RING[0], NEAR_RING[0]))
    ring = (away > nearest) & (away < farthest)
    apart = agents.position.unsqueeze(1) - place.unsqueeze(2)
    along = (apart * direction.unsqueeze(2)).sum(-1).abs() - agents.length.unsqueeze(1) / 2
    aside = (direction[..., None, 0] * apart[..., 1] - direction[..., None, 1] * apart[..., 0]).abs()
    room, later = either(WALKER_ROOM[0], ROOM[0]), either(WALKER_ROOM[1], ROOM[1])
    beside = either(WALKER_BESIDE, BESIDE).unsqueeze(-1)
    needed = torch.where(aside < beside, (room + later * speed).unsqueeze(-1), room.unsqueeze(-1))
    crowded = (torch.maximum(along, aside - beside) < needed) & (aside < needed + beside) & agents.valid.unsqueeze(1)
    crowded = (crowded & ((aside < beside) | (apart.norm(dim=-1) < room.unsqueeze(-1)))).any(-1)
    good = ring & ~crowded & torch.isfinite(value)
    chosen = good.float().argmax(-1)
    rows = torch.arange(chosen.shape[0], device=chosen.device)
    return lane[rows, chosen], arc[rows, chosen], place[rows, chosen], direction[rows, chosen], speed[rows, chosen], good.any(-1)


def _choose_looks(draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kind [B], size [B, 3] in m and colour [B, 3] of an arrival, by draws [B, 5]."""
    bodies, paints = (torch.tensor(table, device=draw.device) for table in (BODIES, PAINTS))
    choose = lambda number, share: (number.unsqueeze(-1) >= share.cumsum(-1)[:-1]).sum(-1)
    body = bodies[choose(draw[:, 0], bodies[:, -1])]
    paint = paints[choose(draw[:, 1], paints[:, -1])]
    return body[:, 0].long(), body[:, 1:4], (paint[:, :3] + 0.08 * draw[:, 2:] - 0.04).clamp(0, 1)
