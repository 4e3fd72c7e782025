"""TTC: nobody about to be hit."""

from __future__ import annotations

from torch import Tensor

from ...scene import Track
from ..facts import relations_within
from ..rule import rule


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="NAVSIM pdm_scorer.py `_calculate_ttc`")
def time_to_collision(track: Track, *, horizon_s: float = 0.9, step_s: float = 0.3) -> Tensor:
    """0 if the ego hits someone within the horizon when all keep their velocity, else 1: [B, T].

    Looked at every `step_s`: 0, 0.3, 0.6 and 0.9 s ahead. Counts whoever is then ahead (within 30 degrees of the heading, from the rear
    axle), or not behind (150 degrees) while the ego is in several lanes, in a junction or off the drivable area; nothing below
    0.005 m/s. The reference takes the others' recorded future, which a running episode cannot know, and forgives an agent after a
    conflict that did not count; here each step stands for itself.
    """
    return (~track.derived(relations_within(horizon_s, step_s)).imminent.any(-1)).float()
