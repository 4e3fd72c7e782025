"""What all scores share: what they return, the raw rates beside them, and what cannot be scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import DataError
from ...scene import DT, Agents, Ego, Track
from ..contacts import first_contacts
from ..facts import road_position, route_position
from ..history import moved
from ..rules import at_fault_collision, progress, red_light

POINTS = 100.0


@dataclass(frozen=True)
class Score:
    """Scores of B episodes; whatever could not be scored is NaN in `total`, in `terms` and in `rates`, and `unscored` says why."""

    total: Tensor  # [B] points, 0 to 100
    terms: dict[str, Tensor]  # [B] each, 0 to 1; the total follows from them by the formula
    rates: dict[str, Tensor]  # [B] each, raw: see `raw_rates`
    unscored: list[str]  # length B: the reason, or ""

    @classmethod
    def of(cls, track: Track, total: Tensor, terms: dict[str, Tensor], unscored: list[str], bad: Tensor) -> Score:
        """Of a total [B] from 0 to 1, with NaN in the rows that are `bad`."""
        blank = lambda values: {name: torch.where(bad, torch.nan, value) for name, value in values.items()}
        return cls(torch.where(bad, torch.nan, POINTS * total), blank(terms), blank(raw_rates(track)), unscored)


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float], gates: Sequence[str]) -> Tensor:
    """The weighted mean [B] of some terms, times others."""
    value = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum(0) / sum(weights.values())
    for gate in gates:
        value = value * terms[gate]
    return value


def raw_rates(track: Track) -> dict[str, Tensor]:
    """What happened, without weights, each [B] float.

    Keys: `collision` (touched anybody, 0/1), `at_fault_collision` (0/1), `off_road` (a corner left the drivable area, 0/1),
    `off_road_share` (of the time), `red_lights` (lines crossed under red), `route_completion` (share of what lay ahead at the
    start), `progress_m`, `distance_m`, `duration_s`, `mean_speed_mps`.
    """
    contact = first_contacts(track).any(-1) & track.valid
    off = ~track.derived(road_position).corners_on_road & track.valid
    steps = track.valid.sum(1).clamp_min(1)
    gained = progress(track).sum(1)
    ahead = (track.route.length - track.derived(route_position).arc[:, 0]).clamp_min(1e-3)
    return {
        "collision": contact.any(1).float(),
        "at_fault_collision": (at_fault_collision(track) < 1).any(1).float(),
        "off_road": off.any(1).float(),
        "off_road_share": off.sum(1) / steps,
        "red_lights": (red_light(track) < 1).sum(1).float(),
        "route_completion": (gained / ahead).clamp(0, 1),
        "progress_m": gained,
        "distance_m": torch.where(track.valid, moved(track), 0.0).sum(1),
        "duration_s": DT * (steps - 1).float(),
        "mean_speed_mps": torch.where(track.valid, track.ego.speed, 0.0).sum(1) / steps,
    }


def scorable(track: Track, reference_m: Tensor) -> tuple[Track, Tensor, list[str], Tensor]:
    """A track and its reference progress with harmless numbers where they cannot be scored, why not, and those rows [B] bool."""
    reference_m = torch.as_tensor(reference_m, dtype=torch.float32)
    if reference_m.ndim > 1 or (reference_m.ndim == 1 and len(reference_m) not in (1, track.batch_size)):
        raise DataError(f"{list(reference_m.shape)} distances of the expert for {track.batch_size} drives; give one for each")
    reference_m = reference_m.expand(track.batch_size)
    unscored = why_unscored(track, reference_m)
    bad = torch.tensor([bool(reason) for reason in unscored])
    if bool(bad.any()):
        track = _blank(track, bad)
        reference_m = torch.where(bad, 0.0, reference_m)
    return track, reference_m, unscored, bad


def why_unscored(track: Track, reference_m: Tensor) -> list[str]:
    """Why each of B episodes cannot be scored, "" if it can."""
    finite = lambda state: torch.isfinite(state).flatten(2).all(-1)
    broken_ego = (~finite(track.ego.state) & track.valid).any(1)
    broken_agents = (~finite(track.agents.state) & track.valid).any(1)
    checks = (
        (track.valid.sum(1) < 2, "fewer than two valid steps"),
        (~(track.route.length > 0), "no route"),
        (~torch.isfinite(track.route.points).flatten(1).all(-1), "NaN in the route"),
        (~torch.isfinite(track.road.centreline).flatten(1).all(-1), "NaN in the road map"),
        (broken_ego, "NaN in the ego's state"),
        (broken_agents, "NaN in an agent's state"),
        (~torch.isfinite(reference_m) | (reference_m < 0), "no reference progress"),
    )
    return [next((reason for mask, reason in checks if bool(mask[row])), "") for row in range(track.batch_size)]


def _blank(track: Track, rows: Tensor) -> Track:
    """The track with harmless numbers in the given rows, so that the others can be scored beside them."""
    clean = lambda state: torch.where(rows.view(-1, *([1] * (state.ndim - 1))), torch.zeros_like(state), state)
    agents = {f.name: getattr(track.agents, f.name) for f in dataclasses.fields(Agents)} | {"state": clean(track.agents.state)}
    route = dataclasses.replace(track.route, points=clean(track.route.points), length=torch.nan_to_num(track.route.length))
    return dataclasses.replace(track, ego=Ego(clean(track.ego.state)), agents=Agents(**agents), route=route)
