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
    scenario: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0  # most frames that starts are driven on from the beginning of their scenario
