"""What moves the other road users: one protocol, and its implementations by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ...errors import ConfigError
from ...scenario import nearest
from ...scene import Agents, Ego, Scene

SLOTS = 24  # agents a world keeps around its ego
TRAFFIC = ("idm", "none")


@runtime_checkable
class Traffic(Protocol):
    """The other road users' behaviour; its memory is a value, so that stepping one state twice is a branch."""

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, Any]:
        """Take over the agents of a scene [B] with the episodes' seeds [B]; return them and the first memory."""
        ...

    def step(self, scene: Scene, ego_next: Ego, memory: Any, seed: Tensor, step: Tensor) -> tuple[Agents, Any]:
        """Advance the agents of `scene` [B] by DT.

        Args:
            scene: the present scene [B].
            ego_next: where the ego will be at the end of this step [B].
            memory: from `reset` or the last `step`.
            seed: int64 [B].
            step: int64 [B], steps since the episode's start.
        """
        ...


class NoTraffic:
    """An empty road: every agent is gone."""

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, Any]:
        """Remove the agents of a scene [B]."""
        return Agents.empty(scene.time.shape[0], SLOTS).to(scene.time.device), None

    def step(self, scene: Scene, ego_next: Ego, memory: Any, seed: Tensor, step: Tensor) -> tuple[Agents, Any]:
        """Keep the road empty."""
        return self.reset(scene, seed)


def make_traffic(name: str) -> Traffic:
    """Build traffic by name.

    Raises:
        ConfigError: no traffic has that name.
    """
    if name == "idm":
        from .idm import IdmTraffic

        return IdmTraffic()
    if name == "none":
        return NoTraffic()
    raise ConfigError(f"unknown traffic '{name}'; {nearest(name, TRAFFIC)}")
