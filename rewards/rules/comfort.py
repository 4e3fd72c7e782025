"""HC: the six comfort bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import DT, Track
from ..history import smoothed, trailing
from ..rule import rule

LONGITUDINAL_ACCELERATION = (-4.05, 2.40)  # m/s2
LATERAL_ACCELERATION = 4.89  # m/s2
JERK = 8.37  # m/s3, of the acceleration's magnitude
LONGITUDINAL_JERK = 4.13  # m/s3
YAW_RATE = 0.95  # rad/s
YAW_ACCELERATION = 1.93  # rad/s2
HEADING_WINDOW = 5  # columns


@rule(kind="term", unit="1", low=0.0, high=1.0, neutral=1.0, source="NAVSIM pdm_comfort_metrics.py `ego_is_comfortable`")
def comfort(track: Track, *, graded: bool = False) -> Tensor:
    """1 while all six bounds hold, else 0, or the share of them that hold if `graded` (as in CaRL): [B, T].

    Causal: every quantity is the last value that a Savitzky-Golay filter (scipy's, mode "interp") gives on the track up to this
    step. Before the first column the acceleration is taken as constant; the yaw bounds wait for five valid columns.
    """
    held = comfort_bounds(track).float().mean(-1)
    return held if graded else torch.where(held > 1.0 - 1e-4, 1.0, 0.0)


def comfort_bounds(track: Track) -> Tensor:
    """Which bounds hold [B, T, 6]: longitudinal and lateral acceleration, jerk, longitudinal jerk, yaw rate, yaw acceleration."""
    ego = track.ego
    along, across = ego.acceleration, ego.speed * ego.yaw_rate
    batch = along.shape[0]
    # one filter for all three; the order lets the last two give the jerks
    motion = smoothed(torch.cat((across, along, torch.hypot(along, across))), window=8, order=2)
    jerk = smoothed(motion[batch:], window=15, order=2, derivative=1, step=DT)
    turn = _heading_windows(track)
    yaw_rate = smoothed(turn, window=HEADING_WINDOW, order=2, derivative=1, step=DT, windows=True)
    yaw_acceleration = smoothed(turn, window=HEADING_WINDOW, order=3, derivative=2, step=DT, windows=True)
    early = track.valid.cumsum(1) < HEADING_WINDOW
    across, along = motion[:batch], motion[batch : 2 * batch]
    return torch.stack(
        (
            (along > LONGITUDINAL_ACCELERATION[0]) & (along < LONGITUDINAL_ACCELERATION[1]),
            across.abs() < LATERAL_ACCELERATION,
            jerk[batch:].abs() < JERK,
            jerk[:batch].abs() < LONGITUDINAL_JERK,
            (yaw_rate.abs() < YAW_RATE) | early,
            (yaw_acceleration.abs() < YAW_ACCELERATION) | early,
        ),
        -1,
    )


def _heading_windows(track: Track) -> Tensor:
    """Headings of the last columns relative to the newest [B, T, HEADING_WINDOW], free of jumps at pi."""
    headings = trailing(track.ego.heading, HEADING_WINDOW)
    relative = headings - headings[..., -1:]
    return torch.remainder(relative + torch.pi, 2 * torch.pi) - torch.pi
