from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.envs import Sb3VecEnv
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.car import CarNet, CarNetConfig, CarPolicy
from xpeng_world.rewards import StepReward
from xpeng_world.rl.actor_critic import AccelerationActions, CarActorCritic, EarlierPictures, acceleration_to_pedal
from xpeng_world.rl.ppo import PpoConfig, train_ppo
from xpeng_world.world import observe

SMALL = CarNetConfig(widths=(4, 4, 4, 4), camera_features=8, state_features=16, features=16)


class Forward:
    """Pays for the pedal: the more speed is gained, the better."""

    def step(self, track) -> StepReward:
        gained = track.ego.acceleration[:, -1]
        never = torch.zeros(len(gained), dtype=torch.bool)
        return StepReward(gained, never, {"gain": gained}, {})


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    CarNet(SMALL).save(tmp_path / "start")
    return tmp_path / "start"


def config(out, start, **changes) -> PpoConfig:
    base = {"init": str(start), "out": str(out), "num_envs": 4, "rollout": 16, "batch_size": 32, "steps": 128, "threads": 1}
    return PpoConfig(**{**base, "value_warmup": 1, "episode_steps": 20, **changes})


def environments(fake) -> Sb3VecEnv:
    return Sb3VecEnv(4, world=fake.FakeWorld(), reward=Forward(), max_episode_steps=20)


@pytest.mark.filterwarnings("ignore")
def test_learns_to_press_the_pedal_that_pays(fake, start, tmp_path) -> None:
    before = CarPolicy.load(start)
    settings = {"steps": 1536, "learning_rate": 3e-3, "train_camera": True, "target_kl": 0.5, "exploration_acceleration": 1.5}
    folder = train_ppo(config(tmp_path / "run", start, **settings), environments(fake))
    state = fake.FakeWorld().reset([1, 2, 3])
    pedal = lambda policy: policy.act(observe(state), None)[0][:, 1].mean()
    assert pedal(CarPolicy.load(folder)) > pedal(before) + 0.1
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))


@pytest.mark.filterwarnings("ignore")
def test_the_actor_rests_while_the_critic_warms_up(fake, start, tmp_path) -> None:
    folder = train_ppo(config(tmp_path / "run", start, steps=64, value_warmup=5), environments(fake))
    a, b = load_file(start / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.filterwarnings("ignore")
def test_a_finished_run_resumes_to_itself_and_a_longer_one_goes_on(fake, start, tmp_path) -> None:
    folder = train_ppo(config(tmp_path / "run", start), environments(fake))
    once = load_file(folder / "model.safetensors")
    train_ppo(config(tmp_path / "run", start), environments(fake))
    again = load_file(folder / "model.safetensors")
    assert all(torch.equal(once[key], again[key]) for key in once)
    train_ppo(config(tmp_path / "run", start, steps=192), environments(fake))
    more = load_file(folder / "model.safetensors")
    assert any(not torch.equal(once[key], more[key]) for key in once)
    with pytest.raises(CheckpointError, match="seed=0"):
        train_ppo(config(tmp_path / "run", start, seed=3), environments(fake))


def test_the_earlier_picture_stays_within_its_episode(fake) -> None:
    env = EarlierPictures(Sb3VecEnv(2, world=fake.FlickeringWorld(), reward=Forward(), max_episode_steps=4), lag=2)
    assert set(env.observation_space.spaces) == {"camera", "ego", "route", "earlier"}
    env.seed(5)
    first = env.reset()
    assert np.array_equal(first["earlier"], first["camera"])
    cameras = [first["camera"]]
    for step in range(1, 7):
        seen, _, done, infos = env.step(np.zeros((2, 2), np.float32))
        assert env.observation_space.contains({name: value[0] for name, value in seen.items()})
        if step == 4:
            assert done.all()
            for row in range(2):
                last = infos[row]["terminal_observation"]
                assert np.array_equal(last["earlier"], cameras[2][row])
                assert not np.array_equal(last["camera"], seen["camera"][row])
            cameras = [seen["camera"]]
        else:
            assert not done.any()
            cameras.append(seen["camera"])
        assert np.array_equal(seen["earlier"], cameras[max(0, len(cameras) - 3)])
    assert len(cameras) == 3
    env.close()


@pytest.mark.filterwarnings("ignore")
def test_a_start_with_a_lag_is_improved_with_its_lag(fake, tmp_path) -> None:
    torch.manual_seed(0)
    start = CarNet(replace(SMALL, lag=3))
    torch.nn.init.normal_(start.action.weight, std=0.3)
    start.save(tmp_path / "start")
    folder = train_ppo(config(tmp_path / "rest", tmp_path / "start", steps=64, value_warmup=5), environments(fake))
    a, b = load_file(tmp_path / "start" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)
    folder = train_ppo(config(tmp_path / "run", tmp_path / "start", train_camera=True, learning_rate=1e-3), environments(fake))
    after = load_file(folder / "model.safetensors")
    assert CarNet.load(folder).config == start.config
    first = "features.camera.0.weight"
    assert not torch.equal(a[first][:, 3:], after[first][:, 3:])
    # the actor that explores is the network that drives
    actor = CarActorCritic(*spaces(fake), lambda _: 0.0, config=start.config)
    actor.load_net(start)
    world = fake.FlickeringWorld()
    states = [world.reset([1, 2])]
    states.append(world.step(states[0], torch.zeros(2, 2)))
    memory = CarPolicy(start).initial_memory([1, 2])
    _, memory = CarPolicy(start).act(observe(states[0]), memory)
    wanted, _ = CarPolicy(start).act(observe(states[1]), memory)
    seen = observe(states[1])
    given = {"camera": seen.camera, "ego": seen.ego, "route": seen.route, "earlier": states[0].frame}
    with torch.no_grad():
        mean, _, _ = actor(given, deterministic=True)
    assert torch.allclose(torch.stack((mean[:, 0], acceleration_to_pedal(mean[:, 1])), -1).clamp(-1, 1), wanted, atol=1e-5)


def spaces(fake):
    """Observation and action space of environments with an earlier picture."""
    env = EarlierPictures(AccelerationActions(environments(fake)), 3)
    return env.observation_space, env.action_space


def test_numbers_that_do_not_fit_are_refused(start, tmp_path) -> None:
    with pytest.raises(ConfigError, match="batch_size=30 must divide"):
        train_ppo(config(tmp_path / "run", start, batch_size=30))
