"""How much of the route is done."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..rule import rule
from .progress import progress

PERCENT = 100.0
SHORTEST = 1.0  # m, of a route


@rule(kind="term", unit="%", low=-100.0, high=100.0, neutral=0.0, source="CARLA leaderboard RouteCompletionTest, step by step")
def completion(track: Track) -> Tensor:
    """Share of the route's length gained in this step, in percent, negative backwards: [B, T]."""
    return (PERCENT * progress(track) / track.route.length.clamp_min(SHORTEST).unsqueeze(1)).clamp(-PERCENT, PERCENT)
