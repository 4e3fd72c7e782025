"""Rules and designs on recorded drives: nothing is simulated, the recordings' own tracks are judged again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.shards import ClipAddress, list_clips, load_clip
from ..errors import ConfigError, DataError
from ..rewards import Design, design_names, load_design
from ..rewards.checks import check_own_rules
from ..rewards.rule import RULES, Rule, evaluate_rules, find_rule
from ..scene import DT, Track
from .evidence import write_text
from .rule_plots import plot_drives, plot_timeline

HALF = 0.5  # below which a share counts as fired


@dataclass(frozen=True)
class Drive:
    """One recorded drive."""

    name: str  # its shard and key
    address: ClipAddress

    def track(self) -> Track | None:
        """Read its track [1, T]; None where the recording knows no scene."""
        return load_clip(self.address, frames=False).track


@dataclass
class Firing:
    """What a rule said over all drives."""

    rule: Rule
    threshold: float
    above: bool  # it fires above the threshold, else below it
    parameters: dict[str, Any] = field(default_factory=dict)
    frames: int = 0
    fired: int = 0
    total: float = 0.0  # sum of values
    lowest: float = math.inf
    highest: float = -math.inf
    drives: dict[str, int] = field(default_factory=dict)  # frames in which it fired, by the drive's name

    def fires(self, values: Tensor) -> Tensor:
        """Where values [T] of a drive are past the threshold; never in its first frame, before which nothing was."""
        fired = values > self.threshold if self.above else values < self.threshold
        fired[0] = False
        return fired

    @property
    def worst(self) -> float:
        """The value farthest on the side that it fires on."""
        return self.highest if self.above else self.lowest

    def add(self, name: str, values: Tensor) -> Tensor:
        """Count the values [T] of a drive but for the first; returns where it fired."""
        fired = self.fires(values)
        counted = values[1:] if len(values) > 1 else values
        self.frames += len(counted)
        self.fired += int(fired.sum())
        self.total += float(counted.sum())
        self.lowest, self.highest = min(self.lowest, float(counted.min())), max(self.highest, float(counted.max()))
        if bool(fired.any()):
            self.drives[name] = int(fired.sum())
        return fired


def replay(
    data: str,
    rule: str | None,
    out: str,
    split: str | None,
    limit: int | None,
    below: float | None,
    above: float | None,
    plots: int,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Judge recorded drives by one rule or by all, and say where they fired: a table, `fired.csv` and timelines as PNG.

    A gate, or a term that is a share, fires below 0.5, a cost that is a share or an event above 0, and what is an amount (m, kW) never
    unless `below` or `above` says so. A rule that did not come with the package is first tried on one drive (`check_rule`).

    Args:
        data: folder of shards, or one shard.
        rule: a name or the path of a .py file; None for all built-in rules.
        out: folder for the files.
        split: only clips of this split.
        limit: only the first so many clips.
        below: fires below this value instead; for one rule.
        above: fires above this value instead; for one rule.
        plots: timelines of so many drives, those with the most frames that fired.
        parameters: of the rule, in place of its defaults.

    Raises:
        ConfigError: an unknown rule or parameter, parameters without a rule, or a threshold without one rule or two thresholds.
        DataError: no drive with a scene.
    """
    if (below is not None or above is not None) and rule is None:
        raise ConfigError("below= and above= are thresholds of one rule; name it with rule=")
    if below is not None and above is not None:
        raise ConfigError(f"below={below} and above={above}: a rule has one threshold; give one of them")
    if parameters and rule is None:
        raise ConfigError("parameters= are those of one rule; name it with rule=")
    firings = [_firing(found, below, above) for found in ([find_rule(rule)] if rule else built_in_rules())]
    if parameters:
        firings[0].parameters = firings[0].rule.check_parameters(parameters)
    lines = []
    kept: dict[str, tuple[int, Drive]] = {}
    calls: list[tuple[Rule, dict[str, Any]]] = [(firing.rule, firing.parameters) for firing in firings]
    for drive, track in read_drives(data, split, limit):
        if not kept:
            check_own_rules(calls, track)
        values = evaluate_rules(track, calls)[:, 0]
        fired = torch.stack([firing.add(drive.name, row) for firing, row in zip(firings, values, strict=True)])
        for firing, row, where in zip(firings, values, fired, strict=True):
            lines += [_line(drive, firing, row, begin, end) for begin, end in runs(where)]
        kept[drive.name] = (int(fired.any(0).sum()), drive)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["drive", "rule", "first_frame", "last_frame", "first_second", "frames", "worst"]
    path = folder / "fired.csv"
    write_text(path, _csv(columns, lines))
    for old in folder.glob("timeline_*.png"):
        old.unlink()
    show(firings)
    if rule is not None and math.isnan(firings[0].threshold):
        one = firings[0]
        print(f"values of {one.rule.name}: {one.lowest:.4g} to {one.highest:.4g} {one.rule.unit}; say with above= or below= when it fires")
    most = sorted(kept.values(), key=lambda item: (-item[0], item[1].name))[: max(0, plots)]
    for number, (_, drive) in enumerate(most):
        values = evaluate_rules(_scene(drive), calls)[:, 0]
        rows = [(firing.rule.name, row, firing.threshold, firing.fires(row)) for firing, row in zip(firings, values, strict=True)]
        print(f"{drive.name}: {plot_timeline(folder / f'timeline_{number}.png', drive.name, rows)}")
    print(f"{len(lines)} runs of frames that fired, in {path}")
    return path


def compare(a: str, b: str, data: str, out: str, split: str | None, limit: int | None, moments: int) -> Path:
    """Judge recorded drives by two designs and say which moments they see most differently, and by which parts.

    What a part does in a moment is the reward as it is less the reward if the part said nothing wrong (gates, shares and costs at their
    best) or nothing at all (terms that are amounts). A drive counts up to where a design would have ended it; what an end costs is left
    out of the moments, and drives that the two end elsewhere are listed.

    Args:
        a: name or file of a design.
        b: another.
        data: folder of shards, or one shard.
        out: folder for `moments.csv`, `drives.csv` and a plot.
        split: only clips of this split.
        limit: only the first so many clips.
        moments: how many are printed.

    Raises:
        ConfigError: a design that does not exist or is wrong.
        DataError: no drive with a scene.
    """
    from scipy.stats import spearmanr

    designs = (load_design(a), load_design(b))
    names = (designs[0].name, designs[1].name) if designs[0].name != designs[1].name else (a, b)
    found, ends = [], []
    sums: list[tuple[str, float, float]] = []
    for drive, track in read_drives(data, split, limit):
        if not sums:
            check_own_rules([(entry.rule, entry.parameters) for design in designs for entry in design.entries()], track)
        judged = [judge(design, track) for design in designs]
        sums.append((drive.name, float(judged[0][0].sum()), float(judged[1][0].sum())))
        gap = (judged[1][1] - judged[0][1]).nan_to_num(0.0)  # where both still drive
        gap[0] = 0.0  # nothing comes before it
        if judged[0][2] != judged[1][2]:
            ends.append((drive.name, judged[0][2], judged[1][2]))
        for begin, end in runs(gap.abs() > 0.25 * float(gap.abs().max().clamp_min(1e-6))):
            at = begin + int(gap[begin:end].abs().argmax())
            found.append((float(gap[at]), drive, at, end - begin))
    found.sort(key=lambda item: (-abs(item[0]), item[1].name, item[2]))
    effects = [[part_effects(design, _scene(drive), at) for design in designs] for _, drive, at, _ in found[:moments]]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        [drive.name, at, f"{DT * at:.1f}", length, f"{gap:.4g}", *(_told(parts) for parts in why)]
        for (gap, drive, at, length), why in zip(found[:moments], effects, strict=True)
    ]
    columns = ["drive", "frame", "second", "frames", "difference", *(f"because_{name}" for name in names)]
    path = folder / "moments.csv"
    write_text(path, _csv(columns, rows))
    write_text(folder / "drives.csv", _csv(["drive", *names], [[name, f"{x:.5g}", f"{y:.5g}"] for name, x, y in sums]))
    order = f"{spearmanr([row[1] for row in sums], [row[2] for row in sums]).statistic:.3f}" if len(sums) > 2 else "unknown"
    print(f"{len(sums)} drives; rank correlation of their returns {order}")
    for name, first, second in ends[:moments]:
        print(f"  {name}: {names[0]} ends it {first or 'nowhere'}, {names[1]} {second or 'nowhere'}")
    if rows:
        print(f"moments that differ most, {names[1]} less {names[0]}, in perfect steps of {DT:g} s, and the parts that made it:")
    else:
        print("no moment differs")
    for row in rows:
        print(f"  {row[0]} at {row[2]} s: {row[4]}; {names[0]}: {row[5] or 'no part'}; {names[1]}: {row[6] or 'no part'}")
    print(f"all in {path}; {plot_drives(folder / 'drives.png', names, sums)}")
    return path


def judge(design: Design, track: Track) -> tuple[Tensor, Tensor, str]:
    """What a design says of a recorded drive [1, T] up to where it would have ended it.

    Returns:
        The rewards [T], 0 after the end; the same in perfect steps and without what an end costs, NaN after it; where and why it ends,
        "" if it does not.
    """
    values = design.evaluate(track)
    step = design.combine(values)
    plain = replace(design, ends=()).combine(values).reward[0] / max(design.scale, 1e-9)
    going = (step.terminated.cumsum(1) - step.terminated.long() == 0)[0] & track.valid[0]
    at = int(step.terminated[0].int().argmax()) if bool(step.terminated.any()) else None
    why = "" if at is None else f"at {DT * at:.1f} s by {', '.join(label for label, ended in step.ended_by.items() if bool(ended[0, at]))}"
    return torch.where(going, step.reward[0], 0.0), torch.where(going, plain, torch.nan), why


def part_effects(design: Design, track: Track, column: int) -> dict[str, float]:
    """What each part of a design does to the reward of one column of a track [1, T], by label; parts without effect are left out."""
    design = replace(design, ends=())
    values = {label: value[:, column] for label, value in design.evaluate(track).items()}
    reward = design.combine(values).reward
    effects = {}
    for entry in design.entries():
        best = 0.0 if entry.rule.kind == "cost" or entry.rule.low < 0 or entry.rule.high > 1 else 1.0
        other = {**values, entry.label: torch.full_like(values[entry.label], best)}
        change = float((reward - design.combine(other).reward) / max(design.scale, 1e-9))
        if abs(change) > 1e-4:
            effects[entry.label] = change
    return effects


def list_drives(data: str, split: str | None = None) -> list[Drive]:
    """All drives of shards.

    Raises:
        DataError: nothing there.
    """
    named = lambda shard, key: key if key.startswith(shard) else f"{shard}/{key}"
    return [Drive(named(Path(address.shard).stem, address.key), address) for address in list_clips(data, split)]


def names_of(designs: str | Sequence[str]) -> tuple[str, ...]:
    """Designs by name or file, all shipped ones for none; a single text is one."""
    return (designs,) if isinstance(designs, str) else tuple(designs) or tuple(design_names())


def read_drives(data: str, split: str | None, limit: int | None) -> Iterator[tuple[Drive, Track]]:
    """The drives of shards that have a scene, with their tracks and without pictures, one in memory at a time.

    Raises:
        ConfigError: a limit below 1.
        DataError: nothing there, or no drive has a scene.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit} must be at least 1")
    any_scene = False
    for drive in list_drives(data, split)[:limit]:
        track = drive.track()
        if track is not None and track.steps:
            any_scene = True
            yield drive, track
    if not any_scene:
        raise DataError(f"no drive in '{data}' has a scene; rules need clips recorded in a world that knows it")


def built_in_rules() -> list[Rule]:
    """All rules that come with the package or are installed by entry points."""
    from ..rewards import rules  # noqa: F401  (registers the built-in ones)
    from ..rewards.rule import load_entry_points

    load_entry_points()
    return list(RULES.values())


def runs(condition: Tensor) -> list[tuple[int, int]]:
    """Where a condition [T] holds without a break, as (first, after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], condition.numpy().astype(np.int8), [0]))))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def show(firings: Sequence[Firing]) -> None:
    """Print the table of what fired, the most first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    whole = [Column(name, no_wrap=True) for name in ("rule", "most in")]
    table = Table(whole[0], "fires", "frames", "share", "mean", "worst", whole[1], box=SIMPLE_HEAD)
    silent = []
    for firing in sorted(firings, key=lambda one: (-one.fired, one.rule.name)):
        if not firing.fired and len(firings) > 1:
            silent.append(firing.rule.name)
            continue
        most = max(firing.drives, key=lambda name: firing.drives[name]) if firing.drives else ""
        when = "never" if math.isnan(firing.threshold) else f"{'above' if firing.above else 'below'} {firing.threshold:g}"
        frames = max(1, firing.frames)
        share, mean, worst = f"{firing.fired / frames:.2%}", f"{firing.total / frames:.3g}", f"{firing.worst:.3g}"
        table.add_row(firing.rule.name, when, str(firing.fired), share, mean, worst, most)
    Console().print(table)
    if silent:
        print(f"never: {', '.join(silent)}")


def _scene(drive: Drive) -> Track:
    """The track of a drive that was read before."""
    track = drive.track()
    if track is None:
        raise DataError(f"drive '{drive.name}' has lost its scene while it was judged; do not write into the shards meanwhile")
    return track


def _firing(rule: Rule, below: float | None, above: float | None) -> Firing:
    if above is not None:
        return Firing(rule, above, True)
    if below is not None:
        return Firing(rule, below, False)
    share = rule.low >= 0 and rule.high <= 1
    if rule.kind == "cost":
        return Firing(rule, 0.0 if share else float("nan"), True)
    return Firing(rule, HALF if share else float("nan"), False)


def _line(drive: Drive, firing: Firing, values: Tensor, begin: int, end: int) -> list[Any]:
    worst = float(values[begin:end].max() if firing.above else values[begin:end].min())
    return [drive.name, firing.rule.name, begin, end - 1, f"{DT * begin:.1f}", end - begin, f"{worst:.5g}"]


def _told(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {change:+.3g}" for label, change in sorted(parts.items(), key=lambda item: -abs(item[1]))[:3])


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
