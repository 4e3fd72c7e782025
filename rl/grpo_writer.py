"""How a VLA writes while it is trained: numbers drawn from the whole vocabulary, and actions that may be held for some frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..batched import Batched
from ..policies.vla.context import PENDING, Context, Reading
from ..policies.vla.decoding import NUMBERS, choose
from ..policies.vla.model import Mode, VlaModel, Written
from ..policies.vla.tokens import parse_action
from ..world import Observation


@dataclass(frozen=True)
class Moment:
    """What B episodes read and wrote in one frame."""

    tokens: Tensor  # [B, L] int64, the prompt and what was written; -1 for none
    chosen: Tensor  # [B, L] bool, drawn by the model
    logprobs: Tensor  # [B, L] float32 of the drawn tokens under the whole vocabulary at the temperature drawn with, else 0
    action: Tensor  # [B, 2] in [-1, 1]
    failed: Tensor  # [B] bool, an action was written that cannot be read


@dataclass(frozen=True)
class WriterState(Batched):
    """What the writing of B episodes goes on from, between two draws of an action."""

    context: Context
    unread: Tensor = field(metadata={"pad": -1})  # [B, L] int64, of held frames; the next draw reads them with its own. -1: none
    action: Tensor  # [B, 2] the one held

    @classmethod
    def begin(cls, model: VlaModel, batch: int) -> WriterState:
        """Nothing read yet."""
        return cls(model.begin(batch), torch.zeros(batch, 0, dtype=torch.int64), torch.zeros(batch, 2))


@dataclass
class Writer:
    """Drives B episodes by sampling, for all of their frames or the first; one draw of the action every `hold` frames.

    In fast mode `<fast> <act>` and `</act>` are forced as when driving, but the two numbers are drawn from the whole vocabulary:
    TRL's loss knows no smaller one, and a draw among a number's own bins would have another probability than the loss gives
    it. In the frames between two draws the action's tokens are written again, so that the model reads an unbroken run of frames;
    they are not its choice.

    Args:
        model: the VLA; its weights may change between episodes.
        generators: one for each episode, so that a row does not depend on its batch.
        mode: "fast" or "slow"; slow ones think in every frame, so `hold` must be 1.
        temperature: above 0.
        hold: frames that an action is kept for.
        drawn: frames after which nothing is drawn or held any more and the policy drives as when it is scored; None for never.
        state: to go on from, of as many episodes; None to begin.
    """

    model: VlaModel
    generators: list[torch.Generator]
    mode: Mode = "fast"
    temperature: float = 1.0
    hold: int = 1
    drawn: int | None = None
    state: WriterState | None = None
    frame: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.now = self.state or WriterState.begin(self.model, len(self.generators))

    @torch.no_grad()
    def write(self, observation: Observation) -> Moment:
        """The next frame of all episodes."""
        model, vocabulary = self.model, self.model.vocabulary
        prompt = vocabulary.prompt(observation, model.frames.encode(observation.camera))
        drawing = self.drawn is None or self.frame < self.drawn
        writing = not drawing or self.frame % self.hold == 0
        self.frame += 1
        if writing:
            written = self._write(prompt, self.temperature if drawing else 0.0)
            parsed = parse_action(vocabulary, written.ids, prompt)
            self.now, failed = WriterState(written.context, self.now.unread[:, :0], parsed.action), parsed.failed
            ids, chosen, logprobs = written.ids, written.chosen, written.logprobs
            if self.mode == "slow":  # padding after the end was not written; the control token was forced
                real = chosen.clone()
                real[:, 0] = True
                ids = torch.where(real, ids, -1)
            if not drawing:
                chosen, logprobs = torch.zeros_like(chosen), torch.zeros_like(logprobs)
        else:
            ids = vocabulary.completion(self.now.action)
            chosen, logprobs = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
            failed = torch.zeros(len(ids), dtype=torch.bool)
            self.now = replace(self.now, unread=torch.cat((self.now.unread, prompt, ids), 1))
        none = torch.zeros(prompt.shape)
        return Moment(
            torch.cat((prompt, ids), 1), torch.cat((none.bool(), chosen), 1), torch.cat((none, logprobs), 1), self.now.action, failed
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these episodes only."""
        index = torch.as_tensor(list(rows))
        self.generators = [self.generators[row] for row in rows]
        self.now = self.now[index]

    def _write(self, prompt: Tensor, temperature: float) -> Written:
        if self.mode == "slow":
            return self.model.generate(prompt, "slow", temperature, self.generators, self.now.context)
        model, reading = self.model, Reading(self.now.context)
        tag = lambda name: prompt.new_full((len(prompt), 1), model.vocabulary.ids[name])
        opened = torch.cat((tag("<fast>"), tag("<act>")), 1)
        numbers, logprobs = [], []
        read = torch.cat((self.now.context.pending, self.now.unread, prompt, opened), 1)
        for name in NUMBERS:
            only = None if temperature > 0 else name
            token, logprob = choose(model._read(reading, read), model.vocabulary, temperature, self.generators, only)
            numbers.append(token)
            logprobs.append(logprob)
            read = token.unsqueeze(1)
        ids = torch.cat((opened, torch.stack(numbers, 1), tag("</act>")), 1)
        chosen = torch.zeros_like(ids, dtype=torch.bool)
        chosen[:, 2:4] = True
        drawn = torch.nn.functional.pad(torch.stack(logprobs, 1), (2, 1))
        return Written(ids, drawn, chosen, reading.finish(ids[:, -PENDING:]))
