"""The pictures of the last moments, kept by a network that sees how the picture moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batched import Batched
from ..camera import CAMERA
from ..errors import ConfigError

LONGEST_LAG = 50  # frames, 5 s: bounds the memory that a file of weights can ask for


@dataclass(frozen=True)
class PictureMemory(Batched):
    """The last `lag` pictures of B episodes; an episode that has not begun has none."""

    frames: Tensor  # [B, lag, H, W, 3] uint8, the oldest first
    begun: Tensor  # [B] bool, whether a picture was seen

    @classmethod
    def empty(cls, batch: int, lag: int) -> PictureMemory:
        """Memory of `batch` episodes that begin now.

        Raises:
            ConfigError: a lag below 1 or above LONGEST_LAG.
        """
        if check_lag(lag) < 1:
            raise ConfigError("a memory of pictures needs lag=1 or more")
        return cls(torch.zeros(batch, lag, CAMERA.height, CAMERA.width, 3, dtype=torch.uint8), torch.zeros(batch, dtype=torch.bool))

    def see(self, picture: Tensor) -> tuple[Tensor, PictureMemory]:
        """The picture `lag` frames before this one, the first one at an episode's start, and the memory that has seen this one too.

        Args:
            picture: [B, H, W, 3] uint8.

        Returns:
            The earlier picture [B, H, W, 3] uint8, and the next memory; both on the picture's device.
        """
        device = picture.device
        now = picture.unsqueeze(1)
        frames = torch.where(self.begun.to(device).view(-1, 1, 1, 1, 1), self.frames.to(device), now)
        return frames[:, 0], PictureMemory(torch.cat((frames[:, 1:], now), 1), torch.ones(len(picture), dtype=torch.bool, device=device))


def check_lag(lag: Any) -> int:
    """The number of frames that an earlier picture may lie back.

    Raises:
        ConfigError: no whole number from 0 to LONGEST_LAG.
    """
    if not isinstance(lag, int) or isinstance(lag, bool) or not 0 <= lag <= LONGEST_LAG:
        raise ConfigError(f"lag={lag} must be a whole number of frames from 0 to {LONGEST_LAG}")
    return lag
