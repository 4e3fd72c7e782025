"""What driving costs."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..rule import rule

GRAVITY = 9.81  # m/s2
AIR = 1.2  # kg/m3
MOST = 1000.0  # kW


@rule(
    kind="cost",
    unit="kW",
    low=-MOST,
    high=MOST,
    neutral=0.0,
    source="longitudinal vehicle dynamics (Guzzella and Sciarretta, Vehicle Propulsion Systems, section 2.1), a mid-size car",
)
def energy(track: Track, *, mass_kg: float = 1600.0, drag_area_m2: float = 0.65, rolling: float = 0.012, recovered: float = 0.0) -> Tensor:
    """Power at the wheels against inertia, air and tyres on a level road; of what braking gives back, the share `recovered`: [B, T]."""
    speed = track.ego.speed
    force = mass_kg * track.ego.acceleration + 0.5 * AIR * drag_area_m2 * speed.square() + mass_kg * GRAVITY * rolling
    power = force * speed / 1000.0
    return torch.where(power > 0, power, recovered * power).clamp(-MOST, MOST)
