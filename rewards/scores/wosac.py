"""Realism of simulated road users: the terms of the Waymo Open Sim Agents Challenge, with the weights of 2025."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ...geometry import box_corners, segment_distance, signed_box_distance, to_frame, wrap_angle
from ...road import SignalState
from ...scene import DT, Agents, Ego, Track
from ..facts import edge_excess, road_edges


@dataclass(frozen=True)
class Term:
    """How one feature of the log is judged by its distribution over the rollouts."""

    weight: float
    low: float = -0.5
    high: float = 1.5
    bins: int = 2
    smoothing: float = 0.001  # added to the count of every bin


TERMS = {  # those without bounds are of whole rollouts: whether it ever happened
    "linear_speed": Term(0.05, 0.0, 25.0, 10, 0.1),  # m/s
    "linear_acceleration": Term(0.05, -12.0, 12.0, 11, 0.1),  # m/s2
    "angular_speed": Term(0.05, -0.628, 0.628, 11, 0.1),  # rad/s
    "angular_acceleration": Term(0.05, -3.14, 3.14, 11, 0.1),  # rad/s2
    "distance_to_nearest_object": Term(0.1, -5.0, 40.0, 10, 0.1),  # m
    "collision": Term(0.25),
    "time_to_collision": Term(0.1, 0.0, 5.0, 10, 0.1),  # s
    "distance_to_road_edge": Term(0.05, -20.0, 40.0, 10, 0.1),  # m, positive off the road
    "off_road": Term(0.25),
    "red_light": Term(0.05),
}
GROUPS = {
    "kinematic": ("linear_speed", "linear_acceleration", "angular_speed", "angular_acceleration"),
    "interactive": ("distance_to_nearest_object", "collision", "time_to_collision"),
    "map_based": ("distance_to_road_edge", "off_road", "red_light"),
}
EVER = ("collision", "off_road", "red_light")
HISTORY_TOLERANCE = 0.05  # m that a rollout may be off the log before it is simulated
SPACING = 0.5  # m between the points of an edge that are looked up
NOTHING = 1e10  # m, to the nearest object where there is none
LONGEST_TTC = 5.0  # s
SAME_WAY, STRAIGHT_BEHIND = math.radians(75.0), math.radians(10.0)
LITTLE_OVERLAP = 0.5  # m across, below which only what is nearly parallel is followed


@dataclass(frozen=True)
class Realism:
    """How likely the log is under the rollouts of it; NaN where that cannot be said, and `unscored` says why."""

    total: float  # 0 to 1, the weighted sum of the terms
    terms: dict[str, float]  # 0 to 1 each, by the names of TERMS
    groups: dict[str, float]  # 0 to 1 each, weighted means of the terms of GROUPS
    rates: dict[str, float]  # share of objects to which it ever happened, `log_...` in the log; and `ade_m`, `min_ade_m`
    objects: int  # that were judged
    unscored: str  # the reason, or ""


def wosac(log: Track, rollouts: Track, begin: int, evaluated: Sequence[int] | None = None, ego: bool = True) -> Realism:
    """The realism meta-score of the Waymo Open Sim Agents Challenge, for one scenario.

    Args:
        log: [1, T], what happened.
        rollouts: [R, T] of the same moments; the columns before `begin` are those of the log. The challenge has 32 of 8 s; of fewer the
            histograms are coarse. Road users keep their `id`; those of other ids are obstacles.
        begin: first simulated column, at least 2 columns of history before it.
        evaluated: ids of the agents that are judged; by default all that the log has in the column before `begin`.
        ego: judge the ego too, as the challenge does.

    For every judged object a feature of the log at each step is looked up in the histogram of the feature over all rollouts and steps of
    that object; a term is the exponential of the mean logarithm of those probabilities over steps at which the log has the object.
    `collision`, `off_road` and `red_light` ask whether it ever happened to the object. Speeds and accelerations are central differences,
    so the last step has none, and accelerations lack two. Not even a log under copies of itself scores 1, for what it does is spread over
    several bins; a total means something beside those of other simulators on the same logs.

    Other than in the reference, differences of heading are wrapped before they are compared; an object that is missing in a rollout
    at some step gives no sample for it (the challenge does not allow that); the road's edge is where the drivable area ends, and being
    off it is asked of all four corners in that area, not of the winding of a polyline.

    Raises:
        DataError: the tracks do not fit together.

    Source: waymo-open-dataset, wdl_limited/sim_agents_metrics (challenge_2025_sim_agents_config.textproto); Montali et al., 2023.
    """
    _check(log, rollouts, begin)
    here = log.agents.valid[0, begin - 1]
    wanted = log.agents.id[0, begin - 1][here].tolist()
    if evaluated is not None:
        missing = sorted(set(evaluated) - set(wanted))
        if missing:
            raise DataError(f"no agent {missing[0]} in column {begin - 1} of the log; choose among {sorted(wanted)}")
        wanted = list(evaluated)
    if not wanted and not ego:
        return _unscored("nobody to judge")
    _check_history(log, rollouts, wanted, begin, ego)
    true, simulated = (_Objects.of(track, wanted, ego).judged for track in (log, rollouts))
    edges = road_edges(log.road)
    later = lambda found: {name: value[..., begin:] for name, value in found.items()}
    facts, sampled = (later(agent_features(track, wanted, ego, edges)) for track in (log, rollouts))
    lives = true.valid[0, :, begin:]  # [M, T']
    if not bool(lives.any()):
        return _unscored("nobody in the log lives on")
    terms = {name: _likelihood(name, facts[name][0], sampled[name], lives) for name in TERMS}
    missing_terms = [name for name, value in terms.items() if math.isnan(value)]
    total = sum(term.weight * terms[name] for name, term in TERMS.items())
    mean = lambda names: sum(TERMS[name].weight * terms[name] for name in names) / sum(TERMS[name].weight for name in names)
    return Realism(
        total=total,
        terms=terms,
        groups={group: mean(names) for group, names in GROUPS.items()},
        rates=_rates(facts, sampled, true, simulated, begin),
        objects=len(lives),
        unscored=f"no step has {missing_terms[0]}" if missing_terms else "",
    )


@dataclass(frozen=True)
class _Boxes:
    """Objects as boxes over time."""

    position: Tensor  # [R, K, T, 2] m
    heading: Tensor  # [R, K, T]
    length: Tensor  # [R, K, T] m
    width: Tensor  # [R, K, T] m
    valid: Tensor  # [R, K, T] bool

    def corners(self) -> Tensor:
        """[R, K, T, 4, 2]."""
        return box_corners(self.position, self.heading, self.length, self.width)

    def of(self, row: int) -> _Boxes:
        """One rollout."""
        return _Boxes(*(value[row : row + 1] for value in (self.position, self.heading, self.length, self.width, self.valid)))


@dataclass(frozen=True)
class _Objects:
    """Those that are judged, and everybody."""

    judged: _Boxes  # K = M
    all: _Boxes  # K >= M, the judged ones first

    @classmethod
    def of(cls, track: Track, wanted: Sequence[int], ego: bool) -> _Objects:
        """Objects of a track [R, T]; agents are found by their id."""
        agents, rows = track.agents, []
        for identity in wanted:
            match = (agents.id == identity) & agents.valid  # [R, T, N]
            rows.append((match.any(-1), match.float().argmax(-1) if match.shape[-1] else torch.zeros(match.shape[:2], dtype=torch.int64)))
        places = [agents.state.gather(2, slot[..., None, None].expand(-1, -1, 1, 8)).squeeze(2) for _, slot in rows]
        flags = [valid for valid, _ in rows]
        own, size = track.ego.state, track.profile
        spread = lambda value: value.view(-1, 1).expand(own.shape[:2])
        box = [spread(value) for value in (size.length, size.width, torch.zeros_like(size.length))]
        of_ego = torch.cat((own[..., :5], torch.stack(box, -1)), -1)
        places = [of_ego, *places] if ego else [*places, of_ego]
        flags = [track.valid, *flags] if ego else [*flags, track.valid]
        others = agents.valid & ~torch.isin(agents.id, torch.tensor(list(wanted), dtype=torch.int64))
        count = len(wanted) + int(ego)
        state = torch.cat((torch.stack(places, 2), agents.state), 2).transpose(1, 2)  # [R, K, T, 8]
        valid = torch.cat((torch.stack(flags, 2), others), 2).transpose(1, 2) & track.valid.unsqueeze(1)
        boxes = _Boxes(state[..., :2], state[..., 2], state[..., 5], state[..., 6], valid)
        return cls(_Boxes(*(v[:, :count] for v in (boxes.position, boxes.heading, boxes.length, boxes.width, boxes.valid))), boxes)


def agent_features(track: Track, judged_ids: Sequence[int], ego: bool = True, edges: Tensor | None = None) -> dict[str, Tensor]:
    """Every feature that the terms look at, of each judged object and step: [R, M, T], NaN where there is none; those of EVER are bool.

    Args:
        track: [R, T].
        judged_ids: of agents; those that are not there at some step have no features then.
        ego: put the ego first.
        edges: of the road, if they have been worked out already (`road_edges`).
    """
    objects, edges = _Objects.of(track, judged_ids, ego), road_edges(track.road[0]) if edges is None else edges
    judged = objects.judged
    blank = lambda values, there: torch.where(there, values, torch.nan)
    moves = _central(judged.position)
    speed = moves.norm(dim=-1) / DT
    turns = wrap_angle(_central(judged.heading) * 2) / 2
    twice, thrice = _both(judged.valid), _both(_both(judged.valid))
    distance = torch.cat([_nearest(objects.judged.of(row), objects.all.of(row)) for row in range(len(judged.valid))])
    edge = _edge_distance(judged, track, edges)
    return {
        "linear_speed": blank(speed, twice),
        "linear_acceleration": blank(_central(speed) / DT, thrice),
        "angular_speed": blank(turns / DT, twice),
        "angular_acceleration": blank(wrap_angle(_central(turns) * 2) / 2 / DT**2, thrice),
        "distance_to_nearest_object": blank(distance, judged.valid),
        "collision": (distance < 0) & judged.valid,
        "time_to_collision": blank(_time_to_collision(objects), judged.valid),
        "distance_to_road_edge": blank(edge, judged.valid),
        "off_road": (edge > 0) & judged.valid,
        "red_light": _red_lights(judged, track),
    }


def _central(values: Tensor) -> Tensor:
    """Half the difference of both neighbours in time (dimension 2), NaN at the ends."""
    found = torch.full_like(values, torch.nan)
    found[:, :, 1:-1] = (values[:, :, 2:] - values[:, :, :-2]) / 2
    return found


def _both(valid: Tensor) -> Tensor:
    """Whether both neighbours in time are valid [R, M, T]."""
    found = torch.zeros_like(valid)
    found[..., 1:-1] = valid[..., 2:] & valid[..., :-2]
    return found


def _nearest(judged: _Boxes, everybody: _Boxes) -> Tensor:
    """Signed distance in m of each judged box [1, M, T] from the nearest other one, negative for an overlap."""
    gap = signed_box_distance(judged.corners().unsqueeze(2), everybody.corners().unsqueeze(1))  # [1, M, K, T]
    itself = torch.eye(judged.valid.shape[1], everybody.valid.shape[1], dtype=torch.bool).unsqueeze(-1)
    there = judged.valid.unsqueeze(2) & everybody.valid.unsqueeze(1) & ~itself
    return torch.where(there, gap, NOTHING).amin(2)


def _time_to_collision(objects: _Objects) -> Tensor:
    """Time in s [R, M, T] until each judged box meets the one that it follows, both keeping their speeds."""
    judged, everybody = objects.judged, objects.all
    turned = wrap_angle(everybody.heading.unsqueeze(1) - judged.heading.unsqueeze(2)).abs()
    cos, sin = torch.cos(turned).abs(), torch.sin(turned).abs()
    length, width = everybody.length.unsqueeze(1) / 2, everybody.width.unsqueeze(1) / 2
    place = to_frame(everybody.position.unsqueeze(1), judged.position.unsqueeze(2), judged.heading.unsqueeze(2))
    ahead = place[..., 0] - judged.length.unsqueeze(2) / 2 - (length * cos + width * sin)
    beside = place[..., 1].abs() - judged.width.unsqueeze(2) / 2 - (length * sin + width * cos)
    follows = (ahead > 0) & (turned <= SAME_WAY) & (beside < 0) & ((beside < -LITTLE_OVERLAP) | (turned <= STRAIGHT_BEHIND))
    room, which = torch.where(follows & everybody.valid.unsqueeze(1), ahead, NOTHING).min(2)
    speed = _central(everybody.position).norm(dim=-1) / DT
    closing = speed[:, : judged.valid.shape[1]] - speed.gather(1, which)
    return torch.where(closing > 0, (room / closing).clamp_max(LONGEST_TTC), LONGEST_TTC)


def _edge_distance(judged: _Boxes, track: Track, edges: Tensor) -> Tensor:
    """Signed distance in m [R, M, T] of each box's outermost corner from the edge of the drivable area, positive outside."""
    rows, count, steps = judged.valid.shape
    nothing = torch.full(judged.valid.shape, -NOTHING)
    if not len(edges):
        return nothing
    flat = lambda values: values.flatten(0, 1)
    whose = torch.arange(rows).repeat_interleave(count)
    state = torch.zeros(rows * count, steps, 7)
    state[..., :2], state[..., 2] = flat(judged.position), flat(judged.heading)
    size = judged.valid.float().argmax(-1, keepdim=True)  # of the first column that has it
    first = lambda values: flat(values.gather(-1, size).squeeze(-1))
    profile = replace(track.profile[whose], length=first(judged.length), width=first(judged.width))
    as_ego = Track(
        ego=Ego(state),
        agents=Agents.empty(rows * count, steps, 0),
        signals=track.signals[whose],
        time=track.time[whose],
        valid=flat(judged.valid),
        appearance=track.appearance[whose],
        road=track.road[whose],
        route=track.route[whose],
        profile=profile,
    )
    outside = edge_excess(0.0)(as_ego).view(rows, count, steps)
    corners = judged.corners()
    inside = -_distance(corners.reshape(-1, 2), edges).view(corners.shape[:-1]).amin(-1)
    return torch.where(outside > 0, outside, inside)


def _distance(points: Tensor, edges: Tensor) -> Tensor:
    """Distance [Q] of points [Q, 2] from the nearest of segments [E, 2, 2]."""
    from scipy.spatial import cKDTree

    counts = ((edges[:, 1] - edges[:, 0]).norm(dim=-1) / SPACING).ceil().long().clamp_min(1)
    owner = torch.repeat_interleave(torch.arange(len(edges)), counts)
    place = torch.arange(len(owner)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    share = ((place + 0.5) / counts[owner]).unsqueeze(-1)
    samples = edges[owner, 0] * (1 - share) + edges[owner, 1] * share
    real = torch.isfinite(points).all(-1)
    _, nearest = cKDTree(samples.numpy()).query(torch.where(real.unsqueeze(-1), points, 0.0).numpy())
    chosen = edges[owner[torch.from_numpy(np.asarray(nearest))]]
    return segment_distance(points, chosen[:, 0], chosen[:, 1])


def _red_lights(judged: _Boxes, track: Track) -> Tensor:
    """Whether each object's centre crosses a stop line under red in a step, with the traffic that the light serves: bool [R, M, T]."""
    road = track.road
    line, heading = road.stop_line[:, None, None], road.signal_head[:, None, None, :, 3]  # [R, 1, 1, S, ...]
    local = to_frame(judged.position.unsqueeze(3), line.mean(-2), heading)  # [R, M, T, S, 2]
    half = (line[..., 0, :] - line[..., 1, :]).norm(dim=-1) / 2
    over = local[..., 0] > 0
    crosses = torch.zeros_like(over)
    crosses[:, :, 1:] = over[:, :, 1:] & ~over[:, :, :-1] & (judged.valid[..., 1:] & judged.valid[..., :-1]).unsqueeze(-1)
    red = (track.signals == int(SignalState.RED)) & (road.signal_lane >= 0).unsqueeze(1)
    return (crosses & (local[..., 1].abs() < half) & red.unsqueeze(1)).any(-1)


def _likelihood(name: str, log: Tensor, sampled: Tensor, lives: Tensor) -> float:
    """One term: of the log's feature [M, T'] under the rollouts' [R, M, T'], over the steps at which the log has it."""
    term = TERMS[name]
    if name in EVER:
        log, sampled = (log & lives).any(-1, keepdim=True).float(), (sampled & lives).any(-1, keepdim=True).float()
        lives = torch.ones_like(log, dtype=torch.bool)
    edges = torch.linspace(term.low, term.high, term.bins + 1)[1:-1].contiguous()
    in_bin = lambda values: torch.bucketize(values.nan_to_num().clamp(term.low, term.high).contiguous(), edges, right=True)
    there = torch.isfinite(sampled)
    hits = torch.nn.functional.one_hot(in_bin(sampled), term.bins) * there.unsqueeze(-1)
    counts = hits.sum((0, 2)) + term.smoothing  # [M, bins]
    chances = (counts / counts.sum(-1, keepdim=True)).log().gather(-1, in_bin(log))
    counted = lives & torch.isfinite(log)
    return float(chances[counted].mean().exp()) if bool(counted.any()) else math.nan


def _rates(facts: Mapping[str, Tensor], sampled: Mapping[str, Tensor], true: _Boxes, simulated: _Boxes, begin: int) -> dict[str, float]:
    """Shares of objects to which something ever happened, and the mean displacement from the log."""
    share = lambda values: float(values.any(-1).float().mean())
    rates = {name: share(sampled[name]) for name in EVER} | {f"log_{name}": share(facts[name]) for name in EVER}
    both = (true.valid & simulated.valid)[..., begin:]
    error = torch.where(both, (true.position - simulated.position).norm(dim=-1)[..., begin:], 0.0).sum(-1) / both.sum(-1)  # [R, M]
    each = error.nanmean(-1)
    return rates | {"ade_m": float(each.nanmean()), "min_ade_m": float(each.nan_to_num(torch.inf).amin())}


def _check(log: Track, rollouts: Track, begin: int) -> None:
    if log.batch_size != 1:
        raise DataError(f"the log has {log.batch_size} rows; give one scenario at a time")
    if rollouts.steps != log.steps:
        raise DataError(f"the rollouts have {rollouts.steps} columns and the log {log.steps}")
    ours, theirs = log.road.centreline[0], rollouts.road.centreline[0]
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=HISTORY_TOLERANCE):
        raise DataError("the rollouts are of another road than the log")
    if not 2 <= begin < log.steps:
        raise DataError(f"begin={begin} must be at least 2 and below the {log.steps} columns of the log")
    for what, track in (("log", log), ("rollouts", rollouts)):
        if not bool(torch.isfinite(track.agents.state[track.agents.valid]).all()) or not bool(torch.isfinite(track.ego.state).all()):
            raise DataError(f"NaN among the states of the {what}")


def _check_history(log: Track, rollouts: Track, wanted: Sequence[int], begin: int, ego: bool) -> None:
    """Refuse rollouts that do not begin as the log does."""
    before = slice(0, begin)
    true, simulated = (_Objects.of(track.columns(before), wanted, ego).judged for track in (log, rollouts))
    both = true.valid & simulated.valid
    apart = torch.where(both, (true.position - simulated.position).norm(dim=-1), 0.0)
    if bool((apart > HISTORY_TOLERANCE).any()):
        row, _, column = (int(i) for i in (apart > HISTORY_TOLERANCE).nonzero()[0])
        raise DataError(
            f"rollout {row} is {float(apart[row, :, column].max()):.2f} m from the log in column {column}, before begin={begin}: it is"
            " no rollout of this log"
        )


def _unscored(why: str) -> Realism:
    nothing = dict.fromkeys(TERMS, math.nan)
    return Realism(math.nan, nothing, dict.fromkeys(GROUPS, math.nan), {}, 0, why)
