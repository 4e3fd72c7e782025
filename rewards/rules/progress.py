"""Metres along the route."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import Track
from ..facts import route_position
from ..history import moved
from ..rule import rule


@rule(kind="term", unit="m", low=-20.0, high=20.0, neutral=0.0, source="NAVSIM pdm_scorer.py `_calculate_progress`, step by step")
def progress(track: Track) -> Tensor:
    """Metres gained along the route in this step, negative backwards: [B, T].

    At most twice the distance moved: where a route passes close by itself, the nearest point may jump, and a jump is no progress.
    """
    arc = track.derived(route_position).arc
    gained = torch.nn.functional.pad(arc[:, 1:] - arc[:, :-1], (1, 0))
    most = (2.0 * moved(track)).clamp_max(20.0)
    return torch.minimum(torch.maximum(gained, -most), most)
