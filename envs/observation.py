"""The spaces of the environments, and a world's state as the arrays that lie in them."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from ..camera import CAMERA
from ..scene import DT, Track
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, ROUTE_AHEAD_SPACING, WorldState, observe
from .privileged import privileged_facts, privileged_space

EGO_LIMITS = {
    "speed": (0.0, 60.0),  # m/s
    "acceleration": (-12.0, 12.0),  # m/s2
    "steering": (-1.0, 1.0),  # rad
    "yaw_rate": (-3.0, 3.0),  # rad/s
    "speed_limit": (0.0, 60.0),  # m/s
}
ROUTE_LIMIT = ROUTE_AHEAD_POINTS * ROUTE_AHEAD_SPACING + 120.0  # m: the route's reach, and how far one may stray from it

_EGO_LOW = np.array([EGO_LIMITS[name][0] for name in EGO_OBSERVATION], np.float32)
_EGO_HIGH = np.array([EGO_LIMITS[name][1] for name in EGO_OBSERVATION], np.float32)

STEPS_PER_SECOND = round(1 / DT)


def observation_space(privileged: bool = False) -> spaces.Dict:
    """Camera [64, 128, 3] uint8, ego [5] in SI units, route [40] in metres in the ego frame: x, y of 20 points.

    With `privileged` also what the car cannot see, see `privileged_space`.
    """
    parts: dict[str, spaces.Space] = {
        "camera": spaces.Box(0, 255, (CAMERA.height, CAMERA.width, 3), np.uint8),
        "ego": spaces.Box(_EGO_LOW, _EGO_HIGH, dtype=np.float32),
        "route": spaces.Box(-ROUTE_LIMIT, ROUTE_LIMIT, (2 * ROUTE_AHEAD_POINTS,), np.float32),
    }
    if privileged:
        parts["privileged"] = privileged_space()
    return spaces.Dict(parts)


def action_space() -> spaces.Box:
    """Steering (positive to the left) and pedal (positive accelerates, negative brakes), both in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (2,), np.float32)


def to_arrays(state: WorldState, track: Track | None = None) -> dict[str, np.ndarray]:
    """Arrays [B, ...] of what is observed of a state, clipped to the space; they share no memory with it.

    With a track, whose last column is this state, the privileged facts are among them.
    """
    with torch.inference_mode():
        observation = observe(state)
        arrays = {
            "camera": observation.camera.cpu().numpy().copy(),
            "ego": np.clip(observation.ego.cpu().numpy(), _EGO_LOW, _EGO_HIGH),
            "route": np.clip(observation.route.flatten(1).cpu().numpy(), -ROUTE_LIMIT, ROUTE_LIMIT),
        }
        if track is not None:
            arrays["privileged"] = privileged_facts(track).cpu().numpy()
        return arrays
