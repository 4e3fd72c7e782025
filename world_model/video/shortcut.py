"""Shortcut training: one long step of the sampler learns to land where two steps of half its length do.

A denoiser trained by flow matching alone paints the mean of all frames that fit when it goes the whole way in one step. Told how far
the step goes, it can learn to paint one of them: K. Frans and others, "One Step Diffusion via Shortcut Models", ICLR 2025.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .denoiser import Condition

SPANS = (1.0, 0.5)  # that are learned; steps of half the last are those of flow matching


def draw_spans(level: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """How far the steps of samples go, [B], 0 for those that learn by flow matching; moves `level` [B] of the others to a step's start."""
    span = torch.zeros_like(level)
    if share <= 0:
        return span
    chosen = torch.rand(level.shape, generator=generator) < share
    drawn = torch.randint(len(SPANS), level.shape, generator=generator)
    span[chosen] = torch.tensor(SPANS)[drawn][chosen]
    steps = (1 / span.clamp_min(min(SPANS))).round()
    start = 1 - (torch.rand(level.shape, generator=generator) * steps).floor() * span
    level[chosen] = start[chosen]
    return span


@torch.no_grad()
def shortcut_targets(
    painter: Callable[[Tensor, Tensor, Condition, Tensor], Tensor],
    target: Tensor,
    noisy: Tensor,
    level: Tensor,
    span: Tensor,
    condition: Condition,
) -> Tensor:
    """What the denoiser should paint: the true frame, and where a sample has a span, what leads to where two half steps do.

    Args:
        painter: whose half steps are followed.
        target: true frames [B, 3, H, W].
        noisy: [B, 3, H, W] at `level`.
        level: [B], at least `span`.
        span: [B] in {0, *SPANS}.
        condition: of the samples.
    """
    rows = span.nonzero().flatten()
    if not len(rows):
        return target
    begin, whole, t = noisy[rows], span[rows].view(-1, 1, 1, 1), level[rows].view(-1, 1, 1, 1)
    parts: dict[str, Any] = {field.name: getattr(condition, field.name) for field in dataclasses.fields(condition)}
    told = Condition(**(parts | {name: part[rows] for name, part in parts.items() if isinstance(part, Tensor)}))
    half = whole / 2
    shorter = torch.where(half.flatten() < min(SPANS), 0.0, half.flatten())
    first = painter(begin, level[rows], told, shorter).float().clamp(-1, 1)
    middle = begin + (first - begin) * (half / t)
    rest = t - half
    second = painter(middle, rest.flatten(), told, shorter).float().clamp(-1, 1)
    end = middle + (second - middle) * (half / rest)
    return target.index_copy(0, rows, (begin - (begin - end) * (t / whole)).clamp(-1, 1))
