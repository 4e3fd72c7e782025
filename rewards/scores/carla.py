"""CARLA's driving score, Bench2Drive's four figures and CaRL's reward, from the same rules as our own reward."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...errors import ConfigError, nearest
from ...scene import DT, AgentKind, Track
from ..contacts import first_contacts
from ..facts import road_position, route_position
from ..history import moved, run_length
from ..rules import completion, min_speed, off_route, red_light, route_adherence, speed_limit, stop_sign, time_to_collision
from ..rules.comfort import comfort_bounds
from .common import POINTS, Score, scorable

COSTS = {  # 2.0 multiplies by each factor, 2.1 divides by 1 plus the sum of the costs
    "2.0": {"pedestrian": 0.5, "vehicle": 0.6, "static": 0.65, "red_light": 0.7, "stop_sign": 0.8, "slow": 0.3},
    "2.1": {"pedestrian": 1.0, "vehicle": 0.7, "static": 0.6, "red_light": 0.4, "stop_sign": 0.25, "slow": 0.4},
}
KINDS = {
    "pedestrian": (AgentKind.PEDESTRIAN,),
    "vehicle": (AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS, AgentKind.BICYCLE),
    "static": (AgentKind.STATIC,),
}
FAR = 30.0  # m off the route, where it ends
STUCK_SPEED, STUCK_S = 0.1, 180.0  # m/s, s
AT_THE_END = 3.0  # m before the end of a route at which it counts as driven
SEGMENT = 20  # columns: Bench2Drive judges smoothness by 2 s
OFF_CENTRE, OFF_CENTRE_S = 0.5, 3.0  # m, s: CaRL's lane keeping
TERMINAL = -1.0  # CaRL's reward of a collision or a line crossed under red


def carla_ds(track: Track, version: str = "2.0", slow: bool = True) -> Score:
    """CARLA's driving score: route completion times the penalty of what went wrong on it, in points.

    Args:
        track: [B, T]; columns after an episode's end are not valid.
        version: of the leaderboard. "2.0" multiplies by a factor for each infraction, "2.1" divides by 1 plus their costs.
        slow: whether driving slower than the others counts, as on the leaderboard; Bench2Drive leaves it out.

    Infractions: touching a pedestrian, a vehicle or an object, whoever's fault it is, each once; a line crossed under red; a stop sign
    passed without standing; the share of the distance off the route's lanes; the speed below that of the others, as the mean of `min_speed`
    over all steps (the leaderboard looks at checkpoints along the route). More than 30 m off the route or 180 s below 0.1 m/s ends it: what
    comes after does not count. There are no scenario time limits or emergency vehicles in a `Track`, so they cost nothing here.

    `terms` are `route_completion` and `penalty`; `rates` hold the numbers behind them.

    Raises:
        ConfigError: an unknown version.

    Source: CARLA leaderboard/utils/statistics_manager.py and its criteria.
    """
    version = str(version)
    if version not in COSTS:
        raise ConfigError(f"unknown version '{version}' of CARLA's driving score; {nearest(version, COSTS)}")
    track, _, unscored, bad = scorable(track, torch.zeros(track.batch_size))
    track = replace(track, valid=track.valid & _going(track))
    counts, shares, cost = _infractions(track), _shares(track), COSTS[version]
    keeps = shares["on_route_share"]
    behind = 1 - shares["min_speed_share"] if slow else torch.zeros_like(keeps)
    if version == "2.0":
        penalty = keeps * (1 - cost["slow"] * behind)
        for name, count in counts.items():
            penalty = penalty * cost[name] ** count
    else:
        penalty = keeps / (1 + cost["slow"] * behind + sum(cost[name] * count for name, count in counts.items()))
    terms = {"route_completion": _completed(track), "penalty": penalty}
    score = Score.of(track, terms["route_completion"] * penalty, terms, unscored, bad)
    numbers = {name: torch.where(bad, torch.nan, value) for name, value in (counts | shares).items()}
    return replace(score, rates=score.rates | numbers)


def bench2drive(track: Track) -> dict[str, Tensor]:
    """Bench2Drive's four figures of each route, [B] each, NaN where it cannot be scored; the benchmark's are their means, missing routes 0.

    Keys: `driving_score` (points; version 2.0 without the speed of the others), `success` (1 where the route was driven to its end
    without infraction, else 0), `efficiency` (mean speed against the others in percent, at most 100), `smoothness` (share of whole
    segments of 2 s inside all six comfort bounds).

    Source: Bench2Drive, tools/*.py.
    """
    score = carla_ds(track, "2.0", slow=False)
    track, _, _, bad = scorable(track, torch.zeros(track.batch_size))
    whole = track.steps // SEGMENT * SEGMENT
    segments = lambda values: values[:, :whole].reshape(len(values), -1, SEGMENT).all(-1)
    smooth, real = segments(comfort_bounds(track).all(-1)), segments(track.valid)
    blank = lambda values: torch.where(bad, torch.nan, values)
    return {
        "driving_score": score.total,
        "success": blank(((score.terms["route_completion"] == 1) & (score.terms["penalty"] == 1)).float()),
        "efficiency": POINTS * score.rates["min_speed_share"],
        "smoothness": blank((smooth & real).sum(1) / real.sum(1).clamp_min(1)),
    }


def carl(track: Track) -> Tensor:
    """CaRL's reward (CARLA variant) of every step of whole tracks, [B, T], 0 from the end on.

    Route completion in percent, times 1 on the route's lanes and else 0, times what the speed over the limit leaves (none at 2.23 m/s),
    times 1/2 after the first time to collision within 0.9 s, times 1 - 1/2 the share of the six comfort bounds that are broken,
    times 1/2 after the first 3 s more than 0.5 m off the centre; and -1 at a collision or a red light, which ends it. The penalties
    last to the end of the episode, so this is no rule and cannot be stepped; the design `carl` is its nearest relative that can.

    Source: CaRL, team_code_roach/reward/simple_reward.py.
    """
    ended = first_contacts(track).any(-1) | (red_light(track) < 1)
    place = track.derived(road_position)
    off = (place.offset.abs() > OFF_CENTRE) & ~place.in_junction & track.valid
    beside = run_length(off, skip=place.in_junction) >= round(OFF_CENTRE_S / DT)
    halved = lambda condition: 1 - 0.5 * (condition.cumsum(1) > 0).float()
    broken = 1 - comfort_bounds(track).float().mean(-1)
    reward = (
        completion(track)
        * route_adherence(track)
        * speed_limit(track)
        * halved((time_to_collision(track) < 1) & track.valid)
        * (1 - 0.5 * broken)
        * halved(off & beside)
    )
    over = ended.cumsum(1) - ended.long() > 0
    return torch.where(track.valid & ~over, reward + TERMINAL * ended, 0.0)


def _going(track: Track) -> Tensor:
    """Columns [B, T] up to where the route ends for a car that is far off it or stuck."""
    standing = run_length((track.ego.speed < STUCK_SPEED) & track.valid, skip=torch.zeros_like(track.valid)) >= round(STUCK_S / DT)
    ended = (off_route(track) > FAR) | standing
    return ended.cumsum(1) - ended.long() == 0


def _infractions(track: Track) -> dict[str, Tensor]:
    """Numbers [B] of what COSTS has a price for."""
    touched = first_contacts(track) & track.valid.unsqueeze(-1)
    of = lambda kinds: torch.isin(track.agents.kind, torch.tensor([int(kind) for kind in kinds]))
    counts = {name: (touched & of(kinds)).flatten(1).sum(1).float() for name, kinds in KINDS.items()}
    broken = lambda rule: ((rule(track) < 1) & track.valid).sum(1).float()
    return counts | {"red_light": broken(red_light), "stop_sign": broken(stop_sign)}


def _shares(track: Track) -> dict[str, Tensor]:
    """Shares [B]: of the distance on the route's lanes, and of the others' speed."""
    distance = torch.where(track.valid, moved(track), 0.0)
    kept = (distance * route_adherence(track)).sum(1) / distance.sum(1).clamp_min(1e-6)
    pace = torch.where(track.valid, min_speed(track), 0.0).sum(1) / track.valid.sum(1).clamp_min(1)
    return {"on_route_share": torch.where(distance.sum(1) > 0, kept, 1.0), "min_speed_share": pace}


def _completed(track: Track) -> Tensor:
    """Route completion [B]: share of what lay ahead at the start that was driven, 1 at most 3 m before the end."""
    arc = track.derived(route_position).arc
    ahead = (track.route.length - arc[:, 0]).clamp_min(1e-3)
    left = track.route.length.unsqueeze(1) - arc
    arrived = ((left <= AT_THE_END) & track.valid).any(1)
    gained = torch.where(track.valid, completion(track), 0.0).sum(1) * track.route.length / (POINTS * ahead)
    return torch.where(arrived, 1.0, gained.clamp(0, 1))
