"""How a number becomes a value between 1 and 0, and how the values of many agents become one."""

from __future__ import annotations

import torch
from torch import Tensor


def falling(number: Tensor, best: float, worst: float) -> Tensor:
    """1 up to `best`, falling in a straight line to 0 at `worst` and beyond."""
    return 1.0 - ((number - best) / (worst - best)).clamp(0, 1)


def worst_of_agents(values: Tensor) -> Tensor:
    """The least of values [B, T, N] in [0, 1] of N agents, 1 where there are none: [B, T]."""
    return torch.nn.functional.pad(values, (0, 1), value=1.0).amin(-1)
