"""Convolutions of 3 x 3 pixels with a quarter of the products, for painters that ask for no gradient on a CPU.

What 6 x 6 pixels see is turned into 36 sums, these are multiplied by 36 matrices over the features, and what comes out into 4 x 4 pixels of
the convolution, each of which takes 9 matrices by itself: F(4 x 4, 3 x 3) of A. Lavin and S. Gray, "Fast Algorithms for Convolutional
Neural Networks" (2015). Rounding errs some five times as much as a plain convolution in float32, 1 part in 100 thousand.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .kernel_math import MATH, sigmoid

TILE = 4  # pixels of what is made, along each side of a square
MANY = 32  # features at once
_SIDE = TILE + 2  # pixels of what a square sees, along each side
_TILES = 128  # squares at once, so that their sums stay in a processor's cache
_TWO, _FOUR, _FIVE, _EIGHT = (np.float32(number) for number in (2, 4, 5, 8))
_OF_WEIGHTS = torch.tensor(  # the 6 sums of 3 weights in a row
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    dtype=torch.float64,
)
_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # the matrices of weights, and of which state of them


def suits(images: Tensor, *weights: Tensor) -> bool:
    """Whether images [B, C, H, W] have their features last, in whole packs and squares, and changes of the weights are counted."""
    _, channels, height, width = images.shape
    whole = channels % MANY == height % TILE == width % TILE == 0
    return whole and images.is_contiguous(memory_format=torch.channels_last) and not any(weight.is_inference() for weight in weights)


def convolved(first: nn.Conv2d, second: nn.Conv2d, y: Tensor, x: Tensor) -> Tensor:
    """`second` of SiLU of `first` of y, added to x in place.

    Args:
        first: a convolution of 3 x 3 pixels to as many features, padded to the same size.
        second: another one.
        y: [B, C, H, W] float32, see `suits`.
        x: the same.
    """
    seen, made = y.permute(0, 2, 3, 1).numpy(), x.permute(0, 2, 3, 1).numpy()
    batch, height, width, channels = seen.shape
    tiles = height * width // TILE**2
    group, most = min(batch, max(1, _TILES // tiles)), min(_TILES, batch * tiles)
    sums, products = torch.empty(2, _SIDE**2, most + 1, channels)  # one more, lest all 36 fall on the same lines of a cache
    sums_rows, products_rows = sums.numpy(), products.numpy()
    between = np.empty((group, height, width, channels), np.float32)
    ways = [(matrices(some.weight), some.bias.detach().numpy()) for some in (first, second)]  # type: ignore[union-attr]
    for begin in range(0, batch, group):
        pictures = made[begin : begin + group]
        steps = ((seen[begin : begin + group], between, False), (between, pictures, True))
        for (weight, bias), (source, out, add) in zip(ways, steps, strict=True):
            for tile in range(0, len(pictures) * tiles, most):
                count = min(most, len(pictures) * tiles - tile)
                _spread(source, tile, count, MANY, sums_rows)
                torch.bmm(sums, weight, out=products)
                _gather(products_rows, bias, tile, count, MANY, add, out)
    return x


def matrices(weight: Tensor) -> Tensor:
    """What weights [O, I, 3, 3] are to sums, [36, I, O]; made once for all calls until they change.

    A change is noticed by the count that PyTorch keeps of writing in place, which `weight.data` goes round.
    """
    state, (known, made) = (weight._version, weight.data_ptr()), _known.get(weight, (None, weight))
    if known != state:
        made = torch.einsum("au,oiuv,bv->abio", _OF_WEIGHTS, weight.detach().double(), _OF_WEIGHTS).flatten(0, 1).float().contiguous()
        _known[weight] = state, made
    return made


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _spread(pictures, first, count, many, out):
    """Sums [36, T, C] of what `count` squares of pictures [B, H, W, C] see, from square `first` on.

    `many` is MANY: loops whose length the compiler knows become single steps, and these not instructions on several numbers.
    """
    _, height, width, channels = pictures.shape
    across, tiles = width // TILE, height * width // TILE**2
    sums, rows = np.empty((_SIDE, _SIDE, MANY), np.float32), np.empty((_SIDE, _SIDE, MANY), np.float32)
    none = np.zeros(many, np.float32)
    for place in range(count):
        b, tile = divmod(first + place, tiles)
        top, left = tile // across * TILE - 1, tile % across * TILE - 1
        for begin in range(0, channels, MANY):
            end = begin + many
            for j in range(_SIDE):
                u = left + j
                if 0 <= u < width:
                    p0 = pictures[b, top, u, begin:end] if top >= 0 else none
                    p1, p2 = pictures[b, top + 1, u, begin:end], pictures[b, top + 2, u, begin:end]
                    p3, p4 = pictures[b, top + 3, u, begin:end], pictures[b, top + 4, u, begin:end]
                    p5 = pictures[b, top + 5, u, begin:end] if top + 5 < height else none
                    for c in range(many):
                        rows[0, j, c] = _FOUR * p0[c] - _FIVE * p2[c] + p4[c]
                        rows[1, j, c] = p3[c] + p4[c] - _FOUR * (p1[c] + p2[c])
                        rows[2, j, c] = p4[c] - p3[c] + _FOUR * (p1[c] - p2[c])
                        rows[3, j, c] = p4[c] - p2[c] + _TWO * (p3[c] - p1[c])
                        rows[4, j, c] = p4[c] - p2[c] + _TWO * (p1[c] - p3[c])
                        rows[5, j, c] = _FOUR * p1[c] - _FIVE * p3[c] + p5[c]
                else:
                    for i in range(_SIDE):
                        for c in range(many):
                            rows[i, j, c] = 0.0
            for i in range(_SIDE):
                for c in range(many):
                    p1, p2, p3, p4 = rows[i, 1, c], rows[i, 2, c], rows[i, 3, c], rows[i, 4, c]
                    sums[i, 0, c] = _FOUR * rows[i, 0, c] - _FIVE * p2 + p4
                    sums[i, 1, c] = p3 + p4 - _FOUR * (p1 + p2)
                    sums[i, 2, c] = p4 - p3 + _FOUR * (p1 - p2)
                    sums[i, 3, c] = p4 - p2 + _TWO * (p3 - p1)
                    sums[i, 4, c] = p4 - p2 + _TWO * (p1 - p3)
                    sums[i, 5, c] = _FOUR * p1 - _FIVE * p3 + rows[i, 5, c]
            for i in range(_SIDE):
                for j in range(_SIDE):
                    line = out[_SIDE * i + j, place, begin:end]
                    for c in range(many):
                        line[c] = sums[i, j, c]


@njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _gather(products, bias, first, count, many, add, out):
    """What products [36, T, C] make of `count` squares of pictures [B, H, W, C]: added to `out`, or SiLU of it written there."""
    _, height, width, channels = out.shape
    across, tiles = width // TILE, height * width // TILE**2
    rows, made = np.empty((TILE, _SIDE, MANY), np.float32), np.empty((TILE, TILE, MANY), np.float32)
    for place in range(count):
        b, tile = divmod(first + place, tiles)
        top, left = tile // across * TILE, tile % across * TILE
        for begin in range(0, channels, MANY):
            end = begin + many
            for j in range(_SIDE):
                p0, p1 = products[j, place, begin:end], products[_SIDE + j, place, begin:end]
                p2, p3 = products[2 * _SIDE + j, place, begin:end], products[3 * _SIDE + j, place, begin:end]
                p4, p5 = products[4 * _SIDE + j, place, begin:end], products[5 * _SIDE + j, place, begin:end]
                for c in range(many):
                    near, apart = p1[c] + p2[c], p1[c] - p2[c]
                    far, away = p3[c] + p4[c], p3[c] - p4[c]
                    rows[0, j, c] = p0[c] + near + far
                    rows[1, j, c] = apart + _TWO * away
                    rows[2, j, c] = near + _FOUR * far
                    rows[3, j, c] = apart + _EIGHT * away + p5[c]
            offset = bias[begin:end]
            for i in range(TILE):
                for c in range(many):
                    near, apart = rows[i, 1, c] + rows[i, 2, c], rows[i, 1, c] - rows[i, 2, c]
                    far, away = rows[i, 3, c] + rows[i, 4, c], rows[i, 3, c] - rows[i, 4, c]
                    made[i, 0, c] = rows[i, 0, c] + near + far + offset[c]
                    made[i, 1, c] = apart + _TWO * away + offset[c]
                    made[i, 2, c] = near + _FOUR * far + offset[c]
                    made[i, 3, c] = apart + _EIGHT * away + rows[i, 5, c] + offset[c]
            for i in range(TILE):
                for j in range(TILE):
                    pixel = out[b, top + i, left + j, begin:end]
                    if add:
                        for c in range(many):
                            pixel[c] += made[i, j, c]
                    else:
                        for c in range(many):
                            pixel[c] = made[i, j, c] * sigmoid(made[i, j, c])
