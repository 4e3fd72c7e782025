"""What importers share: cut a recording into clips, choose the held-out part, write, and report."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .shards import INDEX, ShardWriter

GUARD_STEPS = 10  # steps left out between training and test parts of one drive, so that no frame has a twin on the other side


@dataclass
class ImportReport:
    """What an importer wrote, and what it left out."""

    clips: dict[str, int] = field(default_factory=dict)  # by split
    frames: dict[str, int] = field(default_factory=dict)  # by split
    missing_images: int = 0  # skipped because the option says so
    dropped_frames: int = 0  # source frames in stretches too short to use
    left_out: dict[str, int] = field(default_factory=dict)  # of recorded traffic: what, and how many

    def count(self, split: str, steps: int) -> None:
        """Count one clip."""
        self.clips[split] = self.clips.get(split, 0) + 1
        self.frames[split] = self.frames.get(split, 0) + steps

    def summary(self, out: str | Path) -> str:
        """The report in one line."""
        parts = [f"{self.clips[split]} clips ({self.frames[split]} frames) for {split}" for split in self.clips]
        missing = f", {self.missing_images} images missing or unreadable" if self.missing_images else ""
        things = "".join(f", {count} {what}" for what, count in self.left_out.items())
        return f"{out}: {', '.join(parts)}; left out {self.dropped_frames} source frames{missing}{things}"


@dataclass(frozen=True)
class Piece:
    """A clip to be: steps [start, stop) of one stretch of the recording."""

    stretch: int
    start: int
    stop: int
    split: str


def plan_clips(steps: Sequence[int], clip_steps: int, min_steps: int, test_share: float) -> list[Piece]:
    """Cut stretches of so many steps into clips; the last `test_share` of all steps are the test part.

    Args:
        steps: steps of each stretch, in time order.
        clip_steps: the longest clip.
        min_steps: shorter remains are left out.
        test_share: in [0, 1].

    Raises:
        DataError: numbers that make no sense.
    """
    if not (2 <= min_steps <= clip_steps and 0 <= test_share <= 1):
        raise DataError(
            f"clip_steps {clip_steps}, min_steps {min_steps}, test_share {test_share}: need 2 <= min_steps <= clip_steps, share in [0, 1]"
        )
    boundary = round(sum(steps) * (1 - test_share))
    pieces, before = [], 0
    for stretch, count in enumerate(steps):
        cut = min(max(boundary - before, 0), count)
        test_start = cut if cut in (0, count) else min(cut + GUARD_STEPS, count)
        for start, stop, split in ((0, cut, "train"), (test_start, count, "test")):
            for first in range(start, stop, clip_steps):
                last = min(first + clip_steps, stop)
                if last - first >= min_steps:
                    pieces.append(Piece(stretch, first, last, split))
        before += count
    return pieces


def open_output(out: str | Path, append: bool) -> ShardWriter:
    """A writer into `out`.

    Raises:
        DataError: there are clips already and `append` is not set.
    """
    if (Path(out) / INDEX).exists() and not append:
        raise DataError(f"'{out}' already holds clips; choose another folder, or append=true to add to them")
    return ShardWriter(out)


def licence_beside(path: Path) -> str:
    """First line of the licence file in a recording's folder, else "unknown"."""
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        if (path / name).is_file():
            lines = (path / name).read_text(errors="replace").strip().splitlines()
            return lines[0].strip() if lines else "unknown"
    return "unknown"


def project_version() -> str:
    """Version of the installed project, for the provenance."""
    try:
        return importlib.metadata.version("xpeng-world")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
