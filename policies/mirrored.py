"""Any policy in a mirror: what it sees is reflected, and so is the way it steers. It then drives on the other side of the road."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from ..errors import ConfigError
from ..scene import Scene
from ..world import EGO_OBSERVATION, Observation, Policy

PREFIX = "mirrored:"
SIDEWAYS = tuple(EGO_OBSERVATION.index(name) for name in ("steering", "yaw_rate"))


class MirroredPolicy:
    """A policy behind a mirror; twice mirrored it is itself.

    Args:
        policy: one that does not read the scene, which knows the side of the road anyway.

    Raises:
        ConfigError: a privileged policy.
    """

    privileged = False

    def __init__(self, policy: Policy) -> None:
        if policy.privileged:
            raise ConfigError(f"'{policy.name}' reads the scene, which is not mirrored; give a policy that drives by what it sees")
        self.policy = policy
        self.name = f"{PREFIX}{policy.name}"

    def initial_memory(self, seeds: Sequence[int]) -> Any:
        """That of the policy."""
        return self.policy.initial_memory(seeds)

    def act(self, observation: Observation, memory: Any, scene: Scene | None = None) -> tuple[torch.Tensor, Any]:
        """The policy's actions [B, 2] on the mirrored observation, mirrored back."""
        action, memory = self.policy.act(mirror(observation), memory, None)
        return action * action.new_tensor((-1.0, 1.0)), memory


def mirror(observation: Observation) -> Observation:
    """The observation of the mirrored world: left and right change places in the picture, the motion and the route."""
    ego = observation.ego.clone()
    ego[..., SIDEWAYS] = -ego[..., SIDEWAYS]
    route = observation.route * observation.route.new_tensor((1.0, -1.0))
    return dataclasses.replace(observation, camera=observation.camera.flip(-2), ego=ego, route=route)
