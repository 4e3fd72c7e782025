"""Ego-motion warp: the previous frame seen from where the camera is now, by a flow field in pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...camera import CAMERA, Camera


def warp(frame: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Sample the previous frame where each pixel came from.

    Args:
        frame: [B, 3, H, W], any float range.
        flow: [B, 2, H, W], position in the previous image in pixels (u right, v down; centre of the first pixel: 0.5).

    Returns:
        the warped frame [B, 3, H, W] (edge colours outside the view) and the share [B, 1, H, W] that was in view (0 or 1).
    """
    height, width = frame.shape[-2:]
    grid = torch.stack((flow[:, 0] * (2 / width) - 1, flow[:, 1] * (2 / height) - 1), -1)
    seen = (grid.abs() <= 1).all(-1).unsqueeze(1).to(frame.dtype)
    out = torch.nn.functional.grid_sample(frame, grid.to(frame.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return out, seen


def carry(frame: Tensor, flow: Tensor, moved: bool) -> tuple[Tensor, Tensor]:
    """What a model is given of the frame before: `warp`, or the frame as it was where nothing is moved, for ablations."""
    return warp(frame, flow) if moved else (frame, torch.ones_like(frame[:, :1]))


def plane_flow(motion: Tensor, camera: Camera = CAMERA) -> Tensor:
    """Flow [B, 2, H, W] of an empty world: the ground plane below the horizon, a far plane above it.

    Args:
        motion: [B, 3] the previous ego pose in the present ego frame: x, y in m, heading in rad.
        camera: the pinhole.

    For logs without a scene, and for the parts of a view that the layout does not say.
    """
    height, width, focal = camera.height, camera.width, camera.focal
    cp, sp = math.cos(camera.pitch), math.sin(camera.pitch)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    dx, dy = (u - width / 2) / focal, (v - height / 2) / focal
    depth = 1 / ((dy * cp - sp) / camera.above_ground).clamp_min(1e-3)
    x = depth * cp + dy * depth * sp + camera.forward
    y = -dx * depth
    z = depth * sp - dy * depth * cp
    px, py, angle = (motion[:, i].view(-1, 1, 1) for i in range(3))
    ex, ey = x - px, y - py
    cos, sin = torch.cos(angle), torch.sin(angle)
    bx = ex * cos + ey * sin - camera.forward
    by = -ex * sin + ey * cos
    far = (bx * cp + z * sp).clamp_min(0.25)
    return torch.stack((width / 2 - focal * by / far, height / 2 + focal * (bx * sp - z * cp) / far), 1)


def ego_motion(before: Tensor, now: Tensor) -> Tensor:
    """Previous ego pose in the present ego frame [B, 3], from ego states [B, >= 3] (x, y, heading first)."""
    delta = before[:, :2] - now[:, :2]
    cos, sin = torch.cos(now[:, 2]), torch.sin(now[:, 2])
    return torch.stack((delta[:, 0] * cos + delta[:, 1] * sin, -delta[:, 0] * sin + delta[:, 1] * cos, before[:, 2] - now[:, 2]), -1)
