"""How suddenly the acceleration changes."""

from __future__ import annotations

from torch import Tensor

from ...scene import DT, Track
from ..history import smoothed
from ..rule import rule

MOST = 100.0  # m/s3


@rule(kind="cost", unit="m/s3", low=0.0, high=MOST, neutral=0.0, source="longitudinal jerk as in NAVSIM pdm_comfort_metrics.py, its size")
def jerk(track: Track, *, free_mps3: float = 0.0) -> Tensor:
    """Size of the longitudinal jerk beyond `free_mps3`, smoothed over 0.5 s: [B, T]."""
    change = smoothed(track.ego.acceleration, window=5, order=2, derivative=1, step=DT)
    return (change.abs() - free_mps3).clamp(0, MOST)
