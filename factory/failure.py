"""When a recorded episode has failed: a crash, or off the road."""

from __future__ import annotations

from torch import Tensor

from ..geometry import box_corners, boxes_overlap, points_in_polygons, project_polyline
from ..scene import Scene

OFF_ROAD = 1.0  # m beyond the nearest lane's border that the centre of the ego must be


def has_failed(scene: Scene) -> Tensor:
    """Whether each ego [B] touches an agent or has its centre off the road."""
    ego, agents, road = scene.ego, scene.agents, scene.road
    own = box_corners(ego.position, ego.heading, scene.profile.length, scene.profile.width)
    others = box_corners(agents.position, agents.heading, agents.length, agents.width)
    crash = (boxes_overlap(own.unsqueeze(1), others) & agents.valid).any(-1)
    lanes = road.nearest_lanes(ego.position.unsqueeze(1), 6)[:, 0]
    _, lateral, _ = project_polyline(ego.position.unsqueeze(1), road.lane_values(road.centreline, lanes))
    on_lane = (lanes >= 0) & (lateral.abs() < road.lane_values(road.width, lanes) / 2 + OFF_ROAD)
    in_junction = points_in_polygons(ego.position.unsqueeze(1), road.junctions)
    return crash | ~(on_lane.any(-1) | in_junction.any(-1))
