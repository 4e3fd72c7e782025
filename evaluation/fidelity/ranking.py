"""Do both worlds rank policies the same? Many policies, good and bad, scored on the same episodes of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ...envs.worlds import make_world
from ...errors import ConfigError, DataError
from ...policies import load_policy
from ...world_model.learned import SHIPPED
from ..bootstrap import Estimate
from ..runner import run_suite
from ..suites import load_suite

NAMED = ("expert", "tutor", "noisy_expert", "lazy", "crawl", "idle", "random", "reckless", "offroad", "circle")
SHIPPED_POLICIES = ("imitation", "ppo", "micro", "vla")
RESAMPLES = 2000


@dataclass(frozen=True)
class Ranking:
    """Points of P policies on E episodes in both worlds, NaN where an episode could not be scored."""

    policies: list[str]
    reference: NDArray[np.float64]  # [P, E]
    learned: NDArray[np.float64]  # [P, E]


def rank_policies(world: str, policies: Sequence[str] | None, suite: str, episodes: int | None, seed: int, workers: int | None) -> Ranking:
    """Score policies in the reference world and in `world`, without pictures where a policy does not look at them.

    Args:
        world: the learned one.
        policies: names or folders; the drivers by name and the shipped networks when None.
        suite: of episodes; both worlds draw their own roads of its split from its seeds.
        episodes: the first so many; all when None.
        seed: added to the suite's seeds.
        workers: processes for the reference world.

    Raises:
        ConfigError: fewer than three policies, or one that does not exist.
    """
    chosen = list(policies) if policies else [*NAMED, *(str(SHIPPED / name) for name in SHIPPED_POLICIES)]
    if len(chosen) < 3:
        raise ConfigError(f"to rank takes three policies or more, not {len(chosen)}; give none for the shipped ones")
    blind = {name for name in chosen if not getattr(load_policy(name), "looks", True)}
    cut = load_suite(suite).first(episodes)
    points: dict[str, list[NDArray[np.float64]]] = {"reference": [], world: []}
    for name in chosen:
        for place, rows in points.items():
            seen = make_world(place, camera=False) if name in blind else place
            found = run_suite(name, seen, cut, workers=workers, seed=seed)
            rows.append(np.array([row.scores.get("epdms", np.nan) for row in found.rows]))
            print(f"{Path(name).name:>16} in {Path(place).name:<10} {found.score:6.1f} points", flush=True)
    return Ranking([Path(name).name for name in chosen], np.stack(points["reference"]), np.stack(points[world]))


def ranking_figures(ranking: Ranking, seed: int = 0) -> dict[str, Estimate]:
    """Spearman and Pearson correlation of the policies' mean points, episodes resampled in each world; on those all have a score of.

    Raises:
        DataError: no such episode, or all policies have the same points.
    """
    reference, learned = (points[:, np.isfinite(points).all(0)] for points in (ranking.reference, ranking.learned))
    if not (reference.size and learned.size) or np.ptp(reference.mean(1)) == 0 or np.ptp(learned.mean(1)) == 0:
        raise DataError("nothing to rank by: no episode that all policies have a score of, or the same points for all")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        a, b = (points[:, rng.integers(points.shape[1], size=points.shape[1])].mean(1) for points in (reference, learned))
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            drawn.append(_correlations(a, b))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    value, n = _correlations(reference.mean(1), learned.mean(1)), len(ranking.policies)
    return {
        "ranking_spearman": Estimate(value[0], float(low[0]), float(high[0]), n),
        "ranking_pearson": Estimate(value[1], float(low[1]), float(high[1]), n),
        "ranking_policies": Estimate(float(n)),
        "ranking_episodes": Estimate(float(min(reference.shape[1], learned.shape[1]))),
    }


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    return float(spearmanr(a, b).statistic), float(np.corrcoef(a, b)[0, 1])


def ranking_table(ranking: Ranking) -> str:
    """A CSV: mean points of each policy in both worlds."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["policy", "reference", "learned"])
    for name, a, b in zip(ranking.policies, ranking.reference, ranking.learned, strict=True):
        table.writerow([name, f"{np.nanmean(a):.2f}", f"{np.nanmean(b):.2f}"])
    return text.getvalue()


def plot_ranking(ranking: Ranking, path: Path) -> Path:
    """Points in the learned world against points in the reference, one mark a policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 5))
    a, b = np.nanmean(ranking.reference, 1), np.nanmean(ranking.learned, 1)
    axes.plot([0, 100], [0, 100], color="0.8", linewidth=1)
    axes.scatter(a, b, s=24)
    for names, x, y in labels(ranking.policies, a, b):
        axes.annotate(names, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="points in the reference world", ylabel="points in the learned world", xlim=(-3, 103), ylim=(-3, 103))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def labels(names: Sequence[str], a: NDArray[np.float64], b: NDArray[np.float64], apart: float = 3.0) -> list[tuple[str, float, float]]:
    """What to write at which points: names whose points are less than `apart` from an earlier one's in both worlds are written there."""
    together: list[tuple[list[str], float, float]] = []
    for name, x, y in zip(names, a.tolist(), b.tolist(), strict=True):
        near = next((some for some, u, v in together if abs(u - x) < apart and abs(v - y) < apart), None)
        if near is None:
            together.append(([name], x, y))
        else:
            near.append(name)
    return [(", ".join(some), x, y) for some, x, y in together]
