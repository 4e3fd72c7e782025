"""The one vocabulary: a Scene is the world at a moment, a Track is scenes stacked in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .batched import Batched
from .road import RoadMap, Route

if TYPE_CHECKING:
    from .vehicles import VehicleProfile

DT = 0.1  # s, the step of every world, clip and score (10 Hz)


class AgentKind(IntEnum):
    """What a road user is."""

    CAR = 0
    TRUCK = 1
    BUS = 2
    BICYCLE = 3
    PEDESTRIAN = 4
    STATIC = 5  # a parked or dropped object


class Appearance(IntEnum):
    """Weather and light of an episode."""

    DAYLIGHT = 0
    OVERCAST = 1
    DUSK = 2
    RAIN = 3


@dataclass(frozen=True)
class Ego(Batched):
    """State of the ego's box, packed as one tensor [..., 7]; world frame ENU, heading counter-clockwise from east."""

    state: Tensor  # [..., 7] x, y (centre of the box, m), heading (rad), speed (m/s), acceleration (m/s2), steering (rad), yaw rate (rad/s)

    @classmethod
    def of(cls, x: Tensor, y: Tensor, heading: Tensor, speed: Tensor, acceleration: Tensor, steering: Tensor, yaw_rate: Tensor) -> Ego:
        """Pack fields of one shape [...] each."""
        return cls(torch.stack((x, y, heading, speed, acceleration, steering, yaw_rate), dim=-1))

    position = property(lambda self: self.state[..., 0:2], doc="Centre of the box [..., 2], m.")
    x = property(lambda self: self.state[..., 0])
    y = property(lambda self: self.state[..., 1])
    heading = property(lambda self: self.state[..., 2], doc="Heading [...], rad.")
    speed = property(lambda self: self.state[..., 3], doc="Speed along the heading [...], m/s, never negative.")
    acceleration = property(lambda self: self.state[..., 4], doc="Longitudinal acceleration [...], m/s2.")
    steering = property(lambda self: self.state[..., 5], doc="Road wheel angle [...], rad, positive to the left.")
    yaw_rate = property(lambda self: self.state[..., 6], doc="Yaw rate [...], rad/s.")


@dataclass(frozen=True)
class Agents(Batched):
    """The other road users, N slots; a slot keeps its agent from step to step while `id` stays the same."""

    state: Tensor  # [..., N, 8] x, y (centre, m), heading, speed (m/s), acceleration (m/s2), length, width, height (m)
    kind: Tensor  # [..., N] AgentKind, int64
    valid: Tensor  # [..., N] bool; fields of invalid slots are zero
    id: Tensor = field(metadata={"pad": -1})  # [..., N] int64, unique within the episode, -1 for invalid slots
    brake: Tensor = field(metadata={"pad": 0})  # [..., N] bool, brake lights on
    colour: Tensor = field(metadata={"pad": 0})  # [..., N, 3] base colour in [0, 1]

    position = property(lambda self: self.state[..., 0:2], doc="Centre of each box [..., N, 2], m.")
    heading = property(lambda self: self.state[..., 2])
    speed = property(lambda self: self.state[..., 3])
    acceleration = property(lambda self: self.state[..., 4])
    length = property(lambda self: self.state[..., 5])
    width = property(lambda self: self.state[..., 6])
    height = property(lambda self: self.state[..., 7])

    @classmethod
    def empty(cls, *shape: int) -> Agents:
        """No agent at all, of shape [*shape] (the last is N)."""
        return cls(
            state=torch.zeros(*shape, 8),
            kind=torch.zeros(*shape, dtype=torch.int64),
            valid=torch.zeros(*shape, dtype=torch.bool),
            id=torch.full(shape, -1, dtype=torch.int64),
            brake=torch.zeros(*shape, dtype=torch.bool),
            colour=torch.zeros(*shape, 3),
        )


@dataclass(frozen=True)
class Scene(Batched):
    """The world at one moment, for B episodes."""

    ego: Ego  # [B, 7]
    agents: Agents  # [B, N, ...]
    signals: Tensor  # [B, S] SignalState, int64
    time: Tensor  # [B] s since the episode's start
    appearance: Tensor  # [B] Appearance, int64
    road: RoadMap  # [B]
    route: Route  # [B]
    profile: VehicleProfile  # [B]


ColumnFunction = Callable[["Track"], Any]


@dataclass(frozen=True)
class Track(Batched):
    """Scenes stacked in time, DT apart: a stored clip, the window of a running episode, a whole evaluated episode.

    Columns where `valid` is False repeat the nearest valid column, so that no function of a track meets garbage.
    """

    ego: Ego  # [B, T, 7]
    agents: Agents  # [B, T, N, ...]
    signals: Tensor  # [B, T, S]
    time: Tensor  # [B, T]
    valid: Tensor  # [B, T] bool
    appearance: Tensor  # [B]
    road: RoadMap  # [B]
    route: Route  # [B]
    profile: VehicleProfile  # [B]

    @property
    def steps(self) -> int:
        """Number of columns T."""
        return int(self.time.shape[1])

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Track:
        """Stack scenes [B] of one set of episodes; road, route, profile and appearance are those of the last."""
        last = scenes[-1]
        signals = torch.stack([scene.signals for scene in scenes], 1)
        return cls(
            ego=Ego.stack_time([scene.ego for scene in scenes]),
            agents=Agents.stack_time([scene.agents for scene in scenes]),
            signals=signals,
            time=torch.stack([scene.time for scene in scenes], 1),
            valid=torch.ones(signals.shape[:2], dtype=torch.bool),
            appearance=last.appearance,
            road=last.road,
            route=last.route,
            profile=last.profile,
        )

    def scene(self, column: int) -> Scene:
        """The scene [B] at a column (negative counts from the end)."""
        return Scene(
            ego=self.ego.map(lambda t: t[:, column]),
            agents=self.agents.map(lambda t: t[:, column]),
            signals=self.signals[:, column],
            time=self.time[:, column],
            appearance=self.appearance,
            road=self.road,
            route=self.route,
            profile=self.profile,
        )

    def columns(self, index: slice) -> Track:
        """A part of the track in time, [B, T'], with what was derived of these columns."""
        cut = lambda t: t[:, index]
        track = self._with(self.ego.map(cut), self.agents.map(cut), cut(self.signals), cut(self.time), cut(self.valid))
        _memo(track).update({fn: _map_columns(value, cut) for fn, value in _memo(self).items()})
        return track

    def append(self, scene: Scene, longest: int | None = None) -> Track:
        """The track with one more column, at most `longest` columns long; what was derived of older columns is kept."""
        keep = self if longest is None or self.steps < longest else self.columns(slice(self.steps - longest + 1, None))
        new = Track.of([scene])
        join = lambda a, b: torch.cat((a, b), 1)
        track = self._with(
            Ego(join(keep.ego.state, new.ego.state)),
            Agents(*(join(getattr(keep.agents, n), getattr(new.agents, n)) for n in ("state", "kind", "valid", "id", "brake", "colour"))),
            join(keep.signals, new.signals),
            join(keep.time, new.time),
            join(keep.valid, new.valid),
        )
        for fn, value in _memo(keep).items():
            _memo(track)[fn] = _join_columns(value, new.derived(fn))
        return track

    def restart(self, rows: Sequence[int], scene: Scene) -> Track:
        """Begin anew in batch elements `rows`: all their columns show `scene` [len(rows)], only the last one is valid.

        What was derived of the other elements is kept, unless padding grew.
        """
        repeated = Track.of([scene] * self.steps)
        valid = torch.zeros_like(repeated.valid)
        valid[:, -1] = True
        fresh = repeated._with(repeated.ego, repeated.agents, repeated.signals, repeated.time, valid)
        track = self.put(rows, fresh)
        begun = track.columns(slice(self.steps - 1, None))[list(rows)]
        for fn, value in _memo(self).items():
            derived = _put_rows(value, list(rows), begun.derived(fn))
            if derived is not None:
                _memo(track)[fn] = derived
        return track

    def derived(self, function: ColumnFunction) -> Any:
        """Value of a column-wise function of this track, computed once.

        `function(track)` returns a tensor [B, T, ...] or a dataclass of such, whose column t depends on column t of the
        track alone; `append` then computes only the new column.
        """
        memo = _memo(self)
        if function not in memo:
            memo[function] = function(self)
        return memo[function]

    def _with(self, ego: Ego, agents: Agents, signals: Tensor, time: Tensor, valid: Tensor) -> Track:
        return Track(ego, agents, signals, time, valid, self.appearance, self.road, self.route, self.profile)


def _memo(track: Track) -> dict[ColumnFunction, Any]:
    return track.__dict__.setdefault("_derived", {})


def _map_columns(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    return function(value) if isinstance(value, Tensor) else value.map(function)


def _join_columns(old: Any, new: Any) -> Any:
    if isinstance(old, Tensor):
        return torch.cat((old, new), 1)
    return type(old)(**{name: _join_columns(getattr(old, name), getattr(new, name)) for name in old.__dataclass_fields__})


def _put_rows(old: Any, rows: Sequence[int], new: Any) -> Any:
    """`old` [B, T, ...] with `new` [len(rows), 1, ...] in all columns of `rows`; None where their sizes differ."""
    if isinstance(old, Tensor):
        if old.shape[2:] != new.shape[2:]:
            return None
        out = old.clone()
        out[rows] = new.expand(-1, old.shape[1], *new.shape[2:])
        return out
    parts = {name: _put_rows(getattr(old, name), rows, getattr(new, name)) for name in old.__dataclass_fields__}
    return None if any(part is None for part in parts.values()) else type(old)(**parts)
