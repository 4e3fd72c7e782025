"""Progress, as a share of what is possible here and now."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import DT, Track
from ..facts import right_speed
from ..rule import rule
from .progress import progress

WAITING_SPEED = 0.5  # m/s, below which the right speed is to stand


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=0.0,
    source="nuPlan speed limit and progress metrics; headway and braking as in IDM (Treiber et al., 2000)",
)
def relative_progress(
    track: Track, *, headway_s: float = 1.0, standstill_gap_m: float = 2.0, stop_line_gap_m: float = 1.5, braking_mps2: float = 2.0
) -> Tensor:
    """Progress along the route over the distance that the right speed would give, in [0, 1]: [B, T].

    The right speed is the limit, or less: what can still be braked, at `braking_mps2`, to the speed of the box ahead at the wanted
    gap (`standstill_gap_m` and `headway_s`) and to a stand at `stop_line_gap_m` before a red light or a stop sign. Where it is nought,
    waiting earns 1.
    """
    right = right_speed(track, headway_s, standstill_gap_m, stop_line_gap_m, braking_mps2)
    share = (progress.function(track) / (DT * right.clamp_min(WAITING_SPEED))).clamp(0, 1)
    return torch.where(right < WAITING_SPEED, 1.0, share)
