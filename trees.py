"""Trees as whoever draws one knows them: a trunk and a crown, broad or conical, that fill a scenery box and differ with its index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .bodies import Array
from .road import SceneryKind

BARK = (0.34, 0.25, 0.18)
CROWN_SIDES, TRUNK_SIDES = 6, 4
CROWNS = {  # upward: radius over the tree's width and height over its own
    SceneryKind.TREE: ((0.22, 0.28), (0.48, 0.48), (0.44, 0.74), (0.18, 0.95), (0.0, 1.0)),
    SceneryKind.CONIFER: ((0.50, 0.16), (0.27, 0.55), (0.0, 1.0)),
}
TRUNK_TOP = {SceneryKind.TREE: 0.44, SceneryKind.CONIFER: 0.26}  # height over the tree's


def crowns(boxes: Array, index: npt.NDArray[np.int64], kind: SceneryKind) -> Array:
    """Rings [n, R, CROWN_SIDES, 3] of points, upward, of the crowns of trees.

    Args:
        boxes: [n, 6] of `RoadMap.scenery`.
        index: [n] which of the map's boxes they are.
        kind: one of CROWNS.
    """
    profile = CROWNS[kind]
    bump = 5.1 * np.arange(len(profile) * CROWN_SIDES).reshape(len(profile), CROWN_SIDES)
    lobes = 1.0 + 0.12 * np.sin(bump + index[:, None, None])
    return _rings(boxes, index, boxes[:, 3:5], profile, 1.3 * index, CROWN_SIDES, lobes)


def trunks(boxes: Array, index: npt.NDArray[np.int64], kind: SceneryKind) -> Array:
    """Rings [n, 2, TRUNK_SIDES, 3] of points of the trunks of trees; arguments as of `crowns`."""
    thick = trunk_radius(boxes[:, 5:6])
    return _rings(boxes, index, thick.repeat(2, 1), ((1.0, 0.0), (0.8, TRUNK_TOP[kind])), np.zeros(len(boxes)), TRUNK_SIDES, 1.0)


def trunk_radius(height: Array) -> Array:
    """Radius at the foot of trees of some heights, m; it is 0.8 of that at the top."""
    return 0.022 * height + 0.05


def tones(index: npt.NDArray[np.int64], kind: SceneryKind) -> Array:
    """By how much [n, R] a crown is brighter than its colour at each of its rings."""
    up = np.array([height for _, height in CROWNS[kind]])
    return ((0.72 + 0.40 * up) * (0.94 + 0.06 * (index[:, None] % 3))).astype(np.float32)


def _rings(
    boxes: Array,
    index: npt.NDArray[np.int64],
    wide: Array,
    profile: Sequence[tuple[float, float]],
    twist: npt.NDArray[np.floating],
    sides: int,
    lobes: float | npt.NDArray[np.floating],
) -> Array:
    angle = np.asarray(twist)[:, None, None] + np.arange(sides) * 2 * np.pi / sides
    radius, up = (np.array(column)[None, :, None] for column in zip(*profile, strict=True))
    x, y = (radius * turn * wide[:, side, None, None] * lobes for side, turn in enumerate((np.cos(angle), np.sin(angle))))
    cos, sin = np.cos(0.7 * index)[:, None, None], np.sin(0.7 * index)[:, None, None]
    z = np.broadcast_to(up * boxes[:, 5, None, None], x.shape)
    place = boxes[:, :2, None, None]
    return np.stack((place[:, 0] + x * cos - y * sin, place[:, 1] + x * sin + y * cos, z), -1).astype(np.float32)
