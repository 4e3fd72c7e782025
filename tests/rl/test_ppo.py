from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.envs import Sb3VecEnv
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.car import CarNet, CarNetConfig, CarPolicy
from xpeng_world.rewards import StepReward
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


def test_numbers_that_do_not_fit_are_refused(start, tmp_path) -> None:
    with pytest.raises(ConfigError, match="batch_size=30 must divide"):
        train_ppo(config(tmp_path / "run", start, batch_size=30))
