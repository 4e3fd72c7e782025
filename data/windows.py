"""Windows of consecutive frames out of shards: shuffled, split over workers, resumed exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..batched import Batched
from ..errors import DataError
from ..scene import Track
from .clip import Clip
from .shards import ClipAddress, clip_order, list_clips, load_clip
from .split import check_trainable


@dataclass(frozen=True)
class ClipBatch(Batched):
    """Windows of one length side by side."""

    frames: Tensor  # [B, K, H, W, 3] uint8
    actions: Tensor  # [B, K, 2] float32; action t leads from t to t + 1
    track: Track | None  # [B, K], padded to the widest; None unless all windows have one


def collate(windows: Sequence[Clip]) -> ClipBatch:
    """Batch windows, as the `collate_fn` of a DataLoader over `ClipWindows`."""
    tracks = [window.track for window in windows if window.track is not None]
    return ClipBatch(
        frames=torch.stack([window.frames for window in windows]),
        actions=torch.stack([window.actions for window in windows]),
        track=Track.cat(tracks) if len(tracks) == len(windows) else None,
    )


class ClipWindows(IterableDataset[Clip]):
    """An endless (or one-round) stream of windows of K consecutive frames, as clips.

    The clips of a round are shuffled and taken in pools of `pool` clips; all windows of a pool are shuffled together.
    Every pool belongs to one worker, and its order follows from (seed, pool number) alone, so a position is one number:
    `state_dict` and `load_state_dict` resume exactly without reading what was already served.

    Args:
        path: a folder of shards, or one shard.
        length: frames K of a window.
        split: which split to read; "train" also refuses clips that contradict it.
        stride: frames between the starts of a clip's windows, `length` by default; where they start is drawn anew in each round.
        pool: clips decoded side by side (300 frames of 64x128 are 7 MB).
        seed: of all shuffling.
        repeat: begin again at the end, for ever; else one round.
        frames: whether to decode the video.
        track: whether to decode the track.

    Raises:
        DataError: no clip of that split is as long as a window, or a shard cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        length: int,
        split: str = "train",
        stride: int | None = None,
        pool: int = 16,
        seed: int = 0,
        repeat: bool = True,
        frames: bool = True,
        track: bool = True,
    ) -> None:
        super().__init__()
        if length < 1 or pool < 1 or (stride is not None and stride < 1):
            raise DataError(f"length {length}, stride {stride} and pool {pool} must be 1 or more")
        self.length, self.stride, self.pool, self.seed, self.repeat = length, stride or length, pool, seed, repeat
        self.split, self.frames, self.track = split, frames, track
        self.path = str(path)
        self.clips = [clip for clip in list_clips(path, split) if clip.steps >= length]
        if not self.clips:
            raise DataError(f"no clip of the split '{split}' in '{path}' has {length} frames; use a smaller window")
        self._served = 0
        self._workers_then = (1, 1, 0)  # workers, batch size and batches of the interrupted run

    def state_dict(self) -> dict[str, Any]:
        """The position after the windows served so far by this process (without DataLoader workers)."""
        return {**self._identity(), "served": self._served, "workers": 1, "batch_size": 1}

    def state_after(self, batches: int, batch_size: int, workers: int) -> dict[str, Any]:
        """The position of a DataLoader with `workers` workers that has handed out so many batches."""
        if workers == 0:
            workers, batches, batch_size = 1, batches * batch_size, 1
        return {**self._identity(), "served": batches * batch_size, "workers": workers, "batch_size": batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a position of the same data, settings, batch size and number of workers.

        Raises:
            DataError: the position belongs to other data or settings.
        """
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise DataError(
                    f"the reader's position was saved with {key} {state.get(key)}, now it is {value}; resume with the same data"
                )
        self._served = int(state["served"])
        workers, batch_size = int(state["workers"]), int(state["batch_size"])
        self._workers_then = (workers, batch_size, self._served // batch_size)

    def __iter__(self) -> Iterator[Clip]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        then_workers, batch_size, batches = self._workers_then
        if workers == then_workers == 1:
            skip = self._served
        elif batches == 0:
            skip = 0
        elif then_workers != workers:
            raise DataError(f"the reader's position was saved with {then_workers} workers, now there are {workers}; resume with as many")
        else:
            # A DataLoader asks its workers in turn, from worker 0: give that role to the one whose turn it was.
            worker = (worker + batches) % workers
            skip = -(-(batches - worker) // workers) * batch_size
        for window in self._windows(worker, workers, skip):
            self._served += 1
            yield window
        self._served = 0

    def _windows(self, worker: int, workers: int, skip: int) -> Iterator[Clip]:
        pools_per_round = -(-len(self.clips) // self.pool)
        number = worker
        while self.repeat or number < pools_per_round:
            round_number, position = divmod(number, pools_per_round)
            order = clip_order(len(self.clips), self.seed, round_number)[position * self.pool : (position + 1) * self.pool]
            members = [self.clips[index] for index in order]
            starts = self._starts(members, number)
            if skip < len(starts):
                yield from self._pool(members, starts[skip:])
            skip = max(0, skip - len(starts))
            number += workers

    def _starts(self, members: list[ClipAddress], number: int) -> list[tuple[int, int]]:
        """(clip of the pool, first frame) of every window of a pool, shuffled; known without reading a clip."""
        rng = np.random.default_rng([self.seed, number, 13])
        starts = []
        for index, clip in enumerate(members):
            spare = clip.steps - self.length
            first = int(rng.integers(min(self.stride, spare + 1)))
            starts += [(index, start) for start in range(first, spare + 1, self.stride)]
        return [starts[i] for i in rng.permutation(len(starts))]

    def _pool(self, members: list[ClipAddress], starts: list[tuple[int, int]]) -> Iterator[Clip]:
        needed = {index for index, _ in starts}
        clips: dict[int, Clip] = {}
        for index in needed:
            clips[index] = load_clip(members[index], frames=self.frames, track=self.track)
            if self.split == "train":
                check_trainable(clips[index], members[index].shard)
        for index, start in starts:
            yield clips[index].window(start, self.length)

    def _identity(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "length": self.length,
            "stride": self.stride,
            "pool": self.pool,
            "seed": self.seed,
            "clips": len(self.clips),
            "frames": sum(clip.steps for clip in self.clips),
        }
