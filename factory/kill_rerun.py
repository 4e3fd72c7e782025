"""Does a factory that is killed at a random moment and run again make the same as one that was left alone?"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..evaluation.bootstrap import Estimate
from ..evaluation.evidence import evidence, write_evidence
from .child import StageError, command_line, last_line
from .pipeline import MANIFEST


@dataclass(frozen=True)
class Try:
    """One factory that was killed: when each time, in which stage, and whether it made the same in the end."""

    kills: tuple[tuple[float, str], ...]  # s after the start, name of the unfinished stage
    same: bool
    difference: str = ""


def measure_kills(preset: str, out: str, tries: int, kills: int, seed: int, threads: int) -> Path:
    """Run a factory undisturbed, then others that are killed and run again, and compare their manifests; writes metrics.json.

    Every kill is SIGKILL for the whole process group, at a moment drawn evenly from the time the undisturbed run took, counted from
    the last start. The undisturbed run is kept in the folder and used again; killed ones start from nothing.

    Args:
        preset: of the factory.
        out: folder for the factories.
        tries: factories that are killed.
        kills: times each of them is killed.
        seed: of the moments; the factories have seed 0.
        threads: of each factory.

    Raises:
        ConfigError: not one try or kill.
        StageError: a factory failed that had not been killed.
    """
    if tries < 1 or kills < 1:
        raise ConfigError(f"tries={tries} and kills={kills} must be at least 1")
    began, folder = time.monotonic(), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    start = lambda name: command_line(["factory", f"preset={preset}", f"out={name}", f"threads={threads}"])
    # The first run may find finished stages, so its own time is no measure of when to kill.
    complete(start("whole"), folder, "whole")
    whole_s = sum(json.loads(path.read_text())["seconds"] for path in sorted((folder / "whole").glob("*/stage.json")))
    draw = random.Random(seed)
    found = []
    for number in range(tries):
        name = f"try{number}"
        shutil.rmtree(folder / name, ignore_errors=True)
        found.append(killed(start(name), folder, name, [draw.uniform(0, whole_s) for _ in range(kills)], folder / "whole" / MANIFEST))
        shown = ", ".join(f"{at:.0f} s in {stage}" for at, stage in found[-1].kills) or "never: it was done before"
        print(f"try {number}: killed {shown}: {'the same' if found[-1].same else 'NOT the same: ' + found[-1].difference}", flush=True)
    metrics = {
        "kill_rerun_ok": Estimate(sum(one.same and bool(one.kills) for one in found)),
        "kill_rerun_tried": Estimate(sum(bool(one.kills) for one in found)),
        "kill_rerun_kills": Estimate(sum(len(one.kills) for one in found)),
    }
    command = f"xpeng-world measure-kills preset={preset} tries={tries} kills={kills} seed={seed} threads={threads}"
    record = evidence(metrics, command=command, seconds=time.monotonic() - began, seeds=[seed], threads=threads)
    path = write_evidence(folder / "metrics.json", record)
    print(f"{metrics['kill_rerun_ok'].value:.0f} of {metrics['kill_rerun_tried'].value:.0f} the same; figures in {path}")
    return path


def killed(arguments: Sequence[str], folder: Path, name: str, after: Sequence[float], expected: Path) -> Try:
    """Start a factory, kill it after so many seconds, again for each number, then run it to its end and compare its manifest."""
    kills = []
    for seconds in after:
        stage = kill_after(arguments, folder, name, seconds)
        if stage is None:
            break
        kills.append((seconds, stage))
    complete(arguments, folder, name)
    mine, theirs = (json.loads(path.read_text()) for path in (folder / name / MANIFEST, expected))
    if mine == theirs:
        return Try(tuple(kills), True)
    return Try(tuple(kills), False, _difference(mine["stages"], theirs["stages"]))


def kill_after(arguments: Sequence[str], folder: Path, name: str, seconds: float) -> str | None:
    """Start a process group and kill it; returns the stage that was under way ("none" between two), or None if it ended before."""
    with open(folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _until(lambda: not _alive(process.pid))
                running = sorted(path.name.removesuffix(".partial") for path in (folder / name).glob("*.partial"))
                return running[0] if running else "none"  # noqa: B012
    if process.returncode:
        raise StageError(f"factory '{name}' failed before it was killed: {last_line(folder / f'{name}.log')}")
    return None


def complete(arguments: Sequence[str], folder: Path, name: str) -> None:
    """Run a factory to its end.

    Raises:
        StageError: it failed.
    """
    with open(folder / f"{name}.log", "ab") as log:
        done = subprocess.run(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise StageError(f"factory '{name}' failed: {last_line(folder / f'{name}.log')}; its log is '{folder / name}.log'")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _until(condition: Callable[[], bool], patience_s: float = 10.0) -> None:
    end = time.monotonic() + patience_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def _difference(mine: dict, theirs: dict) -> str:
    for stage, entry in theirs.items():
        if mine[stage]["key"] != entry["key"]:
            return f"'{stage}' has another recipe"
        for name, digest in entry["outputs"].items():
            if mine[stage]["outputs"].get(name) != digest:
                return f"'{name}' of '{stage}'"
    return "files too many"
