"""How the ride feels."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..grading import falling
from ..history import trailing
from ..rule import rule

WINDOW = 20  # columns: two seconds


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="ISO 2631-1:1997, annex C: below 0.315 m/s2 r.m.s. not uncomfortable, 0.8 to 1.6 uncomfortable; without its frequency weights",
)
def ride_comfort(track: Track, *, pleasant_mps2: float = 0.315, unpleasant_mps2: float = 1.6) -> Tensor:
    """1 up to `pleasant_mps2` of acceleration in the plane, r.m.s. over the last 2 s, falling to 0 at `unpleasant_mps2`: [B, T].

    At 10 steps a second the standard's weights for vibration say nothing, so the acceleration counts as it is.
    """
    ego = track.ego
    across = ego.speed * ego.yaw_rate
    felt = trailing(ego.acceleration.square() + across.square(), WINDOW).mean(-1).sqrt()
    return falling(felt, pleasant_mps2, unpleasant_mps2)
