"""One command of a stage in a process of its own: its output in a log, its threads set, its end reported in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import XPengWorldError

PATIENCE_S = 20.0  # that a stopped command is given before it is killed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
POLL_S = 0.1  # between two looks at the log
TAIL = 4096  # bytes of the log that are looked at for its last line


class StageError(XPengWorldError):
    """A stage that did not come to its end."""


def command_line(words: Sequence[str]) -> list[str]:
    """This package's command as a process; -P keeps folders of the working directory from being taken for modules."""
    return [sys.executable, "-P", "-m", __package__.split(".")[0], *words]


def run_child(
    arguments: Sequence[str],
    folder: Path,
    log: Path,
    threads: int,
    cache: Path,
    lock: int,
    watch: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a command to its end, in the process group of this one, so that what stops the factory stops it too.

    Args:
        arguments: the program and its words.
        folder: working directory.
        log: file that its output is added to.
        threads: of every numerical library.
        cache: for what commands keep between runs (networks, the expert's distances), instead of the user's cache.
        lock: file descriptor of the factory's lock; the child holds it too, so that an orphan keeps others out.
        watch: called several times a second with the last line of the log.

    Raises:
        StageError: it ended otherwise than well; the message has its last line.
    """
    threads_env = dict.fromkeys(THREADS, str(threads))
    environment = {**os.environ, **threads_env, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(cache)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        child = subprocess.Popen(
            list(arguments), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, pass_fds=(lock,)
        )
        try:
            while child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_S)
                watch(last_line(log))
        except BaseException:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    if child.returncode:
        how = f"was ended by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else "failed"
        said = last_line(log).removeprefix("xpeng-world: ")
        raise StageError(f"{how}: {said or 'no message'}; its log is '{log}'; call again to go on from here")


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, progress bars included."""
    try:
        with open(log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    return next((line for line in reversed(lines) if line), "")
