"""Stop signs: nobody passes one without having stood."""

from __future__ import annotations

from torch import Tensor

from ...road import SignalState
from ...scene import DT, Track
from ..facts import stop_regions_entered
from ..history import begins, trailing
from ..rule import rule


@rule(
    kind="gate",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="CARLA leaderboard, `RunningStopTest` (0.1 m/s); Vienna Convention on Road Signs and Signals, article 10(3), sign B,2",
)
def stop_sign(track: Track, *, standing_mps: float = 0.1, within_s: float = 2.0) -> Tensor:
    """0 in the step in which the ego's box enters the stop region of a stop sign of its route without having stood for it, else 1: [B, T].

    It has stood if it was slower than `standing_mps` at some time in the last `within_s`, which is time enough for the last 4 m. Who stops
    farther away does not see the road that crosses, and has to stop once more. The region is that of `red_light`.
    """
    enters = begins(track.derived(stop_regions_entered))
    stood = trailing(track.ego.speed, 1 + round(within_s / DT)).amin(-1) < standing_mps
    passes = (enters & (track.signals == int(SignalState.STOP_SIGN))).any(-1)
    return (~(passes & ~stood)).float()
