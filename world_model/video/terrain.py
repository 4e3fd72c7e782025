"""The ground by place: learned maps of features, one of asphalt and one of grass, that the painters sample where pixels look.

Grain, stains and fields are fixed to the world and begin again after some metres. The picture before says what a stretch looks like once
it has been seen, blurred by being moved every step; what comes into view it says nothing of.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...camera import CAMERA
from .gaze import NOWHERE, PERIOD, begun_again
from .layout import CHANNEL, SUPERSAMPLING, unit

SPANS = (32.0, PERIOD)  # m after which asphalt and grass begin again
TEXELS = (96, 128)  # to a side
FEATURES = 4  # of each
GAIN = 10.0  # of the features over the parameters, as of the sky
_COVERS = (("road", "junction"), ("ground",))


class GroundMaps(nn.Module):
    """Features of asphalt and of grass by place, learned with the painter."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ParameterList(nn.Parameter(torch.zeros(FEATURES, side, side)) for side in TEXELS)

    def forward(self, looks: Tensor, layout: Tensor) -> Tensor:
        """Features [B, 2 * FEATURES, H, W] where pixels look at asphalt or grass, 0 elsewhere; the less of them, the longer a pixel is.

        Args:
            looks: [B, 4, H, W], see `gaze.gaze`.
            layout: [B, C, H, W] in [0, 1], or uint8 of 255 times that.
        """
        height, above = looks.shape[2], 0
        if looks.device.type == "cpu":  # graphs of a GPU want fixed shapes
            above = height - int((looks[:, 2] > NOWHERE).any(2).any(0).sum())
            looks, layout = looks[:, :, above:], layout[:, :, above:]
        known = looks[:, 2:3] > NOWHERE
        length = pixel_lengths(height, looks.device)[above:]
        found = []
        for texels, span, names in zip(self.maps, SPANS, _COVERS, strict=True):
            side = texels.shape[-1]
            around = nn.functional.pad(GAIN * texels.unsqueeze(0), (1, 1, 1, 1), mode="circular")
            where = begun_again(looks[:, 2:4], span).mul_(2 / span).sub_(1).mul_(side / (side + 2)).permute(0, 2, 3, 1)
            picked = nn.functional.grid_sample(
                around.expand(len(where), -1, -1, -1), where.to(around.dtype), mode="bilinear", align_corners=False
            )
            cover = sum(unit(layout[:, CHANNEL[name]]) for name in names)
            share = cover.unsqueeze(1) * known * (3 * span / side / length).clamp(max=1)  # type: ignore[union-attr]
            found.append(picked * share)
        return nn.functional.pad(torch.cat(found, 1), (0, 0, above, 0))


def pixel_lengths(height: int, device: torch.device) -> Tensor:
    """How far pixels reach along flat ground [height, 1], m, by row of a picture of so many."""
    focal = CAMERA.focal * height / CAMERA.height
    down = ((torch.arange(height, device=device) + 0.5 - height / 2) / focal - CAMERA.pitch).clamp_min(1e-3)
    return (CAMERA.above_ground / (down.square() * focal)).unsqueeze(1)


def ground_depths(height: int, device: torch.device) -> Tensor:
    """Depth of flat ground [height] by row of a picture of so many, m, where it is nearest in the row; very far above the horizon."""
    focal = CAMERA.focal * height / CAMERA.height
    slope = (torch.arange(height, device=device) + 1 - 0.5 / SUPERSAMPLING - height / 2) / focal
    down = slope * math.cos(CAMERA.pitch) - math.sin(CAMERA.pitch)
    return CAMERA.above_ground / down.clamp_min(1e-6)
