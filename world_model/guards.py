"""Guards: is the learned world still where it was trained? Past a threshold an episode is cut off and says why.

Four numbers of every step, each a running mean over about a second:
- "disagreement": how far apart two paintings of the same scene are that differ in their noise alone;
- "residual": what a frame loses on its way through the frame tokenizer, which was trained on true and painted frames;
- "read_back": how far the motion that an inverse-dynamics network reads off the frames around a moment 0.4 s ago is from the ego's own;
- "lost": how far the ego is from the nearest lane, in metres: where there is nothing, nothing looks wrong.
A number over its threshold, which comes from held-out drives, is above 1 here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batched import Batched
from ..errors import CheckpointError
from ..road import LaneKind
from ..scene import Scene
from .video.probes import AFTER, SPAN, Probes
from .video.tokenizer import FrameTokenizer

GUARDS = ("disagreement", "residual", "read_back", "lost")
SMOOTHING = 0.1  # weight of the newest frame in the running means
SETTLED = 10  # frames before the means count
READ_SCALE = (3.0, 0.15)  # m/s and rad/s that a reading may well be wrong by
FARTHEST = 1e4  # m, of the distance from the nearest lane
PAGE = "guards.json"


@dataclass(frozen=True)
class GuardedMemory(Batched):
    """A world's memory where guards watch: the traffic's own, and what they have seen."""

    traffic: Any  # Batched or None
    frames: Tensor  # [B, SPAN + 1, H, W, 3] uint8, the last ones, the newest last
    motion: Tensor  # [B, AFTER + 1, 2] speed and yaw rate of the ego in the last of them
    means: Tensor  # [B, 4] of GUARDS, running
    seen: Tensor  # [B] int64, frames that the means are of


class Guards:
    """What the guards look through, and their thresholds.

    Args:
        probes: read motion off frames.
        tokenizer: for the round trip.
        thresholds: by name; infinite ones only measure.
    """

    def __init__(self, probes: Probes, tokenizer: FrameTokenizer, thresholds: Mapping[str, float]) -> None:
        self.probes, self.tokenizer = probes, tokenizer
        self.thresholds = torch.tensor([float(thresholds[name]) for name in GUARDS])

    @classmethod
    def load(cls, folder: str | Path, measure: bool = False) -> Guards:
        """The guards of a world's folder: its `probes/`, its `vla/frames` and the thresholds in `guards.json`.

        Args:
            folder: of the world.
            measure: without thresholds, to find some.

        Raises:
            CheckpointError: a part that is missing or damaged.
        """
        folder = Path(folder)
        thresholds = dict.fromkeys(GUARDS, math.inf) if measure else read_thresholds(folder / PAGE)
        return cls(Probes.load(folder / "probes"), FrameTokenizer.load(folder / "vla" / "frames"), thresholds)

    def begin(self, traffic: Any, scene: Scene, frame: Tensor) -> GuardedMemory:
        """The memory of episodes that begin in scenes [B] with frames [B, H, W, 3]."""
        frames = frame.unsqueeze(1).repeat(1, SPAN + 1, 1, 1, 1)
        motion = _motion(scene).unsqueeze(1).repeat(1, AFTER + 1, 1)
        return GuardedMemory(traffic, frames, motion, torch.zeros(len(frame), len(GUARDS)), torch.zeros(len(frame), dtype=torch.int64))

    @torch.no_grad()
    def look(self, memory: GuardedMemory, traffic: Any, scene: Scene, frame: Tensor, other: Tensor) -> GuardedMemory:
        """Take in painted frames [B, H, W, 3] of scenes [B]; `other` are second paintings of them."""
        frames = torch.cat((memory.frames[:, 1:], frame.unsqueeze(1)), 1)
        disagreement = (frame.float() - other.float()).abs().mean((1, 2, 3))
        residual = (self.tokenizer.decode(self.tokenizer.encode(frame)).float() - frame.float()).abs().mean((1, 2, 3))
        motion = torch.cat((memory.motion[:, 1:], _motion(scene).unsqueeze(1)), 1)
        read = self.probes.read_motion(frames)[:, -1, 1:]
        wrong = (read - motion[:, 0]) / torch.tensor(READ_SCALE) * (memory.seen >= SPAN).unsqueeze(-1)  # before, frames are repeated
        values = torch.stack((disagreement, residual, wrong.square().mean(-1).sqrt(), lane_distance(scene)), -1)
        weight = torch.maximum(1 / (memory.seen + 1).float(), torch.tensor(SMOOTHING)).unsqueeze(-1)
        return GuardedMemory(traffic, frames, motion, memory.means + weight * (values - memory.means), memory.seen + 1)

    def doubts(self, memory: GuardedMemory) -> dict[str, Tensor]:
        """Each guard's running mean over its threshold [B], 0 until it has settled."""
        shares = memory.means / self.thresholds
        settled = (memory.seen >= SETTLED).unsqueeze(-1)
        return dict(zip(GUARDS, (shares * settled).unbind(-1), strict=True))


def _motion(scene: Scene) -> Tensor:
    return torch.stack((scene.ego.speed, scene.ego.yaw_rate), -1)


def lane_distance(scene: Scene) -> Tensor:
    """Distance [B] in m from the ego to the nearest vertex of a lane to drive on."""
    road = scene.road
    offset = (road.centreline - scene.ego.position.view(-1, 1, 1, 2)).norm(dim=-1).amin(-1)
    usable = (road.kind == int(LaneKind.DRIVING)) | (road.kind == int(LaneKind.JUNCTION))
    return torch.where(usable, offset, torch.full_like(offset, torch.inf)).amin(-1).clamp_max(FARTHEST)


def read_thresholds(path: Path) -> dict[str, float]:
    """Thresholds by guard.

    Raises:
        CheckpointError: missing, damaged, or not of GUARDS.
    """
    try:
        found = json.loads(path.read_text())["thresholds"]
        thresholds = {name: float(found[name]) for name in GUARDS}
        if not all(math.isfinite(value) and value > 0 for value in thresholds.values()):
            raise ValueError("a threshold is not a positive number")
    except FileNotFoundError:
        raise CheckpointError(f"no guards for this world: '{path}' is missing; `xpeng-world fidelity part=guards` writes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' cannot be read ({error!r}); `xpeng-world fidelity part=guards` writes one") from None
    return thresholds


def write_thresholds(path: Path, thresholds: Mapping[str, float], facts: Mapping[str, Any]) -> Path:
    """Write thresholds, and what they come from."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps({"thresholds": dict(thresholds), "facts": dict(facts)}, indent=1) + "\n")
    os.replace(aside, path)
    return path
