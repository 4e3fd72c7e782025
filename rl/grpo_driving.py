"""How a VLA drives while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..policies.vla.model import Mode


@dataclass(frozen=True)
class Driving:
    """How episodes are driven for training."""

    steps: int = 100  # longest episode, in frames of 0.1 s
    hold: int = 1  # frames that a drawn action is kept for
    mode: Mode = "fast"
    temperature: float = 1.0
    explore: int = 0  # decisions that are drawn before the policy drives on as it does when it is scored; 0: all are drawn
    scenario: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0  # most frames that starts are driven on from the beginning of their scenario
    critical: float = 0.0  # share of the starts that go back to before the hardest braking of the drive that leads to them

    @property
    def drawn(self) -> int | None:
        """Frames for which actions are drawn or held, None for all."""
        return self.explore * self.hold or None
