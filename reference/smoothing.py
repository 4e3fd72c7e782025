"""Vehicles that steer: SUMO's instant lane changes drawn out, and headings from a rear axle that follows the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..scene import DT

JUMP = 1.0  # m sideways in one step that only a lane change can explain
TELEPORT = 8.0  # m in one step after which a vehicle counts as a new one
CHANGE_TIME = 2.5  # s of a lane change, as long as the speed gives it CHANGE_LENGTH
CHANGE_LENGTH = (18.0, 70.0)  # m
REACH = 0.8  # of the length, from the front bumper back to the rear axle

Floats = NDArray[np.float64]


class SmoothMotion:
    """The drawn motion of the vehicles in N slots; a vehicle starts as SUMO has it when it enters a slot."""

    def __init__(self, slots: int) -> None:
        self._ids = np.full(slots, -1, dtype=np.int64)
        self._raw = np.zeros((slots, 2))
        self._front = np.zeros((slots, 2))
        self._heading = np.zeros(slots)
        self._offset = np.zeros(slots)  # m to the left at the start of the lane change under way
        self._progress = np.ones(slots)  # of that lane change

    def update(self, ids: NDArray[np.int64], raw: Floats, heading: Floats, speed: Floats, length: Floats) -> tuple[Floats, Floats]:
        """Front bumpers [N, 2] and headings [N] to show, from SUMO's after one more step.

        Args:
            ids: [N], -1 for empty slots.
            raw: front bumpers [N, 2].
            heading: [N], used for vehicles that are new in their slot.
            speed: [N].
            length: [N].
        """
        moved = raw - self._raw
        fresh = (ids != self._ids) | (np.linalg.norm(moved, axis=1) > TELEPORT)
        normal = np.stack((-np.sin(self._heading), np.cos(self._heading)), -1)
        sideways = (moved * normal).sum(-1)
        jumped = ~fresh & (np.abs(sideways) > JUMP)
        self._offset = np.where(jumped, self._remaining() - sideways, np.where(fresh, 0.0, self._offset))
        self._progress = np.where(jumped, 0.0, self._progress)
        self._progress = np.minimum(1.0, self._progress + speed * DT / np.clip(CHANGE_TIME * speed, *CHANGE_LENGTH))

        front = raw + np.where(fresh, 0.0, self._remaining())[:, None] * normal
        rear = self._front - (REACH * length)[:, None] * np.stack((np.cos(self._heading), np.sin(self._heading)), -1)
        towards = front - rear
        self._heading = np.where(fresh, heading, np.arctan2(towards[:, 1], towards[:, 0]))
        self._ids, self._raw, self._front = ids.copy(), raw.copy(), front
        return front, self._heading

    def _remaining(self) -> Floats:
        p = self._progress
        return self._offset * (1 - p * p * (3 - 2 * p))
