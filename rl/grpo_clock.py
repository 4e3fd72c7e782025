"""Progress, checkpoints and the end of a GRPO run, at whole rounds only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

SHOWN = ("reward", "failures", "unparsable", "entropy")


class Clock(TrainerCallback):
    """Keeps a checkpoint every `save_minutes` and at the end, and begins no round that would end after `minutes` (0: no limit).

    A trainer that goes on from the middle of a round would drive it again and learn it by halves, so nothing happens there.

    Args:
        cycle: optimiser steps of a round.
        rounds: of the whole run.
        minutes: allowed for this call.
        save_minutes: between two checkpoints.
        save: called with the rounds done after each checkpoint.
    """

    def __init__(self, cycle: int, rounds: int, minutes: float, save_minutes: float, save: Callable[[int], Any]) -> None:
        self.cycle, self.rounds, self.minutes, self.save_minutes, self.save = cycle, rounds, minutes, save_minutes, save
        self.longest = 0.0
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.began = self.saved = self.round_began = time.monotonic()
        self.bar = tqdm(total=self.rounds, initial=state.global_step // self.cycle, desc="grpo", unit="round", disable=None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Decide at the end of a round whether to save and whether to go on."""
        if state.global_step % self.cycle:
            return control
        now = time.monotonic()
        self.longest = max(self.longest, now - self.round_began)
        self.round_began = now
        over = state.global_step >= state.max_steps
        over |= bool(self.minutes) and now - self.began + self.longest > 60 * self.minutes
        if over or now - self.saved > 60 * self.save_minutes:
            control.should_save, self.saved = True, now
        control.should_training_stop = control.should_training_stop or over
        self.bar.update()
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the round's figures."""
        if self.bar is not None:
            self.bar.set_postfix({name: f"{logs[name]:.3g}" for name in SHOWN if (logs or {}).get(name) is not None})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the policy's own folder too."""
        self.save(state.global_step // self.cycle)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar.close()
