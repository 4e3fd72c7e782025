"""nuPlan's closed-loop score, from the same rules as the reward."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import DT, AgentKind, Track
from ..contacts import at_fault_contacts
from ..facts import edge_excess, road_position
from ..rules import comfort, driving_direction, progress, time_to_collision
from .common import Score, scorable, weighted

WEIGHTS = {"progress": 5.0, "time_to_collision": 5.0, "speed_limit": 4.0, "comfort": 2.0}
GATES = ("no_at_fault_collision", "drivable_area", "making_progress", "driving_direction")
WALKS_OR_RIDES = (AgentKind.PEDESTRIAN, AgentKind.BICYCLE)
DRIVES = (AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS)
OBJECTS = (AgentKind.STATIC,)
OVER_THE_EDGE = 0.3  # m that a corner may stick out of the drivable area
LEAST_SHARE = 0.2  # of the expert's progress, that counts as making any
TTC_STEP, TTC_LEAST = 0.1, 0.95  # s
MOST_OVER_LIMIT = 2.23  # m/s
TOO_SMALL = 2.0  # m, that progress is raised to; nuPlan's documentation says 0.1


def nuplan_cls(track: Track, expert_progress_m: Tensor) -> Score:
    """NuPlan's closed-loop score (CLS-R where the traffic reacts): NC * DAC * MP * DDC * (5 EP + 5 TTC + 4 speed + 2 C) / 16, in points.

    Args:
        track: [B, T]; columns after an episode's end are not valid.
        expert_progress_m: [B] distance along the route of the expert.

    NC is the product over people (on foot and on bicycles), vehicles and objects of max(0, 1 - n / (allowed + 1)) for n collisions at
    fault, of which one with an object is allowed. DAC allows 0.3 m over the edge. MP asks for more than 0.2 of the expert's
    progress. TTC looks ahead every 0.1 s and passes above 0.95 s. Speed is 1 less the metres driven over the limit in the share
    that 2.23 m/s too much for the whole time would be. EP is the share of the expert's progress, both raised to 2 m. Comfort is
    that of `comfort`, whose filters are causal.

    Source: nuplan-devkit, nuplan/planning/metrics/evaluation_metrics/common, and the weighted average of its metric aggregator.
    """
    track, expert_m, unscored, bad = scorable(track, expert_progress_m)
    worst = lambda values: torch.where(track.valid, values, 1.0).amin(1)
    excess = torch.where(track.valid, track.derived(edge_excess(0.0)), 0.0).amax(1)
    gained = torch.where(track.valid, progress(track), 0.0).sum(1)
    share = gained.clamp_min(TOO_SMALL) / expert_m.clamp_min(TOO_SMALL)
    over = (track.ego.speed - track.derived(road_position).speed_limit).clamp_min(0)
    seconds = DT * track.valid.sum(1).clamp_min(1)
    terms = {
        "no_at_fault_collision": _collisions(track),
        "drivable_area": (excess < OVER_THE_EDGE).float(),
        "making_progress": (share > LEAST_SHARE).float(),
        "driving_direction": worst(driving_direction(track)),
        "progress": share.clamp(0, 1),
        "time_to_collision": worst(time_to_collision(track, horizon_s=TTC_LEAST, step_s=TTC_STEP)),
        "speed_limit": (1 - DT * torch.where(track.valid, over, 0.0).sum(1) / (MOST_OVER_LIMIT * seconds)).clamp_min(0),
        "comfort": worst(comfort(track)),
    }
    return Score.of(track, weighted(terms, WEIGHTS, GATES), terms, unscored, bad)


def _collisions(track: Track) -> Tensor:
    """NC [B]."""
    at_fault = at_fault_contacts(track) & track.valid.unsqueeze(-1)
    value = torch.ones(track.batch_size)
    for kinds, allowed in ((WALKS_OR_RIDES, 0), (DRIVES, 0), (OBJECTS, 1)):
        count = (at_fault & torch.isin(track.agents.kind, torch.tensor([int(kind) for kind in kinds]))).flatten(1).sum(1)
        value = value * (1 - count / (allowed + 1)).clamp_min(0)
    return value
