"""What a world and a policy are: two protocols that every implementation follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .batched import Batched
from .geometry import project_polyline, to_frame
from .road import RoadMap
from .scene import Scene

ROUTE_AHEAD_POINTS = 20
ROUTE_AHEAD_SPACING = 4.0  # m
EGO_OBSERVATION = ("speed", "acceleration", "steering", "yaw_rate", "speed_limit")


@dataclass(frozen=True)
class WorldState(Batched):
    """Everything a world needs to go on from here: a value, so keeping it is a snapshot and stepping it twice is a branch."""

    scene: Scene  # [B]
    frame: Tensor  # [B, H, W, 3] uint8, the camera's picture of the scene
    seed: Tensor  # [B] int64, the episode's own; every random draw comes from (seed, step)
    step: Tensor  # [B] int64, steps since reset
    memory: Any = None  # a Batched value of the world's own (traffic's hidden state, actions so far, ...), or None
    past: Tensor | None = None  # [B, H, W, 3 * n] uint8, the pictures before, for painters that look at more than the last one

    @classmethod
    def painted(cls, scene: Scene, pictures: Tensor, seed: Tensor, step: Tensor, memory: Any) -> WorldState:
        """A state of pictures [B, H, W, 3 * n], the newest first."""
        past = pictures[..., 3:] if pictures.shape[-1] > 3 else None
        return cls(scene, pictures[..., :3], seed, step, memory, past)

    @property
    def pictures(self) -> Tensor:
        """The picture and those before it, uint8 [B, H, W, 3 * n], the newest first."""
        return self.frame if self.past is None else torch.cat((self.frame, self.past), -1)


@runtime_checkable
class World(Protocol):
    """B episodes side by side; states are values and nothing else is remembered between calls."""

    def reset(self, seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> WorldState:
        """Begin one episode per seed. `scenario` narrows the draw: keys `split`, `family`, `density`, `appearance`, ...

        Raises:
            ConfigError: an unknown key or value.
        """
        ...

    def step(self, state: WorldState, actions: Tensor) -> WorldState:
        """Advance by DT under actions [B, 2] in [-1, 1] (steering to the left, pedal)."""
        ...


@dataclass(frozen=True)
class Observation(Batched):
    """What a policy sees of a state."""

    camera: Tensor  # [B, H, W, 3] uint8
    ego: Tensor  # [B, 5] float32, EGO_OBSERVATION in SI units
    route: Tensor  # [B, ROUTE_AHEAD_POINTS, 2] float32, points of the route ahead in the ego frame, m


def observe(state: WorldState) -> Observation:
    """The observation of a world's state."""
    scene = state.scene
    ego, route = scene.ego, scene.route
    arc, _, _ = project_polyline(ego.position, route.points)
    ahead = to_frame(route.ahead(arc, ROUTE_AHEAD_POINTS, ROUTE_AHEAD_SPACING), ego.position.unsqueeze(1), ego.heading.unsqueeze(1))
    limit = speed_limit_at(scene.road, ego.position)
    numbers = torch.stack((ego.speed, ego.acceleration, ego.steering, ego.yaw_rate, limit), -1)
    return Observation(camera=state.frame, ego=numbers.float(), route=ahead.float())


def speed_limit_at(road: RoadMap, position: Tensor) -> Tensor:
    """Speed limit [B] in m/s of the lane nearest to positions [B, 2]; 13.89 where there is no lane at all."""
    lane = road.nearest_lanes(position.unsqueeze(1), 1)[:, 0, 0]
    limit = road.lane_values(road.speed_limit, lane.unsqueeze(1)).squeeze(1)
    return torch.where(lane >= 0, limit, torch.full_like(limit, 13.89))


class Policy(Protocol):
    """Something that drives. Its memory is a value handed back and forth, so that one policy can serve any batch."""

    name: str
    privileged: bool  # whether it reads the scene; others get None

    def initial_memory(self, seeds: Sequence[int]) -> Any:
        """Memory for episodes that begin now, one per seed: a Batched value or None."""
        ...

    def act(self, observation: Observation, memory: Any, scene: Scene | None = None) -> tuple[Tensor, Any]:
        """Actions [B, 2] in [-1, 1] and the next memory."""
        ...
