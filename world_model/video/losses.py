"""What painted frames are trained to be near to."""

from __future__ import annotations

from torch import Tensor

from .layout import AGENT_CHANNELS, CHANNEL, COLOUR, MARKING_CHANNELS, NEAREST, SCENERY_CHANNELS, SIGNAL_CHANNELS

MIRRORED_GAIN, SHADE_GAIN = 8.0, 4.0  # times brightness or darkness, where 1 is reached
NEAR = 10.0  # m, up to where agents and signals have no extra weight for being far


def frame_loss(
    predicted: Tensor, target: Tensor, layout: Tensor, region_weight: float, far_weight: float = 1.0, mirrored_weight: float = 1.0
) -> Tensor:
    """Weighted MSE + L1 + gradient loss of frames [B, 3, H, W] in [-1, 1]; layout [B, C, H, W] in [0, 1] names the regions.

    With `far_weight` the extra weight of agents and signals grows with their distance from NEAR on, to that many times at NEAR times it:
    those far away have few pixels, and a policy must see them all the same. Lamps that the road mirrors have `mirrored_weight` times the
    extra weight, and so have kerbs, which have a base colour as well; markings, shade and lit windows have half of it.
    """
    cover = lambda *names: layout[:, list(names)].sum(1, keepdim=True)
    moving = cover(*AGENT_CHANNELS, *SIGNAL_CHANNELS).clamp(0, 1)
    standing = (moving + cover(*SCENERY_CHANNELS)).clamp(0, 1)
    mirrored = (MIRRORED_GAIN * layout[:, COLOUR].amax(1, keepdim=True) * (1 - standing)).clamp(0, 1)
    painted = (cover(*MARKING_CHANNELS, CHANNEL["lit"]) + SHADE_GAIN * cover(CHANNEL["shade"])).clamp(0, 1)
    if far_weight > 1:
        depth = NEAREST / layout[:, CHANNEL["inverse_depth"]].square().clamp_min(1e-6).unsqueeze(1)
        moving = moving * (depth / NEAR).clamp(1, far_weight)
    weight = 1 + region_weight * (moving + mirrored_weight * mirrored + 0.5 * painted)
    error = predicted - target
    main = (weight * (error.square() + 0.25 * error.abs())).mean()
    gradient = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return main + 0.1 * gradient
