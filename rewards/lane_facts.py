"""Where the ego is on the road: lanes, drivable area, junctions, and its place along the route."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..batched import Batched, BatchedT
from ..geometry import box_corners, points_in_polygons, project_polyline, segment_distance, wrap_angle
from ..road import LANE_POINTS, LaneKind, RoadMap
from ..scene import Track

LANE_CANDIDATES = 14  # nearest lanes of any drivable kind that are looked at
ROUTE_CANDIDATES = 6  # nearest lanes of the route
JUNCTION_CANDIDATES = 2
NEAR_JUNCTION = 15.0  # m from its bounding box, out of which no vehicle's corner is in a junction
FARTHEST_EDGE = 10.0  # m, at most, off the drivable area
EDGE_PROBE = 0.3  # m beyond the side of a lane, where something drivable makes it no edge
FAR = 1000.0  # m, lateral offset where no lane of the route exists
NO_LANE_LIMIT = 13.89  # m/s, speed limit where no lane exists at all
_CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class RoadPosition(Batched):
    """Where the ego's box is on the road, every field [B, T]."""

    lane: Tensor  # int64, the lane of the route the centre is in, else the nearest lane, -1: none
    offset: Tensor  # m, signed offset of the centre from the nearest centreline of the route, left positive; FAR without one
    heading_error: Tensor  # rad, heading relative to that centreline
    speed_limit: Tensor  # m/s, of `lane`
    on_route: Tensor  # bool, the centre is within half a width of the centreline of a lane of the route
    in_junction: Tensor  # bool, the centre is in a junction's polygon, or `lane` leads through one
    on_road: Tensor  # bool, the centre is in the drivable area
    corners_on_road: Tensor  # bool, so are all four corners
    wrong_way: Tensor  # bool, the centre is in lanes that all lead against the heading, and in no junction
    on_shoulder: Tensor  # bool, the centre is on a shoulder and on nothing else
    multiple_lanes: Tensor  # bool, corners lie in several lanes side by side and no lane (with its neighbours in line) holds all


@dataclass(frozen=True)
class RoutePosition(Batched):
    """The ego's projection on its route, every field [B, T]."""

    arc: Tensor  # m from the route's start
    offset: Tensor  # m, left positive
    heading: Tensor  # rad, of the route there


def ego_corners(track: Track) -> Tensor:
    """Corners of the ego's box [B, T, 4, 2] in m, in the order of `box_corners`."""
    ego, profile = track.ego, track.profile
    size = lambda value: value.unsqueeze(1).expand_as(ego.heading)
    return box_corners(ego.position, ego.heading, size(profile.length), size(profile.width))


def route_position(track: Track) -> RoutePosition:
    """Project the ego's centre on its route."""
    polyline = track.route.points.unsqueeze(1)
    return _in_chunks(track, polyline.shape[-2] * 4, lambda part: RoutePosition(*project_polyline(part.ego.position, polyline)))


def road_position(track: Track) -> RoadPosition:
    """Where the ego is on the road; a lane is the set of points within half its width of its centreline."""
    return _in_chunks(track, track.road.width.shape[1] * LANE_POINTS, _road_position)


def _in_chunks(track: Track, elements_per_column: int, function: Callable[[Track], BatchedT]) -> BatchedT:
    columns = max(1, _CHUNK_ELEMENTS // max(1, elements_per_column * track.ego.state.shape[0]))
    if columns >= track.steps:
        return function(track)
    parts = [function(track.columns(slice(start, start + columns))) for start in range(0, track.steps, columns)]
    names = [field.name for field in dataclasses.fields(parts[0])]  # type: ignore[arg-type]
    fields = {name: torch.cat([getattr(part, name) for part in parts], 1) for name in names}
    return type(parts[0])(**fields)


def _candidates(track: Track) -> tuple[Tensor, Tensor]:
    """Nearest lanes [B, T, K], -1 for none: first of any drivable kind, then (from LANE_CANDIDATES on) of the route."""
    road = track.road
    batch, lanes = road.width.shape
    vertices = road.centreline.reshape(batch, lanes * LANE_POINTS, 2)
    gap = torch.cdist(track.ego.position, vertices, compute_mode="donot_use_mm_for_euclid_dist")
    gap = gap.view(batch, track.steps, lanes, LANE_POINTS).amin(-1)
    drivable = (road.kind != int(LaneKind.NONE)) & (road.kind != int(LaneKind.WALKING))
    on_route = track.route.lane_mask(lanes) & drivable
    picked = []
    for usable, count in ((drivable, LANE_CANDIDATES), (on_route, ROUTE_CANDIDATES)):
        value, index = gap.masked_fill(~usable.unsqueeze(1), torch.inf).topk(min(count, lanes), dim=-1, largest=False)
        index = index.masked_fill(torch.isinf(value), -1)
        picked.append(torch.nn.functional.pad(index, (0, count - index.shape[-1]), value=-1))
    index = torch.cat(picked, -1)
    return index, index >= 0


def _road_position(track: Track) -> RoadPosition:
    road, ego = track.road, track.ego
    index, exists = _candidates(track)
    points = torch.cat((track.derived(ego_corners), ego.position.unsqueeze(2)), 2)  # the centre comes last
    rows = index.clamp_min(0) + road.width.shape[1] * torch.arange(index.shape[0], device=index.device).view(-1, 1, 1)
    look_up = lambda values: values.flatten(0, 1)[rows]
    polyline = look_up(road.centreline).unsqueeze(-3)
    _, lateral, heading = project_polyline(points.unsqueeze(2), polyline)
    half_width = 0.5 * look_up(road.width)
    kind = look_up(road.kind)
    inside = (lateral.abs() <= half_width.unsqueeze(-1)) & exists.unsqueeze(-1)  # [B, T, K, 5]

    distance = lateral[..., 4].abs().masked_fill(~exists, torch.inf)
    on_route = inside[:, :, LANE_CANDIDATES:, 4].any(-1)
    best = LANE_CANDIDATES + distance[..., LANE_CANDIDATES:].argmin(-1)
    route_offset, route_heading = (_pick(value[..., 4], best) for value in (lateral, heading))
    has_route = _pick(exists, best)
    drives = (kind != int(LaneKind.SHOULDER)) & exists
    nearest = distance.masked_fill(~drives, torch.inf)[..., :LANE_CANDIDATES].argmin(-1)
    chosen = torch.where(on_route, best, nearest)
    has_lane = _pick(drives, chosen)
    lane = torch.where(has_lane, _pick(index, chosen), -1)
    limit = torch.where(has_lane, road.speed_limit.gather(1, lane.clamp_min(0)), NO_LANE_LIMIT)

    in_polygon = _in_junction_polygons(track, points)
    on_road = inside[:, :, :LANE_CANDIDATES].any(2) | in_polygon  # [B, T, 5]
    through = _pick(kind, chosen) == int(LaneKind.JUNCTION)
    of_centre = inside[:, :, :LANE_CANDIDATES, 4]
    in_lane = of_centre & drives[:, :, :LANE_CANDIDATES]
    along = torch.cos(ego.heading.unsqueeze(-1) - heading[:, :, :LANE_CANDIDATES, 4]) > 0
    in_junction = in_polygon[..., 4] | (through & has_lane)
    return RoadPosition(
        lane=lane,
        offset=torch.where(has_route, route_offset, FAR),
        heading_error=torch.where(has_route, wrap_angle(ego.heading - route_heading), 0.0),
        speed_limit=limit,
        on_route=on_route,
        in_junction=in_junction,
        on_road=on_road[..., 4],
        corners_on_road=on_road[..., :4].all(-1),
        wrong_way=in_lane.any(-1) & ~(in_lane & along).any(-1) & ~in_junction,
        on_shoulder=of_centre.any(-1) & ~in_lane.any(-1) & ~in_polygon[..., 4],
        multiple_lanes=_in_multiple_lanes(track, index, inside & drives.unsqueeze(-1)),
    )


@lru_cache(maxsize=32)
def edge_excess(margin_m: float) -> Callable[[Track], Tensor]:
    """The fact how far the ego's box, grown by `margin_m` on every side, sticks out of the drivable area: [B, T] m, 0: not at all."""

    def excess(part: Track) -> _Column:
        road, ego = part.road, part.ego
        index = _candidates(part)[0][..., :LANE_CANDIDATES]
        size = lambda value: (value + 2 * margin_m).unsqueeze(1).expand_as(ego.heading)
        corners = box_corners(ego.position, ego.heading, size(part.profile.length), size(part.profile.width))
        _, lateral, _ = project_polyline(corners.unsqueeze(2), road.lane_values(road.centreline, index).unsqueeze(-3))
        beside = lateral.abs() - 0.5 * road.lane_values(road.width, index).unsqueeze(-1)
        beside = beside.masked_fill((index < 0).unsqueeze(-1), torch.inf).amin(2)  # [B, T, 4]
        return _Column(torch.minimum(beside, _junction_gap(part, corners)).clamp(0, FARTHEST_EDGE).amax(-1))

    return lambda track: _in_chunks(track, track.road.width.shape[1] * LANE_POINTS, excess).value


def road_edges(road: RoadMap) -> Tensor:
    """Where the drivable area of a road map [1] ends: segments [E, 2, 2] in m.

    They are those pieces of the sides of lanes and junctions beyond which, EDGE_PROBE away, no lane and no junction is.
    """
    drivable = (road.kind[0] != int(LaneKind.NONE)) & (road.kind[0] != int(LaneKind.WALKING))
    lines, half = road.centreline[0][drivable], 0.5 * road.width[0][drivable]
    polygons = road.junctions[0][(road.junctions[0] != 0).flatten(1).any(-1)]
    along = lines[:, 1:] - lines[:, :-1]
    across = torch.stack((-along[..., 1], along[..., 0]), -1) / along.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    middle = 0.5 * (lines[:, 1:] + lines[:, :-1])
    segments, probes = [], []
    for sign in (1.0, -1.0):
        beside = (sign * half).view(-1, 1, 1) * across
        segments.append(torch.stack((lines[:, :-1] + beside, lines[:, 1:] + beside), 2).flatten(0, 1))
        probes.append((middle + beside + sign * EDGE_PROBE * across).flatten(0, 1))
    for polygon in polygons:
        ends = polygon.roll(-1, 0)
        side, normal = ends - polygon, torch.stack((-(ends - polygon)[:, 1], (ends - polygon)[:, 0]), -1)
        normal = normal / side.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        centre = 0.5 * (polygon + ends)
        out = torch.where(points_in_polygons(centre + EDGE_PROBE * normal, polygon), -1.0, 1.0).unsqueeze(-1)
        segments.append(torch.stack((polygon, ends), 1))
        probes.append(centre + out * EDGE_PROBE * normal)
    found, beyond = torch.cat(segments), torch.cat(probes)
    reach = half.unsqueeze(-1)
    low, high = lines.amin(1) - reach, lines.amax(1) + reach
    probe, lane = torch.nonzero(((beyond.unsqueeze(1) >= low) & (beyond.unsqueeze(1) <= high)).all(-1)).unbind(-1)
    in_lane = project_polyline(beyond[probe], lines[lane])[1].abs() <= half[lane]
    inside = torch.zeros(len(beyond), dtype=torch.bool)
    inside[probe[in_lane]] = True
    if len(polygons):
        inside |= points_in_polygons(beyond.unsqueeze(1), polygons).any(-1)
    long_enough = (found[:, 1] - found[:, 0]).norm(dim=-1) > 1e-6
    return found[~inside & long_enough]


@dataclass(frozen=True)
class _Column(Batched):
    """One number a column, as `_in_chunks` joins them."""

    value: Tensor  # [B, T]


def _pick(values: Tensor, choice: Tensor) -> Tensor:
    return values.gather(-1, choice.unsqueeze(-1)).squeeze(-1)


def _in_multiple_lanes(track: Track, index: Tensor, inside: Tensor) -> Tensor:
    """Several lanes hold a corner and none holds all four, where a lane reaches on into those before and after it.

    Source: NAVSIM pdm_scorer.py, `_calculate_ego_area`; joining lanes in line is ours, for our lanes are cut into pieces.
    """
    index, corners = index[..., :LANE_CANDIDATES], inside[:, :, :LANE_CANDIDATES, :4]
    in_one_lane = corners.all(-1).any(-1)
    if bool(in_one_lane.all()):
        return ~in_one_lane
    successors = track.road.lane_values(track.road.successors, index)  # [B, T, K, 4]
    follows = ((successors.unsqueeze(-1) == index[:, :, None, None]) & (index >= 0)[:, :, None, None]).any(-2)  # [B, T, K, K]
    in_line = follows | follows.transpose(-1, -2)
    reached = (in_line.to(torch.float32) @ corners.to(torch.float32) > 0) | corners
    return (corners.any(-1).sum(-1) > 1) & ~reached.all(-1).any(-1)


def _in_junction_polygons(track: Track, points: Tensor) -> Tensor:
    """Whether points [B, T, Q, 2] lie in one of the junctions nearest to the ego [B, T, Q]."""
    near = _near_junctions(track)
    if near is None:
        return torch.zeros(points.shape[:3], dtype=torch.bool, device=points.device)
    return points_in_polygons(points.unsqueeze(3), near.unsqueeze(2)).any(-1)


def _junction_gap(track: Track, points: Tensor) -> Tensor:
    """Distance in m of points [B, T, Q, 2] from the junctions nearest to the ego [B, T, Q]: 0 inside, infinite without one."""
    near = _near_junctions(track)
    if near is None:
        return torch.full(points.shape[:3], torch.inf, device=points.device)
    real = (near != 0).flatten(3).any(-1).unsqueeze(2)  # [B, T, 1, J']
    edge = segment_distance(points[:, :, :, None, None], near.unsqueeze(2), near.roll(-1, -2).unsqueeze(2)).amin(-1)
    inside = points_in_polygons(points.unsqueeze(3), near.unsqueeze(2))
    return torch.where(inside, 0.0, edge).masked_fill(~real, torch.inf).amin(-1)


def _near_junctions(track: Track) -> Tensor | None:
    """Polygons [B, T, J', V, 2] of the junctions nearest to the ego, None where no vehicle's corner can be in one."""
    polygons = track.road.junctions
    if polygons.shape[1] == 0:
        return None
    low, high = polygons.amin(2).unsqueeze(1), polygons.amax(2).unsqueeze(1)
    centre = track.ego.position.unsqueeze(2)
    gap = torch.maximum(low - centre, centre - high).amax(-1).masked_fill((high == low).all(-1), torch.inf)
    if not bool((gap < NEAR_JUNCTION).any()):
        return None
    index = gap.topk(min(JUNCTION_CANDIDATES, polygons.shape[1]), dim=-1, largest=False).indices
    return track.road.lane_values(polygons, index)
