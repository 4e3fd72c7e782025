"""Room between the wheels and the kerb."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import edge_excess
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="ours; nuPlan's drivable area, with a margin instead of a tolerance")
def kerb_distance(track: Track, *, margin_m: float = 0.3) -> Tensor:
    """Distance of the ego's box from the edge of the drivable area over `margin_m`, 1 beyond it and 0 over the edge: [B, T]."""
    return (1.0 - track.derived(edge_excess(margin_m)) / max(margin_m, 1e-6)).clamp(0, 1)
