"""Rule-driven traffic: agents follow lanes by the intelligent driver model, obey signals and right of way, and avoid the ego."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import wrap_angle
from ...road import RoadMap, SignalState
from ...scene import DT, AgentKind, Agents, Ego, Scene
from . import junctions
from .interface import SLOTS
from .memory import IdmMemory, character, clear, nearest_agents
from .paths import AHEAD, CHAIN, Paths, advance, complete, find_lanes, find_previous, follow, lane_rows
from .spawning import FAR, spawn

STEP_AHEAD = 2.5  # m between the points of an agent's way
POINTS_AHEAD = 48
SIDE_MARGIN = 0.3  # m beside a vehicle that must be free
MINIMUM_GAP = 2.5  # m, s0 of the IDM
STOP_GAP = 0.5  # m, s0 before a line
HARD_BRAKING = 8.0  # m/s2, the most an agent brakes
FREE_BRAKING = 3.0  # m/s2, the most it brakes for a limit or a curve
YELLOW_BRAKING = 3.0  # m/s2 above which a yellow light is passed
RED_BRAKING = 7.0  # m/s2 above which even a red one is
CURVE_ACCELERATION = 2.5  # m/s2 sideways
ANTICIPATION = 1.5  # m/s2, braking towards a slower lane or a curve
JERK = (-8.0, 4.0)  # m/s3 in ordinary driving
BRAKE_LIGHT = -0.8  # m/s2
STANDING = 0.3  # m/s
SETTLE = 1.2  # 1/s, how fast a sideways offset is steered out
SIDEWAYS_LIMIT = 2.0  # m/s2
TURNING = 0.25  # 1/m, the tightest turn


class Others(NamedTuple):
    """Everything on the road as obstacles: the agents, then the ego; M = N + 1."""

    position: Tensor  # [B, M, 2]
    direction: Tensor  # [B, M, 2] unit vector
    half_length: Tensor  # [B, M]
    half_width: Tensor  # [B, M]
    speed: Tensor  # [B, M]
    valid: Tensor  # [B, M]


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
        chain = torch.full((*lane.shape, CHAIN), -1, dtype=torch.int64, device=lane.device)
        chain[..., 0] = find_previous(scene.road, lane)
        chain[..., 1] = lane
        chain = complete(scene.road, chain, torch.full_like(lane, AHEAD), agents.id, seed)
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
        paths = follow(road, memory.chain)
        here = paths.piece_start[..., 1] + memory.arc
        acceleration = self._accelerate(scene, ego_next, memory, paths, here)
        moved, memory = self._move(road, agents, memory, paths, here, acceleration, seed)
        gone = moved.valid & ((moved.position - ego_next.position.unsqueeze(1)).square().sum(-1) > FAR**2)
        moved = clear(moved, gone)
        if self.spawning:
            moved, memory = spawn(road, moved, memory, ego_next, seed, step)
        return moved, memory

    def _accelerate(self, scene: Scene, ego: Ego, memory: IdmMemory, paths: Paths, here: Tensor) -> Tensor:
        """Accelerations [B, N] that agents choose."""
        road, agents, chain = scene.road, scene.agents, memory.chain
        speed, half_length, half_width = agents.speed, agents.length / 2, agents.width / 2
        rows = lane_rows(road, chain)
        limits = road.speed_limit.reshape(-1)[rows]
        kinds = road.kind.reshape(-1)[rows]
        on_lane = agents.valid & (chain[..., 1] >= 0)

        ahead = paths.sample(here.unsqueeze(-1) + STEP_AHEAD * torch.arange(POINTS_AHEAD, device=here.device))
        gap, leader_speed, ego_in_lane = nearest_ahead(ahead, memory.lateral, half_length, half_width, obstacles(agents, ego, scene))

        red = red_line(scene, rows, paths, here, half_length, speed, chain)
        way = junctions.approach(paths, chain, kinds, here, half_length, speed, on_lane)
        stop = red
        if bool(way.present.any()):
            hold = junctions.hold_distance(
                way,
                held=(torch.minimum(gap, red) < way.line),
                approach_limit=limits[..., 1],
                waited=memory.waited,
                half_width=half_width,
                speed=speed,
                side=road.traffic_side,
                ego=ego,
                ego_half_width=scene.profile.width / 2,
                ego_in_lane=ego_in_lane,
            )
            stop = torch.minimum(red, hold)

        factor, headway, power, comfort = memory.character.unbind(-1)
        wanted = desired_speed(ahead, limits, factor, chain, paths, here)
        free = (power * (1 - (speed / wanted).pow(4))).clamp_min(-FREE_BRAKING)
        root = 2 * torch.sqrt(power * comfort)
        keep = MINIMUM_GAP + (speed * headway + speed * (speed - leader_speed) / root).clamp_min(0)
        halt = STOP_GAP + speed * headway * 0.5 + speed.square() / root
        press = torch.maximum(keep / gap.clamp_min(0.3), halt / stop.clamp_min(0.3))
        target = torch.minimum((free - power * press.square()).clamp_min(-HARD_BRAKING), power)
        eased = agents.acceleration + (target - agents.acceleration).clamp(JERK[0] * DT, JERK[1] * DT)
        chosen = torch.where(target < -FREE_BRAKING, target, eased)
        return torch.where(on_lane, chosen, torch.zeros_like(chosen))

    def _move(
        self, road: RoadMap, agents: Agents, memory: IdmMemory, paths: Paths, here: Tensor, acceleration: Tensor, seed: Tensor
    ) -> tuple[Agents, IdmMemory]:
        """Move agents along their ways and shift their lane chains."""
        speed = (agents.speed + acceleration * DT).clamp_min(0)
        distance = 0.5 * (agents.speed + speed) * DT
        chain, half = memory.chain, agents.length / 2
        on_lane = chain[..., 1] >= 0
        there = here + distance
        ends = paths.sample(torch.stack((there - half, there + half), -1))[..., :2]
        chord = ends[..., 1, :] - ends[..., 0, :]

        rolling = (speed / 4).clamp(0, 1)
        push = (-(SETTLE**2) * memory.lateral - 2 * SETTLE * memory.drift).clamp(-SIDEWAYS_LIMIT, SIDEWAYS_LIMIT)
        drift = memory.drift + push * DT
        slip = drift * DT * rolling
        lateral = memory.lateral + slip
        wanted = torch.atan2(chord[..., 1], chord[..., 0]) + torch.atan2(slip, distance.clamp_min(0.05))
        most = TURNING * distance
        turn = torch.maximum(torch.minimum(wrap_angle(wanted - agents.heading), most), -most)
        heading = wrap_angle(agents.heading + torch.where(on_lane, turn, torch.zeros_like(turn)))
        along = chord / chord.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        normal = torch.stack((-along[..., 1], along[..., 0]), -1)
        on_path = ends[..., 1, :] - half.unsqueeze(-1) * along + lateral.unsqueeze(-1) * normal
        straight = agents.position + distance.unsqueeze(-1) * torch.stack((torch.cos(agents.heading), torch.sin(agents.heading)), -1)
        position = torch.where(on_lane.unsqueeze(-1), on_path, straight)
        state = torch.cat((position, torch.stack((heading, speed, (speed - agents.speed) / DT), -1), agents.state[..., 5:8]), -1)
        brake = agents.valid & ((acceleration < BRAKE_LIGHT) | (speed < STANDING)) & (agents.kind <= int(AgentKind.BUS))
        agents = Agents(state, agents.kind, agents.valid, agents.id, brake, agents.colour)

        passed = ((paths.piece_end[..., 1:-1] <= there.unsqueeze(-1)) & (chain[..., 2:] >= 0)).cumprod(-1).sum(-1)
        arc = there - paths.piece_start.gather(-1, (1 + passed).unsqueeze(-1)).squeeze(-1)
        finished = on_lane & (chain[..., -1] < 0) & (there + half > paths.ends[..., -1] - 0.5)
        agents = clear(agents, finished & agents.valid)
        chain = complete(road, advance(chain, passed), passed, agents.id, seed)
        waited = torch.where(speed < STANDING, memory.waited + DT, torch.zeros_like(speed))
        return agents, IdmMemory(chain, arc, lateral, drift, memory.character, waited, memory.target, memory.next_id)


def obstacles(agents: Agents, ego: Ego, scene: Scene) -> Others:
    """Agents and ego as one list of boxes."""
    heading = torch.cat((agents.heading, ego.heading.unsqueeze(-1)), -1)
    join = lambda mine, egos: torch.cat((mine, egos.unsqueeze(1)), 1)
    return Others(
        position=join(agents.position, ego.position),
        direction=torch.stack((torch.cos(heading), torch.sin(heading)), -1),
        half_length=join(agents.length, scene.profile.length) / 2,
        half_width=join(agents.width, scene.profile.width) / 2,
        speed=join(agents.speed, ego.speed),
        valid=join(agents.valid, torch.ones_like(ego.speed, dtype=torch.bool)),
    )


def nearest_ahead(ahead: Tensor, lateral: Tensor, half_length: Tensor, half_width: Tensor, others: Others) -> tuple[Tensor, Tensor, Tensor]:
    """Find what each agent would run into first along its way.

    Args:
        ahead: [B, N, POINTS_AHEAD, 4] points and directions from its centre on.
        lateral: [B, N] m, its present offset from that way.
        half_length: [B, N] m.
        half_width: [B, N] m.
        others: all boxes; entry i < N is agent i itself.

    Returns:
        gap between bumpers [B, N] in m (infinite: nothing), the obstacle's speed along the way [B, N], and whether the
        ego is in the agent's own lane, before or behind it [B, N].
    """
    batch, agents, points, _ = ahead.shape
    dx = others.position[:, None, :, None, 0] - ahead[:, :, None, :, 0]
    dy = others.position[:, None, :, None, 1] - ahead[:, :, None, :, 1]
    nearest = torch.addcmul(dx.square_(), dy, dy).argmin(-1)
    index = nearest.view(batch * agents, -1) + torch.arange(batch * agents, device=ahead.device).unsqueeze(-1) * points
    at = ahead.view(-1, 4)[index].view(batch, agents, -1, 4)
    relative = others.position.unsqueeze(1) - at[..., :2]
    ux, uy = at[..., 2], at[..., 3]
    along = relative[..., 0] * ux + relative[..., 1] * uy
    side = ux * relative[..., 1] - uy * relative[..., 0]
    arc = STEP_AHEAD * nearest + along
    direction = others.direction.unsqueeze(1)
    cos = ux * direction[..., 0] + uy * direction[..., 1]
    sin = (ux * direction[..., 1] - uy * direction[..., 0]).abs()
    length, width = others.half_length.unsqueeze(1), others.half_width.unsqueeze(1)
    off = (side - lateral.clamp_min(0).unsqueeze(-1)).clamp_min(0) + (lateral.clamp_max(0).unsqueeze(-1) - side).clamp_min(0)
    reach = width * cos.abs() + length * (sin - 0.1).clamp_min(0)
    beside = off < half_width.unsqueeze(-1) + reach + SIDE_MARGIN
    in_way = beside & (arc > 0) & (along.abs() < 2 * STEP_AHEAD) & others.valid.unsqueeze(1)
    in_way.diagonal(dim1=1, dim2=2).fill_(False)
    gap = arc - half_length.unsqueeze(-1) - length * cos.abs() - width * sin
    gap, leader = torch.where(in_way, gap, torch.full_like(gap, torch.inf)).min(-1)
    speed = (others.speed.unsqueeze(1) * cos).gather(-1, leader.unsqueeze(-1)).squeeze(-1)
    return gap, speed, (beside & (cos > 0.7))[..., -1]


def red_line(scene: Scene, rows: Tensor, paths: Paths, here: Tensor, half_length: Tensor, speed: Tensor, chain: Tensor) -> Tensor:
    """Distance [B, N] in m from each agent's front to where it must stop for a signal; infinite where none is against it."""
    road = scene.road
    batch, lanes = road.width.shape
    table = torch.zeros(batch, lanes + 1, dtype=torch.int64, device=chain.device)
    lane = torch.where(road.signal_lane >= 0, road.signal_lane, torch.full_like(road.signal_lane, lanes))
    table.scatter_(1, lane, scene.signals)
    state = table[:, :lanes].reshape(-1)[rows]
    room = paths.piece_end - (here + half_length + junctions.STANDOFF).unsqueeze(-1)
    room[..., 0] = -torch.inf
    braking = speed.square().unsqueeze(-1) / 2 / (room + junctions.STANDOFF).clamp_min(0.1)
    against = ((state == int(SignalState.RED)) & (braking < RED_BRAKING)) | (
        (state == int(SignalState.YELLOW)) & (braking < YELLOW_BRAKING)
    )
    against = against & (room > -junctions.STANDOFF) & (chain >= 0)
    return torch.where(against, room, torch.full_like(room, torch.inf)).amin(-1)


def desired_speed(ahead: Tensor, limits: Tensor, factor: Tensor, chain: Tensor, paths: Paths, here: Tensor) -> Tensor:
    """Speed [B, N] in m/s each agent would like, for the limits and curves on its way."""
    own = limits[..., 1:] * factor.unsqueeze(-1)
    room = (paths.piece_start[..., 1:] - here.unsqueeze(-1)).clamp_min(0)
    by_limit = own.square() + 2 * ANTICIPATION * room
    by_limit = torch.where(chain[..., 1:] >= 0, by_limit, torch.full_like(by_limit, torch.inf)).amin(-1)
    direction = ahead[..., 1:, :2] - ahead[..., :-1, :2]
    bend = (direction[..., 3:, :] - direction[..., :-3, :]).norm(dim=-1) / (3 * STEP_AHEAD**2)
    bend = bend * (direction[..., 3:, :].square().sum(-1) > 1.0)
    start = STEP_AHEAD * torch.arange(bend.shape[-1], device=ahead.device)
    by_curve = (CURVE_ACCELERATION / bend.clamp_min(1e-4) + 2 * ANTICIPATION * start).amin(-1)
    return torch.sqrt(torch.minimum(by_limit, by_curve)).clamp_min(1.0)
