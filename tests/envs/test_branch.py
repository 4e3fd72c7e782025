"""Branching: many futures of one moment."""

import numpy as np
import pytest
import torch
from xpeng_world.envs import XPengWorldEnv
from xpeng_world.errors import ConfigError, SimulatorError

PLANS = np.array([[0.0, 0.3], [1.0, 0.3], [0.0, -1.0]], np.float32)


@pytest.fixture
def env(parts):
    env = XPengWorldEnv(**parts, record=True)
    env.reset(seed=4)
    for _ in range(5):
        env.step(np.array([0.0, 0.2], np.float32))
    return env


def test_each_future_is_what_the_environment_itself_would_have_seen(env):
    futures, here = env.branch(3), env.snapshot()
    for _ in range(8):
        seen, rewards, *_ = futures.step(PLANS)
    for k, action in enumerate(PLANS):
        env.restore(here)
        for _ in range(8):
            alone, reward, *_ = env.step(action)
        assert np.array_equal(alone["camera"], seen["camera"][k])
        assert np.allclose(alone["ego"], seen["ego"][k], atol=1e-5)
        assert reward == pytest.approx(rewards[k], abs=1e-5)
        assert torch.equal(env.episode_track().ego.state, futures.episode_track(k).ego.state)


def test_the_environment_stays_where_it_is(env):
    before = env.scene.ego.state.clone()
    env.branch(2).step(PLANS[:2])
    assert torch.equal(env.scene.ego.state, before)


def test_a_future_that_is_over_stays_over(env):
    futures = env.branch(3)
    over = np.zeros(3, bool)
    for _ in range(120):
        _, rewards, terminated, truncated, _ = futures.step(PLANS)
        assert not (over & ~(terminated | truncated)).any()
        assert (rewards[over] == 0).all()
        over = terminated | truncated
    assert over[1]  # it steered off the road
    assert not over[2]  # it stands


def test_a_future_that_is_restored_to_before_its_end_goes_on(env):
    futures = env.branch(3)
    begun = futures.snapshot()
    for _ in range(120):
        _, _, terminated, truncated, _ = futures.step(PLANS)
    assert (terminated | truncated)[1]
    futures.restore(begun)
    _, rewards, terminated, truncated, _ = futures.step(PLANS)
    assert not (terminated | truncated).any()
    assert rewards.any()


def test_other_seeds_are_other_futures(env):
    futures = env.branch(2, seeds=[1, 2])
    assert futures._episodes.state.seed.tolist() == [1, 2]
    seen, *_ = futures.step(np.zeros((2, 2), np.float32))
    assert not np.array_equal(seen["camera"][0], seen["camera"][1])  # the camera of this world is noise of the seed


def test_mistakes_are_named(env, parts, monkeypatch):
    with pytest.raises(SimulatorError, match="reset"):
        XPengWorldEnv(**parts).branch(2)
    for n, seeds in ((0, None), (2, [1])):
        with pytest.raises(ConfigError, match="futures"):
            env.branch(n, seeds)
    with pytest.raises(ConfigError, match="branch one episode at a time"):
        env.loop.branch(env.branch(2)._episodes, 2)
    monkeypatch.setattr(env.loop.world, "most_episodes", 1, raising=False)
    with pytest.raises(ConfigError, match="in a learned world"):
        env.branch(2)
