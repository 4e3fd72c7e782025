"""What agents remember of their ways, how each one drives, and keeping their slots."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ...batched import Batched
from ...road import RoadMap
from ...scene import AgentKind, Agents, Ego
from .draws import uniform
from .paths import begin_chain, find_lanes

CHARACTER_LOW = (0.85, 0.9, 1.6, 2.0)  # speed over the limit, headway (s), acceleration and comfortable braking (m/s2)
CHARACTER_HIGH = (1.1, 1.6, 2.4, 3.0)
CHARACTER_HEAVY = (0.9, 1.1, 0.6, 0.9)  # factors for trucks and buses


@dataclass(frozen=True)
class IdmMemory(Batched):
    """What rule-driven agents remember, N slots."""

    chain: Tensor  # [B, N, CHAIN] lanes: behind, present, ahead; -1 none
    arc: Tensor  # [B, N] m, centre along the present lane
    lateral: Tensor  # [B, N] m left of the lane's centre
    drift: Tensor  # [B, N] m/s, its rate
    character: Tensor  # [B, N, 4] speed factor, headway (s), acceleration and comfortable braking (m/s2)
    waited: Tensor  # [B, N] s standing
    target: Tensor  # [B] agents to keep around the ego
    next_id: Tensor  # [B] int64


MemoryT = TypeVar("MemoryT", bound=IdmMemory)


def character(seed: Tensor, identity: Tensor, kind: Tensor) -> Tensor:
    """Draw how agents [B, N] of episodes with seeds [B] drive: [B, N, 4] as in `IdmMemory.character`."""
    draw = uniform(seed.view(-1, 1, 1), identity.unsqueeze(-1), torch.arange(4, device=seed.device), 11)
    low, high = draw.new_tensor(CHARACTER_LOW), draw.new_tensor(CHARACTER_HIGH)
    heavy = ((kind == int(AgentKind.TRUCK)) | (kind == int(AgentKind.BUS))).unsqueeze(-1)
    return (low + (high - low) * draw) * torch.where(heavy, draw.new_tensor(CHARACTER_HEAVY), draw.new_ones(4))


def join_pavements(road: RoadMap, agents: Agents, memory: MemoryT, seed: Tensor) -> MemoryT:
    """Let people who walk where no lane is take up one that they have come upon."""
    lost = agents.valid & (agents.kind == int(AgentKind.PEDESTRIAN)) & (memory.chain[..., 1] < 0)
    if not bool(lost.any()):
        return memory
    lane, arc, lateral = find_lanes(road, agents)
    found = lost & (lane >= 0)
    if not bool(found.any()):
        return memory
    chain = begin_chain(road, lane, agents.id, seed)
    return dataclasses.replace(
        memory,
        chain=torch.where(found.unsqueeze(-1), chain, memory.chain),
        arc=torch.where(found, arc, memory.arc),
        lateral=torch.where(found, lateral, memory.lateral),
    )


def nearest_agents(agents: Agents, ego: Ego, slots: int) -> Agents:
    """The `slots` agents nearest to the ego, in their order, with empty slots behind them."""
    count = agents.valid.shape[1]
    if count <= slots:
        empty = Agents.empty(agents.valid.shape[0], slots - count).to(agents.state.device)
        return Agents(*(torch.cat((getattr(agents, n), getattr(empty, n)), 1) for n in ("state", "kind", "valid", "id", "brake", "colour")))
    gap = (agents.position - ego.position.unsqueeze(1)).norm(dim=-1)
    gap = torch.where(agents.valid, gap, torch.full_like(gap, torch.inf))
    index = gap.topk(slots, largest=False).indices.sort(-1).values
    batch = torch.arange(index.shape[0], device=index.device).unsqueeze(-1)
    return agents.map(lambda t: t[batch, index])


def clear(agents: Agents, gone: Tensor) -> Agents:
    """Empty the slots [B, N] where `gone`."""
    keep = agents.valid & ~gone
    return Agents(
        state=torch.where(keep.unsqueeze(-1), agents.state, torch.zeros_like(agents.state)),
        kind=agents.kind * keep,
        valid=keep,
        id=torch.where(keep, agents.id, torch.full_like(agents.id, -1)),
        brake=agents.brake & keep,
        colour=agents.colour * keep.unsqueeze(-1),
    )
