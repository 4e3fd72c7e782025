"""Does a factory that is killed at a random moment and run again make the same as one that was left alone?"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..evaluation.bootstrap import Estimate
from ..evaluation.evidence import evidence, write_evidence
from .child import StageError, command_line, last_line
from .pipeline import MANIFEST

TRIES = "tries.json"


@dataclass(frozen=True)
class Try:
    """One factory that was killed: when each time, in which stage, and whether it made the same in the end."""

    kills: tuple[tuple[float, str], ...]  # s after the start, name of the unfinished stage
    same: bool
    difference: str = ""


def measure_kills(preset: str, out: str, tries: int, kills: int, seed: int, threads: int) -> Path:
    """Run a factory undisturbed, then others that are killed and run again, and compare their manifests; writes metrics.json.

    Every kill is SIGKILL for the whole process group. The moments are drawn evenly from the time the undisturbed run took; what passes
    between two of them passes between a start and its kill. A kill counts as survived when its factory made the same in the end. The
    undisturbed run and the tries that are over are kept in the folder and used again; one that was cut off starts from nothing.

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
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that factories end with this command
    try:
        return _measure(preset, out, tries, kills, seed, threads)
    finally:
        signal.signal(signal.SIGTERM, before)


def _measure(preset: str, out: str, tries: int, kills: int, seed: int, threads: int) -> Path:
    began, folder = time.monotonic(), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    start = lambda name: command_line(["factory", f"preset={preset}", f"out={name}", f"threads={threads}"])
    # The first run may find finished stages, so its own time is no measure of when to kill.
    complete(start("whole"), folder, "whole")
    whole_s = sum(json.loads(path.read_text())["seconds"] for path in sorted((folder / "whole").glob("*/stage.json")))
    draw = random.Random(seed)
    recipe = {
        "preset": preset,
        "kills": kills,
        "seed": seed,
        "threads": threads,
        "whole": hashlib.sha256((folder / "whole" / MANIFEST).read_bytes()).hexdigest(),
    }
    found = _kept(folder / TRIES, recipe)[:tries]
    for number in range(tries):
        name, moments = f"try{number}", sorted(draw.uniform(0, whole_s) for _ in range(kills))
        after = [moment - last for last, moment in zip([0.0, *moments], moments, strict=False)]
        if number >= len(found):
            shutil.rmtree(folder / name, ignore_errors=True)
            found.append(killed(start(name), folder, name, after, folder / "whole" / MANIFEST))
            _keep(folder / TRIES, recipe, found)
        one = found[number]
        shown = ", ".join(f"{at:.0f} s in {stage}" for at, stage in one.kills) or "never: it was done before"
        print(f"try {number}: killed {shown}: {'the same' if one.same else 'NOT the same: ' + one.difference}", flush=True)
    metrics = {
        "kill_rerun_ok": Estimate(sum(len(one.kills) for one in found if one.same)),
        "kill_rerun_tried": Estimate(sum(len(one.kills) for one in found)),
    }
    command = f"xpeng-world measure-kills preset={preset} tries={tries} kills={kills} seed={seed} threads={threads}"
    record = evidence(metrics, command=command, seconds=time.monotonic() - began, seeds=[seed], threads=threads)
    path = write_evidence(folder / "metrics.json", record)
    print(f"{metrics['kill_rerun_ok'].value:.0f} of {metrics['kill_rerun_tried'].value:.0f} kills survived; figures in {path}")
    return path


def _kept(path: Path, recipe: dict[str, Any]) -> list[Try]:
    """Tries that an earlier call with the same recipe finished."""
    try:
        page = json.loads(path.read_text())
        if page["recipe"] != recipe:
            return []
        return [Try(tuple((float(at), str(stage)) for at, stage in one["kills"]), one["same"], one["difference"]) for one in page["tries"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _keep(path: Path, recipe: dict[str, Any], found: Sequence[Try]) -> None:
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps({"recipe": recipe, "tries": [asdict(one) for one in found]}, indent=1) + "\n")
    os.replace(aside, path)


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
    process = _start(arguments, folder, name)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        running = sorted(path.name.removesuffix(".partial") for path in (folder / name).glob("*.partial"))
        return running[0] if running else "none"
    finally:
        _end(process)
    if process.returncode:
        raise StageError(f"factory '{name}' failed before it was killed: {last_line(folder / f'{name}.log')}")
    return None


def complete(arguments: Sequence[str], folder: Path, name: str) -> None:
    """Run a factory to its end.

    Raises:
        StageError: it failed.
    """
    process = _start(arguments, folder, name)
    try:
        process.wait()
    finally:  # also when this command is interrupted or told to end: nothing of it goes on
        _end(process)
    if process.returncode:
        raise StageError(f"factory '{name}' failed: {last_line(folder / f'{name}.log')}; its log is '{folder / name}.log'")


def _start(arguments: Sequence[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a factory in a process group of its own."""
    with open(folder / f"{name}.log", "ab") as log:
        return subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process group that is still running."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _until(lambda: not _alive(process.pid))


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
