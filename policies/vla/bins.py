"""Numbers as tokens: each quantity has bins of its own, finer where it matters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...vehicles import PROFILES

STANDARD = PROFILES["sedan"]  # the car that actions and steering shares are expressed for


@dataclass(frozen=True)
class Bins:
    """Bins of one quantity, known by their rising centres; a value belongs to the nearest centre."""

    name: str
    values: tuple[float, ...]  # SI units

    def __len__(self) -> int:
        """Number of bins."""
        return len(self.values)

    @cached_property
    def centres(self) -> Tensor:
        """Centres [N] float32, rising."""
        return torch.tensor(self.values)

    @cached_property
    def _borders(self) -> Tensor:
        return (self.centres[1:] + self.centres[:-1]) / 2

    def encode(self, value: Tensor) -> Tensor:
        """Bins [...] int64 of values [...]; values past the ends belong to the last bin, NaN to the highest."""
        return torch.bucketize(value.contiguous(), self._borders.to(value.device))

    def decode(self, index: Tensor) -> Tensor:
        """Centres [...] of bins [...]."""
        return self.centres.to(index.device)[index]


def _power(count: int, limit: float, power: float) -> list[float]:
    """`count` numbers from 0 to `limit`, finer near 0."""
    return [limit * (k / (count - 1)) ** power for k in range(count)]


def one_sided(name: str, count: int, limit: float, power: float = 1.0) -> Bins:
    """`count` bins from 0 to `limit`."""
    return Bins(name, tuple(_power(count, limit, power)))


def two_sided(name: str, left: tuple[int, float], right: tuple[int, float], power: float) -> Bins:
    """Bins on both sides of one at 0, each side given as (bins, limit)."""
    below = [-value for value in reversed(_power(left[0] + 1, left[1], power)[1:])]
    return Bins(name, (*below, *_power(right[0] + 1, right[1], power)))


EGO = (
    one_sided("speed", 128, 40.0, 1.5),  # m/s
    two_sided("room", (40, 20.0), (63, 40.0), 1.6),  # m/s, speed limit minus speed
    one_sided("limit", 30, 40.28),  # m/s, steps of 5 km/h
    two_sided("acceleration", (40, 8.0), (24, 4.0), 1.5),  # m/s2
    two_sided("steering", (32, 0.6), (32, 0.6), 1.7),  # rad
    two_sided("yaw", (24, 1.2), (24, 1.2), 1.7),  # rad/s
)
TURN = two_sided("turn", (40, 1.0), (40, 1.0), 1.7)  # share of full steering
ADVICE = two_sided("advice", (40, 20.0), (40, 20.0), 1.6)  # m/s, the highest speed that bends ahead allow minus speed
REMAINING = one_sided("remaining", 21, 80.0)  # m of route in sight
LATERAL_AT = (8.0, 16.0, 24.0, 36.0, 52.0, 80.0)  # m along the route
LATERAL = tuple(two_sided(f"lateral{int(d)}", (24, 50.0), (24, 50.0), 2.0) for d in LATERAL_AT)  # m, left positive
NAVIGATION = (TURN, *LATERAL, ADVICE, REMAINING)
STEER = two_sided("steer", (32, 1.0), (32, 1.0), 1.7)  # steering action
ACCELERATE = two_sided("accelerate", (32, STANDARD["max_braking"]), (20, STANDARD["max_acceleration"]), 1.5)  # m/s2, asked for
QUANTITIES = (*EGO, *NAVIGATION, STEER, ACCELERATE)
