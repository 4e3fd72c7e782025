"""Plots of rules: over a drive, against their input, and of two designs on the same drives."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..scene import DT

LINE, FIRED, THRESHOLD = "#35629a", "#b3261e", "#999999"
LEAST_CHANGE = 1e-6


def plot_timeline(path: Path, title: str, rows: Sequence[tuple[str, Tensor, float, Tensor]]) -> Path:
    """Every rule's value over a drive, a strip each, with its threshold and the frames in which it fired.

    Rules that fired come first. Those that never said anything else than in the first frame are named below, not drawn.

    Args:
        path: of the PNG.
        title: above it.
        rows: name, values [T], threshold (NaN: none) and where it fired [T] bool.
    """
    silent = [row for row in rows if not bool(row[3].any()) and float(row[1].max() - row[1].min()) < LEAST_CHANGE]
    drawn = [row for row in rows if not any(row is other for other in silent)] or list(rows[:1])
    drawn.sort(key=lambda row: -int(row[3].sum()))
    figure, axes = _figure(10.0, max(1.6, 0.62 * len(drawn) + 1.0), len(drawn))
    for axis, (name, values, threshold, fired) in zip(axes, drawn, strict=True):
        seconds, value = DT * np.arange(len(values)), values.numpy()
        axis.plot(seconds, value, color=LINE, linewidth=1.2)
        if not math.isnan(threshold):
            axis.axhline(threshold, color=THRESHOLD, linewidth=0.8, linestyle=":")
        where = fired.numpy()
        axis.plot(seconds[where], value[where], ".", color=FIRED, markersize=3)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.margins(x=0, y=0.15)
        if threshold in (0.0, 0.5):  # a share
            axis.set_ylim(-0.08, 1.08)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    same = ", ".join(row[0] for row in silent if not any(row is other for other in drawn))
    axes[-1].set_xlabel("s" + (f"\n{textwrap.fill('always the same: ' + same, 150)}" if same else ""), fontsize=8)
    axes[0].set_title(title, fontsize=9, loc="left")
    return _save(figure, path)


def plot_drives(path: Path, names: Sequence[str], sums: Sequence[tuple[str, float, float]]) -> Path:
    """The returns of drives under two designs, one a point."""
    figure, (axis,) = _figure(5.0, 5.0, 1)
    axis.plot([row[1] for row in sums], [row[2] for row in sums], ".", color=LINE)
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    axis.set_title("return of each drive", fontsize=9, loc="left")
    return _save(figure, path)


def plot_curves(path: Path, title: str, curves: Sequence[tuple[str, str, Sequence[float], Sequence[float]]]) -> Path:
    """A rule's value against one thing at a time.

    Args:
        path: of the PNG.
        title: above it.
        curves: what is varied, what it is called with its unit, its values and the rule's.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, len(curves), figsize=(3.2 * len(curves), 2.6), squeeze=False, layout="constrained", sharey=True)
    for axis, (_, label, given, values) in zip(grid[0], curves, strict=True):
        axis.plot(given, values, color=LINE)
        axis.set_xlabel(textwrap.fill(label, 30), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.margins(y=0.1)
    figure.suptitle(title, fontsize=9)
    return _save(figure, path)


def _figure(width: float, height: float, rows: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, 1, figsize=(width, height), sharex=True, squeeze=False, layout="constrained")
    return figure, axes[:, 0]


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(partial, dpi=120)
    pyplot.close(figure)
    partial.replace(path)
    return path
