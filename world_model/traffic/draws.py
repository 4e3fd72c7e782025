"""Random numbers by counter: the same (seed, counters) give the same number, alone or in a batch, whatever was drawn before."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def uniform(seed: Tensor, *counters: Tensor | int) -> Tensor:
    """Draw uniform numbers in [0, 1), one per element of the broadcast shape.

    Args:
        seed: int64, the episode's own.
        counters: int64 tensors that broadcast with `seed`, or plain integers (a salt per purpose).

    Source: the 32-bit finaliser of MurmurHash3 applied to every counter in turn.
    """
    word = _mix((seed & _MASK) ^ _mix((seed >> 32) & _MASK))
    for counter in counters:
        word = _mix(word ^ ((counter * 0x9E3779B1 + 0x7F4A7C15) & _MASK))
    return (word >> 8).to(torch.float32) * (1.0 / 16777216.0)


def _mix(word: Tensor) -> Tensor:
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & _MASK
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & _MASK
    return word ^ (word >> 16)
