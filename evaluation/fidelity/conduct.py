"""What road users do wrong among themselves: touch one another and pass red lights, counted in tracks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...geometry import box_corners, boxes_overlap, from_frame, to_frame, wrap_angle
from ...road import SignalState
from ...scene import DT, Agents, Track
from .windows import BEGIN

APPROACH = 20.0  # m before a stop line within which a road user that meets red approaches it
SAME_WAY = math.radians(60.0)  # off the signal's direction beyond which a road user goes another way
HOUR = 3600.0  # s
COUNTS = ("hours", "collisions", "red_runs", "red_approaches")


def conduct(track: Track, begin: int = BEGIN) -> Tensor:
    """COUNTS of each row of a track [R, T], [R, 4], from column `begin` on; hours are those of road users."""
    hours = track.agents.valid[:, begin:].sum((1, 2)) * DT / HOUR
    approaches, runs = red_lights(track, begin)
    return torch.stack((hours, first_touches(track.agents, begin).sum((1, 2)), runs.sum((1, 2)), approaches.sum((1, 2))), -1)


def first_touches(agents: Agents, begin: int = BEGIN) -> Tensor:
    """Pairs of agents [R, T, N] that touch from column `begin` on and did not in the column before: bool [R, N, N], above the diagonal."""
    corners = box_corners(agents.position, agents.heading, agents.length, agents.width)
    rows, _, count = agents.valid.shape
    first, second = torch.triu_indices(count, count, 1)
    found = torch.zeros(rows, count, count, dtype=torch.bool)
    for row in range(rows):
        here, there = agents.valid[row, begin - 1 :, first], agents.valid[row, begin - 1 :, second]
        reach = (agents.length + agents.width)[row, begin - 1 :] / 2
        place = agents.position[row, begin - 1 :]
        near = here & there & ((place[:, first] - place[:, second]).norm(dim=-1) < reach[:, first] + reach[:, second])
        step, pair = near.nonzero(as_tuple=True)
        touch = torch.zeros_like(near)
        part = corners[row, begin - 1 :]
        touch[step, pair] = boxes_overlap(part[step, first[pair]], part[step, second[pair]])
        found[row, first, second] = touch[1:].any(0) & ~touch[0]
    return found


def red_lights(track: Track, begin: int = BEGIN) -> tuple[Tensor, Tensor]:
    """Approaches to red lights and those that end past the line under red, of a track [R, T]: bool [R, N, S] each.

    A road user approaches while its front is within APPROACH of the stop line of its lane and the light is red; it runs the light when
    its front passes the line in a step at whose beginning the light was red. Counted from column `begin` on, once a road user and light.
    """
    agents, road = track.agents, track.road
    half = torch.stack((agents.length / 2, torch.zeros_like(agents.length)), -1)
    front = from_frame(half, agents.position, agents.heading)
    line, direction = road.stop_line[:, None, None], road.signal_head[:, None, None, :, 3]  # [R, 1, 1, S, ...]
    local = to_frame(front.unsqueeze(3), line.mean(-2), direction)  # [R, T, N, S, 2]
    half_width = (line[..., 0, :] - line[..., 1, :]).norm(dim=-1) / 2
    turned = wrap_angle(agents.heading.unsqueeze(-1) - direction).abs()
    served = (local[..., 1].abs() < half_width) & (turned < SAME_WAY) & agents.valid.unsqueeze(-1)
    red = ((track.signals == int(SignalState.RED)) & (road.signal_lane >= 0).unsqueeze(1)).unsqueeze(2)
    behind = (local[..., 0] <= 0) & (local[..., 0] > -APPROACH) & served & red
    passes = behind[:, :-1] & (local[:, 1:, ..., 0] > 0) & agents.valid[:, 1:].unsqueeze(-1)
    return behind[:, begin - 1 : -1].any(1), passes[:, begin - 1 :].any(1)
