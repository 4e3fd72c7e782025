"""The privileged expert: follows its route, keeps its distance, obeys limits and lights; the reference driver of the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..geometry import to_frame
from ..road import ROUTE_STEP, SignalState
from ..scene import DT, Ego, Scene
from ..vehicles import VehicleProfile, steering_authority
from ..world import Observation
from .corridor import Corridor, corridor, limits_ahead, obstacles, reach, stop_lines

FREE = 1e4  # m, the gap to nothing
SOON = 1.0  # s; a predicted meeting within it is treated as present


@dataclass(frozen=True)
class ExpertConfig:
    """How the expert drives; the car-following numbers are IDM's."""

    speed_factor: float = 1.0  # of the speed limit
    max_acceleration: float = 1.8  # m/s2
    comfortable_braking: float = 2.0  # m/s2
    headway_s: float = 1.3
    standstill_gap: float = 2.5  # m
    lateral_acceleration: float = 2.2  # m/s2 in bends
    bend_braking: float = 1.4  # m/s2 ahead of bends and lower limits
    max_jerk: float = 2.2  # m/s3; the smoothed jerk that is scored overshoots it by half
    firm_braking: float = 3.6  # m/s2; more only in an emergency
    wary_braking: float = 2.2  # m/s2 for agents that are only predicted to come into the way
    stop_margin: float = 1.0  # m before the stop line
    yellow_braking: float = 2.6  # m/s2; a yellow that asks for more is passed
    red_braking: float = 12.0  # m/s2; a red that asks for more is passed
    side_margin: float = 0.35  # m beside the boxes that still counts as the corridor
    horizon_s: float = 3.0  # of the prediction of crossing and merging agents


class Expert:
    """Rule-based driver that reads the scene.

    Pure pursuit for the box's centre on the route; IDM to the nearest agent in the route's corridor, now or as predicted; comfortable stops
    at red and at yellow where they are possible; bends and limits ahead; acceleration and jerk inside the comfort bounds unless in danger.
    Source: Treiber et al. 2000 (IDM); Dauner et al. 2023 (PDM-Closed).
    """

    privileged = True
    looks = False  # at pictures

    def __init__(self, config: ExpertConfig | None = None, name: str = "expert") -> None:
        self.config = config or ExpertConfig()
        self.name = name
        self._times = torch.linspace(0, self.config.horizon_s, 7)

    def initial_memory(self, seeds: Any) -> None:
        """The expert remembers nothing."""
        return None

    @torch.no_grad()
    def act(self, observation: Observation | None, memory: None = None, scene: Scene | None = None) -> tuple[Tensor, None]:
        """Actions [B, 2]; the observation is not read.

        Raises:
            ConfigError: no scene was given.
        """
        if scene is None:
            raise ConfigError(f"policy '{self.name}' reads the scene; drive it in a world that has one")
        return self.drive(scene), None

    def drive(self, scene: Scene) -> Tensor:
        """Actions [B, 2] for scenes [B]."""
        path = corridor(scene)
        wanted, danger = self._acceleration(scene, path)
        wanted = torch.where(danger, wanted, torch.maximum(wanted, torch.full_like(wanted, -self.config.firm_braking)))
        pedal = pedal_for(wanted, scene.ego, scene.profile, torch.where(danger, 100.0, self.config.max_jerk))
        return torch.stack((pursue(scene.ego, scene.profile, path), pedal), -1)

    def _acceleration(self, scene: Scene, path: Corridor) -> tuple[Tensor, Tensor]:
        """Wanted acceleration [B] in m/s2, and whether [B] it answers a danger."""
        c, speed = self.config, scene.ego.speed
        line = self._stop_line(scene, path)
        gap, leader_speed = self._leaders(scene, path, line)
        follow = self._idm(speed.view(-1, 1, 1), gap, leader_speed).amin(1)  # [B, 3]
        closing = (speed.unsqueeze(-1) - leader_speed[..., 0]).clamp_min(0)
        needed = (closing.square() / (2 * (gap[..., 0] - 1.0).clamp_min(0.3))).amax(-1)
        stop = self._idm(speed, line - c.stop_margin + c.standstill_gap, torch.zeros_like(speed))
        wanted = torch.minimum(self._free(scene, path), stop)
        floor = follow.new_tensor([-100.0, -c.firm_braking, -c.wary_braking])
        wanted = torch.minimum(wanted, torch.maximum(follow, floor).amin(-1))
        soft = torch.minimum(-0.6 - 1.6 * speed, -1.3 * needed)  # ends a stop gently
        danger = needed > c.firm_braking
        wanted = torch.where(danger, torch.minimum(wanted, -needed * 1.3), torch.maximum(wanted, soft))
        return wanted, danger

    def _idm(self, speed: Tensor, gap: Tensor, leader_speed: Tensor) -> Tensor:
        """IDM's interaction with a leader (no free-road term), m/s2."""
        c = self.config
        brake = speed * (speed - leader_speed) / (2 * (c.max_acceleration * c.comfortable_braking) ** 0.5)
        desired = c.standstill_gap + (speed * c.headway_s + brake).clamp_min(0)
        return c.max_acceleration * (1 - (desired / gap.clamp_min(0.5)).square())

    def _free(self, scene: Scene, path: Corridor) -> Tensor:
        """Acceleration [B] towards the highest speed that the limits, the bends and the route's end ahead allow."""
        c = self.config
        speed = scene.ego.speed
        look = path.ego_arc.unsqueeze(-1) + speed.new_tensor([0.0, 8.0, 20.0, 40.0, 70.0, 100.0])
        limit = limits_ahead(path, scene, look) * c.speed_factor
        near = (path.ego_arc.unsqueeze(-1) + 1.0, look[:, 1:] - 8.0)
        limit_arc = torch.cat(near, -1)
        curve = (c.lateral_acceleration / path.curvature().clamp_min(1e-4)).sqrt()
        curve_arc = ROUTE_STEP * torch.arange(2, curve.shape[-1] + 2, device=speed.device).expand_as(curve)
        end = path.end_arc.unsqueeze(-1)
        arcs = torch.cat((limit_arc, curve_arc, end), -1)
        speeds = torch.cat((limit, curve, torch.zeros_like(end)), -1)
        ahead = (arcs - path.ego_arc.unsqueeze(-1) - 0.3 * speed.unsqueeze(-1)).clamp_min(0)
        behind = arcs < path.ego_arc.unsqueeze(-1) - 2.0
        allowed = (speeds.square() + 2 * c.bend_braking * ahead).sqrt()
        allowed = torch.where(behind, torch.full_like(allowed, 100.0), allowed).amin(-1)
        lost = (path.ego_lateral.abs() > 2.5) | (path.ego_heading_error.abs() > 0.7)
        allowed = torch.where(lost, allowed.clamp_max(4.0), allowed)
        return (0.9 * (allowed - speed)).clamp(-3.0, c.max_acceleration)

    def _leaders(self, scene: Scene, path: Corridor, line: Tensor) -> tuple[Tensor, Tensor]:
        """Gaps [B, N, 3] to agents in the way ahead now, within SOON and later, and their speeds along it; FREE for others.

        Predicted ones count only before the line [B] at which the ego stops anyway.
        """
        c = self.config
        times = self._times.to(path.points.device)
        others = obstacles(path, scene.agents, times)
        half_length = (scene.profile.length / 2).view(-1, 1, 1)
        aside = others.lateral.abs() < (scene.profile.width / 2).view(-1, 1, 1) + others.half_width + c.side_margin
        ahead = others.arc - path.ego_arc.view(-1, 1, 1)
        gap = ahead - others.half_length - half_length
        steady, eager = reach(scene.ego, times, c.max_acceleration)
        meets = (gap < eager.unsqueeze(1) + 2.0) & (ahead + others.half_length + half_length > steady.unsqueeze(1) - 1.0)
        meets[..., 0] = True
        inside = aside & meets & (ahead > 0) & scene.agents.valid.unsqueeze(-1)
        # an agent already in the way is followed where it is, one behind is its own affair
        inside[..., 1:] &= ~aside[..., :1] & (ahead[..., :1] > -2.0) & (gap[..., 1:] < line.view(-1, 1, 1))
        gap = torch.where(inside, gap.clamp_min(0.1), torch.full_like(gap, FREE))
        soon = int((times <= SOON).sum())
        early, late = gap[..., 1:soon].argmin(-1, keepdim=True) + 1, gap[..., soon:].argmin(-1, keepdim=True) + soon
        index = torch.cat((torch.zeros_like(early), early, late), -1)
        return gap.gather(-1, index), others.speed.gather(-1, index).clamp_min(0)

    def _stop_line(self, scene: Scene, path: Corridor) -> Tensor:
        """Distance [B] from the front bumper to the nearest stop line to stop at; FREE where there is none."""
        c = self.config
        arc, across = stop_lines(path, scene)
        gap = arc - (path.ego_arc + scene.profile.length / 2).unsqueeze(-1)
        speed = scene.ego.speed.unsqueeze(-1)
        needed = speed.square() / (2 * (gap - 0.3).clamp_min(0.1))
        patience = torch.where(scene.ego.acceleration < -1.0, c.yellow_braking + 1.2, c.yellow_braking).unsqueeze(-1)
        yellow = (scene.signals == int(SignalState.YELLOW)) & (needed < patience)
        red = (scene.signals == int(SignalState.RED)) & (gap > -1.0) & (needed < c.red_braking)
        stop = across & (yellow | red) & (gap > -1.0)
        return torch.where(stop, gap.clamp_min(0), torch.full_like(gap, FREE)).amin(-1)


def pursue(ego: Ego, profile: VehicleProfile, path: Corridor) -> Tensor:
    """Steering action [B] that brings the box's centre onto the route.

    The circle about the rear axle's line that leads the centre through the look-ahead point gives the curvature.
    """
    distance = (0.45 * ego.speed).clamp(3.2, 16.0)
    target = to_frame(path.point_at(path.ego_arc + distance), ego.position, ego.heading)
    return steer_to(target, ego, profile)


def steer_to(target: Tensor, ego: Ego, profile: VehicleProfile) -> Tensor:
    """Steering action [B] for the circle through a target [B, 2] in the ego frame, m."""
    x, y = target[..., 0], target[..., 1]
    curvature = 2 * y / (x.square() + y.square() + 2 * x.clamp_min(0) * profile.rear_axle).clamp_min(1.0)
    angle = torch.atan(profile.wheelbase * curvature)
    return (angle / steering_authority(ego.speed, profile)).clamp(-1, 1)


def pedal_for(wanted: Tensor, ego: Ego, profile: VehicleProfile, max_jerk: Tensor | float) -> Tensor:
    """Pedal action [B] that brings the acceleration to `wanted` [B] in m/s2 through the pedal's lag, within a jerk in m/s3."""
    change = torch.as_tensor(max_jerk, device=wanted.device) * DT
    following = ego.acceleration + torch.minimum(torch.maximum(wanted - ego.acceleration, -change), change)
    command = ego.acceleration + (following - ego.acceleration) / (1 - torch.exp(-DT / profile.pedal_lag))
    return torch.where(command >= 0, command / profile.max_acceleration, command / profile.max_braking).clamp(-1, 1)


__all__ = ["Expert", "ExpertConfig", "pedal_for", "pursue", "steer_to"]
