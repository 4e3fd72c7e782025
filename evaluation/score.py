"""The scores of one episode as numbers by name: closed-loop EPDMS, its terms, and what happened."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError
from ..rewards import find_rule
from ..rewards.scores import epdms_closed_loop
from ..scene import Track

EVENTS = ("collision", "at_fault_collision", "off_road", "red_lights")  # counted per 100 km
MEANS = ("route_completion", "mean_speed_mps", "off_road_share")


@torch.inference_mode()
def score_track(track: Track, expert_distance: float) -> dict[str, float]:
    """Scores of one whole episode.

    Args:
        track: [1, T].
        expert_distance: how far the privileged expert gets along the route in the same circumstances, m.

    Returns:
        `epdms` in points (0 to 100), the terms it is made of, and the raw rates of `rewards.scores`.

    Raises:
        DataError: the episode cannot be scored; the message is the reason.
        RuleError: a rule failed.
    """
    score = epdms_closed_loop(track, torch.tensor([expert_distance]))
    if score.unscored[0]:
        raise DataError(score.unscored[0])
    return {"epdms": float(score.total[0]), **{name: float(value[0]) for name, value in (score.terms | score.rates).items()}}


@torch.inference_mode()
def route_distance(track: Track) -> Tensor:
    """Distance [B] along the route that a track [B, T] covers, m, at least 0."""
    return find_rule("progress")(track).sum(1).clamp_min(0)
