"""Driving whole episodes: a policy in a loop, from the suite's episodes to their tracks and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..batched import flatten, unflatten
from ..envs.core import DrivingLoop, Episodes
from ..envs.info import ending
from ..road import RoadMap, Route
from ..scene import Agents, Ego, Track
from ..vehicles import VehicleProfile
from ..world import Policy, observe
from .suites import Episode


@dataclass(frozen=True)
class Drive:
    """One driven episode from its first scene to the one that ended it."""

    episode: Episode
    track: Track  # [1, T]
    frames: Tensor  # [T, H, W, 3] uint8
    actions: Tensor  # [T, 2] float32; action t leads from t to t + 1, the last is zero
    ended: str  # the rule that ended it, route_end or time_limit

    def save(self, path: Path) -> None:
        """Keep track, frames and actions in a safetensors file."""
        save_file({**flatten(self.track), "frames": self.frames.contiguous(), "actions": self.actions}, str(path), {"ended": self.ended})


def load_drive(path: Path) -> tuple[Track, Tensor]:
    """The track [1, T] and the frames [T, H, W, 3] of a saved drive."""
    tensors = load_file(str(path))
    frames = tensors.pop("frames")
    return unflatten(Track, tensors, ego=Ego, agents=Agents, road=RoadMap, route=Route, profile=VehicleProfile), frames


@torch.inference_mode()
def drive(loop: DrivingLoop, policy: Policy, episodes: Sequence[Episode]) -> list[Drive]:
    """Drive a policy through episodes side by side, each until a rule, the end of its route or the time limit ends it.

    Args:
        loop: one that records; its time limit is the suite's.
        policy: privileged ones are shown the scene.
        episodes: as many as the loop's world serves at once.
    """
    running = _begin(loop, episodes)
    memory = policy.initial_memory([episode.seed for episode in episodes])
    frames, actions = [running.state.frame.cpu()], []
    lengths, endings = [0] * len(episodes), [""] * len(episodes)
    while not all(endings):
        action, memory = policy.act(observe(running.state), memory, running.state.scene if policy.privileged else None)
        running, outcome = loop.step(running, action)
        frames.append(running.state.frame.cpu())
        actions.append(action.float().cpu())
        for row in range(len(episodes)):
            if not endings[row] and bool(outcome.done[row]):
                endings[row] = ending(outcome, row) or "terminated"
                lengths[row] = len(frames)
    actions.append(torch.zeros(len(episodes), 2))
    drives = []
    for row, episode in enumerate(episodes):
        kept = slice(0, lengths[row])
        done = torch.stack([action[row] for action in actions[kept]])
        done[-1] = 0
        track = running.whole_track(row).columns(kept)
        drives.append(Drive(episode, track, torch.stack([frame[row] for frame in frames[kept]]), done, endings[row]))
    return drives


def _begin(loop: DrivingLoop, episodes: Sequence[Episode]) -> Episodes:
    """One episode a row, each with its own scenario."""
    begun = [loop.reset([episode.seed], episode.scenario) for episode in episodes]
    if len(begun) == 1:
        return begun[0]
    together = Episodes.cat([replace(one, recorded=None) for one in begun])
    return replace(together, recorded=(together.state.scene,))
