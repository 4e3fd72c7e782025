"""TLC: stop lines under red."""

from __future__ import annotations

from torch import Tensor

from ...road import SignalState
from ...scene import Track
from ..facts import stop_regions_entered
from ..history import begins
from ..rule import rule


@rule(
    kind="gate",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="NAVSIM pdm_scorer.py `_calculate_traffic_light_compliance`; Vienna Convention on Road Traffic, article 23",
)
def red_light(track: Track) -> Tensor:
    """0 in the step in which the ego's box enters the stop region of a red light of its route, else 1: [B, T].

    The region reaches 2 m past the stop line. A box that was in it already when the light turned red has done nothing wrong (the
    reference, whose region is the whole junction, counts it in plans of 4 s; over an episode that would forbid passing on yellow).
    """
    enters = begins(track.derived(stop_regions_entered))
    wrong = (enters & (track.signals == int(SignalState.RED))).any(-1)
    return (~wrong).float()
