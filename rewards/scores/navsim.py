"""PDMS, EPDMS and the closed-loop EPDMS that is the headline, from the same rules as the reward."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...scene import DT, Track
from ..rules import at_fault_collision, comfort, drivable_area, driving_direction, lane_keeping, progress, red_light, time_to_collision
from .common import POINTS, Score, scorable, weighted

GATES = ("no_at_fault_collision", "drivable_area", "driving_direction", "traffic_light")
EPDMS_WEIGHTS = {"ego_progress": 5.0, "time_to_collision": 5.0, "lane_keeping": 2.0, "history_comfort": 2.0, "extended_comfort": 2.0}
PDMS_WEIGHTS = {"time_to_collision": 5.0, "ego_progress": 5.0, "history_comfort": 2.0}
PROGRESS_THRESHOLD = 5.0  # m of reference progress, up to which everybody's progress counts as full


def epdms_closed_loop(track: Track, expert_progress_m: Tensor) -> Score:
    """The headline: NC * DAC * DDC * TLC * (5 EP + 5 TTC + 2 LK + 2 HC) / 14 of an executed track, in points.

    Args:
        track: [B, T]; columns after an episode's end are not valid.
        expert_progress_m: [B] distance along the route of the privileged expert on the same road, seed and scenario.

    Source: NAVSIM v2 EPDMS; extended comfort needs two plans and does not apply to an executed track.
    """
    return _score(track, expert_progress_m, {k: v for k, v in EPDMS_WEIGHTS.items() if k != "extended_comfort"}, GATES)


def pdms(track: Track, reference_progress_m: Tensor) -> Score:
    """NAVSIM v1.1: NC * DAC * (5 TTC + 5 EP + 2 C) / 12 of a plan [B, T], in points.

    Args:
        track: the plan as the bicycle model would drive it, other traffic not reacting.
        reference_progress_m: [B] progress of the reference planner.
    """
    return _score(track, reference_progress_m, PDMS_WEIGHTS, GATES[:2])


def epdms(track: Track, reference_progress_m: Tensor, extended: Tensor) -> Score:
    """NAVSIM v2: NC * DAC * DDC * TLC * (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16 of a plan [B, T], in points.

    Args:
        track: the plan as the bicycle model would drive it.
        reference_progress_m: [B] progress of the reference planner.
        extended: [B] EC by `extended_comfort`.
    """
    return _score(track, reference_progress_m, EPDMS_WEIGHTS, GATES, {"extended_comfort": extended})


def epdms_two_stages(first: Tensor, second: Tensor, distance_m: Tensor) -> Tensor:
    """NAVSIM v2's pseudo-simulation: EPDMS of a plan times that of the plans which follow it, in points [B].

    Args:
        first: [B] points of the first plans.
        second: [B, N] points of plans from N states that were prepared around where the first plan's 4 s might end.
        distance_m: [B, N] from the first plan's end to each of those states.

    The second stage is the mean with weights exp(-distance in m); NaN in either stage stays NaN. A benchmark's score is the mean of these
    products, not the product of two means.

    Raises:
        ValueError: shapes that do not fit.

    Source: NAVSIM v2 scene_aggregator.py and run_pdm_score.py; an early release took the mean of both stages instead.
    """
    if first.ndim != 1 or second.ndim != 2 or second.shape != distance_m.shape or len(first) != len(second):
        raise ValueError(f"need [B], [B, N] and [B, N], not {list(first.shape)}, {list(second.shape)} and {list(distance_m.shape)}")
    return first * (torch.softmax(-distance_m, -1) * second).sum(-1) / POINTS


def episode_terms(track: Track, expert_progress_m: Tensor) -> dict[str, Tensor]:
    """The EPDMS terms [B] of whole tracks [B, T]: of each rule the worst valid column, and EP."""
    worst = lambda values: torch.where(track.valid, values, 1.0).amin(1)
    gained = progress(track).sum(1).clamp_min(0)
    share = torch.where(expert_progress_m > PROGRESS_THRESHOLD, gained / expert_progress_m.clamp_min(PROGRESS_THRESHOLD), 1.0)
    return {
        "no_at_fault_collision": worst(at_fault_collision(track)),
        "drivable_area": worst(drivable_area(track)),
        "driving_direction": worst(driving_direction(track)),
        "traffic_light": worst(red_light(track)),
        "ego_progress": share.clamp(0, 1),
        "time_to_collision": worst(time_to_collision(track)),
        "lane_keeping": worst(lane_keeping(track)),
        "history_comfort": worst(comfort(track)),
    }


def extended_comfort(plan: Track, previous: Track, shift_steps: int) -> Tensor:
    """EC [B]: 1 if two plans agree where they overlap in time, else 0.

    Args:
        plan: [B, T], starting `shift_steps` columns after `previous`.
        previous: [B, T].
        shift_steps: at most 5 (plans less than 0.55 s apart).

    RMS difference over the common columns at most 0.7 m/s2 of acceleration, 0.5 m/s3 of jerk, 0.1 rad/s of yaw rate and
    0.1 rad/s2 of yaw acceleration. Source: NAVSIM v2 pdm_comfort_metrics.py, `ego_is_two_frame_extended_comfort`.
    """
    if not 0 < shift_steps <= 5:
        raise ValueError(f"plans must be 1 to 5 steps (less than 0.55 s) apart, not {shift_steps}")
    columns = min(plan.steps, previous.steps - shift_steps)
    if columns < 5:
        raise ValueError(f"plans must share at least 5 steps, not {columns}")
    difference = _motion(previous.columns(slice(shift_steps, shift_steps + columns))) - _motion(plan.columns(slice(0, columns)))
    bounds = torch.tensor([0.7, 0.5, 0.1, 0.1], dtype=difference.dtype).unsqueeze(-1)
    return (difference.square().mean(-1, keepdim=True).sqrt() <= bounds).all(1).all(-1).float()


def _motion(track: Track) -> Tensor:
    """Acceleration, jerk, yaw rate and yaw acceleration of a plan [B, 4, T], smoothed as the reference does (not causal)."""
    from scipy.signal import savgol_filter

    ego, steps = track.ego, track.steps
    acceleration = torch.hypot(ego.acceleration, ego.speed * ego.yaw_rate).double().numpy()
    acceleration = savgol_filter(acceleration, min(8, steps), 2)
    heading = np.unwrap(ego.heading.double().numpy())
    parts = (
        acceleration,
        savgol_filter(acceleration, min(15, steps), 2, deriv=1, delta=DT),
        savgol_filter(heading, 5, 2, deriv=1, delta=DT),
        savgol_filter(heading, 5, 2, deriv=2, delta=DT),
    )
    return torch.from_numpy(np.stack(parts, 1))


def _score(
    track: Track, reference_m: Tensor, weights: dict[str, float], gates: tuple[str, ...], given: dict[str, Tensor] | None = None
) -> Score:
    track, reference_m, unscored, bad = scorable(track, reference_m)
    terms = episode_terms(track, reference_m) | (given or {})
    return Score.of(track, weighted(terms, weights, gates), {name: terms[name] for name in (*gates, *weights)}, unscored, bad)
