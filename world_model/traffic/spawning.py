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
from .memory import IdmMemory, character
from .paths import AHEAD, CHAIN, complete, find_previous

FAR = 135.0  # m from the ego beyond which an agent is dropped
NEAR_RING = (55.0, 95.0)  # m, nearest arrivals out of the camera's view and in it
FAR_RING = 120.0  # m, farthest arrivals
VIEW = math.radians(50.0)  # half of the angle ahead that counts as seen
EVERY = 3  # steps between arrivals
TRIES = 6  # places tried for an arrival
LONGEST_WAY = 8.0  # m, shortest lane that takes an arrival
APPROACH_BRAKING = 2.5  # m/s2, an arrival can stop at its lane's end with this
ROOM = (10.0, 0.8)  # m and s, distance to others at an arrival's speed

KINDS = (AgentKind.CAR, AgentKind.CAR, AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS)
SHARES = (0.45, 0.25, 0.17, 0.08, 0.05)
SIZES = ((4.6, 1.8, 1.5), (4.2, 1.75, 1.5), (4.9, 1.9, 1.75), (8.5, 2.4, 3.2), (12.0, 2.5, 3.2))  # m, length, width, height
COLOURS = (
    (0.85, 0.85, 0.86), (0.12, 0.12, 0.13), (0.45, 0.46, 0.48), (0.68, 0.70, 0.72),
    (0.15, 0.25, 0.55), (0.60, 0.10, 0.10), (0.20, 0.35, 0.22), (0.75, 0.65, 0.30),
)  # fmt: skip


def spawn(road: RoadMap, agents: Agents, memory: IdmMemory, ego: Ego, seed: Tensor, step: Tensor) -> tuple[Agents, IdmMemory]:
    """Let at most one agent appear per episode, where agents are fewer than `memory.target`.

    Everything is drawn from (seed, step); an arrival stands on a driving lane, clear of all others.
    """
    need = (step % EVERY == 0) & (agents.valid.sum(-1) < memory.target) & ~agents.valid.all(-1)
    if not bool(need.any()):
        return agents, memory
    lane, arc, place, direction, speed, found = _choose_place(road, agents, ego, seed, step)
    kind, size, colour = _choose_looks(seed, step)
    slot = (~agents.valid).float().argmax(-1, keepdim=True)
    heading = torch.atan2(direction[:, 1], direction[:, 0])
    fresh = torch.stack((place[:, 0], place[:, 1], heading, speed, torch.zeros_like(speed), *size.unbind(-1)), -1)
    mark = torch.zeros_like(agents.valid).scatter(1, slot, (need & found).unsqueeze(-1))
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
    chain = torch.full((lane.shape[0], 1, CHAIN), -1, dtype=torch.int64, device=lane.device)
    chain[..., 0], chain[..., 1] = find_previous(road, new(lane)), new(lane)
    chain = complete(road, chain, torch.full_like(identity, AHEAD), identity, seed)
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


def _choose_place(
    road: RoadMap, agents: Agents, ego: Ego, seed: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Lane [B], arc, position [B, 2], direction [B, 2], speed, and whether a free place was found [B]."""
    lanes = road.width.shape[1]
    first, last = road.centreline[:, :, 0], road.centreline[:, :, -1]
    length = (last - first).norm(dim=-1)
    middle = (0.5 * (first + last) - ego.position.unsqueeze(1)).norm(dim=-1)
    usable = (road.kind == int(LaneKind.DRIVING)) & (length > LONGEST_WAY) & (middle > NEAR_RING[0]) & (middle < FAR_RING)
    draw = uniform(seed.unsqueeze(-1), step.unsqueeze(-1), torch.arange(lanes, device=seed.device), 17)
    race = torch.where(usable, -torch.log(draw.clamp_min(1e-7)) / length.clamp_min(1), torch.full_like(length, torch.inf))
    value, lane = race.topk(min(TRIES, lanes), dim=-1, largest=False)

    batch = torch.arange(lane.shape[0], device=lane.device).unsqueeze(-1)
    line = road.centreline[batch, lane]
    delta = line[..., 1:, :] - line[..., :-1, :]
    run = delta.norm(dim=-1)
    ends = run.cumsum(-1)
    share = uniform(seed.unsqueeze(-1), step.unsqueeze(-1), lane, 19)
    arc = 2.5 + share * (ends[..., -1] - 5.0).clamp_min(0)
    segment = (ends < arc.unsqueeze(-1)).sum(-1, keepdim=True).clamp_max(run.shape[-1] - 1)
    pick = lambda values: values.gather(-1, segment).squeeze(-1)
    pick2 = lambda values: values.gather(-2, segment.unsqueeze(-1).expand(*segment.shape, 2)).squeeze(-2)
    direction = pick2(delta) / pick(run).clamp_min(1e-6).unsqueeze(-1)
    place = pick2(line[..., :-1, :]) + (arc - pick(ends - run)).unsqueeze(-1) * direction
    limit = road.speed_limit[batch, lane]
    speed = torch.minimum(0.9 * limit, torch.sqrt(2 * APPROACH_BRAKING * (ends[..., -1] - arc).clamp_min(0) + 25.0))

    local = to_frame(place, ego.position.unsqueeze(1), ego.heading.unsqueeze(1))
    away = local.norm(dim=-1)
    seen = torch.atan2(local[..., 1], local[..., 0]).abs() < VIEW
    ring = (away > torch.where(seen, NEAR_RING[1], NEAR_RING[0])) & (away < FAR_RING)
    others = (place.unsqueeze(2) - agents.position.unsqueeze(1)).norm(dim=-1) - agents.length.unsqueeze(1) / 2
    others = torch.where(agents.valid.unsqueeze(1), others, torch.full_like(others, torch.inf)).amin(-1)
    good = ring & (others > ROOM[0] + ROOM[1] * speed) & torch.isfinite(value)
    chosen = good.float().argmax(-1)
    rows = torch.arange(chosen.shape[0], device=chosen.device)
    return lane[rows, chosen], arc[rows, chosen], place[rows, chosen], direction[rows, chosen], speed[rows, chosen], good.any(-1)


def _choose_looks(seed: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kind [B], size [B, 3] in m and colour [B, 3] of an arrival."""
    body = (uniform(seed, step, 23).unsqueeze(-1) >= torch.tensor(SHARES, device=seed.device).cumsum(-1)[:-1]).sum(-1)
    paint = (uniform(seed, step, 29) * len(COLOURS)).long()
    stretch = 0.95 + 0.1 * uniform(seed, step, 31)
    size = torch.tensor(SIZES, device=seed.device)[body]
    size = torch.cat((size[:, :1] * stretch.unsqueeze(-1), size[:, 1:]), -1)
    return torch.tensor([int(k) for k in KINDS], device=seed.device)[body], size, torch.tensor(COLOURS, device=seed.device)[paint]
