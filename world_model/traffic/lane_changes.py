"""Changing lanes: where the lane beside is faster, or one's own ends, and nobody there has to brake hard."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...geometry import project_polyline
from ...road import LaneKind, RoadMap
from ...scene import Agents
from .memory import IdmMemory
from .obstacles import STEP_AHEAD
from .paths import AHEAD, complete, lane_rows
from .sight import Sight

EVERY = 10  # steps between one agent's decisions
SLOWEST = 3.0  # m/s
BEFORE_JUNCTION = 30.0  # m in which nobody changes
LANE_END = 200.0  # m before the end of a lane from where on leaving it is urgent
GAIN = 0.35  # m/s2, least advantage
URGENCY = 3.0  # m/s2, advantage of leaving a lane that ends
EASY_BRAKING = 2.0  # m/s2 that others may be asked for
URGENT_BRAKING = 3.5  # m/s2, when one's own lane ends
HALF_LANE = 2.0  # m from a lane's centre that counts as on it
BEND_POINTS = 12  # points ahead over which the curvature is taken
REACH = 80.0  # m before and behind that is looked at
HEADWAY = 1.2  # s
SPACE = 2.5  # m


def change_lanes(
    road: RoadMap, agents: Agents, moved: Agents, memory: IdmMemory, remembered: IdmMemory, sight: Sight, seed: Tensor, step: Tensor
) -> IdmMemory:
    """Let agents that gain by it begin a lane change (a light form of MOBIL, Kesting, Treiber and Helbing 2007).

    Args:
        road: [B].
        agents: [B, N] at the step's beginning, which decide.
        moved: [B, N] at its end.
        memory: what `agents` remember.
        remembered: what `moved` remember, which is returned with the new lanes.
        sight: what `agents` saw.
        seed: [B].
        step: [B].
    """
    count = agents.valid.shape[1]
    turn = ((step.unsqueeze(-1) + torch.arange(count, device=step.device)) % EVERY) == 0
    settled = (memory.lateral.abs() < 0.5) & (memory.drift.abs() < 0.2)
    lane = memory.chain[..., 1]
    rows = lane_rows(road, lane)
    sides = torch.stack((road.left.reshape(-1)[rows], road.right.reshape(-1)[rows]), -1)
    goal_rows = lane_rows(road, sides)
    ready = agents.valid & turn & settled & (agents.speed > SLOWEST) & (lane >= 0)
    room = sight.paths.ends[..., -1] - sight.here
    urgent = sight.ends & (room < LANE_END)
    ready = (
        ready & (~sight.way.present | (sight.way.line > BEFORE_JUNCTION) | urgent) & (road.kind.reshape(-1)[rows] == int(LaneKind.DRIVING))
    )
    driving = (sides >= 0) & (road.kind.reshape(-1)[goal_rows] == int(LaneKind.DRIVING)) & ready.unsqueeze(-1)
    if not bool(driving.any()):
        return remembered

    others = sight.others
    start, later = sight.ahead[..., 0, 2:], sight.ahead[..., BEND_POINTS, 2:]
    bend = (start[..., 0] * later[..., 1] - start[..., 1] * later[..., 0]) / (BEND_POINTS * STEP_AHEAD)
    cos, sin = torch.cos(agents.heading).unsqueeze(-1), torch.sin(agents.heading).unsqueeze(-1)
    dx = others.position[:, None, :, 0] - agents.position[..., 0:1]
    dy = others.position[:, None, :, 1] - agents.position[..., 1:2]
    ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
    left = left - 0.5 * bend.unsqueeze(-1) * ahead.square()
    width = road.width.reshape(-1)
    offset = 0.5 * (width[rows].unsqueeze(-1) + width[goal_rows]) * torch.tensor([1.0, -1.0], device=left.device)
    aligned = others.direction[:, None, :, 0] * cos + others.direction[:, None, :, 1] * sin > 0.8
    seen = aligned & (ahead.abs() < REACH) & others.valid.unsqueeze(1)
    there = ((left.unsqueeze(-2) - offset.unsqueeze(-1)).abs() < HALF_LANE) & seen.unsqueeze(-2)  # [B, N, 2, M]
    there.diagonal(dim1=1, dim2=3).fill_(False)
    reach = (ahead.abs() - agents.length.unsqueeze(-1) / 2 - others.half_length.unsqueeze(1)).unsqueeze(-2)
    far = torch.full_like(reach, torch.inf)
    front = ahead.unsqueeze(-2) > 0
    gap, leader = torch.where(there & front, reach, far).min(-1)
    back_gap, follower = torch.where(there & ~front, reach, far).min(-1)
    speeds = others.speed.unsqueeze(1).expand(-1, count, -1)
    own, root = agents.speed.unsqueeze(-1), 2 * (memory.character[..., 2:3] * memory.character[..., 3:4]).sqrt()
    power = memory.character[..., 2:3]
    now = power * _press(sight.gap.unsqueeze(-1), own, sight.leader_speed.unsqueeze(-1), root)
    then = power * _press(gap, own, speeds.gather(-1, leader), root)
    behind = power * _press(back_gap, speeds.gather(-1, follower), own, root)

    onward = road.successors[..., 0].reshape(-1)
    advantage = now.clamp_max(6.0) - then + URGENCY * urgent.unsqueeze(-1) - URGENCY * (onward[goal_rows] < 0)
    braking = torch.where(urgent, URGENT_BRAKING, EASY_BRAKING).unsqueeze(-1)
    good = driving & (advantage > GAIN) & (then < braking) & (behind < braking) & (gap > SPACE) & (back_gap > SPACE)
    score, side = torch.where(good, advantage, torch.full_like(advantage, -torch.inf)).max(-1)
    stayed = (remembered.chain[..., 1] == lane) & moved.valid  # who entered the next lane in this step decides later
    changes = (score > -torch.inf) & stayed
    if not bool(changes.any()):
        return remembered
    return _change(road, moved, remembered, changes, side, sides, seed)


def _press(gap: Tensor, speed: Tensor, leader_speed: Tensor, root: Tensor) -> Tensor:
    """The squared interaction term of the intelligent driver model."""
    wanted = SPACE + (speed * HEADWAY + speed * (speed - leader_speed) / root).clamp_min(0)
    return (wanted / gap.clamp_min(0.3)).square()


def _change(road: RoadMap, agents: Agents, memory: IdmMemory, changes: Tensor, side: Tensor, sides: Tensor, seed: Tensor) -> IdmMemory:
    goal = sides.gather(-1, side.unsqueeze(-1)).squeeze(-1)
    lines = road.centreline.reshape(-1, *road.centreline.shape[2:])[lane_rows(road, goal)]
    arc, lateral, _ = project_polyline(agents.position, lines)
    behind_rows = lane_rows(road, memory.chain[..., 0])
    behind = torch.where(side == 0, road.left.reshape(-1)[behind_rows], road.right.reshape(-1)[behind_rows])
    behind = torch.where(memory.chain[..., 0] >= 0, behind, torch.full_like(behind, -1))
    chain = torch.full_like(memory.chain, -1)
    chain[..., 0], chain[..., 1] = behind, goal
    chain = complete(road, chain, torch.full_like(goal, AHEAD), agents.id, seed)
    return dataclasses.replace(
        memory,
        chain=torch.where(changes.unsqueeze(-1), chain, memory.chain),
        arc=torch.where(changes, arc, memory.arc),
        lateral=torch.where(changes, lateral, memory.lateral),
        drift=memory.drift * ~changes,
    )
