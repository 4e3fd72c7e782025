"""DDC: not driving off the lanes of the route."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import road_position
from ..history import moved, trailing
from ..rule import rule

WINDOW = 11  # columns: the distances of the last 1.0 s and of the step into it, as the reference sums them


@rule(kind="gate", unit="1", low=0.0, high=1.0, neutral=1.0, source="NAVSIM pdm_scorer.py `_calculate_driving_direction_compliance`")
def driving_direction(track: Track, *, compliant_m: float = 2.0, violating_m: float = 6.0) -> Tensor:
    """Compare the distance driven off every lane of the route in the last second: below 2 m 1, below 6 m 1/2, else 0: [B, T].

    The centre of the ego counts, and steps that end in a junction do not.
    """
    place = track.derived(road_position)
    wrong = torch.where(place.on_route | place.in_junction, 0.0, moved(track))
    distance = trailing(wrong, WINDOW, first=0.0).sum(-1)
    return torch.where(distance < compliant_m, 1.0, torch.where(distance < violating_m, 0.5, 0.0))
