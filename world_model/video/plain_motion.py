"""How a camera moves in recordings that know no scene: a few numbers from commands to motion, fitted by moving one frame onto the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.clip import Clip
from ...scene import DT
from .warp import plane_flow, warp

PAST = 8  # commands that motion may depend on, the present one included
SMOOTH = 4  # commands whose mean pedal stands for the speed
PAIRS = 384  # frames that a fit looks at
TURNS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # rad/s at full steering and the recording's usual pedal
SPEEDS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 9.0, 13.0)  # m/s at the usual pedal, by the geometry of the project's camera
LAGS = (0, 1, 2, 3)  # steps from a steering command to its effect


@dataclass(frozen=True)
class PlainMotion:
    """The fit: zero turn and speed say that frames are best left as they are."""

    turn: float  # rad/s at full steering and usual pedal
    speed: float  # m/s at usual pedal
    lag: int  # steps
    pedal: float  # the usual one: the mean of those above zero

    def motion(self, past: Tensor) -> Tensor:
        """The previous pose in the present frame [B, 3] (x, y in m, heading in rad), from the last PAST commands [B, PAST, 2]."""
        effort = past[:, -SMOOTH:, 1].clamp_min(0).mean(1) / max(self.pedal, 1e-3)
        turned = self.turn * past[:, PAST - 1 - self.lag, 0] * effort * DT
        return torch.stack((-self.speed * effort * DT, torch.zeros_like(turned), -turned), -1)

    def page(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


STILL = PlainMotion(0.0, 0.0, 0, 1.0)


def past_commands(actions: Tensor, step: int) -> Tensor:
    """The last PAST commands [PAST, 2] that led to frame `step` of a clip with actions [T, 2], the first one repeated before it."""
    index = torch.arange(step - PAST, step).clamp_min(0)
    return actions[index]


@torch.no_grad()
def fit_motion(clips: Sequence[Clip], seed: int = 0) -> PlainMotion:
    """The numbers under which frames, moved, come nearest to the ones that follow (mean absolute error, all pixels)."""
    rng = np.random.default_rng([seed, 89])
    usable = [clip for clip in clips if clip.steps > 1]
    chances = np.array([clip.steps - 1 for clip in usable], float)
    if not len(usable):
        return STILL
    before, after, past = [], [], []
    for number in rng.choice(len(usable), size=PAIRS, p=chances / chances.sum()):
        clip = usable[int(number)]
        step = int(rng.integers(1, clip.steps))
        before.append(clip.frames[step - 1])
        after.append(clip.frames[step])
        past.append(past_commands(clip.actions, step))
    first, second = (torch.stack(frames).permute(0, 3, 1, 2).float() / 255 for frames in (before, after))
    commands = torch.stack(past)
    pedals = commands[..., 1][commands[..., 1] > 0]
    pedal = float(pedals.mean()) if len(pedals) else 1.0

    def error(turn: float, speed: float, lag: int) -> float:
        moved, _ = warp(first, plane_flow(PlainMotion(turn, speed, lag, pedal).motion(commands)))
        return float((moved - second).abs().mean())

    turn, lag = min(product(TURNS, LAGS), key=lambda pair: error(pair[0], 0.0, pair[1]))
    speed = min(SPEEDS, key=lambda speed: error(turn, speed, lag))
    turn = min(TURNS, key=lambda turn: error(turn, speed, lag))
    return PlainMotion(turn, speed, lag, pedal)
