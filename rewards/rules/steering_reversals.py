"""Steering to and fro."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scene import Track
from ..history import trailing
from ..rule import rule

WINDOW = 11  # columns: one second


@rule(
    kind="cost",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=0.0,
    source="steering reversal rate (SAE J2944; 3 degrees at the wheel of a 15:1 gear are 0.2 at the road)",
)
def steering_reversals(track: Track, *, swing_deg: float = 0.2) -> Tensor:
    """1 in the step in which the road wheels have turned one way and back by at least `swing_deg` within a second, else 0: [B, T]."""
    turns = trailing(track.ego.steering, WINDOW)
    there = lambda extreme: torch.minimum((extreme - turns[..., 0]).abs(), (extreme - turns[..., -1]).abs())
    least = math.radians(swing_deg) - 1e-6
    reversed_ = (there(turns.amax(-1)) >= least) | (there(turns.amin(-1)) >= least)
    begun = reversed_.clone()
    begun[:, 1:] &= ~reversed_[:, :-1]
    return begun.float()
