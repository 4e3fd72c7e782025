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

EVERY = 10  # steps between decisions for one side
SLOWEST = 3.0  # m/s, unless its lane ends
BEFORE_JUNCTION = 30.0  # m in which nobody changes
LANE_END = 200.0  # m before the end of a lane from where on leaving it is urgent
GAIN = 0.35  # m/s2, least advantage
MOST = 6.0  # m/s2, the most that one's own lane can be worth leaving
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
    phase = (step % EVERY).unsqueeze(-1)
    to_left = phase == 0  # all leftward changes begin in one step and all rightward ones in another, so that no two meet
    now = to_left | (phase == EVERY // 2)
    if not bool(now.any()):
        return remembered
    lane, speed = memory.chain[..., 1], agents.speed
    rows = lane_rows(road, lane)
    goal = torch.where(to_left, road.left.reshape(-1)[rows], road.right.reshape(-1)[rows])
    goal_rows = lane_rows(road, goal)
    settled = (memory.lateral.abs() < 0.5) & (memory.drift.abs() < 0.2)
    urgent = sight.ends & (sight.paths.ends[..., -1] - sight.here < LANE_END)
    clear_of_junction = ~sight.way.present | (sight.way.line > BEFORE_JUNCTION) | urgent
    stayed = (remembered.chain[..., 1] == lane) & moved.valid  # who entered the next lane in this step decides later
    kinds = road.kind.reshape(-1)
    driving = (kinds[rows] == int(LaneKind.DRIVING)) & (kinds[goal_rows] == int(LaneKind.DRIVING)) & (lane >= 0) & (goal >= 0)
    ready = now & settled & clear_of_junction & stayed & driving & ((speed > SLOWEST) | urgent)
    if not bool(ready.any()):
        return remembered

    ahead, left, seen = _surroundings(agents, sight)
    widths = road.width.reshape(-1)
    offset = 0.5 * (widths[rows] + widths[goal_rows]) * torch.where(to_left, 1.0, -1.0)
    there = ((left - offset.unsqueeze(-1)).abs() < HALF_LANE) & seen
    reach = ahead.abs() - sight.half_length.unsqueeze(-1) - sight.others.half_length.unsqueeze(1)
    far = torch.full_like(reach, torch.inf)
    gap, leader = torch.where(there & (ahead > 0), reach, far).min(-1)
    back_gap, follower = torch.where(there & (ahead <= 0), reach, far).min(-1)
    leader_speed, follower_speed = sight.others.speed.gather(1, leader), sight.others.speed.gather(1, follower)

    power = memory.character[..., 2]
    root = 2 * (power * memory.character[..., 3]).sqrt()
    here = power * _press(sight.gap, speed, sight.leader_speed, root)
    then = power * _press(gap, speed, leader_speed, root)
    behind = power * _press(back_gap, follower_speed, speed, root)
    ends_too = road.successors[..., 0].reshape(-1)[goal_rows] < 0
    advantage = here.clamp_max(MOST) - then + URGENCY * urgent - URGENCY * ends_too
    braking = torch.where(urgent, URGENT_BRAKING, EASY_BRAKING)
    changes = ready & (advantage > GAIN) & (then < braking) & (behind < braking) & (gap > SPACE) & (back_gap > SPACE)
    if not bool(changes.any()):
        return remembered
    return _change(road, moved, remembered, changes, goal, to_left, seed)


def _surroundings(agents: Agents, sight: Sight) -> tuple[Tensor, Tensor, Tensor]:
    """Where others are along and beside each agent's bending lane [B, N, M] in m, and which count."""
    others = sight.others
    start, later = sight.ahead[..., 0, 2:], sight.ahead[..., BEND_POINTS, 2:]
    bend = (start[..., 0] * later[..., 1] - start[..., 1] * later[..., 0]) / (BEND_POINTS * STEP_AHEAD)
    cos, sin = torch.cos(agents.heading).unsqueeze(-1), torch.sin(agents.heading).unsqueeze(-1)
    dx = others.position[:, None, :, 0] - agents.position[..., 0:1]
    dy = others.position[:, None, :, 1] - agents.position[..., 1:2]
    ahead = dx * cos + dy * sin
    left = dy * cos - dx * sin - 0.5 * bend.unsqueeze(-1) * ahead.square()
    aligned = others.direction[:, None, :, 0] * cos + others.direction[:, None, :, 1] * sin > 0.8
    seen = aligned & (ahead.abs() < REACH) & others.valid.unsqueeze(1)
    seen.diagonal(dim1=1, dim2=2).fill_(False)
    return ahead, left, seen


def _press(gap: Tensor, speed: Tensor, leader_speed: Tensor, root: Tensor) -> Tensor:
    """The squared interaction term of the intelligent driver model."""
    wanted = SPACE + (speed * HEADWAY + speed * (speed - leader_speed) / root).clamp_min(0)
    return (wanted / gap.clamp_min(0.3)).square()


def _change(road: RoadMap, agents: Agents, memory: IdmMemory, changes: Tensor, goal: Tensor, to_left: Tensor, seed: Tensor) -> IdmMemory:
    lines = road.centreline.reshape(-1, *road.centreline.shape[2:])[lane_rows(road, goal)]
    arc, lateral, _ = project_polyline(agents.position, lines)
    rows = lane_rows(road, memory.chain[..., 0])
    behind = torch.where(to_left, road.left.reshape(-1)[rows], road.right.reshape(-1)[rows])
    chain = torch.full_like(memory.chain, -1)
    chain[..., 0] = torch.where(memory.chain[..., 0] >= 0, behind, torch.full_like(behind, -1))
    chain[..., 1] = goal
    chain = complete(road, chain, torch.full_like(goal, AHEAD), agents.id, seed)
    return dataclasses.replace(
        memory,
        chain=torch.where(changes.unsqueeze(-1), chain, memory.chain),
        arc=torch.where(changes, arc, memory.arc),
        lateral=torch.where(changes, lateral, memory.lateral),
        drift=memory.drift * ~changes,
    )
