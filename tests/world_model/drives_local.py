"""Short drives and clips of them, for the tests of the painter and of its training."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import torch
from xpeng_world.data.clip import Clip
from xpeng_world.scene import AgentKind, Scene, Track
from xpeng_world.vehicles import bicycle_step
from xpeng_world.world_model.video.generator import FrameGenerator, untrained
from xpeng_world.world_model.video.layout import LayoutRasteriser, composite
from xpeng_world.world_model.video.sizes import SIZES
from xpeng_world.world_model.video.train import TrainWorldConfig

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


def drive(steps: int, speed: float = 9.0) -> list[Scene]:
    road = roads.straight_road(scenery=True)
    scene = roads.scene_on(road, ego=(20.0, -1.75, 0.0), speed=speed, agents=[roads.agent_row(AgentKind.CAR, 38.0, -1.75, speed=6.0)])
    scenes = [scene]
    for _ in range(steps - 1):
        ego = bicycle_step(scene.ego, torch.tensor([[0.1, 0.0]]), scene.profile, 0.1)
        scene = dataclasses.replace(scene, ego=ego, time=scene.time + 0.1)
        scenes.append(scene)
    return scenes


def painted_clip(steps: int = 14, with_track: bool = True) -> Clip:
    """A clip whose pictures are the flat composite of its layout: something a few steps of training can learn."""
    scenes, rasterise = drive(steps), LayoutRasteriser()
    frames = torch.cat([composite(rasterise(scene)) for scene in scenes])
    actions = torch.tensor([[0.1, 0.0]]).repeat(steps, 1)
    actions[-1] = 0
    provenance = {"source": "reference", "split": "train", "family": "city", "network_seed": 0}
    return Clip(frames, actions, Track.of(scenes) if with_track else None, provenance)


def random_world() -> FrameGenerator:
    """A tiny world of random weights that paints something."""
    torch.manual_seed(0)
    generator = untrained(dataclasses.asdict(SIZES["tiny"]))
    for parameter in generator.pipeline.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return generator


def short_training(out: Path, **changes: object) -> TrainWorldConfig:
    """Training of seconds: a tiny painter, a few hundred frames."""
    base = {
        "out": str(out),
        "size": "tiny",
        "samples": 400,
        "batch_size": 4,
        "warmup": 2,
        "threads": 1,
        "precision": "float32",
        "light_steps": 5,
    }
    return TrainWorldConfig(**{**base, "strip_steps": 10**6, "streams": 8, "rollout_length": 5, **changes})  # type: ignore[arg-type]
