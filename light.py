"""Light as whoever draws it knows: where the sun stands in each weather, what road users and trees keep it from, what haze leaves of it."""

from __future__ import annotations

import math

import numpy as np

from . import polylines
from .bodies import Array
from .scene import Appearance

Colour = tuple[float, float, float]
SUN = {  # where it stands: azimuth, counter-clockwise from east, and elevation, deg
    Appearance.DAYLIGHT: (-55.0, 48.0), Appearance.OVERCAST: (-55.0, 80.0), Appearance.DUSK: (-150.0, 12.0), Appearance.RAIN: (0.0, 90.0),
}  # fmt: skip
SUNLIGHT: dict[Appearance, Colour] = {  # added where a face looks at the sun, display values in [0, 1]
    Appearance.DAYLIGHT: (0.46, 0.44, 0.38), Appearance.OVERCAST: (0.08, 0.08, 0.08), Appearance.DUSK: (0.34, 0.19, 0.08),
    Appearance.RAIN: (0.0, 0.0, 0.0),
}  # fmt: skip
SHADOW = {  # factor on the ground in the shade
    Appearance.DAYLIGHT: 0.55, Appearance.OVERCAST: 0.72, Appearance.DUSK: 0.70, Appearance.RAIN: 0.80,
}  # fmt: skip
HAZE_FROM = 8.0  # m, nearer than which nothing fades
RAIN_HAZE = 90.0  # m beyond that at which 37 % of an object's light comes through rain
TREE_SHADE_REACH = 120.0  # m
_MARGIN = 0.15  # m
_SLIDE = 0.25  # m per metre of height, away from the sun
_SQUARE = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]], np.float32)
_HALVES = [(0, 1, 2), (0, 2, 3)]
_OCTAGON = np.stack((np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)), 1)


def towards_sun(appearance: Appearance) -> Colour:
    """Unit vector, ENU."""
    azimuth, elevation = (math.radians(angle) for angle in SUN[appearance])
    return (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation))


def _slide(appearance: Appearance) -> tuple[float, float]:
    x, y, up = towards_sun(appearance)
    away = -_SLIDE * min(1.0, 3 * SUNLIGHT[appearance][0]) / max(up, 0.5)
    return away * x, away * y


SLIDES: Array = np.array([_slide(appearance) for appearance in Appearance], np.float32)  # [Appearance, 2] see `under_boxes`


def under_boxes(state: Array, slide: Array) -> Array:
    """Patches of ground [N, 4, 2] that the boxes of road users keep the sky from.

    Args:
        state: [N, 8] as `Agents.state`.
        slide: [N, 2] or [2] of `SLIDES`: how far east and north shade lies from what casts it, m per metre of its height.
    """
    x, y = np.moveaxis(_SQUARE * (state[:, None, 5:7] + _MARGIN), -1, 0)
    cos, sin = np.cos(state[:, 2:3]), np.sin(state[:, 2:3])
    middle = state[:, :2] + slide * state[:, 7:8]
    return (middle[:, None] + np.stack((x * cos - y * sin, x * sin + y * cos), -1)).astype(np.float32)


def under_trees(boxes: Array) -> Array:
    """Patches of ground [N, 8, 2] in the shade of trees, boxes [N, 6] of `RoadMap.scenery`."""
    return (boxes[:, None, :2] + 0.45 * boxes[:, None, 3:5] * _OCTAGON).astype(np.float32)


def triangles(patches: Array) -> Array:
    """The patches [N, V, 2] of road users or of trees as they are painted, [N * (V - 2), 3, 2]."""
    corners = _HALVES if patches.shape[1] == 4 else polylines.triangulate(_OCTAGON)
    return np.ascontiguousarray(patches[:, np.array(corners)].reshape(-1, 3, 2))
