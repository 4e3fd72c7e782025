"""The scores of one episode as numbers by name: closed-loop EPDMS, its terms, what happened, and what other benchmarks would say."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError
from ..rewards import find_rule
from ..rewards.scores import bench2drive, carla_ds, epdms_closed_loop, nuplan_cls
from ..scene import Track

EVENTS = ("collision", "at_fault_collision", "off_road", "red_lights")  # counted per 100 km
MEANS = ("route_completion", "mean_speed_mps", "off_road_share")
OTHERS = ("nuplan_cls", "carla_ds_2_0", "carla_ds_2_1", "bench2drive_success", "bench2drive_efficiency", "bench2drive_smoothness")


@torch.inference_mode()
def score_track(track: Track, expert_distance: float) -> dict[str, float]:
    """Scores of one whole episode.

    Args:
        track: [1, T].
        expert_distance: how far the privileged expert gets along the route in the same circumstances, m.

    Returns:
        `epdms` in points (0 to 100), the terms it is made of, the raw rates of `rewards.scores`, and OTHERS.

    Raises:
        DataError: the episode cannot be scored; the message is the reason.
        RuleError: a rule failed.
    """
    expert = torch.tensor([expert_distance])
    score = epdms_closed_loop(track, expert)
    if score.unscored[0]:
        raise DataError(score.unscored[0])
    others = {
        "nuplan_cls": nuplan_cls(track, expert).total,
        "carla_ds_2_0": carla_ds(track, "2.0").total,
        "carla_ds_2_1": carla_ds(track, "2.1").total,
        **{f"bench2drive_{name}": value for name, value in bench2drive(track).items() if name != "driving_score"},
    }
    return {name: float(value[0]) for name, value in ({"epdms": score.total} | score.terms | score.rates | others).items()}


@torch.inference_mode()
def route_distance(track: Track) -> Tensor:
    """Distance [B] along the route that a track [B, T] covers, m, at least 0."""
    return find_rule("progress")(track).sum(1).clamp_min(0)
