"""Imitation mixed into GRPO's loss, so that what recordings teach is not forgotten where the rewards of a round say nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..policies.vla.bins import ACCELERATE
from ..policies.vla.model import VlaModel
from .imitation_vla import IGNORED, samples, windows
from .vla_moments import moments_of_logs

RUN = 2  # moments of a sample, as imitation itself has by default
BRAKING = -1.0  # m/s2 below which the tutor's wish counts as braking
BRAKING_SHARE = 0.5  # of a batch; recordings have it in a tenth of their moments


class Imitation:
    """Batches of recorded moments with the tutor's actions as labels, half of them braking ones.

    Args:
        model: whose frame tokenizer and vocabulary make the tokens.
        data: folder of shards, or several; the train split is used.
        kept: folder for the tokens.
        batch: moments in each batch.
        seed: of the draws.
    """

    def __init__(self, model: VlaModel, data: str | list[str], kept: Path, batch: int, seed: int) -> None:
        self.vocabulary, self.batch, self.seed = model.vocabulary, batch, seed
        self.moments = moments_of_logs(data, "train", model, kept)
        rows = windows(self.moments.clips, RUN)
        if not len(rows):
            raise ConfigError(f"no clip of '{data}' has {RUN} moments; give longer ones")
        wanted = ACCELERATE.decode(self.moments.wanted[rows[:, -1], 1].long() - self.vocabulary.group(ACCELERATE).start)
        self.braking, self.others = rows[wanted < BRAKING], rows[wanted >= BRAKING]

    def loss(self, model: Any, draw: int) -> Tensor:
        """Mean cross entropy of the tutor's actions in the batch of a draw, the fast way."""
        rng = np.random.default_rng([self.seed, 83, draw])
        brakes = min(len(self.braking), round(BRAKING_SHARE * self.batch))
        rows = torch.cat([part[torch.from_numpy(rng.integers(len(part), size=n))] for part, n in self._parts(brakes)])
        others = torch.from_numpy(rng.integers(len(self.moments.prompt), size=(len(rows), RUN - 1)))
        ids, labels = samples(self.vocabulary, self.moments, rows, False, others=others)
        told = labels[:, 1:]
        columns = (told != IGNORED).any(0).nonzero().flatten()
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=columns, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), told[:, columns].flatten(), ignore_index=IGNORED)

    def _parts(self, brakes: int) -> list[tuple[Tensor, int]]:
        wanted = [(self.braking, brakes), (self.others, self.batch - brakes)]
        return [(rows, count) for rows, count in wanted if count and len(rows)]
