"""The scores of an episode: closed-loop EPDMS with its terms, and the raw counts beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rewards import find_rule
from ..scene import Track

TERMS = ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "hc")
EVENTS = ("collisions", "off_road", "red_lights")
_RULES = {
    "nc": "at_fault_collision",
    "dac": "drivable_area",
    "ddc": "driving_direction",
    "tlc": "red_light",
    "ttc": "time_to_collision",
    "lk": "lane_keeping",
    "hc": "comfort",
}
LEAST_EXPERT_DISTANCE = 5.0  # m, below which progress is not asked for


@torch.inference_mode()
def score_track(track: Track, expert_distance: float) -> dict[str, float]:
    """Scores of one whole episode.

    Args:
        track: [1, T].
        expert_distance: how far the privileged expert gets along the route in the same circumstances, m.

    Returns:
        `epdms` in points (0 to 100); each of TERMS in [0, 1]; EVENTS as counts; `route_completion` in [0, 1]; `distance_m`
        along the route; `mean_speed_mps`.

    Raises:
        RuleError: a rule failed.
    """
    values = {term: find_rule(name)(track)[0] for term, name in _RULES.items()}
    distance = float(route_distance(track)[0])
    terms = {term: float(value.min()) for term, value in values.items()}
    terms["ep"] = min(1.0, max(0.0, distance / expert_distance)) if expert_distance > LEAST_EXPERT_DISTANCE else 1.0
    gates = terms["nc"] * terms["dac"] * terms["ddc"] * terms["tlc"]
    weighted = (5 * terms["ep"] + 5 * terms["ttc"] + 2 * terms["lk"] + 2 * terms["hc"]) / 14
    left_road = values["dac"] < 1
    return {
        "epdms": 100.0 * gates * weighted,
        **{term: terms[term] for term in TERMS},
        "collisions": float((values["nc"] < 1).sum()),
        "off_road": float((left_road[1:] & ~left_road[:-1]).sum()),
        "red_lights": float((values["tlc"] < 1).sum()),
        "route_completion": min(1.0, max(0.0, distance / float(track.route.length[0]))),
        "distance_m": distance,
        "mean_speed_mps": float(track.ego.speed[0].mean()),
    }


def route_distance(track: Track) -> Tensor:
    """Distance [B] along the route that a track [B, T] covers, m."""
    return find_rule("progress")(track).sum(1)
