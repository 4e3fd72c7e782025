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


def _separated(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Whether some edge normal of two rectangles shows a gap (or a touch) between them [...]."""
    edges = torch.cat((corners_a[..., 1:3, :] - corners_a[..., 0:2, :], corners_b[..., 1:3, :] - corners_b[..., 0:2, :]), dim=-2)
    across, along = edges[..., 0].unsqueeze(-2), edges[..., 1].unsqueeze(-2)
    low_a, high_a = torch.aminmax(corners_a[..., 1:] * across - corners_a[..., :1] * along, dim=-2)
    low_b, high_b = torch.aminmax(corners_b[..., 1:] * across - corners_b[..., :1] * along, dim=-2)
    return ((low_a >= high_b) | (low_b >= high_a)).any(-1)


def boxes_overlap(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Whether oriented boxes overlap [...], by the separating-axis test; touching boxes do not overlap.

    Args:
        corners_a: [..., 4, 2] from `box_corners`; leading dimensions broadcast.
        corners_b: [..., 4, 2].
    """
    corners_a, corners_b = torch.broadcast_tensors(corners_a, corners_b)
    return ~_separated(corners_a, corners_b)


def box_distance(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Euclidean distance [...] between oriented boxes, 0 where they overlap."""
    corners_a, corners_b = torch.broadcast_tensors(corners_a, corners_b)
    distances = []
    for points, corners in ((corners_a, corners_b), (corners_b, corners_a)):
        start, end = corners, corners.roll(-1, dims=-2)
        distances.append(segment_distance(points.unsqueeze(-2), start.unsqueeze(-3), end.unsqueeze(-3)).flatten(-2).amin(-1))
    nearest = torch.minimum(*distances)
    return torch.where(_separated(corners_a, corners_b), nearest, torch.zeros_like(nearest))


def signed_box_distance(corners_a: Tensor, corners_b: Tensor) -> Tensor:
    """Euclidean distance [...] between oriented boxes; where they overlap, minus the shortest way apart."""
    corners_a, corners_b = torch.broadcast_tensors(corners_a, corners_b)
    edges = torch.cat((corners_a[..., 1:3, :] - corners_a[..., 0:2, :], corners_b[..., 1:3, :] - corners_b[..., 0:2, :]), dim=-2)
    axes = edges / edges.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    low_a, high_a = torch.aminmax(corners_a @ axes.transpose(-1, -2), dim=-2)
    low_b, high_b = torch.aminmax(corners_b @ axes.transpose(-1, -2), dim=-2)
    depth = torch.minimum(high_a - low_b, high_b - low_a).amin(-1)
    return torch.where(depth > 0, -depth, box_distance(corners_a, corners_b))


def segment_distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance [...] of points [..., 2] from segments between two points [..., 2] (all broadcast)."""
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
    start = polyline[..., :-1, :]
    along_x, along_y = (polyline[..., 1:, :] - start).unbind(-1)
    to_x, to_y = (points.unsqueeze(-2) - start).unbind(-1)
    square = along_x.square() + along_y.square()
    share = ((to_x * along_x + to_y * along_y) / square.clamp_min(1e-9)).clamp(0, 1)
    distance = torch.hypot(to_x - share * along_x, to_y - share * along_y)
    segment = distance.masked_fill(square <= 1e-12, torch.inf).argmin(-1, keepdim=True)
    length = square.sqrt()
    arc = torch.cumsum(length, -1) - length + share * length
    lateral = torch.copysign(distance, along_x * to_y - along_y * to_x)
    heading = torch.atan2(along_y, along_x).expand_as(distance)
    arc, lateral, heading = (values.gather(-1, segment).squeeze(-1) for values in (arc, lateral, heading))
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
