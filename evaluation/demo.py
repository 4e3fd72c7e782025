"""The demo: a shipped policy drives in the learned world, on video and with its score."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import ConfigError, DataError
from ..scene import DT
from .suites import Episode, Suite


def demo(policy: str, world: str, out: str, seconds: float, seed: int) -> Path:
    """Drive once, write drive.mp4 and metrics.json, print the scorecard.

    Raises:
        ConfigError: no such policy or world, or no time to drive.
        DataError: the drive could not be scored.
    """
    from .evidence import evidence, write_evidence
    from .report import figures, print_scorecard, write_drive_video
    from .runner import run_suite

    if seconds < DT:
        raise ConfigError(f"seconds={seconds:g} is shorter than a step of {DT} s")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    suite = Suite("demo", "one drive", round(seconds / DT), (Episode(0, seed, {"split": "test"}),))
    with tempfile.TemporaryDirectory(prefix=".drives-", dir=folder) as drives:
        found = run_suite(policy, world, suite, workers=1, batch=1, keep=Path(drives))
        (row,) = found.rows
        if row.kept is None:
            raise DataError(f"the drive was not kept: {row.unscored}")
        video = write_drive_video(folder / "drive.mp4", row.kept, f"{found.policy} in {found.world}")
    command = f"xpeng-world demo policy={found.policy} world={found.world} seconds={seconds:g} seed={seed}"
    path = write_evidence(folder / "metrics.json", evidence(figures(found), command=command, seconds=found.seconds, seeds=[seed]))
    print_scorecard(found, path)
    print(f"video: {video}")
    return video
