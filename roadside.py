"""Verges, pavements, signals with their masts and crash barriers, as whoever draws them knows: where they are, and of what."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .bodies import Array, box
from .road import Border, LaneKind, RoadMap

VERGE = 1.8  # m beside the road
PAVEMENT, KERB = 2.4, 0.3  # m beside a street; the kerb is its inner part
VERGE_COLOUR = (0.46, 0.46, 0.33)
PAVEMENT_COLOUR = (0.60, 0.59, 0.56)
KERB_COLOUR = (0.70, 0.70, 0.68)
HEAD_SIZE = (0.40, 1.04, 2.80)  # m deep, wide, tall; the head's position is its centre
LENS_RADIUS = 0.40  # m
LENS_REACH = 160.0  # m, how far ahead lenses are seen
LENS_PITCH = 0.88  # m between the centres of a signal's lenses
LENS_COLOURS = np.array(
    [
        [(0.13, 0.05, 0.05), (0.13, 0.11, 0.04), (0.04, 0.12, 0.08)],
        [(1.0, 0.13, 0.10), (0.13, 0.11, 0.04), (0.04, 0.12, 0.08)],
        [(0.13, 0.05, 0.05), (1.0, 0.80, 0.12), (0.04, 0.12, 0.08)],
        [(0.13, 0.05, 0.05), (0.13, 0.11, 0.04), (0.15, 1.0, 0.50)],
        [(0.72, 0.05, 0.07), (0.72, 0.05, 0.07), (0.72, 0.05, 0.07)],
    ],
    np.float32,
)  # [SignalState, lens from the top, 3]
STEEL = (0.36, 0.37, 0.39)
BARRIER_BESIDE = 0.7  # m from the lane's edge
BARRIER = (0.42, 0.76)  # m above the ground, from and to
BARRIER_STEEL = (0.58, 0.59, 0.60)
_FAST = 25.0  # m/s; faster lanes have a crash barrier beside their left edge
_BESIDE = 0.5  # m from a lane for vehicles, where a mast may stand
_LONGEST_ARM, _STEP = 16.0, 0.5  # m
_THICK = 0.1  # m, half of a mast


class DrivenGround:
    """The lanes and junctions for vehicles of a road map, as polylines [P, 2] and their widths in m."""

    def __init__(self, lines: list[Array], widths: list[float]) -> None:
        reach = [np.full(len(line) - 1, width / 2 + _BESIDE) for line, width in zip(lines, widths, strict=True)]
        self._starts = np.concatenate([line[:-1] for line in lines] or [np.zeros((0, 2), np.float32)])
        self._steps = np.concatenate([np.diff(line, axis=0) for line in lines] or [np.zeros((0, 2), np.float32)])
        self._reach = np.concatenate(reach or [np.zeros(0)])

    def __contains__(self, point: npt.NDArray[np.float64]) -> bool:
        return bool(self.covers(point[None])[0])

    def covers(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which of some points [n, 2] are on it, or within a step of it."""
        extent = self._reach + np.abs(self._steps).max(1, initial=0)
        near = (np.abs(self._starts - points.mean(0)) < extent[:, None] + np.ptp(points, axis=0)).all(1)
        starts, steps = self._starts[near], self._steps[near]
        offset = points[:, None] - starts
        along = ((offset * steps).sum(-1) / (steps**2).sum(-1).clip(1e-6)).clip(0, 1)
        gap = offset - along[..., None] * steps
        return (np.hypot(gap[..., 0], gap[..., 1]) < self._reach[near]).any(-1)


def _lenses() -> Array:
    angle = np.pi / 8 + np.arange(8) * np.pi / 4
    rim = np.stack((np.full(8, -HEAD_SIZE[0] / 2 - 0.03), -LENS_RADIUS * np.cos(angle), LENS_RADIUS * np.sin(angle)), 1)
    octagon = np.stack((rim[[0, 1, 2, 3]], rim[[0, 3, 4, 7]], rim[[7, 4, 5, 6]]))
    up = np.array((0.0, 0.0, LENS_PITCH))
    return np.stack([octagon + up, octagon, octagon - up]).astype(np.float32)


LENSES = _lenses()  # [lens from the top, face, corner, 3] m from a head's centre along, to the left of and above the traffic that it serves


def mast(head: Array, ground: DrivenGround, traffic_side: int) -> Array:
    """Faces [n, 4, 3] of what carries a signal's head (x, y, z, heading of the traffic that it serves); none where there is no room.

    A head above the road hangs from an arm that reaches the roadside; 1 for `traffic_side` is the right.
    """
    x, y, z, heading = (float(v) for v in head)
    deep, _, tall = HEAD_SIZE
    across = np.array([np.sin(heading), -np.cos(heading)]) * traffic_side
    reaches = np.arange(0.0, _LONGEST_ARM, _STEP)
    free = ~ground.covers(np.array([x, y]) + reaches[:, None] * across)
    if not free.any():
        return np.zeros((0, 4, 3), np.float32)
    reach = float(reaches[free.argmax()])
    beside, back = -traffic_side * reach, deep / 2
    top = z if reach == 0 else z + tall / 2 + 0.3
    parts = [box(back, back + 2 * _THICK, beside - _THICK, beside + _THICK, 0.0, top)[:4]]
    if reach > 0:
        parts.append(box(back, back + 0.16, min(beside, 0.0), max(beside, 0.0), top - 0.16, top))
        parts.append(box(back, back + 0.12, -0.06, 0.06, z, top)[:4])
    faces = np.concatenate(parts)
    cos, sin = np.cos(heading), np.sin(heading)
    out = faces.copy()
    out[..., 0] = faces[..., 0] * cos - faces[..., 1] * sin + x
    out[..., 1] = faces[..., 0] * sin + faces[..., 1] * cos + y
    return out


class Strip(NamedTuple):
    """Ground between two lateral offsets of a lane's middle, m, positive to the left."""

    lane: int
    right: float
    left: float


def is_town(road: RoadMap) -> bool:
    """Whether a road map [1] is one of streets, which have pavements and kerbs: where people walk or lights stand."""
    return bool((road.kind == int(LaneKind.WALKING)).any() or (road.signal_lane >= 0).any())


def beside_edges(road: RoadMap, wide: float) -> list[Strip]:
    """Ground outside the solid edges of the lanes for vehicles of a road map [1], `wide` m of it."""
    driven = road.kind[0] == int(LaneKind.DRIVING)
    left, right = (driven & (border[0] == int(Border.EDGE)) for border in (road.left_border, road.right_border))
    half = (road.width[0] / 2).tolist()
    strips = [Strip(lane, half[lane], half[lane] + wide) for lane in left.nonzero().flatten().tolist()]
    return strips + [Strip(lane, -half[lane] - wide, -half[lane]) for lane in right.nonzero().flatten().tolist()]


def walked(road: RoadMap) -> list[Strip]:
    """The ways for people of a road map [1]."""
    half = road.width[0].numpy() / 2 + 0.1
    return [Strip(int(lane), -float(half[lane]), float(half[lane])) for lane in np.flatnonzero(road.kind[0] == int(LaneKind.WALKING))]


def around(outline: Array, wide: float) -> Array:
    """Ground around a junction's polygon [V, 2], `wide` m of it: quads [V, 4, 2] over its edges, counterclockwise."""
    ring = np.concatenate((outline, outline[:1]))
    x, y = outline.T
    turn = 1.0 if float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) > 0 else -1.0
    step = np.diff(ring, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True).clip(1e-6)
    out = turn * wide * np.stack((step[:, 1], -step[:, 0]), 1)
    start, end = ring[:-1] - step * wide * 0.4, ring[1:] + step * wide * 0.4
    corners = np.stack((start, start + out, end + out, end), 1)
    return corners if turn > 0 else corners[:, ::-1]


def has_barrier(road: RoadMap) -> npt.NDArray[np.bool_]:
    """Which lanes [L] of a road map [1] have a crash barrier on their left."""
    driven, edged = road.kind[0] == int(LaneKind.DRIVING), road.left_border[0] == int(Border.EDGE)
    return (driven & edged & (road.speed_limit[0] > _FAST)).numpy()
