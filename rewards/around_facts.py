"""Where the other road users are and how they move, seen from the ego: what rules of distance and priority need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batched import Batched
from ..geometry import to_frame, wrap_angle
from ..road import LIGHTS, SignalState
from ..scene import AgentKind, Track
from .lane_facts import road_position
from .signal_facts import near_signals, way_ahead

SAME_WAY = math.radians(45.0)  # headings that differ by less go the same way
SIGHT = 60.0  # m, how far along the ego's heading a straight frame tells lanes apart


@dataclass(frozen=True)
class Around(Batched):
    """The agents in the ego's frame (x forward, y left, origin at the centre of its box); every field [B, T, N], zero for invalid slots."""

    x: Tensor  # m, of the agent's centre
    y: Tensor  # m
    reach: Tensor  # m, half of its extent along x
    breadth: Tensor  # m, half of its extent along y
    forward: Tensor  # m/s, its speed along x
    sideways: Tensor  # m/s, its speed along y
    same_way: Tensor  # bool, it heads within 45 degrees of the ego's heading
    walks: Tensor  # bool, a pedestrian
    valid: Tensor  # bool


def around(track: Track) -> Around:
    """Express every agent in the ego's frame."""
    ego, agents = track.ego, track.agents
    place = to_frame(agents.position, ego.position.unsqueeze(2), ego.heading.unsqueeze(-1))
    turned = wrap_angle(agents.heading - ego.heading.unsqueeze(-1))
    cos, sin = torch.cos(turned), torch.sin(turned)
    there = lambda values: torch.where(agents.valid, values, 0.0)
    return Around(
        x=there(place[..., 0]),
        y=there(place[..., 1]),
        reach=there(0.5 * (cos.abs() * agents.length + sin.abs() * agents.width)),
        breadth=there(0.5 * (sin.abs() * agents.length + cos.abs() * agents.width)),
        forward=there(agents.speed * cos),
        sideways=there(agents.speed * sin),
        same_way=(turned.abs() < SAME_WAY) & agents.valid,
        walks=(agents.kind == int(AgentKind.PEDESTRIAN)) & agents.valid,
        valid=agents.valid,
    )


def side_speeds(track: Track) -> tuple[Tensor, Tensor]:
    """Speed across the lane of the ego's route in m/s, positive to the left: of the ego [B, T] and of the agents [B, T, N].

    Off every lane of the route and in junctions it is the speed across the ego's heading, of which the ego has none.
    """
    place, near = track.derived(road_position), track.derived(around)
    turned = torch.where(place.on_route & ~place.in_junction, place.heading_error, 0.0)
    across, along = torch.sin(turned), torch.cos(turned)
    return track.ego.speed * across, near.sideways * along.unsqueeze(-1) + near.forward * across.unsqueeze(-1)


def signalled(track: Track) -> Tensor:
    """Whether a working traffic light of the ego's route stands within NEAR_LINE of the ego, before or behind it: bool [B, T]."""
    near = track.derived(near_signals)
    shown = track.signals.gather(-1, near.index)
    works = (shown >= int(LIGHTS[0])) & (shown <= int(LIGHTS[-1]))
    return (near.close & works).any(-1)


def at_stop_sign(track: Track) -> Tensor:
    """Whether a stop sign of the ego's route stands within NEAR_LINE of the ego, before or behind it: bool [B, T]."""
    near = track.derived(near_signals)
    return (near.close & (track.signals.gather(-1, near.index) == int(SignalState.STOP_SIGN))).any(-1)


def right_speed(track: Track, headway_s: float, standstill_gap_m: float, stop_line_gap_m: float, braking_mps2: float) -> Tensor:
    """The fastest speed [B, T] in m/s that limit, vehicle ahead, red light and stop sign allow.

    That is the limit, or less: what can still be braked, at `braking_mps2`, to the speed of the box ahead at the wanted gap
    (`standstill_gap_m` and `headway_s`) and to a stand at `stop_line_gap_m` before a red light or a stop sign.
    """
    ego, way = track.ego, track.derived(way_ahead)
    room = (way.lead_gap - standstill_gap_m - headway_s * ego.speed).clamp_min(0)
    behind_lead = (way.lead_speed.square() + 2.0 * braking_mps2 * room).sqrt()
    before_line = (2.0 * braking_mps2 * (torch.minimum(way.red_gap, way.sign_gap) - stop_line_gap_m).clamp_min(0)).sqrt()
    return torch.minimum(torch.minimum(track.derived(road_position).speed_limit, behind_lead), before_line)
