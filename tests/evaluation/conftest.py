"""The small world of the environments' tests, for evaluation too, and what was recorded there."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.scene import Track
from xpeng_world.world_model.video.layout import LayoutRasteriser, composite


@pytest.fixture(scope="session")
def fake():
    """The module of the fake world."""
    name = "envs_fake_world"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "envs" / "fake_world.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def recorded(fake, tmp_path_factory):
    """Shards of two flat-painted clips of 25 steps of the test split, and the clips."""
    world, rasteriser = fake.FakeWorld(), LayoutRasteriser()
    clips = []
    for seed in (0, 1):
        state = world.reset([seed], {"split": "test"})
        scenes, actions = [], []
        for step in range(25):
            scenes.append(state.scene)
            actions.append(torch.tensor([[0.02, step / 100]]))
            state = world.step(state, actions[-1])
        frames = torch.cat([composite(rasteriser(scene, None)) for scene in scenes])
        clips.append(Clip(frames, torch.cat(actions), Track.of(scenes), {"split": "test"}))
    folder = tmp_path_factory.mktemp("logs")
    with ShardWriter(folder) as writer:
        for clip in clips:
            writer.add(clip)
    return folder, clips


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
