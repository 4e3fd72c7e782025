"""Recorded traffic made into clips: any recorded vehicle as the ego, everybody else as agents, on the recorded map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..camera import CAMERA
from ..errors import DataError
from ..geometry import box_corners, boxes_overlap, project_polyline, wrap_angle
from ..road import ROUTE_STEP, RoadMap, Route
from ..scene import DT, AgentKind, Agents, Appearance, Ego, Track
from ..vehicles import VehicleProfile, steering_authority, vehicle_profile
from .clip import Clip

AHEAD = 150.0  # m of route beyond where the ego was last recorded
HEIGHTS = {AgentKind.PEDESTRIAN: 1.75, AgentKind.BICYCLE: 1.7, AgentKind.TRUCK: 3.4, AgentKind.BUS: 3.2}  # m; cars 1.5
SLOWEST_TURN = 1.0  # m/s below which a yaw rate tells no steering
GREY = 0.6


@dataclass(frozen=True)
class RecordedUser:
    """One road user of a recording, on the steps first, first + 1, ... of DT."""

    name: str
    kind: AgentKind
    length: float  # m
    width: float  # m
    first: int
    state: NDArray[np.float64]  # [K, 4] x, y of the box's centre (m), heading (rad), speed (m/s)

    @property
    def last(self) -> int:
        """The last step."""
        return self.first + len(self.state) - 1


def drop_impossible(users: Sequence[RecordedUser], left_out: dict[str, int]) -> list[RecordedUser]:
    """Leave out, and count, road users with a state that is no number, and those that appear inside another."""
    sound = []
    for user in users:
        if not np.isfinite(user.state).all() or user.length <= 0 or user.width <= 0:
            left_out["road users without a pose or size"] = left_out.get("road users without a pose or size", 0) + 1
        else:
            sound.append(user)
    kept: list[RecordedUser] = []
    for user in sorted(sound, key=lambda u: u.first):
        mine = _corners(user, user.first)
        others = [_corners(other, user.first) for other in kept if other.first <= user.first <= other.last]
        if others and bool(boxes_overlap(mine, torch.cat(others)).any()):
            left_out["road users that appear inside another"] = left_out.get("road users that appear inside another", 0) + 1
        else:
            kept.append(user)
    return sorted(kept, key=lambda u: u.name)


def clips_of(
    users: Sequence[RecordedUser],
    road: RoadMap,
    egos: Sequence[RecordedUser],
    clip_steps: int,
    min_steps: int,
    provenance: dict[str, Any],
    signals: Tensor | None = None,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Clip]:
    """One or more clips for each ego, as long as it is recorded.

    Args:
        users: everybody.
        road: the map [1], its origin moved by `offset`.
        egos: of `users`, motor vehicles.
        clip_steps: the longest clip.
        min_steps: shorter remains are left out.
        provenance: kept with every clip; `ego` and `first_step` are added.
        signals: recorded states [steps, S], where the map's programmes do not tell them.
        offset: m, subtracted from all positions, so that float32 keeps millimetres.

    There is no camera, so frames are black. The ego's steering and pedal are those that its motion asks of the vehicle model.
    """
    for ego in egos:
        for start in range(ego.first, ego.last + 1, clip_steps):
            steps = min(clip_steps, ego.last + 1 - start)
            if steps < max(2, min_steps):
                continue
            track, actions = _track(ego, [u for u in users if u is not ego], road, start, steps, signals, offset)
            frames = torch.zeros(steps, CAMERA.height, CAMERA.width, 3, dtype=torch.uint8)
            known = {"camera": "none", "actions": "estimated", "ego": ego.name, "first_step": start, "offset": list(offset), "dt": DT}
            yield Clip(frames, actions, track, {**provenance, **known})


def _corners(user: RecordedUser, step: int) -> Tensor:
    x, y, heading, _ = user.state[step - user.first]
    return box_corners(
        torch.tensor([[x, y]]), torch.tensor([heading]), torch.tensor([user.length], dtype=torch.float64),
        torch.tensor([user.width], dtype=torch.float64),
    )  # fmt: skip


def _track(
    ego: RecordedUser,
    others: Sequence[RecordedUser],
    road: RoadMap,
    start: int,
    steps: int,
    signals: Tensor | None,
    offset: tuple[float, float],
) -> tuple[Track, Tensor]:
    here = [u for u in others if u.first < start + steps and u.last >= start]
    agents = Agents.empty(1, steps, max(1, len(here)))
    for slot, user in enumerate(here):
        low, high = max(user.first, start), min(user.last, start + steps - 1)
        at, of = slice(low - start, high - start + 1), slice(low - user.first, high - user.first + 1)
        state = user.state[of]
        size = np.array([user.length, user.width, HEIGHTS.get(user.kind, 1.5)])
        row = np.concatenate(
            (state[:, :2] - offset, state[:, 2:4], _rate(user.state[:, 3])[of, None], np.repeat(size[None], len(state), 0)), 1
        )
        agents.state[0, at, slot] = torch.as_tensor(row).float()
        agents.kind[0, at, slot] = int(user.kind)
        agents.valid[0, at, slot] = True
        agents.id[0, at, slot] = slot
        agents.colour[0, at, slot] = GREY
    agents = dataclasses.replace(agents, brake=agents.valid & (agents.acceleration < -0.8))
    time = torch.arange(steps).float() * DT
    shifted = dataclasses.replace(road, phase_offset=road.phase_offset + start * DT)
    lit = shifted.map(lambda t: t.expand(steps, *t.shape[1:])).signals_at(time) if signals is None else signals[start : start + steps]
    profile = _profile(ego)
    states, actions = _ego_states(ego, start, steps, profile, offset)
    track = Track(
        ego=Ego(states.unsqueeze(0)), agents=agents, signals=lit.unsqueeze(0), time=time.unsqueeze(0),
        valid=torch.ones(1, steps, dtype=torch.bool), appearance=torch.tensor([int(Appearance.DAYLIGHT)]), road=shifted,
        route=_route(shifted, torch.as_tensor(ego.state[start - ego.first :, :3] - (*offset, 0.0)).float()), profile=profile,
    )  # fmt: skip
    return track, actions


def _profile(ego: RecordedUser) -> VehicleProfile:
    """The stock vehicle with the recorded size; its axles move with its length."""
    stock = vehicle_profile()
    share = ego.length / float(stock.length[0])
    size = {"length": ego.length, "width": ego.width, "wheelbase": share * float(stock.wheelbase[0])}
    size["rear_axle"] = share * float(stock.rear_axle[0])
    return dataclasses.replace(stock, **{name: torch.tensor([value], dtype=torch.float32) for name, value in size.items()})


def _ego_states(ego: RecordedUser, start: int, steps: int, profile: VehicleProfile, offset: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Ego states [K, 7] and the actions [K, 2] that the vehicle model needs for them."""
    x, y, heading, speed = ego.state.T
    yaw_rate = _rate(np.unwrap(heading))
    acceleration = _rate(speed)
    slip = np.arcsin(np.clip(yaw_rate * float(profile.rear_axle) / np.maximum(speed, SLOWEST_TURN), -0.9, 0.9))
    most = float(profile.max_steering)
    steering = np.clip(np.arctan(np.tan(slip) * float(profile.wheelbase / profile.rear_axle)), -most, most)
    rows = np.stack((x - offset[0], y - offset[1], heading, np.maximum(speed, 0), acceleration, steering, yaw_rate), -1)
    states = torch.as_tensor(rows[start - ego.first : start - ego.first + steps]).float()
    states[:, 2] = wrap_angle(states[:, 2])
    following = torch.cat((states[1:], states[-1:]))
    blend = 1 - float(torch.exp(-DT / profile.pedal_lag))
    wanted = states[:, 4] + (following[:, 4] - states[:, 4]) / blend
    pedal = torch.where(wanted >= 0, wanted / profile.max_acceleration, wanted / profile.max_braking)
    steer = following[:, 5] / steering_authority(states[:, 3], profile.map(lambda t: t.expand(steps)))
    actions = torch.stack((steer, pedal), -1).clamp(-1, 1)
    actions[-1] = 0
    return states, actions


def _rate(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rate of change of values [K] a second."""
    return np.gradient(values, DT) if len(values) > 1 else np.zeros_like(values)


def _route(road: RoadMap, driven: Tensor) -> Route:
    """The route [1] along the driven poses [K, 3], and on from where they end along the lanes."""
    line = [driven[0, :2]]
    for point in driven[1:, :2]:
        if float((point - line[-1]).norm()) > 0.5 * ROUTE_STEP:
            line.append(point)
    used: list[int] = []
    for pose in driven[:: max(1, round(1 / DT))]:
        used += _lane_at(road, pose)
    lane = _lane_at(road, driven[-1])
    ahead = 0.0
    while lane and ahead < AHEAD:
        centre = road.centreline[0, lane[0]]
        toward = torch.stack((torch.cos(driven[-1, 2]), torch.sin(driven[-1, 2]))) if len(line) < 2 else line[-1] - line[-2]
        for point in centre:
            step = point - line[-1]
            if float(step.norm()) > 0.5 * ROUTE_STEP and float((step * toward).sum()) > 0:
                ahead += float(step.norm())
                toward = step
                line.append(point)
        used.append(lane[0])
        onward = [int(k) for k in road.successors[0, lane[0]] if int(k) >= 0]
        end = centre[-1] - centre[-2]
        straight = lambda k, end=end: float(
            torch.nn.functional.cosine_similarity(road.centreline[0, k, -1] - road.centreline[0, k, 0], end, 0)
        )
        lane = [max(onward, key=straight)] if onward else []
    if len(line) < 2:
        line.append(line[0] + ROUTE_STEP * torch.stack((torch.cos(driven[-1, 2]), torch.sin(driven[-1, 2]))))
    points = torch.stack(line).numpy().astype(np.float64)
    along = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    count = max(1, int(along[-1] / ROUTE_STEP))
    spaced = np.stack([np.interp(np.arange(count + 1) * ROUTE_STEP, along, points[:, k]) for k in (0, 1)], -1)
    beside = [int(values[0, k]) for k in used for values in (road.left, road.right)]
    lanes = sorted({k for k in [*used, *beside] if k >= 0}) or [0]
    return Route(torch.as_tensor(spaced).float().unsqueeze(0), torch.tensor([count * ROUTE_STEP]), torch.tensor([lanes]))


def _lane_at(road: RoadMap, pose: Tensor) -> list[int]:
    """The lane whose centre is nearest to a pose [3] and leads its way, or none."""
    near = [int(k) for k in road.nearest_lanes(pose[None, None, :2], 6)[0, 0] if int(k) >= 0]
    if not near:
        raise DataError("the map has no lane to drive on")
    _, lateral, heading = project_polyline(pose[None, :2].expand(len(near), 2), road.centreline[0, near])
    cost = lateral.abs() + 3 * wrap_angle(heading - pose[2]).abs()
    best = int(cost.argmin())
    return [near[best]] if float(cost[best]) < 6.0 else []
