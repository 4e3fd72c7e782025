"""Networks that read a picture back: how the ego moved, and where road users and lit signals are. They judge the video model."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...errors import CheckpointError
from .layout import AGENT_CHANNELS, CHANNEL
from .local_flow import FEATURES, local_flow

FORMAT = 3  # version of a folder of probes
OFFSETS = (-4, -2, -1, 0, 1, 2, 4)  # steps from the moment whose motion is read to the pictures that it is read off
BEFORE, AFTER = -OFFSETS[0], OFFSETS[-1]
SPAN = BEFORE + AFTER
MOTION = ("steering", "speed", "yaw_rate")  # rad, m/s, rad/s; of a recording without a scene: its steering command, nothing, nothing
MOTION_SCALE = (0.06, 10.0, 0.08)  # what an error counts by; small ones in yaw rate, as good drivers hardly steer
CLASSES = ("agent", "red", "yellow", "green")
CHUNK = 128  # pictures read at once
_LIGHTS = tuple(CHANNEL[name] for name in CLASSES[1:])
_FILE, _PAGE = "probes.safetensors", "probes.json"


_NOW = OFFSETS.index(0)
_PAIRS = tuple((i, len(OFFSETS) - 1 - i) for i in reversed(range(_NOW)))  # the pictures just as long before and after
_GAIN = torch.tensor([5.0 if after - before == 1 else 3.0 for before, after in pairwise(OFFSETS)]).view(1, -1, 1, 1, 1)  # of small changes


class MotionReader(nn.Module):
    """Inverse dynamics: reads steering, speed and yaw rate of a moment off its picture and how the pictures around it differ and move.

    It sees what came after, as in Baker et al., "Video PreTraining" (2022): what an action did is easier to tell than what it will do.
    """

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 48, 64, 96)
        layers: list[nn.Module] = []
        before = 3 * len(OFFSETS)
        for i, width in enumerate(widths):
            kernel = 5 if i < 2 else 3
            layers += [nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2), nn.GroupNorm(4, width), nn.SiLU()]
            before = width
        self.camera = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 4 * 8, 128), nn.SiLU())
        ways: list[nn.Module] = []
        before = len(_PAIRS) * FEATURES
        for stride in (1, 2):
            ways += [nn.Conv2d(before, 64, 3, stride=stride, padding=1), nn.GroupNorm(4, 64), nn.SiLU()]
            before = 64
        self.ways = nn.Sequential(*ways, nn.Flatten())
        self.out = nn.Sequential(nn.Linear(before * 4 * 8 + 128, 128), nn.SiLU(), nn.Linear(128, len(MOTION)))
        self.register_buffer("scale", torch.tensor(MOTION_SCALE), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Motion [B, 3] in SI units from pictures [B, len(OFFSETS), 3, H, W] in [0, 1], the oldest first."""
        changes = _GAIN.to(pictures) * (pictures[:, 1:] - pictures[:, :-1])
        seen = self.camera(torch.cat((pictures[:, _NOW] - 0.5, changes.flatten(1, 2)), 1))
        return self.out(torch.cat((self.ways(local_flow(pictures, _PAIRS)), seen), 1)) * self.scale


class SceneReader(nn.Module):
    """Finds what is where: logits of CLASSES for every pixel of a picture."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.fine = nn.ModuleList(_block(width) for _ in range(2))
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.coarse = nn.ModuleList(_block(2 * width) for _ in range(3))
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.last = _block(width)
        self.out = nn.Conv2d(width, 4 * len(CLASSES), 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits [B, 4, H, W] from pictures [B, 3, H, W] in [0, 1]."""
        x = self.stem(nn.functional.pixel_unshuffle(picture - 0.5, 2))
        for block in self.fine:
            x = x + block(x)
        y = self.down(x)
        for block in self.coarse:
            y = y + block(y)
        x = x + nn.functional.pixel_shuffle(self.up(y), 2)
        x = x + self.last(x)
        return nn.functional.pixel_shuffle(self.out(x), 2)


class Probes(nn.Module):
    """Both readers, as one thing to train, keep and load."""

    def __init__(self) -> None:
        super().__init__()
        self.motion, self.scene = MotionReader(), SceneReader()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def read_motion(self, frames: Tensor) -> Tensor:
        """Motion [B, T - SPAN, 3] of MOTION at columns BEFORE to T - AFTER - 1 of videos [B, T, H, W, 3] uint8."""
        columns = range(BEFORE, frames.shape[1] - AFTER)
        stacks = torch.stack([frames[:, [t + offset for offset in OFFSETS]] for t in columns], 1).flatten(0, 1)
        read = torch.cat([self.motion(pictures_of(part)) for part in stacks.split(CHUNK)])
        return read.view(frames.shape[0], len(columns), len(MOTION))

    @torch.inference_mode()
    def read_scene(self, frames: Tensor) -> Tensor:
        """Probability [n, 4, H, W] of CLASSES in every pixel of pictures [n, H, W, 3] uint8."""
        return torch.cat([torch.sigmoid(self.scene(pictures_of(part))) for part in frames.split(CHUNK)])

    def save(self, folder: str | Path, facts: dict | None = None) -> None:
        """Write weights (float16) and a page with the format's version."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{_FILE}.{os.getpid()}"
        save_file({name: tensor.detach().cpu().half().contiguous() for name, tensor in self.state_dict().items()}, aside)
        os.replace(aside, folder / _FILE)
        aside = folder / f".{_PAGE}.{os.getpid()}"
        aside.write_text(json.dumps({"format": "xpeng-world-probes", "version": FORMAT, "facts": facts or {}}, indent=1) + "\n")
        os.replace(aside, folder / _PAGE)

    @classmethod
    def load(cls, folder: str | Path) -> Probes:
        """Read probes that `save` wrote.

        Raises:
            CheckpointError: files that are missing, damaged or of another version.
        """
        folder = Path(folder)
        for name in (_PAGE, _FILE):
            if not (folder / name).is_file():
                raise CheckpointError(f"no probes in '{folder}': {name} is missing; train some with `xpeng-world train-probes`")
        try:
            meta = json.loads((folder / _PAGE).read_text())
            if meta.get("format") != "xpeng-world-probes" or meta.get("version") != FORMAT:
                raise CheckpointError(f"'{folder}' holds probes of version {meta.get('version')}; this code reads {FORMAT}")
            probes = cls()
            probes.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / _FILE).items()})
        except (OSError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"the probes in '{folder}' cannot be read: {str(error).splitlines()[0]}") from error
        return probes.eval()


def scene_targets(channels: Tensor) -> Tensor:
    """What the scene reader should say of layouts [B, C, H, W] uint8: coverage [B, 4, H, W] in [0, 1]."""
    agents = channels[:, list(AGENT_CHANNELS)].int().sum(1, keepdim=True).clamp_max(255)
    return torch.cat((agents, channels[:, list(_LIGHTS)].int()), 1).float() / 255


def pictures_of(frames: Tensor) -> Tensor:
    """Pictures [..., 3, H, W] in [0, 1] from frames [..., H, W, 3] uint8."""
    return frames.movedim(-1, -3).float() / 255


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
    )
