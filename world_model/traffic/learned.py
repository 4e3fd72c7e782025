"""Learned agents: each draws a motion token from what it sees, and carries it out for half a second."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import ConfigError
from ...geometry import project_polyline
from ...road import LaneKind, RoadMap
from ...scenario import nearest
from ...scene import DT, Agents, Ego, Scene
from .draws import uniform
from .hazards import bumps_into, leads_astray
from .interface import SLOTS
from .memory import IdmMemory, character, clear, join_pavements, nearest_agents
from .motion import move
from .network import TrafficNetwork
from .paths import begin_chain, find_lanes, lane_rows
from .spawning import FAR, spawn
from .views import Ways, find_ways, look_around
from .vocabulary import GROUPS, HORIZON, group_of

PERIOD = round(HORIZON / DT)  # steps between an agent's decisions
STYLES = {  # speed over the limit and headway in s, lowest and highest
    "calm": ((0.85, 0.93), (1.6, 2.2)),
    "normal": ((0.9, 1.08), (1.0, 1.6)),
    "pushy": ((1.05, 1.15), (0.6, 1.0)),
}
WALKER = GROUPS.index("walker")
RELUCTANCE = 0.15  # m past the border between two lanes at which an agent belongs to the next


@dataclass(frozen=True)
class LearnedMemory(IdmMemory):
    """What learned agents remember: their ways, and the motion that each is carrying out."""

    push: Tensor  # [B, N] m/s2
    slide: Tensor  # [B, N] m/s to the left


class LearnedTraffic:
    """Agents that a network moves by motion tokens.

    Args:
        network: names the motions.
        temperature: of the draws; 0 takes the most likely motion.
        top_p: share of the probability that is drawn from, the likeliest motions first.
        style: how agents drive, of STYLES.
        careful: whether motions after which firm braking could no longer keep an agent from a red light or from whoever is in its way
            are left out of the draws.
        spawning: whether agents that are left behind are replaced by new ones.
        slots: agents kept around the ego.

    Raises:
        ConfigError: a value out of range, or an unknown style.

    Source: motion tokens as in SMART (Wu et al. 2024) and Trajeglish (Philion et al. 2024), here relative to the way that an agent drives.
    """

    def __init__(
        self,
        network: TrafficNetwork,
        temperature: float = 1.0,
        top_p: float = 0.95,
        style: str = "normal",
        careful: bool = True,
        spawning: bool = True,
        slots: int = SLOTS,
    ) -> None:
        if style not in STYLES:
            raise ConfigError(f"unknown style '{style}' of traffic; {nearest(style, STYLES)}")
        if not temperature >= 0 or not 0 < top_p <= 1 or slots < 1:
            raise ConfigError(
                f"temperature={temperature} top_p={top_p} slots={slots}; use temperature from 0, top_p in (0, 1], slots from 1"
            )
        self.network = network.eval()
        self.temperature, self.top_p, self.style, self.careful = temperature, top_p, style, careful
        self.spawning, self.slots = spawning, slots

    @classmethod
    def load(cls, folder: str | Path, **options: object) -> LearnedTraffic:
        """Read the network of a folder of weights.

        Raises:
            CheckpointError: no such weights, or damaged ones.
        """
        return cls(TrafficNetwork.load(folder), **options)  # type: ignore[arg-type]

    @torch.no_grad()
    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, LearnedMemory]:
        """Take over the agents nearest to the ego of a scene [B]."""
        agents = nearest_agents(scene.agents, scene.ego, self.slots)
        lane, arc, lateral = find_lanes(scene.road, agents)
        chain = begin_chain(scene.road, lane, agents.id, seed)
        return agents, begin(scene.road, agents, chain, arc, lateral, self._styles(seed, agents))

    @torch.no_grad()
    def step(self, scene: Scene, ego_next: Ego, memory: LearnedMemory, seed: Tensor, step: Tensor) -> tuple[Agents, LearnedMemory]:
        """Advance all agents by DT; see `Traffic.step`."""
        road, agents = scene.road, scene.agents
        memory = join_pavements(road, agents, memory, seed)
        ways = find_ways(road, agents, memory)
        rows = (torch.remainder(step, PERIOD) == 0).nonzero().squeeze(-1)  # the episodes whose agents decide now
        if len(rows) == len(step):
            memory = self._decide(scene, ego_next, memory, ways, seed, step)
        elif len(rows):
            some, own = scene[rows], memory[rows]
            theirs = find_ways(some.road, some.agents, own)
            decided = self._decide(some, ego_next[rows], own, theirs, seed[rows], step[rows])
            memory = dataclasses.replace(
                memory, push=memory.push.index_copy(0, rows, decided.push), slide=memory.slide.index_copy(0, rows, decided.slide)
            )
        moved, remembered = carry_out(road, agents, memory, ways, seed)
        gone = moved.valid & ((moved.position - ego_next.position.unsqueeze(1)).square().sum(-1) > FAR**2)
        moved = clear(moved, gone)
        if self.spawning:
            was = remembered
            moved, remembered = spawn(road, moved, remembered, ego_next, seed, step)
            if bool((remembered.next_id > was.next_id).any()):
                fresh = moved.id >= was.next_id.unsqueeze(-1)
                styles = torch.where(fresh.unsqueeze(-1), self._styles(seed, moved), remembered.character)
                still = lambda value: torch.where(fresh, torch.zeros_like(value), value)
                remembered = dataclasses.replace(remembered, character=styles, push=still(remembered.push), slide=still(remembered.slide))
        return moved, remembered

    def _decide(self, scene: Scene, ego: Ego, memory: LearnedMemory, ways: Ways, seed: Tensor, step: Tensor) -> LearnedMemory:
        """Draw the next motions of all agents; empty slots have none."""
        agents = scene.agents
        slots = torch.arange(agents.valid.shape[1], device=seed.device).expand_as(agents.valid)
        views, hazards = look_around(scene, ego, memory, ways, slots)
        group = group_of(agents.kind)
        there = agents.valid.flatten().nonzero().squeeze(-1)
        take = lambda tensor: tensor.flatten(0, 1)[there]
        logits = self.network(views.map(lambda t: take(t).unsqueeze(0)), take(group).unsqueeze(0))[0]
        if self.careful:
            reckless = leads_astray(self.network.motions, agents.speed, hazards)  # type: ignore[arg-type]
            on_foot = (group == WALKER) & agents.valid
            if bool(on_foot.any()):
                bumps = bumps_into(self.network.motions, agents, hazards)  # type: ignore[arg-type]
                reckless = torch.where(on_foot.unsqueeze(-1), bumps, reckless)
            logits = logits.masked_fill(take(reckless), -torch.inf)
        draw = uniform(seed.unsqueeze(-1), agents.id, step.unsqueeze(-1), 41)
        drawn = self.network.motions[self._draw(logits, take(draw))]  # type: ignore[index]
        motion = drawn.new_zeros(agents.valid.numel(), 2).index_copy(0, there, drawn).view(*agents.valid.shape, 2)
        side = scene.road.traffic_side.to(motion.dtype).view(-1, 1)
        return dataclasses.replace(memory, push=motion[..., 0] / HORIZON, slide=motion[..., 1] * side / HORIZON)

    def _draw(self, logits: Tensor, draw: Tensor) -> Tensor:
        """Tokens [...] by draws [...] in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        share, order = torch.softmax(logits / self.temperature, -1).sort(-1, descending=True)
        total = share.cumsum(-1)
        kept = torch.where(total - share < self.top_p, total, torch.zeros_like(total)).amax(-1)
        place = (total < (draw * kept).unsqueeze(-1)).sum(-1, keepdim=True).clamp_max(logits.shape[-1] - 1)
        return order.gather(-1, place).squeeze(-1)

    def _styles(self, seed: Tensor, agents: Agents) -> Tensor:
        """How agents drive [B, N, 4]: columns 0 and 1 are the speed over the limit and the headway in s that the network is told."""
        drawn = character(seed, agents.id, agents.kind)
        share = uniform(seed.view(-1, 1, 1), agents.id.unsqueeze(-1), torch.arange(2, device=seed.device), 43)
        low, high = drawn.new_tensor(STYLES[self.style]).unbind(-1)
        return torch.cat((low + (high - low) * share, drawn[..., 2:]), -1)


def begin(road: RoadMap, agents: Agents, chain: Tensor, arc: Tensor, lateral: Tensor, styles: Tensor) -> LearnedMemory:
    """The first memory of agents [B, N] on lane chains [B, N, CHAIN]; they go on as they are until they first decide."""
    zero = torch.zeros_like(arc)
    largest = torch.where(agents.valid, agents.id, torch.zeros_like(agents.id)).amax(-1)
    memory = LearnedMemory(
        chain=chain, arc=arc, lateral=lateral, drift=zero, character=styles, waited=zero, target=agents.valid.sum(-1), next_id=largest + 1,
        push=agents.acceleration.clamp(-4.0, 2.0) * agents.valid, slide=zero,
    )  # fmt: skip
    start = find_ways(road, agents, memory).ahead[..., 0, 2:]
    sine = start[..., 0] * torch.sin(agents.heading) - start[..., 1] * torch.cos(agents.heading)
    slide = (agents.speed * sine).clamp(-1.0, 1.0) * (chain[..., 1] >= 0)
    return dataclasses.replace(memory, slide=slide, drift=slide)


def carry_out(
    road: RoadMap, agents: Agents, memory: LearnedMemory, ways: Ways, seed: Tensor, dt: float = DT
) -> tuple[Agents, LearnedMemory]:
    """Move agents by the motions they are carrying out, into the lane beside where they cross its border."""
    speed = (agents.speed + memory.push * dt).clamp_min(0)
    rolling = (speed / 1.0).clamp(0, 1)
    moved = move(
        road, agents, memory.chain, memory.lateral, memory.waited, ways.paths, ways.here, memory.push, speed,
        memory.slide * dt * rolling, seed, wander=True, dt=dt,
    )  # fmt: skip
    lateral = torch.where(ways.on_lane, moved.lateral, torch.zeros_like(moved.lateral))
    remembered = dataclasses.replace(
        memory, chain=moved.chain, arc=moved.arc, lateral=lateral, drift=memory.slide * rolling, waited=moved.waited
    )
    return moved.agents, _cross_borders(road, moved.agents, remembered, seed)


def _cross_borders(road: RoadMap, agents: Agents, memory: LearnedMemory, seed: Tensor) -> LearnedMemory:
    """Hand agents that have crossed the border of their lane to the lane beside."""
    chain = memory.chain
    rows = lane_rows(road, chain[..., 1])
    width = road.width.reshape(-1)[rows]
    to_left = memory.lateral > 0
    goal = torch.where(to_left, road.left.reshape(-1)[rows], road.right.reshape(-1)[rows])
    goal_rows = lane_rows(road, goal)
    kinds = road.kind.reshape(-1)
    fits = (goal >= 0) & (chain[..., 1] >= 0) & agents.valid & (kinds[goal_rows] == int(LaneKind.DRIVING))
    crosses = fits & (memory.lateral.abs() > width / 2 + RELUCTANCE)
    if not bool(crosses.any()):
        return memory
    lines = road.centreline.reshape(-1, *road.centreline.shape[2:])[goal_rows]
    arc, lateral, _ = project_polyline(agents.position, lines)
    fresh = begin_chain(road, goal, agents.id, seed)
    return dataclasses.replace(
        memory,
        chain=torch.where(crosses.unsqueeze(-1), fresh, chain),
        arc=torch.where(crosses, arc, memory.arc),
        lateral=torch.where(crosses, lateral, memory.lateral),
    )
