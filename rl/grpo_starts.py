"""Start states from the middle of drives: the policy drives on for a while before its groups begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..envs.core import DrivingLoop, Episodes
from ..policies.vla.model import VlaModel
from ..world import observe
from .grpo_driving import Driving
from .grpo_writer import Writer, WriterState

FIRST_MARK = 30  # frames: a window of the rules is full by then, so starts of different times go into one batch
MARKS = 10  # frames between two moments that can become a start
HARD = -1.0  # m/s2, acceleration below which braking is hard enough to go back to
LEAD = 50  # frames at least between a start and the moment in which the drive that led to it was over, at most with `explore`


@dataclass(frozen=True)
class Starts:
    """S states that groups begin in."""

    running: Episodes  # [S]
    writing: WriterState  # [S]
    before: list[Tensor]  # [L] int64 each, tokens that were read and written until then


def fresh_starts(loop: DrivingLoop, model: VlaModel, driving: Driving, seeds: Sequence[int]) -> Starts:
    """The beginnings of scenarios."""
    empty = torch.zeros(0, dtype=torch.int64)
    return Starts(loop.reset(seeds, driving.scenario), WriterState.begin(model, len(seeds)), [empty for _ in seeds])


def driven_starts(
    loop: DrivingLoop,
    model: VlaModel,
    driving: Driving,
    seeds: Sequence[int],
    generators: list[torch.Generator],
    frames: int,
    progress: Any = None,
    lead: int = LEAD,
) -> Starts:
    """What the policy itself comes to after `frames`, or shortly before its drive was over if that is earlier.

    So the states that it fails from come up as often as it fails. With `driving.explore` it drives as it does when it is scored, else by
    its draws. The first `driving.critical` of the starts go back further, to before the hardest braking of their drive, if it braked hard.

    Args:
        loop: without a time limit.
        model: the VLA.
        driving: how.
        seeds: one for each start.
        generators: of its draws, one for each start.
        frames: at least FIRST_MARK.
        progress: called with the number of frames driven after each step.
        lead: frames at least between a start and the moment in which the drive that led to it was over.
    """
    drawn = 0 if driving.explore else None
    writer, begun = (
        Writer(model, generators, driving.mode, driving.temperature, driving.hold, drawn),
        fresh_starts(loop, model, driving, seeds),
    )
    running, tokens = begun.running, []
    frames, every = _up(frames, driving.hold), _up(MARKS, driving.hold)
    over = torch.full((len(seeds),), frames + lead)
    hardest, braked = torch.full((len(seeds),), HARD), over.clone()
    marks = {}
    for frame in range(frames):
        if frame >= FIRST_MARK and frame % every == 0:
            marks[frame] = (running, writer.now)
        moment = writer.write(observe(running.state))
        running, outcome = loop.step(running, moment.action)
        tokens.append(moment.tokens)
        over = torch.where(outcome.done.cpu(), over.clamp_max(frame + 1), over)
        harder = (running.state.scene.ego.acceleration.cpu() < hardest) & (frame < over) & (frame >= FIRST_MARK + lead)
        hardest = torch.where(harder, running.state.scene.ego.acceleration.cpu(), hardest)
        braked = torch.where(harder, frame, braked)
        if progress is not None:
            progress(len(seeds))
    marks[frames] = (running, writer.now)
    back = torch.arange(len(seeds)) < round(driving.critical * len(seeds))
    over = torch.where(back & (braked < over), braked, over)
    times = [max((mark for mark in marks if mark <= int(end) - lead), default=0) for end in over]
    again = [row for row, time in enumerate(times) if time == 0]
    taken = [marks[time or frames] for time in times]
    joined = Episodes.cat([episodes[row] for row, (episodes, _) in enumerate(taken)])
    if again:
        joined = loop.restart(joined, again, [seeds[row] for row in again], driving.scenario)
    writing = WriterState.cat([begun.writing[row] if time == 0 else taken[row][1][row] for row, time in enumerate(times)])
    return Starts(joined, writing, [_told(tokens[:time], row) for row, time in enumerate(times)])


def _told(tokens: Sequence[Tensor], row: int) -> Tensor:
    """A row's tokens one after another, without those that are none."""
    joined = torch.cat([frame[row] for frame in tokens]) if tokens else torch.zeros(0, dtype=torch.int64)
    return joined[joined >= 0]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
