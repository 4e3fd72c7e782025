"""Painters that see more than the last frame: the frames before are moved along, in stores, rollouts, episodes and training."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.errors import CheckpointError
from xpeng_world.world_model.learned import LearnedWorld
from xpeng_world.world_model.traffic import IdmTraffic
from xpeng_world.world_model.video.corruption import CorruptionConfig
from xpeng_world.world_model.video.generator import EMPTY, FrameGenerator, to_frame, to_model
from xpeng_world.world_model.video.pipeline import FramePipeline, new_scheduler
from xpeng_world.world_model.video.sizes import new_painter, take_over
from xpeng_world.world_model.video.store import build_store
from xpeng_world.world_model.video.train import TrainWorldConfig, WorldTrainer
from xpeng_world.world_model.video.warp import carry

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store([drives.painted_clip(12)], tmp_path_factory.mktemp("store") / "frames")


def lively(context: int, size: str = "tiny"):
    """A painter whose answer depends on everything it is given."""
    torch.manual_seed(3)
    painter = new_painter(size, context=context)
    for parameter in painter.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return painter.eval()


def test_frames_before_are_moved_to_where_things_are_now(store) -> None:
    history = store.history([5, 0], 3)
    assert history.shape == (2, 64, 128, 9)
    assert torch.equal(history[..., :3], store.frames([5, 0]))
    samples = store.samples([3], 2)  # frames 4 and 5 follow
    old, older = to_model(store.frames([4])), to_model(store.frames([3]))
    once, seen = carry(old, samples.flow[:, 1], True)
    assert (history[0, ..., 3:6].int() - to_frame(once * seen)[0].int()).abs().max() <= 1
    twice, seen = carry(older, samples.flow[:, 0], True)
    twice, seen = carry(twice * seen, samples.flow[:, 1], True)
    assert (history[0, ..., 6:].int() - to_frame(twice * seen)[0].int()).abs().max() <= 1
    assert history[1, ..., 3:].eq(EMPTY).all()  # there is nothing before the first


@pytest.mark.parametrize("size", ["tiny", "patches"])
def test_taking_over_a_painter_of_one_frame_paints_the_same(size, store) -> None:
    single, several = lively(1, size), new_painter(size, context=4).eval()
    take_over(several, single)
    scene, before, actions = drives.painted_clip(3).track.scene(1), store.history([5], 4), torch.zeros(1, 2)
    frames = []
    for painter, pictures in ((single, before[..., :3]), (several, before)):
        generator = FrameGenerator(FramePipeline(painter, new_scheduler()))
        frames.append(generator.next(scene, scene, pictures, actions, torch.zeros(1).long(), torch.ones(1).long()))
    assert frames[0].shape[-1] == 3
    assert frames[1].shape[-1] == 12
    assert torch.equal(frames[0], frames[1][..., :3])


def test_episodes_keep_the_frames_that_the_painter_looks_at(store) -> None:
    painter = lively(3)
    world = LearnedWorld(FrameGenerator(FramePipeline(painter, new_scheduler())), IdmTraffic(), None)
    scene = drives.painted_clip(3).track.scene(1)
    start = world.reset_from(scene, store.frames([4]), [1])
    assert start.past.eq(EMPTY).all()
    states = [start]
    for _ in range(3):
        states.append(world.step(states[-1], torch.tensor([[0.0, 0.5]])))
    assert states[-1].frame.shape == (1, 64, 128, 3)
    assert states[-1].past.shape == (1, 64, 128, 6)
    assert not states[1].past.eq(EMPTY).all(-1).all()
    forgetful = dataclasses.replace(states[2], past=start.past)
    again, without = (world.step(state, torch.tensor([[0.0, 0.5]])).frame for state in (states[2], forgetful))
    assert torch.equal(again, states[3].frame)
    assert not torch.equal(without, again)
    both = type(start).cat([states[3], start])
    assert torch.equal(both.put([0], start).past[0], start.past[0])


def test_training_with_several_frames_goes_on_exactly_where_it_stopped(store, tmp_path) -> None:
    base = TrainWorldConfig(
        size="tiny", context=3, batch_size=4, streams=8, rollout_from=0.0, rollout_share=0.7, crop_until=0.4, samples=40, warmup=2,
        threads=torch.get_num_threads(), corruption=CorruptionConfig(drop_scenery=0.3, drop_layout=0.3),
    )  # fmt: skip
    whole = WorldTrainer(dataclasses.replace(base, out=str(tmp_path / "whole")), store)
    whole.run()
    parts = dataclasses.replace(base, out=str(tmp_path / "parts"))
    WorldTrainer(dataclasses.replace(parts, minutes=1e-9), store).run()
    WorldTrainer(parts, store).run()
    a, b = (load_file(tmp_path / name / "weights" / "denoiser" / "diffusion_pytorch_model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.streams.frame.shape == (8, 64, 128, 9)
    assert not whole.streams.frame[..., 3:].eq(EMPTY).all()
    assert FrameGenerator.load(tmp_path / "whole" / "weights").pipeline.denoiser.context == 3
    with pytest.raises(CheckpointError, match="context=3"):
        WorldTrainer(dataclasses.replace(parts, context=1), store).restore()
