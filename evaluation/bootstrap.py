"""Percentile bootstrap: how far a mean over episodes, clips or repeats could lie elsewhere by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; `low` and `high` are None where there is none, as with one sample."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1


def bootstrap(
    samples: Sequence[float] | np.ndarray,
    *,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean of samples [n] (or of rows [n, k]) with its percentile interval (B. Efron, 1979).

    Args:
        samples: one number, or one row of numbers, per independent unit.
        statistic: from rows [..., n, k] to [...]; the mean over n when None.
        level: coverage of the interval.
        seed: of the resampling, so that the same samples always give the same interval.

    Raises:
        ValueError: no sample, or one that is not finite.
    """
    rows = np.asarray(samples, dtype=np.float64)
    if rows.size == 0:
        raise ValueError("no sample to estimate from")
    if not np.isfinite(rows).all():
        raise ValueError("a sample is not finite")
    if rows.ndim == 1:
        rows = rows[:, None]
    measure = statistic or (lambda r: r.mean(axis=(-2, -1)))
    value = float(measure(rows))
    if len(rows) == 1:
        return Estimate(value)
    drawn = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    low, high = np.quantile(measure(rows[drawn]), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), len(rows))


def ratio_of_means(rows: np.ndarray) -> np.ndarray:
    """Mean of column 0 over that of column 1, for rows [..., n, 2]: a `statistic` for paired ratios."""
    return rows[..., 0].mean(-1) / rows[..., 1].mean(-1)
