"""Scripted road users: each follows a way of its own in phases that begin by time or by how near the ego is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from ..batched import Batched
from ..geometry import wrap_angle
from ..scene import DT, Agents, Ego

SPACING = 2.0  # m between the points of a way
PHASES = 8
IDENTITY = 900_000  # id of an episode's first scripted road user


class When(IntEnum):
    """What begins a phase."""

    NEVER = 0
    TIME = 1  # s since the episode's start
    EGO_ARRIVES = 2  # s until the ego, at its speed, is where the actor's mark is
    ACTOR_ARRIVES = 3  # s until the actor is there


@dataclass(frozen=True)
class Script(Batched):
    """A actors of B episodes, and where they are in their scripts."""

    path: Tensor  # [B, A, P, 2] m, SPACING between points; the last one repeated as padding
    reach: Tensor  # [B, A] m, length of the path
    arc: Tensor  # [B, A] m
    lateral: Tensor  # [B, A] m left of the path
    speed: Tensor  # [B, A] m/s
    size: Tensor  # [B, A, 3] m
    kind: Tensor  # [B, A] AgentKind, int64
    colour: Tensor  # [B, A, 3]
    there: Tensor  # bool [B, A]; gone for good once it has reached the end of its path
    mark: Tensor  # [B, A, 2] m, the place that EGO_ARRIVES and ACTOR_ARRIVES speak of
    mark_arc: Tensor  # [B, A] m, of the mark on the path
    when: Tensor  # [B, A, PHASES] When, int64
    threshold: Tensor  # [B, A, PHASES]
    goal_speed: Tensor  # [B, A, PHASES] m/s
    rate: Tensor  # [B, A, PHASES] m/s2
    goal_lateral: Tensor  # [B, A, PHASES] m
    sideways: Tensor  # [B, A, PHASES] m/s
    phase: Tensor  # [B, A] int64, phases begun

    @property
    def count(self) -> int:
        """Actors of an episode A."""
        return int(self.arc.shape[1])


def advance(script: Script, ego: Ego, time: Tensor) -> Script:
    """The script one step of DT later, with the ego [B] and the time [B] in s at the end of the step."""
    place = script.phase.clamp_max(PHASES - 1).unsqueeze(-1)
    pick = lambda table: table.gather(-1, place).squeeze(-1)
    kind, threshold = pick(script.when), pick(script.threshold)
    toward = script.mark - ego.position.unsqueeze(1)
    along = toward[..., 0] * torch.cos(ego.heading).unsqueeze(1) + toward[..., 1] * torch.sin(ego.heading).unsqueeze(1)
    ego_in = along / ego.speed.clamp_min(0.5).unsqueeze(1)
    actor_in = (script.mark_arc - script.arc) / script.speed.clamp_min(0.5)
    begins = (kind == int(When.TIME)) & (time.unsqueeze(1) >= threshold)
    begins = begins | ((kind == int(When.EGO_ARRIVES)) & (ego_in <= threshold) & (along > 0))
    begins = begins | ((kind == int(When.ACTOR_ARRIVES)) & (actor_in <= threshold))
    begins = begins & (script.phase < PHASES)
    phase = script.phase + begins

    now = (phase - 1).clamp_min(0).unsqueeze(-1)
    pick = lambda table: table.gather(-1, now).squeeze(-1)
    busy = phase > 0
    goal = torch.where(busy, pick(script.goal_speed), script.speed)
    change = torch.where(busy, pick(script.rate), torch.zeros_like(goal)) * DT
    speed = script.speed + (goal - script.speed).maximum(-change).minimum(change)
    aside = torch.where(busy, pick(script.goal_lateral), script.lateral) - script.lateral
    most = torch.where(busy, pick(script.sideways), torch.zeros_like(goal)) * DT
    lateral = script.lateral + aside.maximum(-most).minimum(most)
    arc = script.arc + 0.5 * (script.speed + speed) * DT
    return dataclasses.replace(script, arc=arc, lateral=lateral, speed=speed, phase=phase, there=script.there & (arc < script.reach))


def put_on_road(script: Script, before: Script | None = None) -> Agents:
    """The actors [B, A] as agents; `before` is the script a step earlier, for accelerations and the way they head."""
    index = (script.arc / SPACING).clamp(0, script.path.shape[2] - 1.001)
    low = index.long()
    share = (index - low).unsqueeze(-1)
    at = lambda k: script.path.gather(2, k[..., None, None].expand(*k.shape, 1, 2)).squeeze(2)
    first, second = at(low), at(low + 1)
    last = ((script.reach / SPACING).long() - 1).clamp_min(0)
    low_way = torch.minimum(low, last)
    way = at(low_way + 1) - at(low_way)
    course = torch.atan2(way[..., 1], way[..., 0])
    normal = torch.stack((-torch.sin(course), torch.cos(course)), -1)
    position = first + share * (second - first) + script.lateral.unsqueeze(-1) * normal
    slip = torch.zeros_like(course) if before is None else torch.atan2(script.lateral - before.lateral, (script.speed * DT).clamp_min(0.05))
    heading = wrap_angle(course + slip * (script.speed > 0.3))
    acceleration = torch.zeros_like(course) if before is None else (script.speed - before.speed) / DT
    state = torch.cat((position, torch.stack((heading, script.speed, acceleration), -1), script.size), -1)
    identity = IDENTITY + torch.arange(script.count, device=script.arc.device).expand_as(script.kind)
    there = script.there
    return Agents(
        state=state * there.unsqueeze(-1),
        kind=script.kind * there,
        valid=there,
        id=torch.where(there, identity, torch.full_like(identity, -1)),
        brake=there & ((acceleration < -0.8) | (script.speed < 0.1)) & (script.kind <= 2),
        colour=script.colour * there.unsqueeze(-1),
    )
