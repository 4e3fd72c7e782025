"""Random numbers by counter: the same (seed, counters) give the same number, alone or in a batch, whatever was drawn before."""

from __future__ import annotations

import torch
from torch import Tensor

# odd 63-bit weights, one for each counter, so that sums of small counters do not meet
_WEIGHTS = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)


def uniform(seed: Tensor, *counters: Tensor | int) -> Tensor:
    """Draw uniform numbers in [0, 1), one per element of the broadcast shape.

    Args:
        seed: int64, the episode's own.
        counters: at most four int64 tensors that broadcast with `seed`, or plain integers (a salt per purpose).

    Source: the mixing steps of SplitMix64 (Steele, Lea and Flood 2014) on a weighted sum, in wrapping int64 arithmetic.
    """
    word = seed * _WEIGHTS[0]
    for counter, weight in zip(counters, _WEIGHTS[1:], strict=False):
        word = torch.add(word, counter, alpha=weight) if isinstance(counter, Tensor) else word + (counter * weight) % (1 << 62)
    word = (word ^ (word >> 30)).mul_(0x3F58476D1CE4E5B9)
    word = word.bitwise_xor_(word >> 27).mul_(0x14D049BB133111EB)
    word = word.bitwise_xor_(word >> 31)
    return ((word >> 38) & 0xFFFFFF).to(torch.float32).mul_(1.0 / 16777216.0)
