"""The VLA as a policy: reads each observation, thinks or not, and drives; its memory is a value like any other's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...batched import Batched
from ...errors import ConfigError, nearest
from ...scene import Scene
from ...world import Observation
from .context import Context
from .model import MODES, Mode, VlaModel, Written
from .tokens import parse_action

SHIPPED = Path(__file__).parents[2] / "weights" / "small" / "vla"


@dataclass(frozen=True)
class VlaMemory(Batched):
    """What a VLA remembers of its episodes."""

    context: Context  # [B]
    seed: Tensor  # [B] int64, of the draws
    decisions: Tensor  # [B] int64, made so far
    unparsable: Tensor  # [B] int64, of them with an action that could not be read


class VlaPolicy:
    """A VLA that drives.

    An action that cannot be read makes the car hold its lane and brake gently, and is counted, per episode in the memory and
    over all episodes in `decisions` and `unparsable`. `last` keeps what was written last, for people to read.

    Args:
        model: trained.
        mode: "fast" acts at once, "slow" thinks first.
        temperature: 0 draws nothing; above it every draw follows from (seed, step).
        name: in score cards.
    """

    privileged = False

    def __init__(self, model: VlaModel, mode: Mode = "fast", temperature: float = 0.0, name: str = "vla") -> None:
        if mode not in MODES:
            raise ConfigError(f"unknown VLA mode '{mode}'; {nearest(mode, MODES)}")
        self.model, self.mode, self.temperature, self.name = model, mode, temperature, name
        self.decisions = self.unparsable = 0
        self.last: Written | None = None

    @classmethod
    def load(cls, folder: str | Path, mode: Mode = "fast", temperature: float = 0.0) -> VlaPolicy:
        """The policy of a folder, named after it.

        Raises:
            CheckpointError: weights that cannot be used.
        """
        return cls(VlaModel.load(folder), mode, temperature, Path(folder).name)

    @classmethod
    def shipped(cls, mode: Mode = "fast") -> VlaPolicy:
        """The VLA of this installation.

        Raises:
            ConfigError: it came without one.
        """
        if not SHIPPED.is_dir():
            raise ConfigError(
                "no VLA ships with this installation; train one with `xpeng-world train-policy policy=vla` and name its folder"
            )
        return cls(VlaModel.load(SHIPPED), mode)

    def initial_memory(self, seeds: Sequence[int]) -> VlaMemory:
        """Nothing seen yet."""
        none = torch.zeros(len(seeds), dtype=torch.int64)
        return VlaMemory(self.model.begin(len(seeds)), torch.tensor([int(seed) for seed in seeds]), none, none.clone())

    @torch.no_grad()
    def act(self, observation: Observation, memory: VlaMemory, scene: Scene | None = None) -> tuple[Tensor, VlaMemory]:
        """Actions [B, 2] in [-1, 1]; only the new frame's tokens are read, those before are in the memory."""
        model = self.model
        prompt = model.vocabulary.prompt(observation, model.frames.encode(observation.camera))
        draws = _generators(memory) if self.temperature > 0 else None
        written = model.generate(prompt, self.mode, self.temperature, draws, memory.context)
        parsed = parse_action(model.vocabulary, written.ids, prompt)
        self.decisions += len(prompt)
        self.unparsable += int(parsed.failed.sum())
        self.last = written
        after = VlaMemory(written.context, memory.seed, memory.decisions + 1, memory.unparsable + parsed.failed.long())
        return parsed.action, after


def _generators(memory: VlaMemory) -> list[torch.Generator]:
    """One source of draws a row, of its (seed, step)."""
    mixed = [(int(seed) * 1_000_003 + int(step)) % 2**62 for seed, step in zip(memory.seed, memory.decisions, strict=True)]
    return [torch.Generator().manual_seed(number) for number in mixed]
