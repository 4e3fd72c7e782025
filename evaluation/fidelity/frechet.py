"""Frechet distance between true and generated pictures in the features of a frozen driving encoder.

A distance between few drives is too large: what is off in a standing car's picture is off for as long as it stands, and among few drives
that goes along with what there is to see. So beside the distance of all N drives stands the one that infinitely many would have: the
distance is linear in 1 / N (M. Chong and D. Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", 2020), and
halves of the drives tell the slope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor
from tqdm import tqdm

from ...data.shards import ClipAddress, load_clip
from ...policies.car import CarNet
from ...world_model.learned import SHIPPED
from ..bootstrap import Estimate
from .baselines import Generator, painted
from .pictures import SECOND
from .rollouts import TOGETHER, driven

WINDOW = 10 * SECOND  # steps
CHUNK = 256  # pictures encoded at once
GROUPS = 20  # of drives that are left out in turn for an interval
SPLITS = 20  # ways to halve the drives
FEWEST = 16  # drives to extrapolate from


@torch.inference_mode()
def driving_features(frames: Tensor) -> Tensor:
    """Features [n, 192] of pictures [n, H, W, 3] uint8: the camera branch of the imitated car network that ships."""
    encoder = _encoder()
    return torch.cat([encoder(part.permute(0, 3, 1, 2).float() / 255 - 0.5) for part in frames.split(CHUNK)])


@cache
def _encoder() -> torch.nn.Module:
    return CarNet.load(SHIPPED / "imitation").features.camera


def frechet_distance(mean_a: NDArray, cov_a: NDArray, mean_b: NDArray, cov_b: NDArray) -> float:
    """Squared Frechet distance of two normal distributions (D. C. Dowson and B. V. Landau, 1982).

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)).
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


@dataclass(frozen=True)
class Moments:
    """Of the features in one window of each of N drives."""

    mean: NDArray  # [N, d]
    outer: NDArray  # [N, d, d], mean outer product

    @classmethod
    def of(cls, frames: Tensor) -> Moments:
        """Of pictures [N, k, H, W, 3] uint8."""
        features = driving_features(frames.flatten(0, 1)).double().view(*frames.shape[:2], -1)
        return cls(features.mean(1).numpy(), (features.transpose(1, 2) @ features / features.shape[1]).numpy())

    @classmethod
    def cat(cls, parts: Sequence[Moments]) -> Moments:
        """Those of more drives."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "outer")))

    def normals(self, weights: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
        """Mean [d] and covariance [d, d] for every row of weights [S, N], each of which adds up to 1."""
        outer = (weights @ self.outer.reshape(len(self.outer), -1)).reshape(-1, *self.outer.shape[1:])
        for mean, product in zip(weights @ self.mean, outer, strict=True):
            yield mean, product - np.outer(mean, mean)


Windows = dict[str, tuple[Moments, Moments]]  # true and generated, by "first", "last" and "fresh"


def paint_windows(generator: Generator, addresses: Sequence[ClipAddress], steps: int, start: int, seed: int) -> Windows:
    """Roll out every clip for `steps` frames and keep what `Moments` need of the first and the last WINDOW, some clips in memory at a time.

    "fresh" are the last ones again, begun from the true picture before them: over their distance the last ones are apart by what a rollout
    loses on its way, not by what there is to see along it.

    Args:
        generator: the video model.
        addresses: clips of more than `start + steps` frames.
        steps: painted frames of a rollout, at least 2 WINDOW.
        start: frames of every clip to leave out at its beginning.
        seed: of the generator's noise.
    """
    parts: list[Windows] = []
    late = slice(steps - WINDOW, steps + 1)
    with tqdm(total=len(addresses) * steps, desc="painting", unit="frame", disable=None) as bar:
        for begin in range(0, len(addresses), TOGETHER):
            group = [load_clip(address).window(start, steps + 1) for address in addresses[begin : begin + TOGETHER]]
            track, true, actions = driven(group, slice(0, steps + 1))
            made: dict[str, list[Tensor]] = {"first": [], "last": []}
            for step, picture in enumerate(painted(generator, track, true[:, 0], actions, seed + begin), 1):
                if step <= WINDOW or step > steps - WINDOW:
                    made["first" if step <= WINDOW else "last"].append(picture)
                bar.update(len(group))
            made["fresh"] = list(painted(generator, track.columns(late), true[:, late.start], actions[:, late], seed + begin))
            first, last = Moments.of(true[:, 1 : WINDOW + 1]), Moments.of(true[:, -WINDOW:])
            truth = {"first": first, "last": last, "fresh": last}
            parts.append({name: (truth[name], Moments.of(torch.stack(pictures, 1))) for name, pictures in made.items()})
    return {name: (Moments.cat([p[name][0] for p in parts]), Moments.cat([p[name][1] for p in parts])) for name in parts[0]}


def frechet_figures(windows: Windows, seconds: int) -> dict[str, Estimate]:
    """Distances in the first and in the last 10 s of rollouts of `seconds`, and the ratio of the two.

    `_extrapolated` is what infinitely many drives would have; with fewer than FEWEST nothing is said of that. Intervals are of the
    delete-a-group jackknife over drives, on a logarithmic scale: drives that are drawn twice, as by a bootstrap, would spread less than as
    many others and so be further apart.
    """
    drives = len(windows["first"][0].mean)
    groups = np.arange(drives) * min(GROUPS, drives) // drives
    orders = [np.random.default_rng(number).permutation(drives) for number in range(SPLITS)]
    kept = [np.ones(drives, bool), *(groups != group for group in np.unique(groups) if drives > 1)]
    found = [_distances(windows, mask, orders) for mask in tqdm(kept, desc="comparing", disable=None)]
    first, last, fresh = (np.array([values[name] for values in found]) for name in ("first", "last", "fresh"))  # [1 + groups, 2]
    named = {"frechet_first_10s": first, f"frechet_last_10s_of_{seconds}s": last, f"frechet_ratio_{seconds}s": last / first}
    drift = {f"frechet_fresh_last_10s_of_{seconds}s": fresh, f"frechet_drift_{seconds}s": last / fresh}
    figures = {key: _jackknife(values[:, 0], drives) for key, values in (named | drift).items()}
    if drives >= FEWEST and min(first[:, 1].min(), last[:, 1].min()) > 0:
        figures |= {f"{key}_extrapolated": _jackknife(values[:, 1], drives) for key, values in named.items()}
    return figures


def _distances(windows: Windows, kept: NDArray, orders: Sequence[NDArray]) -> dict[str, tuple[float, float]]:
    """Distance between the drives that are kept [N], and that between infinitely many of their kind, by window."""
    halves = [half for order in orders for half in np.array_split(order[kept[order]], 2) if len(half)]
    weights = np.zeros((1 + len(halves), len(kept)))
    for row, drives in zip(weights, [np.flatnonzero(kept), *halves], strict=True):
        row[drives] = 1 / len(drives)
    found = {}
    for name, pair in windows.items():
        normals = [moments.normals(weights) for moments in pair]
        whole, *parts = (frechet_distance(*a, *b) for a, b in zip(*normals, strict=True))
        found[name] = whole, 2 * whole - float(np.mean(parts))
    return found


def _jackknife(values: NDArray, drives: int) -> Estimate:
    """Of a positive figure: first that of all drives, then those without each of the groups in turn."""
    left = len(values) - 1
    if left < 2 or values.min() <= 0:
        return Estimate(float(values[0]))
    logs = np.log(values[1:])
    error = np.sqrt((left - 1) * ((logs - logs.mean()) ** 2).mean())
    factor = float(np.exp(student.ppf(0.975, left - 1) * error))
    return Estimate(float(values[0]), float(values[0]) / factor, float(values[0]) * factor, drives)
