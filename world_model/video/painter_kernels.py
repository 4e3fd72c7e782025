"""Compiled kernels of `denoiser.FrameDenoiser`, for pictures that ask for no gradient on a CPU: one pass where PyTorch makes several.

Each does in one thread what the lines beside its call say, to the rounding of float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from .kernel_math import MATH, sigmoid

ROWS = 8  # of a stem's output at once, so that what it is made of stays in a processor's cache
_ONE, _UNIT = np.float32(1.0), np.float32(1 / 255)


def stem(images: Tensor, layout: Tensor, place: int, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution [B, O, H / 2, W / 2] of 2 x 2 pixels with stride 2, without channels that are 0 all over.

    Args:
        images: [B, C, H, W] float32.
        layout: [B, L, H, W] uint8 of 255 times what is meant.
        place: which of the images comes next after the layout.
        weight: [O, C + L, 2, 2].
        bias: [O].
    """
    batch, channels, height, width = images.shape
    features, rows, known = len(weight), math.gcd(height // 2, ROWS), layout.shape[1]
    taps = weight.permute(1, 2, 3, 0).contiguous()  # [C + L, 2, 2, O]
    packed, used = torch.empty(channels + known, 2, 2, rows, width // 2), np.empty(channels, np.int64)
    used_layout, out = np.empty(known, np.int64), torch.empty(batch, height // 2, width // 2, features)
    for picture, told, made in zip(images.numpy(), layout.numpy(), out, strict=True):
        some, more = used[: _find_used(picture.view(np.int32), used)], used_layout[: _find_used(told, used_layout)]
        there = taps[np.concatenate((some + known * (some >= place), more + place))].view(-1, features)
        filled = packed.view(4 * (channels + known), -1)[: len(there)]
        for begin in range(0, height // 2, rows):
            _unshuffle(picture, some, begin, _ONE, packed.numpy())
            _unshuffle(told, more, begin, _UNIT, packed.numpy()[len(some) :])
            torch.addmm(bias, filled.t(), there, out=made[begin : begin + rows].view(-1, features))
    return out.permute(0, 3, 1, 2)


def norm_silu(norm: nn.GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """SiLU of normalised x [B, C, H, W], of it times `scale` plus `shift` [B, C] where these are given."""
    rows = x.permute(0, 2, 3, 1).contiguous()
    out = torch.empty_like(rows)
    scale, shift = x.new_ones(x.shape[:2]) if scale is None else scale, x.new_zeros(x.shape[:2]) if shift is None else shift
    parameters = (norm.weight.detach().numpy(), norm.bias.detach().numpy(), scale.numpy(), shift.numpy())
    _norm_silu(rows.numpy(), norm.num_groups, norm.eps, *parameters, out.numpy())
    return out.permute(0, 3, 1, 2)


def raised(up: nn.Conv2d, x: Tensor, skip: Tensor) -> Tensor:
    """What `up` says of x in 1 x 1 pixels, shuffled to twice the size and added to `skip`."""
    inner = up.in_channels
    weight = up.weight.view(-1, 2, 2, inner).permute(1, 2, 0, 3).reshape(-1, inner)  # features last, so that they stay together
    bias = up.bias.view(-1, 2, 2).permute(1, 2, 0).flatten()  # type: ignore[union-attr]
    rows = x.permute(0, 2, 3, 1)
    batch, height, width, _ = rows.shape
    said = torch.addmm(bias, rows.reshape(-1, inner), weight.t()).view(batch, height, width, 2, 2, -1)
    out = skip.permute(0, 2, 3, 1).contiguous()
    out.view(batch, height, 2, width, 2, -1).add_(said.permute(0, 1, 3, 2, 4, 5))
    return out.permute(0, 3, 1, 2)


def blend(said: Tensor, warped: Tensor, seen: Tensor, lit: Tensor | None, hold: tuple[float, float] | None) -> Tensor:
    """What `denoiser.blended` makes of `said` [B, 4 K, H / 2, W / 2], of which each pixel holds 2 x 2 of a frame."""
    batch, _, height, width = seen.shape
    out = torch.empty(batch, 3, height, width)
    layer = warped[:, :0] if lit is None else lit
    rows, (begins, alone) = said.permute(0, 2, 3, 1).contiguous(), hold or (0.0, 0.0)
    _blend(rows.numpy(), warped.numpy(), seen.numpy(), layer.numpy(), begins, alone, out.numpy())
    return out


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _find_used(images: NDArray[np.integer], used: NDArray[np.int64]) -> int:
    """Write which channels of images [C, H, W], taken as whole numbers, are not 0 all over; how many."""
    channels, height, width = images.shape
    count = 0
    for c in range(channels):
        some = images[c, 0, 0]
        for row in range(height):
            for u in range(width):
                some |= images[c, row, u]
            if some != 0:
                used[count] = c
                count += 1
                break
    return count


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _unshuffle(images, used, begin, unit, out):
    """Pack `unit` times channels of images [C, H, W] into [C, 2, 2, R, W / 2], 2 R rows from 2 `begin` on."""
    for k in range(len(used)):
        for row in range(2 * out.shape[3]):
            line, left, right = images[used[k], 2 * begin + row], out[k, row % 2, 0, row // 2], out[k, row % 2, 1, row // 2]
            for u in range(out.shape[4]):
                left[u] = unit * np.float32(line[2 * u])
                right[u] = unit * np.float32(line[2 * u + 1])


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _norm_silu(x, groups, eps, weight, bias, scale, shift, out):
    """All of channels last: x and out [B, H, W, C], weight and bias [C], scale and shift [B, C]."""
    batch, height, width, channels = x.shape
    size = channels // groups
    total, square = np.empty(channels, np.float32), np.empty(channels, np.float32)
    sums = np.empty((2, channels), np.float64)
    for b in range(batch):
        sums[:] = 0.0
        for row in range(height):
            total[:], square[:] = 0.0, 0.0
            for u in range(width):
                for c in range(channels):
                    total[c] += x[b, row, u, c]
                    square[c] += x[b, row, u, c] * x[b, row, u, c]
            for c in range(channels):
                sums[0, c] += total[c]
                sums[1, c] += square[c]
        for g in range(groups):
            first, last, many = g * size, (g + 1) * size, size * height * width
            mean = sums[0, first:last].sum() / many
            gain = 1.0 / math.sqrt(max(sums[1, first:last].sum() / many - mean * mean, 0.0) + eps)
            for c in range(first, last):
                total[c] = gain * weight[c] * scale[b, c]
                square[c] = (bias[c] - gain * weight[c] * mean) * scale[b, c] + shift[b, c]
        for row in range(height):
            for u in range(width):
                for c in range(channels):
                    value = x[b, row, u, c] * total[c] + square[c]
                    out[b, row, u, c] = value * sigmoid(value)


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _blend(said, warped, seen, lit, begins, alone, out):
    """See `blend`; said [B, H / 2, W / 2, 4 K], lit [B, 0 or 3, H, W], `alone` 0 where nothing is held."""
    batch, _, height, width = seen.shape
    layers = said.shape[3] // 4
    parts = np.empty((layers, width), np.float32)
    one, start, slope = np.float32(1.0), np.float32(begins), np.float32(1.0 / (alone - begins) if alone > 0.0 else 0.0)
    for b in range(batch):
        for row in range(height):
            for k in range(layers):
                for u in range(width):
                    parts[k, u] = said[b, row // 2, u // 2, 4 * k + 2 * (row % 2) + u % 2]
            for u in range(width):
                parts[3, u] = sigmoid(parts[3, u]) * seen[b, 0, row, u]
            for k in range(3):
                before, place = warped[b, k, row], out[b, k, row]
                for u in range(width):
                    place[u] = parts[k, u] + parts[3, u] * before[u]
                if lit.shape[1]:
                    layer = lit[b, k, row]
                    for u in range(width):
                        place[u] += (layer[u] * np.float32(2.0) - one - place[u]) * parts[4, u]
                if alone > 0.0:
                    for u in range(width):
                        held = min(max((parts[3, u] - start) * slope, np.float32(0.0)), one)
                        place[u] += (before[u] - place[u]) * held
    return out
