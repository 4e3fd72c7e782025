"""The sky by direction: a learned panorama of features that the painters sample where pixels look.

Clouds and the sun are infinitely far away, so what a camera sees of them depends on its heading alone, and the picture before says
nothing of a part of the sky that comes into view.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .gaze import NOWHERE
from .layout import COVER_CHANNELS, unit

ROWS, COLUMNS = 32, 480
FEATURES = 6
GAIN = 10.0  # of the features over the parameters, so that an optimiser's steps of one size move both these and the weights


class SkyMap(nn.Module):
    """Features of the sky around the world, learned with the painter."""

    def __init__(self) -> None:
        super().__init__()
        self.panorama = nn.Parameter(torch.zeros(FEATURES, ROWS, COLUMNS))

    def forward(self, directions: Tensor, layout: Tensor) -> Tensor:
        """Features [B, FEATURES, H, W] where pixels look at the sky, 0 elsewhere.

        Args:
            directions: [B, 4, H, W], see `gaze.gaze`.
            layout: [B, C, H, W] in [0, 1], or uint8 of 255 times that.
        """
        height = directions.shape[2]
        if directions.device.type == "cpu":  # most of a picture is below the horizon, but graphs of a GPU want fixed shapes
            rows = int((directions[:, 1] > NOWHERE).any(2).any(0).sum())
            directions, layout = directions[:, :, :rows], layout[:, :, :rows]
        around = nn.functional.pad(GAIN * self.panorama.unsqueeze(0), (1, 1, 0, 0), mode="circular")
        where = torch.stack((directions[:, 0] * (COLUMNS / (COLUMNS + 2)), directions[:, 1]), -1).to(around.dtype)
        found = nn.functional.grid_sample(
            around.expand(len(where), -1, -1, -1), where, mode="bilinear", padding_mode="border", align_corners=False
        )
        open_sky = 1 - unit(layout[:, COVER_CHANNELS]).sum(1, keepdim=True).clamp(0, 1)
        return nn.functional.pad(found * (open_sky * (directions[:, 1:2] > NOWHERE)), (0, 0, 0, height - directions.shape[2]))
