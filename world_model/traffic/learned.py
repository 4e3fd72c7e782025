"""Learned agents: each draws a motion token of half a second from what it sees, and every second of them a little later than the others."""

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
from .interface import SLOTS
from .memory import IdmMemory, character, clear, nearest_agents
from .motion import move
from .network import TrafficNetwork
from .paths import AHEAD, CHAIN, complete, find_lanes, find_previous, lane_rows
from .spawning import FAR, spawn
from .views import FAR_AHEAD, Hazards, Ways, find_ways, look_around
from .vocabulary import HORIZON, group_of

PERIOD = round(HORIZON / DT)  # steps between an agent's decisions
TURNS = 2  # parts of the agents that decide one after the other within a PERIOD
STYLES = {  # speed over the limit and headway in s, lowest and highest
    "calm": ((0.85, 0.93), (1.6, 2.2)),
    "normal": ((0.9, 1.08), (1.0, 1.6)),
    "pushy": ((1.05, 1.15), (0.6, 1.0)),
}
FIRM_BRAKING = 4.6  # m/s2 that agents keep in reserve
HARD_BRAKING = 4.6  # m/s2 that whoever is ahead may brake with
SIDEWAYS = 0.03  # m within HORIZON that counts as moving to a side
LINE_MARGIN = 0.3  # m before a stop line
GAP_MARGIN = 0.8  # m behind whoever is ahead
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
        chain = torch.full((*lane.shape, CHAIN), -1, dtype=torch.int64, device=lane.device)
        chain[..., 0] = find_previous(scene.road, lane)
        chain[..., 1] = lane
        chain = complete(scene.road, chain, torch.full_like(lane, AHEAD), agents.id, seed)
        return agents, begin(scene.road, agents, chain, arc, lateral, self._styles(seed, agents))

    @torch.no_grad()
    def step(self, scene: Scene, ego_next: Ego, memory: LearnedMemory, seed: Tensor, step: Tensor) -> tuple[Agents, LearnedMemory]:
        """Advance all agents by DT; see `Traffic.step`."""
        road, agents = scene.road, scene.agents
        ways = find_ways(road, agents, memory)
        rows, slots = due(step, agents.valid.shape[1])
        if len(rows) == len(step):
            memory = self._decide(scene, ego_next, memory, ways, slots, seed, step)
        elif len(rows):
            some, own = scene[rows], memory[rows]
            theirs = find_ways(some.road, some.agents, own)
            decided = self._decide(some, ego_next[rows], own, theirs, slots, seed[rows], step[rows])
            memory = dataclasses.replace(
                memory, push=memory.push.index_copy(0, rows, decided.push), slide=memory.slide.index_copy(0, rows, decided.slide)
            )
        moved, remembered = carry_out(road, agents, memory, ways, seed)
        gone = moved.valid & ((moved.position - ego_next.position.unsqueeze(1)).square().sum(-1) > FAR**2)
        moved = clear(moved, gone)
        if self.spawning:
            was = remembered
            moved, remembered = spawn(road, moved, remembered, ego_next, seed, step)
            fresh = moved.id >= was.next_id.unsqueeze(-1)
            styles = torch.where(fresh.unsqueeze(-1), self._styles(seed, moved), remembered.character)
            still = lambda value: torch.where(fresh, torch.zeros_like(value), value)
            remembered = dataclasses.replace(remembered, character=styles, push=still(remembered.push), slide=still(remembered.slide))
        return moved, remembered

    def _decide(
        self, scene: Scene, ego: Ego, memory: LearnedMemory, ways: Ways, slots: Tensor, seed: Tensor, step: Tensor
    ) -> LearnedMemory:
        """Draw the next motions of the agents in `slots` [B, M]."""
        agents = scene.agents
        batch = torch.arange(slots.shape[0], device=slots.device).unsqueeze(-1)
        views, hazards = look_around(scene, ego, memory, ways, slots)
        group = group_of(agents.kind)[batch, slots]
        logits = self.network(views, group)
        if self.careful:
            reckless = leads_astray(self.network.motions, agents.speed[batch, slots], hazards)  # type: ignore[arg-type]
            logits = logits.masked_fill(reckless & (group < 2).unsqueeze(-1), -torch.inf)
        draw = uniform(seed.unsqueeze(-1), agents.id[batch, slots], step.unsqueeze(-1), 41)
        motion = self.network.motions[self._draw(logits, draw)]  # type: ignore[index]
        side = scene.road.traffic_side.to(motion.dtype).view(-1, 1)
        push = memory.push.scatter(1, slots, motion[..., 0] / HORIZON)
        slide = memory.slide.scatter(1, slots, motion[..., 1] * side / HORIZON)
        return dataclasses.replace(memory, push=push, slide=slide)

    def _draw(self, logits: Tensor, draw: Tensor) -> Tensor:
        """Tokens [B, M] by draws [B, M] in [0, 1)."""
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


def leads_astray(motions: Tensor, speed: Tensor, hazards: Hazards) -> Tensor:
    """Which motions [V, 2] lead agents [B, M] to where FIRM_BRAKING no longer helps: bool [B, M, V].

    Where all do, those that brake hardest are let through.
    """
    after = (speed.unsqueeze(-1) + motions[:, 0]).clamp_min(0)
    driven = 0.5 * (speed.unsqueeze(-1) + after) * HORIZON
    stopping = after.square() / (2 * FIRM_BRAKING)
    leader = hazards.leader_speed.clamp_min(0).unsqueeze(-1)
    its_way = leader * HORIZON + leader.square() / (2 * HARD_BRAKING)
    short = (driven + stopping > (hazards.line - LINE_MARGIN).unsqueeze(-1)) & (hazards.line < FAR_AHEAD).unsqueeze(-1)
    close = driven + stopping > (hazards.gap - GAP_MARGIN).unsqueeze(-1) + its_way
    astray = (short | (close & (hazards.gap < FAR_AHEAD).unsqueeze(-1))) & (after > 0)
    to_side = torch.stack((motions[:, 1] > SIDEWAYS, motions[:, 1] < -SIDEWAYS))
    astray = astray | (hazards.beside.unsqueeze(-1) & to_side).any(-2)
    hardest = motions[:, 0] <= 0.8 * motions[:, 0].amin()
    return torch.where(astray.all(-1, keepdim=True), ~hardest, astray)


def due(step: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Who decides in steps [B]: the episodes R, and in each the slots [R, M] of one of TURNS parts of `count` agents."""
    begins = torch.tensor([turn * PERIOD // TURNS for turn in range(TURNS)], device=step.device)
    now = torch.remainder(step, PERIOD).unsqueeze(-1) == begins
    rows = now.any(-1).nonzero().squeeze(-1)
    turn = now[rows].int().argmax(-1, keepdim=True)
    slots = turn + torch.arange(0, count, TURNS, device=step.device)
    return rows, torch.where(slots < count, slots, turn).clamp_max(count - 1)


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
    behind = find_previous(road, goal)
    fresh = torch.full_like(chain, -1)
    fresh[..., 0], fresh[..., 1] = behind, goal
    fresh = complete(road, fresh, torch.full_like(goal, AHEAD), agents.id, seed)
    return dataclasses.replace(
        memory,
        chain=torch.where(crosses.unsqueeze(-1), fresh, chain),
        arc=torch.where(crosses, arc, memory.arc),
        lateral=torch.where(crosses, lateral, memory.lateral),
    )
