"""Polygons of the ground of a road map, as a map knows it: verges, pavements, lanes, junctions and markings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...road import LANE_POINTS, Border, LaneKind, RoadMap
from ...roadside import PAVEMENT, VERGE, Strip, around, beside_edges, beside_road, is_town, walked
from .faces import Face

MARKING_WIDTH = 0.18  # m
DASH_ON, DASH_PERIOD = 3.0, 9.0  # m
STOP_LINE_WIDTH = 0.5  # m, along the direction of travel
ZEBRA = 0.5  # m, a stripe of a crossing and the gap after it


def _strips(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quads [n*(P-1), 4, 2] between two sets of polylines [n, P, 2]."""
    quads = np.stack((left[:, :-1], left[:, 1:], right[:, 1:], right[:, :-1]), axis=2)
    return quads.reshape(-1, 4, 2)


def offset(lines: NDArray[np.float32], distance: NDArray) -> NDArray[np.float32]:
    """Polylines [n, P, 2] moved to the left by distance [n]."""
    tangent = np.gradient(lines, axis=1)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-6)
    normal = np.stack((-tangent[..., 1], tangent[..., 0]), axis=-1)
    return (lines + normal * distance[:, None, None]).astype(np.float32)


def _dashes(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quads of the dashes along polylines [n, P, 2], anchored to each one's start."""
    quads = []
    for line in lines:
        steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
        arc = np.concatenate(([0.0], np.cumsum(steps)))
        starts = np.arange(0.0, arc[-1], DASH_PERIOD)
        ends = np.minimum(starts + DASH_ON, arc[-1])
        keep = ends - starts > 0.3
        a = np.stack([np.interp(starts[keep], arc, line[:, i]) for i in (0, 1)], axis=-1)
        b = np.stack([np.interp(ends[keep], arc, line[:, i]) for i in (0, 1)], axis=-1)
        along = (b - a) / np.maximum(np.linalg.norm(b - a, axis=-1, keepdims=True), 1e-6)
        side = np.stack((-along[:, 1], along[:, 0]), axis=-1) * (MARKING_WIDTH / 2)
        quads.append(np.stack((a + side, b + side, b - side, a - side), axis=1))
    return np.concatenate(quads).astype(np.float32) if quads else np.zeros((0, 4, 2), np.float32)


def _zebras(road: RoadMap) -> NDArray[np.float32]:
    """Quads [n, 4, 2] of the stripes of crossings: the ways for walkers whose middle is on a lane for vehicles."""
    kind = road.kind[0].numpy()
    walks = np.flatnonzero(kind == int(LaneKind.WALKING))
    if not len(walks):
        return np.zeros((0, 4, 2), np.float32)
    lines, width = road.centreline[0].numpy().astype(np.float32), road.width[0].numpy()
    driven = np.isin(kind, (int(LaneKind.DRIVING), int(LaneKind.JUNCTION)))
    starts, steps = lines[driven, :-1].reshape(-1, 2), np.diff(lines[driven], axis=1).reshape(-1, 2)
    reach = np.repeat(width[driven] / 2, lines.shape[1] - 1)
    quads, done = [], set()
    for i in walks:
        line = lines[i]
        ends = tuple(sorted((tuple(np.round(line[0], 1)), tuple(np.round(line[-1], 1)))))
        if ends in done:  # the same way back
            continue
        done.add(ends)
        arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
        at = lambda where, line=line, arc=arc: np.stack([np.interp(where, arc, line[:, k]) for k in (0, 1)], axis=-1)
        offset = at(arc[-1] / 2) - starts
        along = ((offset * steps).sum(1) / (steps**2).sum(1).clip(1e-6)).clip(0, 1)
        if not (np.linalg.norm(offset - along[:, None] * steps, axis=1) < reach).any():
            continue
        places = np.arange(ZEBRA, arc[-1] - ZEBRA, 2 * ZEBRA)
        a, b = at(places), at(places + ZEBRA)
        run = (b - a) / np.maximum(np.linalg.norm(b - a, axis=-1, keepdims=True), 1e-6)
        side = np.stack((-run[:, 1], run[:, 0]), axis=-1) * (width[i] / 2)
        quads.append(np.stack((a + side, b + side, b - side, a - side), axis=1))
    return np.concatenate(quads).astype(np.float32) if quads else np.zeros((0, 4, 2), np.float32)


def triangulate(polygon: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Triangles (vertex indices) of a simple polygon [V, 2], by clipping ears."""

    def cross(a: int, b: int, c: int) -> float:
        p, q, r = polygon[a], polygon[b], polygon[c]
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    x, y = polygon[:, 0], polygon[:, 1]
    order = list(range(len(polygon)))
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:
        order.reverse()
    triangles = []
    while len(order) > 3:
        for i in range(len(order)):
            a, b, c = order[i - 1], order[i], order[(i + 1) % len(order)]
            if cross(a, b, c) <= 0:
                continue
            inside = (cross(a, b, p) >= 0 and cross(b, c, p) >= 0 and cross(c, a, p) >= 0 for p in order if p not in (a, b, c))
            if not any(inside):
                triangles.append((a, b, c))
                del order[i]
                break
        else:
            break  # a degenerate rest has no ear; it covers no area
    if len(order) == 3:
        triangles.append((order[0], order[1], order[2]))
    return triangles


def _outlines(road: RoadMap) -> list[NDArray[np.float32]]:
    """Polygons [V, 2] of the junctions, each corner once."""
    outlines = []
    for polygon in road.junctions[0].numpy().astype(np.float32):
        keep = np.ones(len(polygon), bool)
        keep[1:] = np.linalg.norm(np.diff(polygon, axis=0), axis=1) > 1e-3
        outline = polygon[keep]
        if len(outline) > 1 and np.linalg.norm(outline[0] - outline[-1]) < 1e-3:
            outline = outline[:-1]
        if len(outline) >= 3:
            outlines.append(outline)
    return outlines


def _junction_quads(outlines: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    quads = [outline[[a, b, c, c]] for outline in outlines for a, b, c in triangulate(outline)]
    return np.stack(quads).astype(np.float32) if quads else np.zeros((0, 4, 2), np.float32)


def _pavements(road: RoadMap, outlines: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Quads [n, 4, 2] of the ways for people, and in town of the ground beside solid edges and around junctions."""
    town = is_town(road)
    return _beside(road, walked(road) + (beside_edges(road, PAVEMENT) if town else []), outlines if town else (), PAVEMENT)


def _beside(road: RoadMap, strips: Sequence[Strip], outlines: Sequence[NDArray[np.float32]], wide: float) -> NDArray[np.float32]:
    """Quads [n, 4, 2] of strips beside lanes, and of the ground around junctions."""
    lanes = [strip.lane for strip in strips]
    lines = road.centreline[0].numpy().astype(np.float32)[lanes]
    right, left = (offset(lines, np.array([strip[side] for strip in strips], np.float32)) for side in (1, 2))
    return np.concatenate((_strips(left, right), *(around(outline, wide) for outline in outlines))).astype(np.float32)


def ground_faces(road: RoadMap) -> list[tuple[Face, NDArray[np.float32]]]:
    """Quads [n, 4, 2] of a road map [1] by what they are, in the order in which they are painted."""
    kind = road.kind[0].numpy()
    drivable = np.isin(kind, (int(LaneKind.DRIVING), int(LaneKind.JUNCTION), int(LaneKind.SHOULDER)))
    lines = road.centreline[0].numpy().astype(np.float32)
    half = road.width[0].numpy().astype(np.float32) / 2
    outlines = _outlines(road)
    verges = _beside(road, beside_road(road, VERGE), outlines, VERGE)
    parts: list[tuple[Face, NDArray]] = [(Face.VERGE, verges), (Face.PAVEMENT, _pavements(road, outlines))]
    surface = lines[drivable]
    parts.append((Face.ROAD, _strips(offset(surface, half[drivable] + 0.1), offset(surface, -half[drivable] - 0.1))))
    parts.append((Face.JUNCTION, _junction_quads(outlines)))
    marked = kind == int(LaneKind.DRIVING)
    for border, face in ((Border.EDGE, Face.EDGE), (Border.DASHED, Face.DASH), (Border.CENTRE, Face.CENTRE)):
        sides = []
        for sign, column in ((1.0, road.left_border[0].numpy()), (-1.0, road.right_border[0].numpy())):
            chosen = marked & (column == int(border))
            inside = 0.0 if border == Border.DASHED else 0.12
            sides.append(offset(lines[chosen], np.asarray(sign * (half[chosen] - inside), np.float32)))
        side = np.concatenate(sides) if sides else np.zeros((0, LANE_POINTS, 2), np.float32)
        if border == Border.DASHED:
            parts.append((face, np.concatenate((_dashes(side), _zebras(road)))))
        else:
            width = np.full(len(side), MARKING_WIDTH / 2, np.float32)
            parts.append((face, _strips(offset(side, width), offset(side, -width))))
    controlled = road.signal_lane[0].numpy() >= 0
    ends = road.stop_line[0].numpy().astype(np.float32)[controlled]
    back = -np.stack((np.cos(road.signal_head[0, :, 3].numpy()), np.sin(road.signal_head[0, :, 3].numpy())), -1)[controlled]
    depth = (back * STOP_LINE_WIDTH).astype(np.float32)
    parts.append((Face.STOP, np.stack((ends[:, 0], ends[:, 1], ends[:, 1] + depth, ends[:, 0] + depth), 1)))
    return parts
