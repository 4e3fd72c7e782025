"""Driving slower when it rains or is dark."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Appearance, Track
from ..facts import road_position
from ..rule import rule


@rule(
    kind="term",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="Vienna Convention on Road Traffic, article 13(1); in rain as French limits (Code de la route R413-2: 110 of 130 km/h)",
)
def speed_for_conditions(track: Track, *, rain: float = 0.85, dusk: float = 0.95, tolerated_excess_mps: float = 2.23) -> Tensor:
    """1 up to the share of the speed limit that weather and light allow, falling to 0 at `tolerated_excess_mps` above it: [B, T].

    `rain` and `dusk` are shares of the limit; in daylight and under clouds it is the limit itself.
    """
    shares = torch.ones(len(Appearance), device=track.valid.device)
    shares[int(Appearance.RAIN)], shares[int(Appearance.DUSK)] = rain, dusk
    allowed = track.derived(road_position).speed_limit * shares[track.appearance].unsqueeze(1)
    return (1.0 - (track.ego.speed - allowed).clamp_min(0) / tolerated_excess_mps).clamp_min(0)
