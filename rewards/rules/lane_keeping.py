"""LK: not beside the centre of the lane for long."""

from __future__ import annotations

from torch import Tensor

from ...scene import DT, Track
from ..facts import road_position
from ..history import run_length
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="NAVSIM v2 pdm_scorer.py, lane keeping")
def lane_keeping(track: Track, *, offset_m: float = 0.5, duration_s: float = 2.0) -> Tensor:
    """0 once the ego has been more than `offset_m` off the nearest centreline of its route for `duration_s`, else 1: [B, T].

    Steps in a junction neither count nor break the count, so a short window sees only the part of a count that lies in it.
    """
    place = track.derived(road_position)
    off = (place.offset.abs() > offset_m) & ~place.in_junction & track.valid
    count = run_length(off, skip=place.in_junction)
    needed = max(1, round(duration_s / DT))
    return (~(off & (count >= needed))).float()
