"""Frechet distance between true and generated pictures in the features of a frozen driving encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...policies.car import CarNet
from ...world_model.learned import SHIPPED
from ..bootstrap import Estimate
from .pictures import SECOND
from .rollouts import Rollouts

WINDOW = 10 * SECOND  # steps
RESAMPLES = 200
CHUNK = 256  # pictures encoded at once


@torch.inference_mode()
def driving_features(frames: Tensor) -> Tensor:
    """Features [n, 192] of pictures [n, H, W, 3] uint8: the camera branch of the imitated car network that ships."""
    encoder = CarNet.load(SHIPPED / "imitation").features.camera
    return torch.cat([encoder(part.permute(0, 3, 1, 2).float() / 255 - 0.5) for part in frames.split(CHUNK)])


def frechet_distance(mean_a: NDArray, cov_a: NDArray, mean_b: NDArray, cov_b: NDArray) -> float:
    """Squared Frechet distance of two normal distributions (D. C. Dowson and B. V. Landau, 1982).

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)).
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


@torch.inference_mode()
def frechet_figures(rolled: Rollouts, fresh: Tensor | None, seed: int) -> dict[str, Estimate]:
    """Distance in the first and in the last 10 s of rollouts, and the ratio of the two; none for rollouts under 20 s.

    Beside it how much wider the features of true pictures spread in the last 10 s than in the first (the trace of their covariance), and
    the ratio of the distances over that.

    Args:
        rolled: N rollouts.
        fresh: [N, WINDOW, H, W, 3] the last 10 s again, begun from the true picture before them (`restarted`): over their distance the last
            10 s are apart by what a rollout loses on its way (`frechet_drift`), not by what there is to see along it.
        seed: of the resampling of clips.
    """
    if rolled.steps < 2 * WINDOW:
        return {}
    first, last = slice(1, WINDOW + 1), slice(rolled.steps + 1 - WINDOW, rolled.steps + 1)
    windows = {"first": (rolled.true[:, first], rolled.generated[:, first]), "last": (rolled.true[:, last], rolled.generated[:, last])}
    if fresh is not None:
        windows["fresh"] = (rolled.true[:, last], fresh)
    sums = {name: [_moments(frames) for frames in pair] for name, pair in windows.items()}
    clips = rolled.true.shape[0]

    def distance(name: str, rows: NDArray) -> float:
        return frechet_distance(*(part for first, second in sums[name] for part in _normal(first[rows], second[rows])))

    everybody = np.arange(clips)
    values = {name: distance(name, everybody) for name in windows}
    spread = lambda name, rows: float(np.trace(_normal(*(part[rows] for part in sums[name][0]))[1]))
    wider = lambda rows: spread("last", rows) / max(spread("first", rows), 1e-12)
    drawn = np.random.default_rng(seed).integers(clips, size=(RESAMPLES, clips))
    samples = {name: np.array([distance(name, rows) for rows in drawn]) for name in windows}
    seconds, ratio, ratios = rolled.steps // SECOND, values["last"] / values["first"], samples["last"] / samples["first"]
    width, widths = wider(everybody), np.array([wider(rows) for rows in drawn])

    def estimate(value: float, found: NDArray) -> Estimate:
        if clips < 2:
            return Estimate(value)
        low, high = np.quantile(found, [0.025, 0.975])
        return Estimate(value, float(low), float(high), clips)

    figures = {
        "frechet_first_10s": estimate(values["first"], samples["first"]),
        f"frechet_last_10s_of_{seconds}s": estimate(values["last"], samples["last"]),
        f"frechet_ratio_{seconds}s": estimate(ratio, ratios),
        f"frechet_spread_ratio_{seconds}s": estimate(width, widths),
        f"frechet_ratio_over_spread_{seconds}s": estimate(ratio / width, ratios / widths),
    }
    if fresh is not None:
        figures[f"frechet_fresh_last_10s_of_{seconds}s"] = estimate(values["fresh"], samples["fresh"])
        figures[f"frechet_drift_{seconds}s"] = estimate(values["last"] / values["fresh"], samples["last"] / samples["fresh"])
    return figures


def _moments(frames: Tensor) -> tuple[NDArray, NDArray]:
    """Of each clip [N, k, H, W, 3]: mean feature [N, d] and mean outer product [N, d, d]."""
    features = driving_features(frames.flatten(0, 1)).double().view(*frames.shape[:2], -1)
    return features.mean(1).numpy(), (features.transpose(1, 2) @ features / features.shape[1]).numpy()


def _normal(first: NDArray, second: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and covariance over clips that weigh the same."""
    mean = first.mean(0)
    return mean, second.mean(0) - np.outer(mean, mean)
