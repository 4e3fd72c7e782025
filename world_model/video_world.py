"""A world learned from plain video and actions: there is a picture and an ego, and nothing is known of road or traffic."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..batched import Batched
from ..errors import CheckpointError, ConfigError
from ..road import LANE_POINTS, MAX_PHASES, ROUTE_STEP, Border, LaneKind, RoadMap, Route, SignalState
from ..scene import DT, Agents, Appearance, Ego, Scene
from ..vehicles import bicycle_step, check_actions, vehicle_profile
from ..world import WorldState
from .video.generator import FrameGenerator
from .video.plain_motion import PAST, STILL, PlainMotion

MOTION = "motion.json"  # from commands to the camera's motion
OPENINGS = "openings.safetensors"  # pictures that episodes begin with; only worlds without scenes have some
MOST_OPENINGS = 64
PLAIN = 10_000.0  # m, side of the empty plane that stands for the unknown road
LANES = 1
ROUTE_LENGTH = 400.0  # m


@dataclass(frozen=True)
class Commands(Batched):
    """The world's memory: the commands of the last steps."""

    past: Tensor  # [B, PAST, 2]


class VideoWorld:
    """World of B episodes side by side whose scene holds the ego alone; states are values.

    The generator paints from the action and the picture before, which is moved as the recordings' commands moved theirs. The ego moves
    by the vehicle model of its profile, whatever vehicle was filmed, so speeds are those of the profile and not read off the video.
    Road and route stand for nothing: an unmarked plane and straight ahead. `ego_only` tells the loop to leave out the rules that
    would judge them.

    Args:
        generator: trained on recordings without scenes.
        openings: [n, H, W, 3] uint8 pictures that episodes begin with.
        profile: the ego's vehicle.
        motion: from commands to the camera's motion.
    """

    ego_only = True

    def __init__(self, generator: FrameGenerator, openings: Tensor, profile: str = "sedan", motion: PlainMotion = STILL) -> None:
        self.generator, self.openings, self.profile, self.motion = generator, openings, profile, motion

    @classmethod
    def load(cls, path: str | Path, profile: str = "sedan", **options: Any) -> VideoWorld:
        """Read the weights that `train-world` wrote after a training without scenes.

        Raises:
            CheckpointError: weights or openings that are missing or damaged.
            ConfigError: an unknown profile, or an option that only a world with scenes has.
        """
        for name in ("traffic", "guards", "camera", "layout"):
            if name in options:
                raise ConfigError(f"'{path}' was trained on recordings without scenes, so it has no option '{name}'")
        vehicle_profile(profile)
        try:
            openings = load_file(Path(path) / OPENINGS)["frames"]
            motion = PlainMotion(**json.loads((Path(path) / MOTION).read_text()))
            if openings.dtype != torch.uint8 or openings.ndim != 4 or openings.shape[0] < 1:
                raise ValueError(f"pictures of {openings.dtype} {list(openings.shape)}")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the openings in '{path}' cannot be read ({error}); train the world again") from None
        return cls(FrameGenerator.load(path, **options), openings, profile, motion)

    def reset(self, seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> WorldState:
        """Begin one episode per seed with a recorded picture, standing.

        Raises:
            ConfigError: a scenario: there is nothing to choose.
        """
        asked = [key for key, value in (scenario or {}).items() if value is not None]
        if asked:
            raise ConfigError(f"a world without scenes has no '{asked[0]}' to choose; leave the options out")
        seed = torch.tensor([int(s) for s in seeds], dtype=torch.int64)
        chosen = (seed * 2_654_435_761 % 2**32) % len(self.openings)
        still = Commands(torch.zeros(len(seed), PAST, 2))
        frame = self.openings[chosen]
        scene = unknown_scene(len(seed), self.profile)
        return WorldState(scene, frame, seed, torch.zeros_like(seed), still, self.generator.no_past(frame))

    @torch.no_grad()
    def step(self, state: WorldState, actions: Tensor) -> WorldState:
        """Advance by DT under actions [B, 2] in [-1, 1].

        Raises:
            ActionError: actions of the wrong shape, not finite, or out of range.
        """
        check_actions(actions, state.step.shape[0])
        actions = actions.detach().to(state.scene.ego.state)
        ego = bicycle_step(state.scene.ego, actions, state.scene.profile, DT)
        scene = Scene(
            ego, state.scene.agents, state.scene.signals, state.scene.time + DT, state.scene.appearance,
            state.scene.road, straight_ahead(ego), state.scene.profile,
        )  # fmt: skip
        past = torch.cat((state.memory.past[:, 1:], actions.unsqueeze(1)), 1)
        pictures = self.dream(state.pictures, past, state.seed, state.step + 1)
        return WorldState.painted(scene, pictures, state.seed, state.step + 1, Commands(past))

    def dream(self, frame: Tensor, past: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        """The frames [B, H, W, 3] after `frame`, as of `FrameGenerator.next`, given the last commands [B, PAST, 2], the newest last."""
        return self.generator.next_unseen(frame, past[:, -1], self.motion.motion(past), seed, step)


def unknown_scene(batch: int, profile: str) -> Scene:
    """A scene of the ego alone, standing at the origin, with a road and a route that stand for nothing."""
    zero = torch.zeros(batch)
    ego = Ego.of(zero, zero, zero, zero, zero, zero, zero)
    centreline = torch.zeros(batch, LANES, LANE_POINTS, 2)
    centreline[..., 0] = torch.linspace(-PLAIN, PLAIN, LANE_POINTS)
    unlinked = torch.full((batch, LANES), -1)
    road = RoadMap(
        centreline=centreline,
        width=torch.full((batch, LANES), 2 * PLAIN),
        speed_limit=torch.full((batch, LANES), 13.89),
        kind=torch.full((batch, LANES), int(LaneKind.DRIVING)),
        successors=torch.full((batch, LANES, 4), -1),
        left=unlinked,
        right=unlinked,
        left_border=torch.full((batch, LANES), int(Border.NONE)),
        right_border=torch.full((batch, LANES), int(Border.NONE)),
        junctions=torch.zeros(batch, 1, 4, 2),
        stop_line=torch.zeros(batch, 1, 2, 2),
        signal_head=torch.zeros(batch, 1, 4),
        signal_lane=torch.full((batch, 1), -1),
        phase_end=torch.ones(batch, 1, MAX_PHASES),
        phase_state=torch.full((batch, 1, MAX_PHASES), int(SignalState.OFF)),
        phase_offset=torch.zeros(batch, 1),
        scenery=torch.zeros(batch, 1, 6),
        scenery_colour=torch.zeros(batch, 1, 3),
        scenery_kind=torch.zeros(batch, 1, dtype=torch.int64),
        traffic_side=torch.ones(batch, dtype=torch.int64),
    )
    return Scene(
        ego=ego,
        agents=Agents.empty(batch, 1),
        signals=torch.full((batch, 1), int(SignalState.OFF)),
        time=zero,
        appearance=torch.full((batch,), int(Appearance.DAYLIGHT)),
        road=road,
        route=straight_ahead(ego),
        profile=vehicle_profile(profile, batch),
    )


def straight_ahead(ego: Ego) -> Route:
    """A route [B] from the ego straight on."""
    along = torch.arange(0.0, ROUTE_LENGTH + 1.0, ROUTE_STEP).view(1, -1, 1)
    direction = torch.stack((torch.cos(ego.heading), torch.sin(ego.heading)), -1).unsqueeze(1)
    batch = ego.state.shape[0]
    points = ego.position.unsqueeze(1) + along * direction
    return Route(points, torch.full((batch,), ROUTE_LENGTH), torch.zeros(batch, LANES, dtype=torch.int64))


def save_openings(folder: Path, frames: Tensor, motion: PlainMotion | None) -> None:
    """Keep pictures [n, H, W, 3] uint8 for episodes to begin with, and how commands move them."""
    (folder / MOTION).write_text(json.dumps((motion or STILL).page()) + "\n")
    aside = folder / f".{OPENINGS}.{os.getpid()}"
    save_file({"frames": frames.contiguous()}, aside)
    os.replace(aside, folder / OPENINGS)


def is_video_world(folder: Path) -> bool:
    """Whether a folder holds a world that was trained without scenes."""
    try:
        return not json.loads((folder / "world.json").read_text()).get("scene", True)
    except (OSError, ValueError, AttributeError):
        return False
