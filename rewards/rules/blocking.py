"""Standing in the way of others without a reason."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import around, right_speed
from ..lane_changes import HALF_LANE
from ..rule import rule


@rule(
    kind="cost",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=0.0,
    source="ours; Vienna Convention on Road Traffic, article 13(4): no driving so slowly that it hinders others without proper cause",
)
def blocking(track: Track, *, slow_mps: float = 2.0, reason_mps: float = 4.0, behind_m: float = 25.0) -> Tensor:
    """1 while the ego holds somebody up, else 0: [B, T].

    That is: it drives at most `slow_mps` with somebody behind it within `behind_m`, though limit, traffic and lights would allow more
    than `reason_mps`.
    """
    near, half = track.derived(around), 0.5 * track.profile.length.view(-1, 1, 1)
    gap = -near.x - near.reach - half
    behind = near.same_way & ~near.walks & (near.y.abs() < HALF_LANE) & (near.x < 0) & (gap < behind_m)
    slow = track.ego.speed <= slow_mps
    return (slow & behind.any(-1) & (right_speed(track, 1.0, 2.0, 1.5, 2.0) > reason_mps)).float()
