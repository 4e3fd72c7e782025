"""Whole episodes driven side by side by a sampling VLA, and the token sequences that a language-model trainer learns them from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.core import DrivingLoop
from ..envs.info import ending
from ..policies.vla.model import VlaModel
from ..world import observe
from .grpo_driving import Driving
from .grpo_starts import FIRST_MARK, LEAD, driven_starts, fresh_starts
from .grpo_writer import Writer


@dataclass
class DrivenEpisode:
    """One episode as its tokens, and what it earned."""

    seed: int
    before: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # [L] tokens of before its first frame
    tokens: list[Tensor] = field(default_factory=list)  # [L] int64 a frame, all that was read and written in it
    chosen: list[Tensor] = field(default_factory=list)  # [L] bool a frame, drawn by the model
    logprobs: list[Tensor] = field(default_factory=list)  # [L] float32 a frame
    actions: list[Tensor] = field(default_factory=list)  # [2] a frame
    rewards: list[float] = field(default_factory=list)  # one a frame
    read: list[bool] = field(default_factory=list)  # one a drawn decision, whether its action could be read
    ended: str = ""  # the rule that ended it, route_end or time_limit
    failed: bool = False  # a rule ended it

    def total(self, steps: int) -> float:
        """Sum of rewards over `steps` frames.

        An episode that a rule ended earns nothing after it. One that came to the end of its route goes on earning what it
        earned on average, or arriving would cost what slower ones still get.
        """
        earned = sum(self.rewards)
        return earned * steps / len(self.rewards) if self.ended == "route_end" else earned

    @property
    def decisions(self) -> int:
        """Actions that were drawn."""
        return len(self.read)

    @property
    def unparsable(self) -> int:
        """Decisions whose action could not be read."""
        return self.decisions - sum(self.read)

    @property
    def formatted(self) -> float:
        """Share of decisions whose action could be read, 0 to 1."""
        return sum(self.read) / max(1, self.decisions)


@torch.no_grad()
def drive_groups(
    loop: DrivingLoop, model: VlaModel, driving: Driving, seeds: Sequence[int], group: int, draw: Sequence[int], progress: Any = None
) -> list[DrivenEpisode]:
    """Drive `group` episodes from each start state, all side by side; those that are over leave the batch.

    Every start is made once and copied, and a world's own draws come from the episode's seed: episodes of a group differ by
    what the policy draws and by nothing else; with `driving.explore` it draws its first decisions only. With `driving.warmup` the policy
    first drives each start on, for as many frames as are drawn for all of them between none and that.

    Args:
        loop: of a world that serves batches; its time limit should be none, or `driving.steps` if nothing is driven before.
        model: the VLA.
        driving: how.
        seeds: one for each start state.
        group: episodes of each.
        draw: numbers that the policy's draws follow from, together with a start's seed and an episode's place in its group.
        progress: called with the number of frames driven after each step, such as a bar's `update`.

    Returns:
        len(seeds) * group episodes, those of a start one after another.
    """
    copies = [(seed, place) for seed in seeds for place in range(group)]
    frames = int(np.random.default_rng([*draw, 83]).integers(driving.warmup + 1))
    if frames < FIRST_MARK:
        starts = fresh_starts(loop, model, driving, seeds)
    else:
        rng = np.random.default_rng([*draw, 89])
        lead = int(rng.integers(driving.drawn, LEAD + 1)) if driving.drawn and driving.drawn <= LEAD else LEAD
        generators = [_generator(*draw, seed, group) for seed in seeds]
        starts = driven_starts(loop, model, driving, seeds, generators, frames, progress, lead)
    each = torch.arange(len(seeds)).repeat_interleave(group)
    generators = [_generator(*draw, seed, place) for seed, place in copies]
    writer = Writer(model, generators, driving.mode, driving.temperature, driving.hold, driving.drawn, starts.writing[each])
    running = starts.running[each]
    episodes = [DrivenEpisode(int(seed), starts.before[row]) for (seed, _), row in zip(copies, each.tolist(), strict=True)]
    live = list(range(len(episodes)))
    for step in range(driving.steps):
        moment = writer.write(observe(running.state))
        running, outcome = loop.step(running, moment.action)
        for row, number in enumerate(live):
            episode, real = episodes[number], moment.tokens[row] >= 0
            episode.tokens.append(moment.tokens[row][real])
            episode.chosen.append(moment.chosen[row][real])
            episode.logprobs.append(moment.logprobs[row][real])
            episode.actions.append(moment.action[row])
            episode.rewards.append(float(outcome.reward[row]))
            if step % driving.hold == 0 and (driving.drawn is None or step < driving.drawn):
                episode.read.append(not bool(moment.failed[row]))
            if bool(outcome.done[row]):
                episode.ended = ending(outcome, row) or "terminated"
                episode.failed = bool(outcome.terminated[row])
        if progress is not None:
            progress(len(live))
        going = torch.nonzero(~outcome.done).flatten().tolist()
        if len(going) < len(live):
            live = [live[row] for row in going]
            if not live:
                break
            running = running[torch.as_tensor(going)]
            writer.keep(going)
    for number in live:
        episodes[number].ended = episodes[number].ended or "time_limit"
    return episodes


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)


@dataclass(frozen=True)
class Sample:
    """A part of an episode as a trainer reads it."""

    prompt: list[int]  # all that the model could still see of before
    completion: list[int]  # from the first drawn token on, ended by <eos>
    logprobs: list[float]  # of the completion's drawn tokens, else 0
    mask: list[int]  # 1 for the completion's drawn tokens, 0 for what the world told, for forced tokens and for <eos>
    decisions: list[int]  # of each token of the completion, which decision of the episode drew it; -1 for none


def sample_of(model: VlaModel, episode: DrivenEpisode, begin: int, end: int, hold: int) -> Sample:
    """Decisions `begin` to `end` (left out) of an episode, with as much before as can reach them through all layers."""
    ids, config = model.vocabulary.ids, model.decoder.config
    none = torch.zeros(1 + len(episode.before))
    tokens = torch.cat((torch.tensor([ids["<bos>"]]), episode.before, *episode.tokens))
    chosen, logprobs = torch.cat((none.bool(), *episode.chosen)), torch.cat((none, *episode.logprobs))
    offsets = np.cumsum([len(none), *map(len, episode.tokens)])
    drawn = torch.nonzero(chosen[offsets[begin * hold] : offsets[min((end - 1) * hold + 1, len(episode.tokens))]]).flatten()
    first, last = int(offsets[begin * hold] + drawn[0]), int(offsets[begin * hold] + drawn[-1]) + 1
    frames = np.searchsorted(offsets, np.arange(first, last), side="right") - 1
    reach = config.num_hidden_layers * (int(config.sliding_window or config.max_position_embeddings) - 1) + 1
    return Sample(
        tokens[max(0, first - reach) : first].tolist(),
        [*tokens[first:last].tolist(), ids["<eos>"]],
        [*logprobs[first:last].tolist(), 0.0],
        [*chosen[first:last].int().tolist(), 0],
        [*np.where(chosen[first:last].numpy(), frames // hold, -1).tolist(), -1],
    )


def draw_parts(rng: np.random.Generator, decisions: int, count: int, length: int, whole: bool = False) -> list[tuple[int, int]]:
    """`count` runs (begin, end) of at most `length` of an episode's decisions, such that each decision is as likely to be in one.

    With `whole`, all decisions are in each.
    """
    if whole:
        return [(0, decisions)] * count
    starts = rng.integers(1 - length, decisions, size=count)
    return [(max(0, int(start)), min(decisions, int(start) + length)) for start in starts]
