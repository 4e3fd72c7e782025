"""Where freed memory goes: back to the system, or to the next who asks."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # parameters of the GNU C library's `mallopt`
_LARGEST = 2**30  # bytes of a piece that is kept
_KEPT = 2**31 - 1  # bytes that are kept
_ADDED = 2**26  # bytes by which the heap grows


def keep_freed_memory() -> bool:
    """Have this process keep memory that it frees; returns whether its C library can.

    Pictures of a batch are pieces of some MB. By default such pieces are given back to the system, which clears them page by page whenever
    they are asked for again: a tenth of the time of a step.
    """
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _KEPT, _TOP_PAD: _ADDED}
    return all([bool(adjust(parameter, value)) for parameter, value in wanted.items()])
