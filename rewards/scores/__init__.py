"""Scores of whole episodes and plans, from the same rules as the reward: NAVSIM's, nuPlan's, CARLA's, Bench2Drive's and CaRL's."""

from .carla import bench2drive, carl, carla_ds
from .common import Score, raw_rates
from .navsim import EPDMS_WEIGHTS, GATES, PDMS_WEIGHTS, epdms, epdms_closed_loop, epdms_two_stages, episode_terms, extended_comfort, pdms
from .nuplan import nuplan_cls
from .wosac import Realism, agent_features, wosac

__all__ = [
    "EPDMS_WEIGHTS",
    "GATES",
    "PDMS_WEIGHTS",
    "Realism",
    "Score",
    "agent_features",
    "bench2drive",
    "carl",
    "carla_ds",
    "epdms",
    "epdms_closed_loop",
    "epdms_two_stages",
    "episode_terms",
    "extended_comfort",
    "nuplan_cls",
    "pdms",
    "raw_rates",
    "wosac",
]
