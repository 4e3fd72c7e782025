"""How a figure is kept: one JSON a file, with the command, commit, machine, threads and seeds that made it."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from .bootstrap import Estimate

RUN = ("command", "commit", "machine", "threads", "seeds", "seconds")
FIELDS = (*RUN, "metrics")


def evidence(
    metrics: Mapping[str, Estimate | float],
    *,
    command: str,
    seconds: float,
    seeds: Sequence[int] = (),
    threads: int | None = None,
) -> dict[str, Any]:
    """One run's figures with what is needed to repeat them.

    Raises:
        ValueError: a figure is not finite; leave it out instead and say so.
    """
    figures = {}
    for key, metric in metrics.items():
        estimate = metric if isinstance(metric, Estimate) else Estimate(float(metric))
        for number in (estimate.value, estimate.low, estimate.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"figure '{key}' is {number}; leave out what could not be measured")
        figures[key] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    return {
        "command": command,
        "commit": commit(),
        "machine": machine(),
        "threads": threads if threads is not None else _threads(),
        "seeds": [int(seed) for seed in seeds],
        "seconds": round(seconds, 2),
        "metrics": figures,
    }


def ending(label: str) -> str:
    """What the names of figures end with that stand beside others of the same names.

    Raises:
        ConfigError: something else than letters, digits and underscores.
    """
    if label and not re.fullmatch(r"\w+", label, re.ASCII):
        raise ConfigError(f"label='{label}' must be of letters, digits and underscores")
    return f"_{label}" if label else ""


def write_evidence(path: Path | str, record: Mapping[str, Any]) -> Path:
    """Write a record whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def read_evidence(path: Path | str) -> dict[str, Any]:
    """Read a record.

    Raises:
        DataError: no such file, or not a record.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no figures at '{path}'; run the command that writes them") from None
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON ({error}); delete it and measure again") from error
    lacking = [field for field in FIELDS if not isinstance(record, dict) or field not in record]
    if lacking:
        raise DataError(f"'{path}' has no '{lacking[0]}'; delete it and measure again")
    return record


def merge_evidence(path: Path | str, record: Mapping[str, Any], keys: Sequence[str] | None = None) -> Path:
    """Add a run's figures to a file that is the sum of several runs; measured again, a figure is replaced.

    Commit, machine and threads of the file are those of the last run; `runs` says which figure is whose, see `runs_of`.

    Args:
        path: the file, begun when it does not exist.
        record: the run, from `evidence`.
        keys: the figures to take over; all when None.

    Raises:
        DataError: the file is damaged, or the run lacks one of `keys`.
    """
    taken = record["metrics"] if keys is None else {}
    for key in keys or ():
        if key not in record["metrics"]:
            raise DataError(f"the run '{record['command']}' measured no '{key}'; it has: {', '.join(record['metrics'])}")
        taken[key] = record["metrics"][key]
    old = read_evidence(path) if Path(path).exists() else {"metrics": {}}
    merged = _without(runs_of(old), taken) if old["metrics"] else []
    for run in runs_of(record):
        kept = [key for key in run["figures"] if key in taken]
        twin = next((other for other in merged if all(other[field] == run[field] for field in RUN)), None)
        if twin is not None:
            twin["figures"] = [*twin["figures"], *kept]
        elif kept:
            merged.append({**run, "figures": kept})
    commands = list(dict.fromkeys(command for run in merged for command in _listed(run["command"]))) or _listed(record["command"])
    whole = {
        **{field: record[field] for field in RUN},
        "command": commands if len(commands) > 1 else commands[0],
        "seeds": sorted({seed for run in merged for seed in run["seeds"]}),
        "seconds": round(sum(run["seconds"] for run in merged), 2),
        "metrics": {**old["metrics"], **taken},
    }
    return write_evidence(path, whole if len(merged) < 2 else {**whole, "runs": merged})


def runs_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs that a record is the sum of: RUN of each, and the `figures` that are its own.

    Files from before runs were told apart count as one.
    """
    return record.get("runs") or [{**{field: record[field] for field in RUN}, "figures": list(record["metrics"])}]


def _without(runs: Sequence[Mapping[str, Any]], keys: Collection[str]) -> list[dict[str, Any]]:
    """Runs less figures that were measured again, and less those that have none left."""
    left = [{**run, "figures": [key for key in run["figures"] if key not in keys]} for run in runs]
    return [run for run in left if run["figures"]]


def commit() -> str:
    """The commit this code is at, "+changes" added when files differ from it, "unknown" outside a repository."""
    folder = Path(__file__).parents[1]
    git = lambda *words: subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def machine() -> str:
    """The machine in words that matter for speed, without its name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [model, f"{cores} cores", f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"]
    import torch

    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def write_text(path: Path, text: str) -> None:
    """Write beside the file, then rename over it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _listed(command: str | list[str]) -> list[str]:
    return [command] if isinstance(command, str) else list(command)
