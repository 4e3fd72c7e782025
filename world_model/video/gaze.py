"""Where each pixel of a camera looks: in the sky by direction, on the ground by place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...camera import CAMERA, Camera

LOWEST, HIGHEST = math.radians(-1.0), math.radians(23.0)  # elevations on the scale from -1 to 1
NOWHERE = -2.0  # elevation of a pixel that does not look at the sky, and both places of one that does not look at the ground
PERIOD = 192.0  # m after which places on the ground begin again
_FARTHEST = 60.0  # m, where a pixel is so long that places say nothing


def gaze(pose: Tensor, camera: Camera = CAMERA) -> Tensor:
    """Where the pixels of level cameras look, [B, 4, H, W] float32.

    Args:
        pose: [B, 3] x, y in m and heading in rad of the ego in the world, counter-clockwise from its x axis; NaN where it is unknown.
        camera: the pinhole.

    Returns:
        the azimuth over pi in [-1, 1); the elevation on a scale from -1 (LOWEST) to 1 (HIGHEST), NOWHERE below LOWEST; x and y, if the
        world were a plane, in [0, PERIOD) m, NOWHERE beyond 60 m and above the horizon. All is NOWHERE, and the azimuth 0, where the pose
        is unknown.
    """
    turn, elevation, ahead, left = _rays(camera)
    x, y, heading = (pose[:, k].float().view(-1, 1, 1) for k in range(3))
    azimuth = torch.remainder(heading / math.pi + turn + 1, 2) - 1
    cos, sin = torch.cos(heading), torch.sin(heading)
    places = (torch.remainder(x, PERIOD) + ahead * cos - left * sin, torch.remainder(y, PERIOD) + ahead * sin + left * cos)
    on_ground = azimuth.isfinite() & (ahead > 0)
    on_plane = (torch.remainder(place, PERIOD).where(on_ground, NOWHERE) for place in places)
    return torch.stack((azimuth.nan_to_num(0.0), elevation.expand_as(azimuth).where(azimuth.isfinite(), NOWHERE), *on_plane), 1)


def _rays(camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each pixel [H, W] azimuth over pi and scaled elevation from straight on, and how far ahead and left it meets the ground, m."""
    if camera not in _KNOWN:
        v, u = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
        dx, dy = (u - camera.width / 2) / camera.focal, (v - camera.height / 2) / camera.focal
        ahead = math.cos(camera.pitch) + dy * math.sin(camera.pitch)
        up = math.sin(camera.pitch) - dy * math.cos(camera.pitch)
        angle = torch.atan2(up, torch.hypot(ahead, dx))
        scaled = 2 * (angle - LOWEST) / (HIGHEST - LOWEST) - 1
        depth = camera.above_ground / (-up).clamp_min(1e-6)
        near = (up < 0) & (depth * ahead < _FARTHEST)
        places = (camera.forward + depth * ahead).where(near, 0.0), (-depth * dx).where(near, 0.0)
        _KNOWN[camera] = torch.atan2(-dx, ahead) / math.pi, scaled.where(scaled > -1, NOWHERE), *places
    return _KNOWN[camera]


_KNOWN: dict[Camera, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
