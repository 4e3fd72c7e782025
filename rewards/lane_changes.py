"""When the ego enters another lane, and where that lane is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import Track
from .facts import road_position
from .history import moved

HALF_LANE = 1.6  # m, half the width of a lane where it is not looked up
JUMP = 2.0  # m beyond its own way that the offset from the nearest centreline jumps when the nearest is another one
STRAIGHT = 0.5  # rad, off which a lane is crossed rather than entered


@dataclass(frozen=True)
class LaneChange:
    """The steps in which another lane's centreline becomes the nearest, every field [B, T]."""

    left: Tensor  # bool
    right: Tensor  # bool
    target: Tensor  # m, where the lane that the ego is in has its middle, in the ego's frame, left positive


def lane_change(track: Track) -> LaneChange:
    """Changes of lane outside junctions, on the route: the offset from the nearest centreline jumps from one side to the other."""
    place = track.derived(road_position)
    offset = place.offset
    steady = place.on_route & ~place.in_junction & (place.heading_error.abs() < STRAIGHT) & track.valid
    both = steady.clone()
    both[:, 0] = False
    both[:, 1:] &= steady[:, :-1] & track.valid[:, :-1]
    jump = torch.nn.functional.pad(offset[:, 1:] - offset[:, :-1], (1, 0))
    jump = jump - moved(track) * torch.sin(place.heading_error)  # what its own way sideways does not explain
    crossed = both & (jump.abs() > JUMP)
    return LaneChange(crossed & (jump < 0), crossed & (jump > 0), -offset)
