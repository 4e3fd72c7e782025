"""Work on a batch of pictures, shared out among threads by picture and not within each operation.

An operation that several threads share makes them wait for each other at its end, some hundred times a picture, and compiled kernels run
in one thread. Threads that have pictures of their own wait once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

LEAST = 4  # pictures of a thread: with fewer, what Python does for them in one thread at a time takes longer than is won
Result = TypeVar("Result")
_pools: dict[tuple[int, int, int], ThreadPoolExecutor] = {}  # by process, workers and PyTorch's threads in each
_starting = threading.Lock()


def shared(work: Callable[[int, int], Result], count: int) -> list[Result]:
    """What `work(begin, end)` returns of parts of range(count) that follow each other, which together are all of it.

    There are as many parts as PyTorch may use threads here, or a power of two that leaves at least LEAST to each; each part has a thread
    of its own, in which PyTorch may use its share of them. Gradients, inference mode and autocast are as they are here. An exception of
    `work` is raised.
    """
    threads = torch.get_num_threads()
    workers = _workers(threads, count // LEAST)
    if workers < 2:
        return [work(0, count)]
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def part(begin: int, end: int) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype=dtype, enabled=autocast):
            return work(begin, end)

    pool = _pool(workers, threads // workers)
    cuts = [count * worker // workers for worker in range(workers + 1)]
    return [done.result() for done in [pool.submit(part, begin, end) for begin, end in itertools.pairwise(cuts)]]


def _workers(threads: int, most: int) -> int:
    """How many threads there are for `most` or fewer; few different numbers, as each has a pool of its own that stays."""
    return threads if most >= threads else 1 << max(most.bit_length() - 1, 0)


def _pool(workers: int, each: int) -> ThreadPoolExecutor:
    """Threads of this process, in each of which PyTorch uses so many."""
    key = (os.getpid(), workers, each)
    with _starting:
        if key not in _pools:
            _pools[key] = _started(workers, each)
        return _pools[key]


def _started(workers: int, each: int) -> ThreadPoolExecutor:
    threads = torch.get_num_threads()
    together = threading.Barrier(workers)  # lest one of them takes the first task of another

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over the number of others when first asked, which would undo what follows
        torch.set_num_threads(each)  # of this thread, and of those that PyTorch meets later
        together.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    for started in [pool.submit(begin) for _ in range(workers)]:
        started.result()
    torch.set_num_threads(threads)
    return pool
