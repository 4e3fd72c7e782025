"""RSS along the way: room to stop behind whoever brakes hardest."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import way_ahead
from ..rule import rule


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="RSS (Shalev-Shwartz et al., 2017, definition 1; IEEE 2846); defaults of the open-source ad-rss-lib",
)
def safe_distance(
    track: Track,
    *,
    response_s: float = 1.0,
    acceleration_mps2: float = 3.5,
    braking_mps2: float = 4.0,
    lead_braking_mps2: float = 8.0,
) -> Tensor:
    """Gap to the box ahead over the least safe gap, at most 1: [B, T].

    The safe gap lets the ego accelerate for `response_s` and then brake by no more than `braking_mps2`, and still stop behind a
    leader that brakes by `lead_braking_mps2` at once: v t + a t^2 / 2 + (v + a t)^2 / 2 b - v_lead^2 / 2 b_lead.
    """
    speed, way = track.ego.speed, track.derived(way_ahead)
    later = speed + response_s * acceleration_mps2
    stopping = speed * response_s + 0.5 * acceleration_mps2 * response_s**2 + later.square() / (2.0 * braking_mps2)
    safe = (stopping - way.lead_speed.square() / (2.0 * lead_braking_mps2)).clamp_min(0)
    return torch.where(way.lead_gap >= safe, 1.0, way.lead_gap / safe.clamp_min(1e-6))
