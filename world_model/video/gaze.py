"""Where each pixel of a camera looks: in the sky by direction, on the ground by place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...camera import CAMERA, Camera

LOWEST, HIGHEST = math.radians(-1.0), math.radians(23.0)  # elevations on the scale from -1 to 1
NOWHERE = -1000.0  # elevation of a pixel that does not look at the sky, and both places of one that does not look at the ground
PERIOD = 192.0  # m after which places on the ground begin again
_FARTHEST = 60.0  # m, where a pixel is so long that places say nothing


def gaze(pose: Tensor, camera: Camera = CAMERA) -> Tensor:
    """Where the pixels of level cameras look, [B, 4, H, W] float32.

    Args:
        pose: [B, 3] x, y in m and heading in rad of the ego in the world, counter-clockwise from its x axis; NaN where it is unknown.
        camera: the pinhole.

    Returns:
        the azimuth over pi in [-1, 1), and the elevation on a scale from -1 (LOWEST) to 1 (HIGHEST), NOWHERE below LOWEST; x and y in
        m, less as many whole PERIODs as the ego is from the origin, if the world were a plane, NOWHERE beyond 60 m and above the horizon.
        All is NOWHERE, and the azimuth 0, where the pose is unknown.
    """
    turn, elevation, ahead, left = _rays(camera)
    known = pose.isfinite().all(1).view(-1, 1, 1)
    x, y, heading = (pose[:, k].float().nan_to_num(0.0).view(-1, 1, 1) for k in range(3))
    out = torch.full((len(pose), 4, *turn.shape), NOWHERE)
    sky, ground = int((elevation > NOWHERE).any(1).sum()), int((ahead == 0).all(1).sum())  # rows down to and from
    out[:, 0] = begun_again(heading / math.pi + turn + 1, 2.0) - 1
    out[:, 1, :sky] = elevation[:sky]
    cos, sin, ahead, left = torch.cos(heading), torch.sin(heading), ahead[ground:], left[ground:]
    out[:, 2, ground:] = begun_again(x, PERIOD) + ahead * cos - left * sin
    out[:, 3, ground:] = begun_again(y, PERIOD) + ahead * sin + left * cos
    out[:, 2:, ground:].masked_fill_(ahead == 0, NOWHERE)
    if not bool(known.all()):
        unknown = ~known.flatten()
        out[unknown] = NOWHERE
        out[unknown, 0] = 0.0
    return out


def begun_again(value: Tensor, period: float) -> Tensor:
    """Values less whole periods, in [0, period); several times faster than `torch.remainder`."""
    return value - period * torch.floor(value / period)


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
