"""Rule-driven traffic: agents follow lanes by the intelligent driver model, obey signals and right of way, and avoid the ego."""

from __future__ import annotations

import torch
from torch import Tensor

from ...geometry import polyline_lengths
from ...road import RoadMap, SignalState
from ...scene import DT, Agents, Ego, Scene
from . import junctions
from .interface import SLOTS
from .lane_changes import change_lanes
from .memory import IdmMemory, character, clear, join_pavements, nearest_agents
from .motion import move
from .obstacles import STEP_AHEAD
from .paths import Paths, begin_chain, find_lanes
from .sight import Sight, look
from .spawning import FAR, spawn

MINIMUM_GAP = 2.5  # m, s0 of the IDM
STOP_GAP = 0.5  # m, s0 before a line
FIRM_BRAKING = 4.0  # m/s2, the most an agent brakes unless it must
HARD_BRAKING = 8.0  # m/s2, the most it can
RESERVE = 1.3  # times the braking that would just do, where that is more than firm
RUN_OUT = 10.0  # m before the end of a lane where an agent waits that found no gap
FREE_BRAKING = 3.0  # m/s2, the most it brakes for a limit or a curve
YELLOW_BRAKING = 3.0  # m/s2 above which a yellow light is passed
RED_BRAKING = 7.0  # m/s2 above which even a red one is
CURVE_ACCELERATION = 2.5  # m/s2 sideways
ANTICIPATION = 1.5  # m/s2, braking towards a slower lane or a curve
JERK = (-8.0, 4.0)  # m/s3 in ordinary driving
SETTLE = 1.2  # 1/s, how fast a sideways offset is steered out
SIDEWAYS_LIMIT = 2.0  # m/s2


class IdmTraffic:
    """Lane-following agents with the intelligent driver model (Treiber, Hennecke and Helbing 2000).

    Args:
        spawning: whether agents that are left behind are replaced by new ones.
    """

    def __init__(self, spawning: bool = True) -> None:
        self.spawning = spawning

    @torch.no_grad()
    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, IdmMemory]:
        """Take over the SLOTS agents nearest to the ego of a scene [B]."""
        agents = nearest_agents(scene.agents, scene.ego, SLOTS)
        lane, arc, lateral = find_lanes(scene.road, agents)
        room = polyline_lengths(scene.road.lane_values(scene.road.centreline, lane)) - arc
        arriving = (agents.speed.square() - 2 * FREE_BRAKING * room.clamp_min(0)).clamp_min(0).sqrt()
        chain = begin_chain(scene.road, lane, agents.id, seed, arriving)
        limit = scene.road.lane_values(scene.road.speed_limit, lane)
        traits = character(seed, agents.id, agents.kind)
        keeps = (agents.speed / limit.clamp_min(1.0)).clamp(0, 1.25)
        traits[..., 0] = torch.maximum(traits[..., 0], keeps)
        count = agents.valid.sum(-1)
        zero = torch.zeros_like(arc)
        largest = torch.where(agents.valid, agents.id, torch.zeros_like(agents.id)).amax(-1)
        return agents, IdmMemory(chain, arc, lateral, zero, traits, zero, count, largest + 1)

    @torch.no_grad()
    def step(self, scene: Scene, ego_next: Ego, memory: IdmMemory, seed: Tensor, step: Tensor) -> tuple[Agents, IdmMemory]:
        """Advance all agents by DT; see `Traffic.step`."""
        road, agents = scene.road, scene.agents
        memory = join_pavements(road, agents, memory, seed)
        sight = look(scene, ego_next, memory)
        acceleration = self._accelerate(scene, ego_next, memory, sight)
        moved, remembered = self._move(road, agents, memory, sight.paths, sight.here, acceleration, seed)
        remembered = change_lanes(road, agents, moved, memory, remembered, sight, seed, step)
        gone = moved.valid & ((moved.position - ego_next.position.unsqueeze(1)).square().sum(-1) > FAR**2)
        moved = clear(moved, gone)
        if self.spawning:
            moved, remembered = spawn(road, moved, remembered, ego_next, seed, step)
        return moved, remembered

    def _accelerate(self, scene: Scene, ego: Ego, memory: IdmMemory, sight: Sight) -> Tensor:
        """Accelerations [B, N] that agents choose."""
        agents, speed = scene.agents, scene.agents.speed
        stop = red_line(scene, sight, speed, memory.chain)
        lane_end = sight.paths.ends[..., -1] - sight.here - sight.half_length - RUN_OUT
        stop = torch.where(sight.ends, torch.minimum(stop, lane_end), stop)
        if bool(sight.way.present.any()):
            hold = junctions.hold_distance(
                sight.way,
                held=(torch.minimum(sight.gap, stop) < sight.way.line),
                approach_limit=sight.limits[..., 1],
                waited=memory.waited,
                half_width=agents.width / 2,
                speed=speed,
                side=scene.road.traffic_side,
                ego=ego,
                ego_half_width=scene.profile.width / 2,
                ego_in_lane=sight.ego_in_lane,
                route=scene.route,
            )
            stop = torch.minimum(stop, hold)

        factor, headway, power, comfort = memory.character.unbind(-1)
        wanted = desired_speed(sight, factor, memory.chain)
        free = (power * (1 - (speed / wanted).square().square())).clamp_min(-FREE_BRAKING)
        root = 2 * torch.sqrt(power * comfort)
        keep = MINIMUM_GAP + (speed * headway + speed * (speed - sight.leader_speed) / root).clamp_min(0)
        halt = STOP_GAP + speed * headway * 0.5 + speed.square() / root
        room, line = sight.gap.clamp_min(0.3), stop.clamp_min(0.3)
        closing = (speed - sight.leader_speed).clamp_min(0)
        needed = torch.maximum(closing.square() / (room - 0.5).clamp_min(0.2), speed.square() / line) / 2
        braking = power * torch.maximum(keep / room, halt / line).square()
        braking = torch.minimum(braking, (RESERVE * needed).clamp(FIRM_BRAKING, HARD_BRAKING))
        target = torch.minimum((free - braking).clamp_min(-HARD_BRAKING), power)
        eased = agents.acceleration + (target - agents.acceleration).clamp(JERK[0] * DT, JERK[1] * DT)
        chosen = torch.where(target < -FREE_BRAKING, target, eased)
        return torch.where(sight.on_lane, chosen, torch.zeros_like(chosen))

    def _move(
        self, road: RoadMap, agents: Agents, memory: IdmMemory, paths: Paths, here: Tensor, acceleration: Tensor, seed: Tensor
    ) -> tuple[Agents, IdmMemory]:
        """Move agents along their ways and shift their lane chains."""
        speed = (agents.speed + acceleration * DT).clamp_min(0)
        rolling = (speed / 4).clamp(0, 1)
        push = (-(SETTLE**2) * memory.lateral - 2 * SETTLE * memory.drift).clamp(-SIDEWAYS_LIMIT, SIDEWAYS_LIMIT)
        drift = memory.drift + push * DT
        slip = drift * DT * rolling
        moved = move(road, agents, memory.chain, memory.lateral, memory.waited, paths, here, acceleration, speed, slip, seed)
        return moved.agents, IdmMemory(
            moved.chain, moved.arc, moved.lateral, drift, memory.character, moved.waited, memory.target, memory.next_id
        )


def red_line(scene: Scene, sight: Sight, speed: Tensor, chain: Tensor) -> Tensor:
    """Distance [B, N] in m from each agent's front to where it must stop for a signal; infinite where none is against it."""
    road = scene.road
    batch, lanes = road.width.shape
    table = torch.zeros(batch, lanes + 1, dtype=torch.int64, device=chain.device)
    lane = torch.where(road.signal_lane >= 0, road.signal_lane, torch.full_like(road.signal_lane, lanes))
    table.scatter_(1, lane, scene.signals)
    state = table[:, :lanes].reshape(-1)[sight.rows]
    room = sight.paths.piece_end - (sight.here + sight.half_length + junctions.STANDOFF).unsqueeze(-1)
    room[..., 0] = -torch.inf
    braking = speed.square().unsqueeze(-1) / 2 / (room + junctions.STANDOFF).clamp_min(0.1)
    limit = torch.where(state == int(SignalState.RED), RED_BRAKING, YELLOW_BRAKING)
    against = ((state == int(SignalState.RED)) | (state == int(SignalState.YELLOW))) & (braking < limit)
    against = against & (room + junctions.STANDOFF > junctions.ENTERED) & (chain >= 0)
    return torch.where(against, room, torch.full_like(room, torch.inf)).amin(-1)


def desired_speed(sight: Sight, factor: Tensor, chain: Tensor) -> Tensor:
    """Speed [B, N] in m/s each agent would like, for the limits and curves on its way; `factor` [B, N] of the limit."""
    own = sight.limits[..., 1:] * factor.unsqueeze(-1)
    room = (sight.paths.piece_start[..., 1:] - sight.here.unsqueeze(-1)).clamp_min(0)
    by_limit = own.square() + 2 * ANTICIPATION * room
    by_limit = torch.where(chain[..., 1:] >= 0, by_limit, torch.full_like(by_limit, torch.inf)).amin(-1)
    step = sight.ahead[..., 1:, :2] - sight.ahead[..., :-1, :2]
    bend = (step[..., 3:, :] - step[..., :-3, :]).norm(dim=-1) / (3 * STEP_AHEAD**2)
    bend = bend * (step[..., 3:, :].square().sum(-1) > 0.8 * STEP_AHEAD**2)  # not where the known way ends
    start = STEP_AHEAD * torch.arange(bend.shape[-1], device=bend.device)
    by_curve = (CURVE_ACCELERATION / bend.clamp_min(1e-4) + 2 * ANTICIPATION * start).amin(-1)
    return torch.sqrt(torch.minimum(by_limit, by_curve)).clamp_min(1.0)
