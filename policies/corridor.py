"""What lies ahead on the ego's route: a stretch of its polyline, and everything else expressed along it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batched import Batched
from ..geometry import project_polyline, wrap_angle
from ..road import ROUTE_STEP
from ..scene import Agents, Ego, Scene

WINDOW = 72  # points of the stretch, ROUTE_STEP apart: 142 m
BEHIND = 2  # of them behind the ego


@dataclass(frozen=True)
class Corridor(Batched):
    """The stretch of route around the ego; arc lengths are from its first point."""

    points: Tensor  # [B, WINDOW, 2], goes straight on past the route's end
    ego_arc: Tensor  # [B] m
    ego_lateral: Tensor  # [B] m, positive to the left of the route
    ego_heading_error: Tensor  # [B] rad
    end_arc: Tensor  # [B] m, where the route ends; beyond the stretch where it goes on

    def point_at(self, arc: Tensor) -> Tensor:
        """Points [B, 2] at arc lengths [B], clamped to the stretch."""
        place = (arc / ROUTE_STEP).clamp(0, WINDOW - 1.001)
        low = place.long()
        batch = torch.arange(arc.shape[0], device=arc.device)
        start, end = self.points[batch, low], self.points[batch, low + 1]
        return start + (place - low).unsqueeze(-1) * (end - start)

    def curvature(self) -> Tensor:
        """Unsigned curvature [B, WINDOW - 4] in 1/m at the points 2 to WINDOW - 3, over chords of two steps and then three points.

        Lanes are polylines with vertices some metres apart, whose corners are no bends.
        """
        before = self.points[:, 2:-2] - self.points[:, :-4]
        after = self.points[:, 4:] - self.points[:, 2:-2]
        cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
        sides = before.norm(dim=-1) * after.norm(dim=-1) * (before + after).norm(dim=-1)
        corners = 2 * cross.abs() / sides.clamp_min(1e-3)
        return torch.nn.functional.avg_pool1d(corners.unsqueeze(1), 3, stride=1, padding=1, count_include_pad=False).squeeze(1)


def corridor(scene: Scene) -> Corridor:
    """The stretch of its route ahead of each ego [B].

    The place on the route is the nearest point that runs the ego's way, so that a route that meets itself is followed in order.
    """
    ego, route = scene.ego, scene.route
    batch = torch.arange(route.points.shape[0], device=route.points.device)
    last = torch.ceil(route.length / ROUTE_STEP).long().clamp(1, route.points.shape[1] - 1)
    number = torch.arange(route.points.shape[1], device=route.points.device)
    direction = torch.nn.functional.pad(route.points[:, 1:] - route.points[:, :-1], (0, 0, 0, 1))
    forward = torch.stack((torch.cos(ego.heading), torch.sin(ego.heading)), -1)
    gap = (route.points - ego.position.unsqueeze(1)).norm(dim=-1)
    gap = gap + 15.0 * ((direction * forward.unsqueeze(1)).sum(-1) < 0)
    gap = torch.where(number > last.unsqueeze(1), torch.full_like(gap, torch.inf), gap)
    first = (gap.argmin(-1) - BEHIND).clamp_min(0)

    index = first.unsqueeze(1) + number.new_tensor(range(WINDOW))
    inside = torch.minimum(index, last.unsqueeze(1))
    final = route.points[batch, last] - route.points[batch, last - 1]
    final = final / final.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    points = route.points[batch.unsqueeze(1), inside] + (index - inside).unsqueeze(-1) * ROUTE_STEP * final.unsqueeze(1)
    arc, lateral, heading = project_polyline(ego.position, points)
    return Corridor(
        points=points,
        ego_arc=arc,
        ego_lateral=lateral,
        ego_heading_error=wrap_angle(ego.heading - heading),
        end_arc=route.length - first * ROUTE_STEP,
    )


@dataclass(frozen=True)
class Obstacles(Batched):
    """Road users along the corridor, now and at later times; K times."""

    arc: Tensor  # [B, N, K] m
    lateral: Tensor  # [B, N, K] m, positive to the left
    half_length: Tensor  # [B, N, K] m, along the corridor
    half_width: Tensor  # [B, N, K] m, across it
    speed: Tensor  # [B, N, K] m/s along it, negative against it


def obstacles(path: Corridor, agents: Agents, times: Tensor) -> Obstacles:
    """Express agents along a corridor, moved on to `times` [K] in s at the acceleration they have, at most until they stand.

    Those that run along the corridor, either way, keep their course relative to it (they follow the bend); others go straight.
    """
    arc, lateral, heading = project_polyline(agents.position, path.points.unsqueeze(1))
    course = wrap_angle(agents.heading - heading)
    along = (torch.sin(course).abs() < 0.35) & (lateral.abs() < 8.0)

    travelled = _travel(agents.speed.unsqueeze(-1), agents.acceleration.unsqueeze(-1), times)
    forward = torch.stack((torch.cos(agents.heading), torch.sin(agents.heading)), -1)
    moved = agents.position.unsqueeze(2) + travelled.unsqueeze(-1) * forward.unsqueeze(2)
    straight_arc, straight_lateral, straight_heading = project_polyline(moved, path.points[:, None, None, ::2])

    follow = along.unsqueeze(-1)
    later = torch.where(follow, course.unsqueeze(-1), wrap_angle(agents.heading.unsqueeze(-1) - straight_heading))
    cos, sin = torch.cos(later), torch.sin(later)
    length, width = agents.length.unsqueeze(-1) / 2, agents.width.unsqueeze(-1) / 2
    return Obstacles(
        arc=torch.where(follow, arc.unsqueeze(-1) + travelled * cos, straight_arc),
        lateral=torch.where(follow, lateral.unsqueeze(-1) + travelled * sin, straight_lateral),
        half_length=cos.abs() * length + sin.abs() * width,
        half_width=sin.abs() * length + cos.abs() * width,
        speed=agents.speed.unsqueeze(-1) * cos,
    )


def _travel(speed: Tensor, acceleration: Tensor, times: Tensor) -> Tensor:
    """How far an agent comes at its acceleration, within limits, by each time."""
    acceleration = acceleration.clamp(-4.0, 2.0)
    moving = torch.where(acceleration < -0.1, torch.minimum(times, -speed / acceleration.clamp_max(-0.1)), times)
    return speed * moving + 0.5 * acceleration * moving.square()


def stop_lines(path: Corridor, scene: Scene) -> tuple[Tensor, Tensor]:
    """Arc lengths [B, S] of the stop lines, and which of them [B, S] stand across the route."""
    road = scene.road
    middle = road.stop_line.mean(2)
    arc, lateral, _ = project_polyline(middle, path.points[:, None, ::2])
    on_route = (scene.route.lanes.unsqueeze(1) == road.signal_lane.unsqueeze(2)).any(-1) & (road.signal_lane >= 0)
    return arc, on_route & (lateral.abs() < 1.6)


def limits_ahead(path: Corridor, scene: Scene, arcs: Tensor) -> Tensor:
    """Speed limits [B, K] in m/s of the route's lanes nearest to its points at arc lengths [B, K]; 13.89 where it has none."""
    road, lanes = scene.road, scene.route.lanes
    lines = road.lane_values(road.centreline, lanes)[:, :, ::2]
    batch = torch.arange(arcs.shape[0], device=arcs.device).unsqueeze(1)
    place = (arcs / ROUTE_STEP).round().long().clamp(0, WINDOW - 1)
    gap = torch.cdist(path.points[batch, place], lines.flatten(1, 2)).unflatten(2, lines.shape[1:3]).amin(-1)
    gap = torch.where((lanes >= 0).unsqueeze(1), gap, torch.full_like(gap, torch.inf))
    limit = road.lane_values(road.speed_limit, lanes)
    nearest, index = gap.min(-1)
    return torch.where(torch.isfinite(nearest), limit.gather(1, index), torch.full_like(nearest, 13.89))


def reach(ego: Ego, times: Tensor, acceleration: float) -> tuple[Tensor, Tensor]:
    """How far [B, K] an ego comes in `times` [K] at its speed, and when it accelerates."""
    steady = ego.speed.unsqueeze(-1) * times
    return steady, steady + 0.5 * acceleration * times.square()
