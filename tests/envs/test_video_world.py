"""A world without scenes: pictures, an ego, and the rules that need no more."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.envs import XPengWorldEnv, XPengWorldVectorEnv, make_world
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.rewards import find_rule, load_design
from xpeng_world.rewards.rule import needs_scene
from xpeng_world.world_model.video.train import TrainWorldConfig, train_world
from xpeng_world.world_model.video_world import OPENINGS, VideoWorld


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny world trained for a moment on pictures whose brightness is what was steered."""
    folder = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    with ShardWriter(folder / "logs") as shards:
        for _ in range(2):
            frames = torch.from_numpy(rng.integers(60, 200, (24, 64, 128, 3)).astype(np.uint8))
            actions = torch.from_numpy(rng.uniform(-1, 1, (24, 2)).astype(np.float32))
            shards.add(Clip(frames, actions, None, {"split": "train", "source": "test"}))
    config = TrainWorldConfig(
        data=str(folder / "logs"), out=str(folder / "world"), size="tiny", samples=64, warmup=2, streams=16, threads=1
    )
    return train_world(config)


def test_rules_that_need_the_ego_alone() -> None:
    alone = {name for name in ("comfort", "jerk", "ride_comfort", "energy", "steering_reversals") if not needs_scene(find_rule(name))}
    assert alone == {"comfort", "jerk", "ride_comfort", "energy", "steering_reversals"}
    assert all(needs_scene(find_rule(name)) for name in ("on_road", "time_to_collision", "red_light", "progress", "completion"))
    kept, left_out = load_design().ego_only()
    assert [entry.label for entry in kept.entries()] == ["comfort"]
    assert "red_light" in left_out


def test_a_world_without_scenes_runs_as_an_environment(weights) -> None:
    gymnasium.logger.min_level = gymnasium.logger.WARN
    with pytest.warns(UserWarning, match="left out of design 'default': .*red_light"):
        env = XPengWorldEnv(str(weights))
    observation, info = env.reset(seed=3)
    assert "red_light" in info["left_out"]
    assert env.observation_space.contains(observation)
    begun = observation["camera"]
    for _ in range(3):
        observation, _, terminated, _, info = env.step(np.array([0.3, 0.5], np.float32))
        assert not terminated
        assert set(info["rules"]) == {"comfort"}
    assert not np.array_equal(begun, observation["camera"])
    assert observation["ego"][0] > 0
    ahead = observation["route"].reshape(-1, 2)
    assert np.allclose(ahead[:, 1], 0, atol=1e-3)
    assert np.allclose(np.diff(ahead[:, 0]), 4, atol=1e-3)
    assert info["scenario"] == {"seed": 3}


def test_actions_and_seeds_decide_what_is_seen(weights) -> None:
    world = make_world(str(weights))
    state = world.reset([5, 6])
    assert not torch.equal(state.frame[0], state.frame[1])
    left = world.step(state, torch.tensor([[1.0, 0.2], [0.0, 0.0]]))
    again = world.step(state, torch.tensor([[1.0, 0.2], [0.0, 0.0]]))
    assert torch.equal(left.frame, again.frame)
    alone = world.step(world.reset([5]), torch.tensor([[1.0, 0.2]]))
    assert (alone.frame[0].int() - left.frame[0].int()).abs().max() <= 1


@pytest.mark.filterwarnings("ignore")
def test_a_batch_of_them_and_a_branch(weights) -> None:
    env = XPengWorldVectorEnv(2, str(weights), max_episode_steps=3)
    assert "red_light" in env.reset(seed=0)[1]["left_out"]
    for _ in range(5):
        observation, *_ = env.step(np.zeros((2, 2), np.float32))
    assert observation["camera"].shape == (2, 64, 128, 3)
    one = XPengWorldEnv(str(weights))
    one.reset(seed=0)
    assert one.branch(3).step(np.zeros((3, 2), np.float32))[0]["camera"].shape[0] == 3


def test_motion_is_fitted_from_frames_that_follow_each_other() -> None:
    """Pictures that turn with the command of two steps before, and stand when the pedal is up."""
    from xpeng_world.world_model.video.plain_motion import PAST, PlainMotion, fit_motion, past_commands
    from xpeng_world.world_model.video.warp import plane_flow, warp

    rng = np.random.default_rng(0)
    truth = PlainMotion(turn=1.0, speed=0.0, lag=2, pedal=0.5)
    clips = []
    for number in range(3):
        actions = torch.from_numpy(np.stack((rng.uniform(-1, 1, 40), np.full(40, 0.5)), -1).astype(np.float32))
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 8, 16)).astype(np.float32))
        pictures = [torch.nn.functional.interpolate(coarse, (64, 128), mode="bilinear")]
        for step in range(1, 40):
            moved, _ = warp(pictures[-1], plane_flow(truth.motion(past_commands(actions, step).unsqueeze(0))))
            pictures.append(moved)
        frames = torch.cat(pictures).permute(0, 2, 3, 1).round().to(torch.uint8)
        clips.append(Clip(frames, actions, None, {"split": "train", "number": number}))
    found = fit_motion(clips)
    assert (found.turn, found.lag, found.speed) == (1.0, 2, 0.0)
    assert found.pedal == pytest.approx(0.5)
    standing = torch.zeros(1, PAST, 2)
    standing[..., 0] = 1.0
    assert not found.motion(standing).any()


@pytest.mark.parametrize("context", [1, 3])
def test_commands_are_read_back_from_its_dreams(weights, context: int) -> None:
    from xpeng_world.evaluation.fidelity.plain_video import AHEAD, load_video_world, video_figures

    world = load_video_world(str(weights), steps=1)

    class Obedient:
        """Paints what was steered as brightness."""

        def __init__(self):
            self.context, self.given = context, []

        def next_unseen(self, frame, actions, motion, seed, step):
            self.given.append(frame[..., :3])
            painted = (120 + 60 * actions[:, 0]).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 64, 128, 3).clone()
            return torch.cat((painted, *[torch.zeros_like(painted)] * (context - 1)), -1)

    class Reader:
        """Reads it off again."""

        def read_motion(self, frames):
            grey = frames.float().mean((2, 3, 4))
            return grey.unfold(1, 4, 1).mean(-1)[:, 1:-4, None]  # of the four commands before a moment, four pictures before the last

    rng = np.random.default_rng(1)
    clips = []
    for _ in range(2):
        actions = torch.from_numpy(np.repeat(rng.uniform(-1, 1, (AHEAD, 2)), 2, 0).astype(np.float32))
        grey = (120 + 60 * actions[:, 0]).to(torch.uint8).view(-1, 1, 1, 1)
        clips.append(Clip(grey.expand(-1, 64, 128, 3).clone(), actions, None, {"split": "test"}))
    world = VideoWorld(Obedient(), world.openings)
    figures, strip = video_figures(world, clips, Reader(), seed=0)
    assert len(world.generator.given) == 2 * (AHEAD + context - 1)
    for lag in range(context):  # it dreams on from as many true pictures as it looks at
        assert torch.equal(world.generator.given[lag][0], clips[0].frames[lag])
    assert figures["steering_spearman_real"].value > 0.95
    assert figures["steering_spearman_real_1s"].value > 0.95
    assert set(strip) == {"true", "generated"}
    with pytest.raises(ConfigError, match="knows its scene"):
        load_video_world("learned", steps=1)


def test_mistakes_are_named(weights, tmp_path) -> None:
    world = make_world(str(weights))
    with pytest.raises(ConfigError, match="no 'family' to choose"):
        world.reset([0], {"family": "city"})
    with pytest.raises(ConfigError, match="no option 'traffic'"):
        VideoWorld.load(weights, traffic="idm")
    (tmp_path / "world.json").write_text(json.dumps({"format": 1, "steps": 1, "scene": False}))
    (tmp_path / OPENINGS).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="openings"):
        VideoWorld.load(tmp_path)
