"""Examples in bounded memory: whatever number was ever added, those kept are a uniform sample of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..camera import CAMERA
from ..errors import CheckpointError
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS
from ..world_model.video.hints import HINTS
from .imitation import Examples

FIELDS = ("camera", "ego", "route", "action", "hints")


class Reservoir:
    """At most `capacity` examples; each addition is a part on disk, so that a buffer comes back exactly.

    A part holds only what was taken in, so the folder grows with the logarithm of what was seen once the buffer is full.
    Source: J. S. Vitter, "Random sampling with a reservoir", 1985 (algorithm R).
    """

    def __init__(self, capacity: int, folder: Path, seed: int, lag: int = 0, hints: bool = False) -> None:
        """With a `lag` the picture that lies so far back is kept beside each example's own; with `hints` what a frame should tell."""
        self.capacity, self.folder, self.seed, self.lag = capacity, folder, seed, lag
        self.camera = torch.empty(capacity, CAMERA.height, CAMERA.width, 6 if lag else 3, dtype=torch.uint8)  # present, then earlier
        self.ego = torch.empty(capacity, len(EGO_OBSERVATION))
        self.route = torch.empty(capacity, ROUTE_AHEAD_POINTS, 2)
        self.action = torch.empty(capacity, 2)
        self.hints = torch.empty(capacity, HINTS if hints else 0)
        self.seen = 0  # examples ever added
        self.parts = 0

    def __len__(self) -> int:
        """Examples held."""
        return min(self.seen, self.capacity)

    def add(self, examples: Examples) -> None:
        """Take in examples as one part: all while there is room, then each with the chance that keeps the sample uniform."""
        rng = np.random.default_rng([self.seed, self.parts, 41])
        number = np.arange(self.seen, self.seen + len(examples))
        slots = np.where(number < self.capacity, number, rng.integers(0, number + 1))
        taken = np.flatnonzero(slots < self.capacity)
        # of those that meet in a slot the last one stays
        _, last = np.unique(slots[taken][::-1], return_index=True)
        taken = np.sort(taken[len(taken) - 1 - last])
        self.seen += len(examples)
        rows = torch.from_numpy(taken)
        told = self.hints.new_empty(len(examples), 0) if examples.hints is None else examples.hints
        part = {name: getattr(examples, name)[rows].contiguous() for name in ("ego", "route", "action")}
        part |= {"hints": told[rows].contiguous()}
        part |= {"camera": examples.pictures(rows, self.lag).contiguous()}
        part |= {"slots": torch.from_numpy(slots[taken]), "seen": torch.tensor([self.seen])}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self.parts)
        aside = path.with_suffix(".partial")
        save_file(part, aside)
        aside.replace(path)
        self._place(part)

    def restore(self, parts: int) -> None:
        """Fill an empty buffer with its first parts; later ones, of a round that was not finished, will be written again.

        Raises:
            CheckpointError: a part that is missing or damaged, or of another capacity.
        """
        for number in range(parts):
            path = self._path(number)
            try:
                part = load_file(path)
                self.seen = int(part["seen"])
                self._place(part)
            except (OSError, KeyError, RuntimeError, ValueError, IndexError, SafetensorError) as error:
                reason = str(error).splitlines()[0]
                raise CheckpointError(f"the examples '{path}' cannot be used ({reason}); choose another out= or set resume=false") from None

    def clear(self) -> None:
        """Delete the parts of an earlier run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, part: dict[str, Tensor]) -> None:
        for name in FIELDS:
            getattr(self, name)[part["slots"]] = part[name]
        self.parts += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.safetensors"
