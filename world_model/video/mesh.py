"""Flat polygons of a road map, as a map and its scenery know them: ground classes and the faces of static boxes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import polylines
from ...bodies import face_normals
from ...facades import BAY, EAVES, OVERHANG, PITCHED_BELOW, STOREY, TEXELS, WALL_BELOW, WINDOWS, phase, roof_colours
from ...ground import Ground, GroundPlan
from ...light import triangles, under_trees
from ...road import BUILDINGS, TREES, RoadMap, SceneryKind
from ...roadside import BARRIER, BARRIER_BESIDE, BARRIER_STEEL, STEEL, has_barrier, mast
from ...trees import BARK, crowns, tones, trunks
from .faces import Face

MESHES_KEPT = 64
_SHAPING = (  # the fields of a map that a mesh depends on, but for its junctions
    "centreline", "width", "speed_limit", "kind", "successors", "left", "right", "left_border", "right_border", "stop_line", "signal_head",
    "signal_lane", "scenery", "scenery_colour", "scenery_kind", "traffic_side",
)  # fmt: skip


@dataclass(frozen=True)
class RoadMesh:
    """Polygons of one road map in world coordinates, float32."""

    ground: NDArray[np.float32]  # [G, 4, 2]
    ground_class: NDArray[np.int32]  # [G] Face, ascending
    ground_extent: NDArray[np.float32]  # [G] see `extents`
    solid: NDArray[np.float32]  # [Q, 4, 3] faces of scenery
    solid_class: NDArray[np.int32]  # [Q]
    solid_normal: NDArray[np.float32]  # [Q, 3] outward
    solid_colour: NDArray[np.float32]  # [Q, 3]
    solid_extent: NDArray[np.float32]  # [Q]
    shade: NDArray[np.float32]  # [K, 3, 2] triangles of ground under trees
    solid_windows: NDArray[np.float32]  # [Q, 9] width and height of bays in m, 0 without, shares of WINDOWS, index in BUILDINGS, phase


def extents(faces: NDArray) -> NDArray[np.float32]:
    """How far, m over the ground, the farthest corner of faces [n, 4, 2 or 3] is from the first one [n]."""
    away = faces[:, 1:, :2] - faces[:, :1, :2]
    return np.sqrt((away**2).sum(-1).max(1)).astype(np.float32)


_BOX_FACES = (  # corner signs of each face (x forward, y left, z 0 or 1) and the outward normal in the box's frame
    (((1, -1, 0), (1, 1, 0), (1, 1, 1), (1, -1, 1)), (1, 0, 0)),
    (((-1, 1, 0), (-1, -1, 0), (-1, -1, 1), (-1, 1, 1)), (-1, 0, 0)),
    (((1, 1, 0), (-1, 1, 0), (-1, 1, 1), (1, 1, 1)), (0, 1, 0)),
    (((-1, -1, 0), (1, -1, 0), (1, -1, 1), (-1, -1, 1)), (0, -1, 0)),
    (((1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)), (0, 0, 1)),
)


def _box_faces(boxes: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Faces [n*5, 4, 3] and normals [n*5, 3] of boxes (x, y, heading, length, width, ...) between heights low and high [n]."""
    cos, sin = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    faces, normals = [], []
    for corners, normal in _BOX_FACES:
        points = []
        for sx, sy, sz in corners:
            lx, ly = sx * boxes[:, 3] / 2, sy * boxes[:, 4] / 2
            z = high if sz else low
            points.append(np.stack((boxes[:, 0] + lx * cos - ly * sin, boxes[:, 1] + lx * sin + ly * cos, z), -1))
        faces.append(np.stack(points, 1))
        nx, ny, nz = normal
        normals.append(np.stack((nx * cos - ny * sin, nx * sin + ny * cos, np.full_like(cos, nz)), -1))
    return np.stack(faces, 1).reshape(-1, 4, 3), np.stack(normals, 1).reshape(-1, 3)


def _bays(walls: NDArray) -> NDArray[np.float32]:
    """Width and height [n, 2] of the bays of rectangular walls [n, 4, 3], as many as fit best."""
    span = np.stack((np.linalg.norm(walls[:, 1] - walls[:, 0], axis=-1), walls[:, 2, 2] - walls[:, 0, 2]), -1)
    return (span / np.maximum(1, np.round(span / (BAY, STOREY)))).astype(np.float32)


def _roofs(boxes: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Faces [n*4, 4, 3] and normals of pitched roofs of boxes, the ridge along the longer side: two slopes and two gables."""
    heading = boxes[:, 2] + np.where(boxes[:, 4] > boxes[:, 3], np.pi / 2, 0.0)
    a, b = np.maximum(boxes[:, 3], boxes[:, 4]) / 2, np.minimum(boxes[:, 3], boxes[:, 4]) / 2
    cos, sin = np.cos(heading), np.sin(heading)
    place = lambda x, y, z: np.stack((boxes[:, 0] + x * cos - y * sin, boxes[:, 1] + x * sin + y * cos, z), -1)
    faces, normals = [], []
    for side in (1, -1):
        c, d = side * (a + OVERHANG), side * (b + OVERHANG)
        slope = (place(c, d, low), place(-c, d, low), place(-c, 0 * d, high), place(c, 0 * d, high))
        gable = (
            place(side * a, -side * b, low),
            place(side * a, side * b, low),
            place(side * a, 0 * b, high),
            place(side * a, 0 * b, high),
        )
        rise, run = high - low, b + OVERHANG
        length = np.hypot(rise, run)
        faces += [np.stack(slope, 1), np.stack(gable, 1)]
        normals.append(np.stack((-side * sin * rise / length, side * cos * rise / length, run / length), -1))
        normals.append(np.stack((side * cos, side * sin, 0 * rise), -1))
    return np.stack(faces, 1).reshape(-1, 4, 3), np.stack(normals, 1).reshape(-1, 3)


def _around_axis(rings: NDArray) -> tuple[NDArray, NDArray]:
    """Faces [n * (R - 1) * sides, 4, 3] between rings [n, R, sides, 3] of points, upward, and their normals."""
    following = np.roll(rings, -1, 2)
    faces = np.stack((rings[:, :-1], following[:, :-1], following[:, 1:], rings[:, 1:]), -2)
    faces = faces.reshape(-1, 4, 3)
    outward = np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])
    return faces, outward / np.linalg.norm(outward, axis=-1, keepdims=True).clip(1e-6)


def _barriers(plan: GroundPlan) -> tuple[NDArray, NDArray]:
    """Faces [n, 4, 3] of crash barriers and their normals, those of either side."""
    lanes = np.flatnonzero(has_barrier(plan.road))
    lines = [polylines.offset(plan.line[int(i)], float(plan.width[i]) / 2 + BARRIER_BESIDE) for i in lanes]
    a, b = (np.concatenate([np.zeros((0, 2), np.float32), *(line[part] for line in lines)]) for part in (slice(-1), slice(1, None)))
    long = np.linalg.norm(b - a, axis=1) > 1e-3
    a, b = a[long], b[long]
    corner = lambda at, z: np.concatenate((at, np.full((len(at), 1), z, np.float32)), 1)
    quads = np.stack((corner(b, BARRIER[0]), corner(a, BARRIER[0]), corner(a, BARRIER[1]), corner(b, BARRIER[1])), 1)
    step = (b - a) / np.linalg.norm(b - a, axis=1, keepdims=True)
    left = np.stack((-step[:, 1], step[:, 0], np.zeros(len(a))), 1)
    return np.concatenate((quads, quads)), np.concatenate((left, -left))


def _masts(plan: GroundPlan) -> tuple[NDArray, NDArray]:
    """Faces [n, 4, 3] of the masts of signals and their normals."""
    heads, side = plan.road.signal_head[0].numpy()[plan.road.signal_lane[0].numpy() >= 0], int(plan.road.traffic_side[0])
    quads = np.concatenate([np.zeros((0, 4, 3), np.float32), *(mast(head, plan.driven, side) for head in heads)])
    return quads, face_normals(quads)


def _standing_faces(plan: GroundPlan) -> dict[str, NDArray]:
    """The `solid` arrays of `RoadMesh`."""
    road = plan.road
    kind = road.scenery_kind[0].numpy()
    boxes = road.scenery[0].numpy().astype(np.float32)[kind > 0]
    colour = road.scenery_colour[0].numpy().astype(np.float32)[kind > 0]
    kind = kind[kind > 0]
    parts: dict[str, list[NDArray]] = {"solid": [], "solid_normal": [], "solid_class": [], "solid_colour": [], "solid_windows": []}

    def add(quads: NDArray, outward: NDArray, face: Face, paint: NDArray, windows: NDArray | None = None) -> None:
        parts["solid"].append(quads)
        parts["solid_normal"].append(outward)
        parts["solid_class"].append(np.full(len(quads), int(face)))
        parts["solid_colour"].append(np.repeat(paint, len(quads) // max(1, len(paint)), axis=0))
        parts["solid_windows"].append(np.zeros((len(quads), 9)) if windows is None else windows)

    def add_boxes(shape: NDArray, low: NDArray, high: NDArray, face: Face, paint: NDArray) -> None:
        add(*_box_faces(shape, low.astype(np.float32), high.astype(np.float32)), face, paint)

    built = np.isin(kind, BUILDINGS)
    plain = built & (boxes[:, 3:5].min(-1) < WALL_BELOW)
    houses = built & ~plain
    for chosen, face in ((plain, Face.BUILDING), (kind == int(SceneryKind.POLE), Face.POLE)):
        shape = boxes[chosen]
        add_boxes(shape, np.zeros(len(shape)), shape[:, 5], face, colour[chosen])
    shape, paint = boxes[houses], colour[houses]
    pitched = shape[:, 5] < PITCHED_BELOW
    eaves = np.where(pitched, EAVES * shape[:, 5], shape[:, 5])
    quads, outward = _box_faces(shape, np.zeros_like(eaves), eaves)
    index = np.flatnonzero(road.scenery_kind[0].numpy() > 0)[houses]
    window = {kind: np.array(reach) / TEXELS for kind, reach in WINDOWS.items()}
    rows = [(*window[SceneryKind(k)], BUILDINGS.index(SceneryKind(k)), *phase(i)) for k, i in zip(kind[houses], index, strict=True)]
    panes = np.array(rows, np.float32).reshape(-1, 7).repeat(len(_BOX_FACES), 0)
    bays = np.where(outward[:, 2:] == 0, _bays(quads), 0.0)
    top, tiles, gable = roof_colours(paint)
    sides = len(_BOX_FACES) - 1
    walls = np.concatenate((paint[:, None].repeat(sides, 1), top[:, None]), 1).reshape(-1, 3)
    add(quads, outward, Face.BUILDING, walls, np.concatenate((bays, panes), 1))
    roof = np.stack((tiles, gable, tiles, gable), 1)[pitched].reshape(-1, 3)
    add(*_roofs(shape[pitched], eaves[pitched], shape[pitched, 5]), Face.BUILDING, roof)
    add(*_masts(plan), Face.POLE, np.array([STEEL], np.float32))
    add(*_barriers(plan), Face.POLE, np.array([BARRIER_STEEL], np.float32))
    for tree in TREES:
        chosen = np.flatnonzero(kind == int(tree))
        which = np.flatnonzero(road.scenery_kind[0].numpy() > 0)[chosen]
        tone = tones(which, tree)
        paint = colour[chosen, None] * (0.5 * (tone[:, :-1] + tone[:, 1:]))[..., None]
        add(*_around_axis(crowns(boxes[chosen], which, tree)), Face.TREE, paint.reshape(-1, 3))
        add(*_around_axis(trunks(boxes[chosen], which, tree)), Face.POLE, np.tile(np.array(BARK), (len(chosen), 1)))
    arrays = {
        name: np.ascontiguousarray(np.concatenate(part).astype(np.int32 if name == "solid_class" else np.float32))
        for name, part in parts.items()
    }
    return arrays | {"solid_extent": extents(arrays["solid"])}


_GROUND = {
    Ground.VERGE: Face.VERGE, Ground.PAVEMENT: Face.PAVEMENT, Ground.KERB: Face.KERB, Ground.ROAD: Face.ROAD,
    Ground.JUNCTION: Face.JUNCTION, Ground.EDGE: Face.EDGE, Ground.DASHED: Face.DASH, Ground.CENTRE: Face.CENTRE, Ground.STOP: Face.STOP,
}  # fmt: skip


def build_mesh(road: RoadMap) -> RoadMesh:
    """Polygons of a road map [1]: lanes, junctions, markings, stop lines and scenery."""
    plan = GroundPlan(road)
    quads = plan.quads()
    ground = np.ascontiguousarray(np.concatenate([quads[kind] for kind in _GROUND]).astype(np.float32))
    return RoadMesh(
        ground=ground,
        ground_class=np.concatenate([np.full(len(quads[kind]), int(face), np.int32) for kind, face in _GROUND.items()]),
        ground_extent=extents(ground),
        shade=triangles(under_trees(road.scenery[0].numpy()[np.isin(road.scenery_kind[0].numpy(), TREES)])),
        **_standing_faces(plan),
    )


class MeshCache:
    """Meshes of the road maps seen last, known by their content, which padding leaves as it is.

    Meshes that were built are shared by all caches of the process.
    """

    _built: ClassVar[OrderedDict[bytes, RoadMesh]] = OrderedDict()

    def __init__(self) -> None:
        self._last: tuple[RoadMap, dict[int, RoadMesh]] | None = None  # the steps of an episode share their map

    def get(self, road: RoadMap, b: int = 0) -> RoadMesh:
        """The mesh of one of the road maps [B]."""
        if self._last is None or self._last[0] is not road:
            self._last = (road, {})
        known = self._last[1]
        if b not in known:
            known[b] = self._find(road[b])
        return known[b]

    def _find(self, road: RoadMap) -> RoadMesh:
        key = _content(road)
        mesh = self._built.pop(key, None)
        self._built[key] = mesh = mesh or build_mesh(road)
        if len(self._built) > MESHES_KEPT:
            self._built.popitem(last=False)
        return mesh


def _content(road: RoadMap) -> bytes:
    """What a mesh is made of, of a map [1], in 16 bytes."""
    digest, trimmed = hashlib.blake2b(digest_size=16), road.trimmed()
    for name in _SHAPING:
        values = getattr(trimmed, name).numpy()
        digest.update(f"{name} {values.shape}".encode())
        digest.update(values.tobytes())
    digest.update(np.unique(trimmed.junctions.numpy().reshape(-1, 2), axis=0).tobytes())  # padded by repeating vertices and polygons
    return digest.digest()
