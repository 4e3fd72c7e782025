"""When compiled kernels are worth it, and functions for them that a compiler can turn into instructions on several numbers at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit

MATH = {"contract", "reassoc", "nsz", "arcp"}  # how kernels may round; what is not a number stays none
THREADS = 2  # with more of them PyTorch's several passes, which share them out, are as fast as kernels in one thread
_POWER = tuple(np.float32(a) for a in np.polynomial.Chebyshev.interpolate(np.exp2, 5, [0, 1]).convert(kind=np.polynomial.Polynomial).coef)
_TURNS = np.float32(1 / math.log(2))
_ONE = np.float32(1.0)
_MOST = np.float32(125.0)  # powers of two of float32, nearly


def kernels_suit(images: torch.Tensor) -> bool:
    """Whether images are such that the kernels can be used and are worth it: no gradient, float32 all along, on a CPU, with few threads."""
    plain = images.device.type == "cpu" and images.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and not torch.is_grad_enabled() and torch.get_num_threads() <= THREADS


@njit(inline="always", error_model="numpy")
def exponential(value):
    """Euler's number to the power of a float32, to three in 10 million of it; it ends at 2 to the power of 125 and of -125."""
    turns = min(max(value * _TURNS, -_MOST), _MOST)
    whole = np.floor(turns)
    part = turns - whole
    power = ((((_POWER[5] * part + _POWER[4]) * part + _POWER[3]) * part + _POWER[2]) * part + _POWER[1]) * part + _POWER[0]
    return power * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always", fastmath=MATH, error_model="numpy")
def sigmoid(value):
    """The logistic function of a float32."""
    return _ONE / (_ONE + exponential(-value))
