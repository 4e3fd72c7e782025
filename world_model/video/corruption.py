"""What training does to the denoiser's inputs, so that it neither trusts its past nor needs all of the layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import UNKNOWN_APPEARANCE, Condition
from .generator import WITHOUT_SCENERY, numbers_of
from .layout import without_scenery
from .warp import carry, plane_flow

PASTED_FROM = 8  # pixels down, of what is pasted of the same picture


@dataclass
class CorruptionConfig:
    """Probabilities, per sample."""

    drop_context: float = 0.2  # no previous frame at all
    noise_context: float = 0.6  # noise on the previous frame
    blur_context: float = 0.25
    max_context_noise: float = 0.6  # standard deviation in the range [-1, 1]
    paste_context: float = 0.25  # a patch of another sample's picture in it, where the layout is whole and can tell that it is false
    drop_scenery: float = 0.12
    drop_layout: float = 0.08
    drop_appearance: float = 0.1
    drop_actions: float = 0.05


def corrupted_condition(
    before: Tensor,
    layout: Tensor,
    flow: Tensor,
    actions: Tensor,
    ego: Tensor,
    motion: Tensor,
    appearance: Tensor,
    has_scene: Tensor,
    config: CorruptionConfig,
    generator: torch.Generator,
    level: Tensor,
    gaze: Tensor,
    column: int = 0,
    moved: bool = True,
    clean: Tensor | None = None,
) -> Condition:
    """The condition of B samples with parts of it dropped or damaged.

    Args:
        before: previous frames [B, 3 * n, H, W] in [-1, 1], the newest first.
        layout: [B, C, H, W] uint8.
        flow: [B, 2, H, W] pixels.
        actions: [B, 2].
        ego: [B, 7].
        motion: [B, 3], see `warp.ego_motion`.
        appearance: [B].
        has_scene: [B] bool.
        config: how often.
        generator: the source of every draw (on the CPU).
        level: [B] in {0: full layout, 1: without scenery, 2: none}, see `draw_levels`.
        gaze: [B, 4, H, W], see `gaze.gaze`.
        column: of the camera's picture at which a crop begins.
        moved: whether the previous frames are warped.
        clean: [B] bool, samples whose previous frames stay as they are; None for none.
    """
    batch, device = before.shape[0], before.device
    draw = lambda: torch.rand(batch, generator=generator).to(device)
    spoilt = lambda chance: (draw() < chance) if clean is None else (draw() < chance) & ~clean
    bare, none = (level == 1) & has_scene, (level == 2) & has_scene
    channels, flow = shown_parts(layout, flow, motion, bare, none, column)
    context_noise = torch.where(spoilt(config.noise_context), config.max_context_noise * draw().square(), torch.zeros_like(draw()))
    noise = torch.randn(before.shape, generator=generator).to(device)
    soft = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(before, 2), scale_factor=2, mode="bilinear")
    before = torch.where(spoilt(config.blur_context).view(-1, 1, 1, 1), soft, before)
    before = before + noise * context_noise.view(-1, 1, 1, 1)
    before = _pasted(before, spoilt(config.paste_context) & has_scene & ~bare & ~none, generator)
    warped, seen = carry(before, flow, moved)
    seen = seen * ~spoilt(config.drop_context).view(-1, 1, 1, 1)
    numbers = numbers_of(actions, ego, (has_scene & ~none).float().masked_fill(bare, WITHOUT_SCENERY))
    known = has_scene.float().unsqueeze(-1)
    mask = torch.ones_like(numbers)
    mask[:, 2:5] = known
    mask[:, 6:7] = known
    unknown_actions = (draw() < config.drop_actions).float().unsqueeze(-1)
    mask[:, [0, 1, 5]] = 1 - unknown_actions
    return Condition(
        warped=warped * seen,
        seen=seen,
        layout=channels,
        numbers=numbers * mask,
        appearance=torch.where(draw() < config.drop_appearance, torch.full_like(appearance, UNKNOWN_APPEARANCE), appearance),
        context_noise=context_noise,
        gaze=gaze,
        column=column,
    )


def _pasted(before: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, C, H, W], the `chosen` ones [B] with a false rectangle around the horizon: of another's, or of their own further down.

    A model that was never shown what does not belong there keeps its own mistakes: dark blobs at the end of an empty road for minutes.
    """
    height, width = before.shape[-2:]
    rows, columns = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    low, high = torch.tensor([0.05, 0.04, 0.15, -0.1]), torch.tensor([0.25, 0.35, 0.65, 1.0])
    tall, wide, top, left = ((low + (high - low) * torch.rand(len(before), 4, generator=generator)).view(-1, 4, 1, 1)).unbind(1)
    inside = (rows >= top * height) & (rows < (top + tall) * height) & (columns >= left * width) & (columns < (left + wide) * width)
    inside = inside.to(before.device) & chosen.view(-1, 1, 1)
    own = (torch.rand(len(before), generator=generator) < 0.6).to(before.device).view(-1, 1, 1, 1)
    return torch.where(inside.unsqueeze(1), torch.where(own, before.roll(-PASTED_FROM, 2), before.roll(1, 0)), before)


def shown_parts(layout: Tensor, flow: Tensor, motion: Tensor, bare: Tensor, none: Tensor, column: int = 0) -> tuple[Tensor, Tensor]:
    """Layouts [B, C, H, W] in [0, 1] and flow [B, 2, H, W] of samples whose scenery (`bare` [B]) or layout (`none` [B]) is hidden.

    The other arguments are those of `corrupted_condition`; hidden pixels move as an empty plane does.
    """
    channels = layout.float().mul_(1 / 255)
    rows = (bare | none).nonzero().flatten()
    if len(rows):
        empty = plane_flow(motion[rows].cpu()).to(flow.device)[..., column : column + flow.shape[-1]]
        empty[:, 0] -= column
        whole, none_here = channels[rows], none[rows].view(-1, 1, 1, 1)
        kept, hidden = without_scenery(whole)
        flow = flow.index_copy(0, rows, torch.where(none_here | hidden, empty, flow[rows]))
        channels[rows] = kept * ~none_here
    return channels, flow


def draw_levels(batch: int, config: CorruptionConfig, generator: torch.Generator) -> Tensor:
    """Layout level [B] of a window: 0 full, 1 without scenery, 2 none."""
    value = torch.rand(batch, generator=generator)
    return (value < config.drop_scenery + config.drop_layout).long() + (value < config.drop_layout).long()
