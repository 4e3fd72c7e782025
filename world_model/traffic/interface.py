"""What moves the other road users: one protocol, and its implementations by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ...errors import ConfigError
from ...scenario import nearest
from ...scene import Agents, Ego, Scene

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "small"
SUBFOLDER = "traffic"  # of a world's weights
SLOTS = 24  # agents a world keeps around its ego
TRAFFIC = ("idm", "learned", "constant_velocity", "none")


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


def make_traffic(name: str, folder: str | Path = "", **options: Any) -> Traffic:
    """Build traffic by name.

    Args:
        name: of TRAFFIC.
        folder: of weights, for the learned traffic; those that ship when the folder has none.
        options: further arguments of the traffic's class.

    Raises:
        ConfigError: no traffic has that name, or it has no such option.
        CheckpointError: weights that cannot be read.
    """
    if name not in TRAFFIC:
        raise ConfigError(f"unknown traffic '{name}'; {nearest(name, TRAFFIC)}")
    try:
        return _make(name, Path(folder or SHIPPED), options)
    except TypeError as error:
        raise ConfigError(f"traffic '{name}' takes no such option ({str(error).split(') ')[-1]})") from None


def _make(name: str, folder: Path, options: dict[str, Any]) -> Traffic:
    if name == "idm":
        from .idm import IdmTraffic

        return IdmTraffic(**options)
    if name == "constant_velocity":
        from .baselines import ConstantVelocityTraffic

        return ConstantVelocityTraffic(**options)
    if name == "learned":
        from .learned import LearnedTraffic
        from .network import PAGE

        own = next((f for f in (folder, folder / SUBFOLDER) if (f / PAGE).is_file()), SHIPPED / SUBFOLDER)
        return LearnedTraffic.load(own, **options)
    return NoTraffic(**options)
