"""The sky by direction: where each pixel looks, and a learned panorama of features that the painters sample there.

Clouds and the sun are infinitely far away, so what a camera sees of them depends on its heading alone, and the picture before says
nothing of a part of the sky that comes into view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...camera import CAMERA, Camera
from .layout import COVER_CHANNELS

LOWEST, HIGHEST = math.radians(-1.0), math.radians(23.0)  # elevations of the panorama's borders
ROWS, COLUMNS = 32, 480
FEATURES = 6
GAIN = 10.0  # of the features over the parameters, so that an optimiser's steps of one size move both these and the weights
NOWHERE = -2.0  # elevation of a pixel that does not look at the sky, or of a camera whose heading nobody knows


def gaze(heading: Tensor, camera: Camera = CAMERA) -> Tensor:
    """Where the pixels of level cameras look, [B, 2, H, W] float32.

    Args:
        heading: [B] rad, counter-clockwise from the world's x axis; NaN where it is unknown.
        camera: the pinhole.

    Returns:
        the azimuth over pi in [-1, 1), and the elevation on a scale from -1 (LOWEST) to 1 (HIGHEST), NOWHERE below LOWEST and where
        the heading is unknown.
    """
    turn, elevation = _rays(camera)
    azimuth = torch.remainder(heading.float().view(-1, 1, 1) / math.pi + turn + 1, 2) - 1
    return torch.stack((azimuth.nan_to_num(0.0), elevation.expand_as(azimuth).where(azimuth.isfinite(), NOWHERE)), 1)


def _rays(camera: Camera) -> tuple[Tensor, Tensor]:
    if camera not in _KNOWN:
        v, u = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
        dx, dy = (u - camera.width / 2) / camera.focal, (v - camera.height / 2) / camera.focal
        ahead = math.cos(camera.pitch) + dy * math.sin(camera.pitch)
        up = math.sin(camera.pitch) - dy * math.cos(camera.pitch)
        angle = torch.atan2(up, torch.hypot(ahead, dx))
        scaled = 2 * (angle - LOWEST) / (HIGHEST - LOWEST) - 1
        _KNOWN[camera] = torch.atan2(-dx, ahead) / math.pi, scaled.where(scaled > -1, NOWHERE)
    return _KNOWN[camera]


_KNOWN: dict[Camera, tuple[Tensor, Tensor]] = {}


class SkyMap(nn.Module):
    """Features of the sky around the world, learned with the painter."""

    def __init__(self) -> None:
        super().__init__()
        self.panorama = nn.Parameter(torch.zeros(FEATURES, ROWS, COLUMNS))

    def forward(self, directions: Tensor, layout: Tensor) -> Tensor:
        """Features [B, FEATURES, H, W] where pixels look at the sky, 0 elsewhere.

        Args:
            directions: [B, 2, H, W], see `gaze`.
            layout: [B, C, H, W] in [0, 1].
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
        open_sky = 1 - layout[:, COVER_CHANNELS].sum(1, keepdim=True).clamp(0, 1)
        return nn.functional.pad(found * (open_sky * (directions[:, 1:] > NOWHERE)), (0, 0, 0, height - directions.shape[2]))
