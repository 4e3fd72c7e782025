"""Pure geometry on batched tensors: frames, oriented boxes, polylines, polygons. SI units, radians, counter-clockwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrap_angle(angle: Tensor) -> Tensor:
    """Wrap angles to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def rotate(vectors: Tensor, angle: Tensor) -> Tensor:
    """Rotate vectors [..., 2] counter-clockwise by angle [...] (broadcast)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)


def to_frame(points: Tensor, origin: Tensor, heading: Tensor) -> Tensor:
    """Express world points [..., 2] in the frame at origin [..., 2] whose x axis points along heading [...]."""
    return rotate(points - origin, -heading)


def from_frame(points: Tensor, origin: Tensor, heading: Tensor) -> Tensor:
    """Inverse of `to_frame`: local points [..., 2] to the world."""
    return rotate(points, heading) + origin


_CORNER_SIGNS = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])


def box_corners(centre: Tensor, heading: Tensor, length: Tensor, width: Tensor) -> Tensor:
    """Corners [..., 4, 2] of oriented boxes, counter-clockwise: front left, rear left, rear right, front right.

    Args:
        centre: [..., 2].
        heading: [...].
        length: [...] along the heading, metres.
        width: [...] across it, metres.
    """
    size = torch.stack((length, width), dim=-1)
    local = size.unsqueeze(-2) * _CORNER_SIGNS.to(size)
    return from_frame(local, centre.unsqueeze(-2), heading.unsqueeze(-1))


def _separation(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Largest gap [...] between two convex quadrilaterals over the edge normals of both; negative where they overlap."""
    gaps = []
    for corners in (corners_a, corners_b):
        edges = corners[..., :2, :] - corners.roll(-1, dims=-2)[..., :2, :]
        normals = torch.stack((-edges[..., 1], edges[..., 0]), dim=-1)
        normals = normals / normals.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        a = torch.einsum("...cd,...nd->...nc", corners_a, normals)
        b = torch.einsum("...cd,...nd->...nc", corners_b, normals)
        gaps.append(torch.maximum(a.amin(-1) - b.amax(-1), b.amin(-1) - a.amax(-1)))
    return torch.cat(gaps, dim=-1).amax(-1)


def boxes_overlap(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Whether oriented boxes overlap [...], by the separating-axis test; touching boxes do not overlap.

    Args:
        corners_a: [..., 4, 2] from `box_corners`; leading dimensions broadcast.
        corners_b: [..., 4, 2].
    """
    corners_a, corners_b = torch.broadcast_tensors(corners_a, corners_b)
    return _separation(corners_a, corners_b) < 0


def box_distance(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Euclidean distance [...] between oriented boxes, 0 where they overlap."""
    corners_a, corners_b = torch.broadcast_tensors(corners_a, corners_b)
    distances = []
    for points, corners in ((corners_a, corners_b), (corners_b, corners_a)):
        start, end = corners, corners.roll(-1, dims=-2)
        distances.append(_point_segment_distance(points.unsqueeze(-2), start.unsqueeze(-3), end.unsqueeze(-3)).flatten(-2).amin(-1))
    nearest = torch.minimum(*distances)
    return torch.where(_separation(corners_a, corners_b) < 0, torch.zeros_like(nearest), nearest)


def _point_segment_distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    direction = end - start
    along = ((points - start) * direction).sum(-1) / direction.square().sum(-1).clamp_min(1e-9)
    nearest = start + along.clamp(0, 1).unsqueeze(-1) * direction
    return (points - nearest).norm(dim=-1)


def points_in_boxes(points: Tensor, centre: Tensor, heading: Tensor, length: Tensor, width: Tensor) -> Tensor:
    """Whether points [..., 2] lie inside oriented boxes (all arguments broadcast)."""
    local = to_frame(points, centre, heading).abs()
    return (local[..., 0] <= length / 2) & (local[..., 1] <= width / 2)


def project_polyline(points: Tensor, polyline: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project points on polylines.

    Args:
        points: [..., 2].
        polyline: [..., P, 2] whose leading dimensions broadcast with those of `points`; repeated vertices are allowed.

    Returns:
        arc length of the nearest point from the polyline's start [...] in metres, signed lateral offset [...]
        (positive to the left of the direction of travel; its size is the distance to the polyline), and the
        polyline's heading there [...].
    """
    start, end = polyline[..., :-1, :], polyline[..., 1:, :]
    direction = end - start
    length = direction.norm(dim=-1)
    relative = points.unsqueeze(-2) - start
    along = ((relative * direction).sum(-1) / length.square().clamp_min(1e-9)).clamp(0, 1)
    offset = relative - along.unsqueeze(-1) * direction
    distance = offset.norm(dim=-1)
    distance_masked = torch.where(length > 1e-6, distance, torch.full_like(distance, torch.inf))
    segment = distance_masked.argmin(-1, keepdim=True)
    before = torch.cumsum(length, -1) - length
    arc = (before + along * length).gather(-1, segment).squeeze(-1)
    cross = direction[..., 0] * relative[..., 1] - direction[..., 1] * relative[..., 0]
    sign = torch.where(cross >= 0, 1.0, -1.0)
    lateral = (sign * distance).gather(-1, segment).squeeze(-1)
    heading = torch.atan2(direction[..., 1], direction[..., 0])
    heading = heading.expand_as(distance).gather(-1, segment).squeeze(-1)
    return arc, lateral, heading


def polyline_lengths(polyline: Tensor) -> Tensor:
    """Length [...] of polylines [..., P, 2] in metres."""
    return (polyline[..., 1:, :] - polyline[..., :-1, :]).norm(dim=-1).sum(-1)


def sample_polyline(polyline: Tensor, arc: Tensor) -> tuple[Tensor, Tensor]:
    """Points and headings at given arc lengths, clamped to the polyline's ends.

    Args:
        polyline: [..., P, 2].
        arc: [..., K] metres from the start, leading dimensions as the polyline's.

    Returns:
        points [..., K, 2] and headings [..., K].
    """
    direction = polyline[..., 1:, :] - polyline[..., :-1, :]
    length = direction.norm(dim=-1)
    ends = torch.cumsum(length, -1)
    arc = torch.minimum(arc.clamp_min(0), ends[..., -1:])
    segment = torch.searchsorted(ends.contiguous(), arc.contiguous()).clamp_max(length.shape[-1] - 1)
    start_arc = (ends - length).gather(-1, segment)
    fraction = (arc - start_arc) / length.gather(-1, segment).clamp_min(1e-9)
    index = segment.unsqueeze(-1).expand(*segment.shape, 2)
    base = polyline[..., :-1, :].gather(-2, index)
    step = direction.gather(-2, index)
    return base + fraction.unsqueeze(-1) * step, torch.atan2(step[..., 1], step[..., 0])


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Whether points [..., 2] lie inside polygons [..., V, 2] (even-odd rule; repeated vertices are allowed)."""
    x, y = points[..., 0].unsqueeze(-1), points[..., 1].unsqueeze(-1)
    x1, y1 = polygons[..., 0], polygons[..., 1]
    x2, y2 = x1.roll(-1, dims=-1), y1.roll(-1, dims=-1)
    straddles = (y1 > y) != (y2 > y)
    slope = (x2 - x1) / torch.where(y2 == y1, torch.ones_like(y1), y2 - y1)
    crossings = straddles & (x < x1 + (y - y1) * slope)
    return crossings.sum(-1) % 2 == 1
