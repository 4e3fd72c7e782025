import numpy as np
import pytest
from xpeng_world.envs import Sb3VecEnv, XPengWorldEnv


def test_the_last_step_carries_the_final_observation_and_the_first_of_the_next_episode(parts):
    env = Sb3VecEnv(3, **parts, max_episode_steps=4)
    env.seed(11)
    env.reset()
    alone = XPengWorldEnv(**parts)
    alone.reset(seed=11)
    still = np.zeros((3, 2), np.float32)
    for _ in range(4):
        observation, reward, done, infos = env.step(still)
        last, _, _, _, _ = alone.step(still[0])
    assert done.all()
    assert reward.dtype == np.float32
    for info in infos:
        assert info["TimeLimit.truncated"] is True
        assert info["episode"]["l"] == 4
        assert info["episode"]["r"] == pytest.approx(4 * reward[0], rel=1e-4)
        assert set(info["rules"]) == {"on_road", "progress", "mean_speed"}
    assert np.array_equal(infos[0]["terminal_observation"]["camera"], last["camera"])
    following, _ = alone.reset()
    assert np.array_equal(observation["camera"][0], following["camera"])
    assert infos[0]["scenario"]["seed"] == 11
    assert env.reset_infos[0]["scenario"]["seed"] != 11


def test_a_termination_is_not_a_time_limit(parts):
    env = Sb3VecEnv(1, **parts)
    env.seed(0)
    env.reset()
    done = [False]
    while not done[0]:
        _, _, done, infos = env.step(np.array([[1.0, 0.0]], np.float32))
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["ended"] == "on_road"


def test_options_reach_the_next_reset(parts):
    env = Sb3VecEnv(2, **parts)
    env.set_options({"family": "city"})
    env.reset()
    assert [info["scenario"]["family"] for info in env.reset_infos] == ["city", "city"]


def test_ppo_learns_from_it(parts):
    from stable_baselines3 import PPO

    env = Sb3VecEnv(2, **parts, max_episode_steps=8)
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs={"net_arch": [8]}, device="cpu", seed=0)
    model.learn(32)
    assert model.num_timesteps == 32
    assert len(model.ep_info_buffer) == 4
