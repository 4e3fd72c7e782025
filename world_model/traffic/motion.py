"""How an agent's body follows its way: the pose that a speed and a sideways motion lead to, whoever chose them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import wrap_angle
from ...road import RoadMap
from ...scene import DT, AgentKind, Agents
from .memory import clear
from .paths import Paths, advance, complete

BRAKE_LIGHT = -0.8  # m/s2
STANDING = 0.3  # m/s
TURNING = 0.25  # 1/m, the tightest turn of a vehicle
TURNING_CYCLIST = 0.6  # 1/m
TURNING_WALKER = 3.0  # 1/m


class Moved(NamedTuple):
    """Agents after a step, and where they are on their ways, all [B, N] unless said."""

    agents: Agents
    chain: Tensor  # [B, N, CHAIN]
    arc: Tensor  # m along the present lane
    lateral: Tensor  # m left of its centre
    waited: Tensor  # s standing


def move(
    road: RoadMap,
    agents: Agents,
    chain: Tensor,
    lateral: Tensor,
    waited: Tensor,
    paths: Paths,
    here: Tensor,
    acceleration: Tensor,
    speed: Tensor,
    slip: Tensor,
    seed: Tensor,
    wander: bool = False,
    dt: float = DT,
) -> Moved:
    """Move agents along their ways by a step and shift their lane chains; who reaches the end of its way is gone.

    Args:
        road: [B].
        agents: [B, N].
        chain: [B, N, CHAIN].
        lateral: [B, N] m.
        waited: [B, N] s.
        paths: from `follow(road, chain)`.
        here: [B, N] m, arc of the centre on the path.
        acceleration: [B, N] m/s2 that was chosen, for the brake lights.
        speed: [B, N] m/s at the end of the step.
        slip: [B, N] m to the left during the step.
        seed: [B].
        wander: whether agents that are on no lane turn by their slip; else they go straight.
        dt: length of the step, s.
    """
    distance = 0.5 * (agents.speed + speed) * dt
    half = agents.length / 2
    on_lane = chain[..., 1] >= 0
    there = here + distance
    ends = paths.sample(torch.stack((there - half, there + half), -1))[..., :2]
    chord = ends[..., 1, :] - ends[..., 0, :]

    lateral = lateral + slip
    swerve = torch.atan2(slip, distance.clamp_min(0.05))
    wanted = torch.atan2(chord[..., 1], chord[..., 0]) + swerve
    most = tightest_turn(agents.kind) * distance
    turn = torch.maximum(torch.minimum(wrap_angle(wanted - agents.heading), most), -most)
    free = torch.maximum(torch.minimum(swerve, most), -most) if wander else torch.zeros_like(turn)
    heading = wrap_angle(agents.heading + torch.where(on_lane, turn, free))
    along = chord / chord.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    normal = torch.stack((-along[..., 1], along[..., 0]), -1)
    on_path = ends[..., 1, :] - half.unsqueeze(-1) * along + lateral.unsqueeze(-1) * normal
    straight = agents.position + distance.unsqueeze(-1) * torch.stack((torch.cos(agents.heading), torch.sin(agents.heading)), -1)
    if wander:
        straight = straight + slip.unsqueeze(-1) * torch.stack((-torch.sin(agents.heading), torch.cos(agents.heading)), -1)
    position = torch.where(on_lane.unsqueeze(-1), on_path, straight)
    state = torch.cat((position, torch.stack((heading, speed, (speed - agents.speed) / dt), -1), agents.state[..., 5:8]), -1)
    brake = agents.valid & ((acceleration < BRAKE_LIGHT) | (speed < STANDING)) & (agents.kind <= int(AgentKind.BUS))
    agents = Agents(state, agents.kind, agents.valid, agents.id, brake, agents.colour)

    passed = ((paths.piece_end[..., 1:-1] <= there.unsqueeze(-1)) & (chain[..., 2:] >= 0)).cumprod(-1).sum(-1)
    arc = there - paths.piece_start.gather(-1, (1 + passed).unsqueeze(-1)).squeeze(-1)
    finished = on_lane & (chain[..., -1] < 0) & (there + half > paths.ends[..., -1] - 0.5)
    agents = clear(agents, finished & agents.valid)
    chain = complete(road, advance(chain, passed), passed, agents.id, seed)
    waited = torch.where(speed < STANDING, waited + dt, torch.zeros_like(speed))
    return Moved(agents, chain, arc, lateral, waited)


def tightest_turn(kind: Tensor) -> Tensor:
    """The most that agents of a kind [B, N] turn, in 1/m."""
    turning = torch.where(kind == int(AgentKind.BICYCLE), TURNING_CYCLIST, TURNING)
    return torch.where(kind == int(AgentKind.PEDESTRIAN), TURNING_WALKER, turning)
