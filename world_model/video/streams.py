"""Long rollouts to train on: many drives that go on frame by frame on the model's own pictures, a few of them in every batch.

A denoiser that only ever sees true frames before its own learns to copy them, and what it copies blurs and smears after some seconds
of its own rollout. Here the previous frame of a sample is what the model itself painted, up to a minute into a drive.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .corruption import CorruptionConfig, draw_levels
from .generator import to_frame, to_model
from .store import FrameStore, Samples


class RolloutStreams(nn.Module):
    """P drives through a store, each with the frame that was painted last. Its buffers are its state."""

    index: Tensor
    level: Tensor
    frame: Tensor

    def __init__(self, store: FrameStore, size: int, length: int, config: CorruptionConfig, seed: int, context: int = 1) -> None:
        super().__init__()
        self.store, self.length, self.config, self.context = store, length, config, context
        self._first, self._chance = store.windows(1)
        self._last = store.last_frames()
        rng = np.random.default_rng([seed, 5])
        first = rng.choice(self._first, size=size, p=self._chance)
        self.register_buffer("index", torch.from_numpy(first))
        self.register_buffer("level", draw_levels(size, config, torch.Generator().manual_seed(seed)))
        self.register_buffer("frame", store.history(first, context))

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, Samples, Tensor, Tensor]:
        """Choose drives to go on with: their rows [batch], the next step of each, the frames painted last, and layout levels."""
        rows = torch.from_numpy(rng.choice(len(self.index), size=batch, replace=False))
        return rows, self.store.samples(self.index[rows].numpy(), 1), to_model(self.frame[rows]), self.level[rows]

    def advance(self, rows: Tensor, painted: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
        """Keep what was painted [batch, 3 * context, H, W] in [-1, 1]; drives at their clip's end, and some others, begin anew."""
        self.frame[rows] = to_frame(painted)
        self.index[rows] += 1
        over = (self.index[rows] >= torch.from_numpy(self._last[self.index[rows].numpy()])).numpy() | (
            rng.random(len(rows)) < 1 / self.length
        )
        count = int(over.sum())
        if count:
            first = rng.choice(self._first, size=count, p=self._chance)
            again = rows[torch.from_numpy(over)]
            self.index[again] = torch.from_numpy(first)
            self.level[again] = draw_levels(count, self.config, generator)
            self.frame[again] = self.store.history(first, self.context)
