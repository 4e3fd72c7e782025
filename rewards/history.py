"""What rules need of the columns before: trailing windows, causal smoothing, runs, first contacts."""

from __future__ import annotations

from functools import lru_cache
from math import factorial

import numpy as np
import torch
from torch import Tensor

from ..scene import Track


def trailing(values: Tensor, window: int, first: float | None = None) -> Tensor:
    """The last `window` columns up to each column [B, T, window]; before the track, `first` or the first column again."""
    head = values[:, :1] if first is None else torch.full_like(values[:, :1], first)
    padded = torch.cat((head.expand(-1, window - 1), values), 1)
    return padded.unfold(1, window, 1)


def smoothed(values: Tensor, window: int, order: int, derivative: int = 0, step: float = 1.0, windows: bool = False) -> Tensor:
    """Causal Savitzky-Golay filter [B, T]: the last value (or derivative) of a polynomial fitted to the trailing window.

    It equals the last value of `scipy.signal.savgol_filter(values[:t + 1], mode="interp")`.

    Args:
        values: [B, T], or windows already made, [B, T, window].
        window: columns.
        order: of the polynomial.
        derivative: 0 for the value itself.
        step: s between columns.
        windows: whether `values` are windows.
    """
    weights = _last_value_weights(window, order, derivative, step, values.dtype, values.device)
    return (values if windows else trailing(values, window)) @ weights


@lru_cache(maxsize=64)
def _last_value_weights(window: int, order: int, derivative: int, step: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    position = np.arange(1 - window, 1, dtype=np.float64)
    powers = position[:, None] ** np.arange(order + 1)
    weights = np.linalg.pinv(powers)[derivative] * factorial(derivative) / step**derivative
    with torch.inference_mode(False):
        return torch.tensor(weights, dtype=dtype, device=device)


def moved(track: Track) -> Tensor:
    """Distance in m that the ego's centre moved into each column [B, T], 0 in the first."""
    position = track.ego.position
    return torch.nn.functional.pad((position[:, 1:] - position[:, :-1]).norm(dim=-1), (1, 0))


def run_length(condition: Tensor, skip: Tensor) -> Tensor:
    """Number of columns [B, T] for which a condition has held up to each column; skipped columns neither count nor break the run."""
    count = (condition & ~skip).cumsum(1)
    broken = torch.where(condition | skip, 0, count)
    return count - broken.cummax(1).values


def begins(condition: Tensor) -> Tensor:
    """Whether a condition [B, T, ...] holds that did not in the column before; never in the first."""
    found = condition.clone()
    found[:, 0] = False
    found[:, 1:] &= ~condition[:, :-1]
    return found


def seen_before(condition: Tensor, identity: Tensor) -> Tensor:
    """Whether a condition [B, T, N] held in an earlier column for the same occupant of a slot, known by its identity [B, T, N]."""
    before = condition.cumsum(1) - condition.to(torch.int64)
    changed = torch.ones_like(condition)
    changed[:, 1:] = identity[:, 1:] != identity[:, :-1]
    since = torch.where(changed, before, 0).cummax(1).values
    return before - since > 0
