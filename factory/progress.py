"""What the terminal shows of a run of the factory: a live table, or one line a stage where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from .pipeline import FactoryConfig

STYLES = {"done": "green", "kept": "cyan", "running": "bold yellow", "waiting": "dim", "left out": "dim", "stopped": "bold red"}


@dataclass
class _Row:
    state: str = "waiting"
    began: float = 0.0
    seconds: float | None = None
    said: str = ""


class Progress:
    """Shows the stages of a line; used as a context."""

    def __init__(self, names: Sequence[str], out: Path, console: Console | None = None) -> None:
        self.rows = {name: _Row() for name in names}
        self.out = out
        self.console = console or Console()
        self._now = ""
        self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=4) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self._now:
            row = self.rows[self._now]
            row.state, row.seconds = "stopped", time.monotonic() - row.began
        if self._live:
            self._live.stop()

    def start(self, name: str, why: str) -> None:
        """A stage begins."""
        self._now = name
        self.rows[name] = _Row("running", time.monotonic(), said=why)
        self._say(f"{name}: runs, {why}")

    def line(self, text: str) -> None:
        """The last line that the running stage has written."""
        if text:
            self.rows[self._now].said = text

    def end(self, name: str, seconds: float) -> None:
        """A stage is done."""
        self.rows[name].state, self.rows[name].seconds, self.rows[name].said = "done", seconds, ""
        self._now = ""
        self._say(f"{name}: done in {clock(seconds)}")

    def keep(self, name: str) -> None:
        """A stage is up to date."""
        self.rows[name] = _Row("kept", said="up to date")
        self._say(f"{name}: kept")

    def skip(self, name: str) -> None:
        """A stage is not of those to run."""
        self.rows[name] = _Row("left out")

    def _say(self, text: str) -> None:
        if not self._live:
            print(text, flush=True)

    def _table(self) -> Table:
        table = Table("stage", "", "time", "", title=f"factory in {self.out}", title_justify="left", expand=True, box=None)
        table.columns[3].no_wrap = True
        table.columns[3].ratio = 1
        for name, row in self.rows.items():
            running = row.state == "running"
            seconds = time.monotonic() - row.began if running else row.seconds
            shown = "" if seconds is None else clock(seconds)
            table.add_row(name, row.state, shown, escape(row.said), style=STYLES[row.state])
        return table


def show_plan(config: FactoryConfig, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print what a run would do: rows of stage, action and reason."""
    table = Table("stage", "", "why", title=f"what would be done, preset {config.preset}, in {config.out}", title_justify="left", box=None)
    styles = {"keep": "cyan", "run": "yellow", "wait": "yellow", "skip": "dim"}
    for name, action, why in rows:
        table.add_row(name, action, escape(why), style=styles[action])
    Console().print(table)


def clock(seconds: float) -> str:
    """Seconds for people: 12.3 s, 4:05 min, 1:04:05 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
