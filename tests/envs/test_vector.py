import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from xpeng_world.envs import XPengWorldEnv, XPengWorldVectorEnv
from xpeng_world.errors import ActionError, ConfigError, SimulatorError

B = 4


def still():
    return np.zeros((B, 2), np.float32)


def row(observation, index):
    return {name: array[index] for name, array in observation.items()}


def close(a, b):
    return np.array_equal(a["camera"], b["camera"]) and all(np.allclose(a[n], b[n], atol=1e-5) for n in ("ego", "route"))


def drive(seed, steps):
    """Actions [steps, B, 2]; row 1 steers off the road, the others go straight on."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-0.05, 0.05, (steps, B, 2)).astype(np.float32)
    actions[:, 1, 0] = 1.0
    return actions


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_batch_is_gymnasiums_own_vectoring_of_single_environments(parts, mode):
    """Observations, rewards, flags and infos equal those of SyncVectorEnv, resets of single rows included."""
    ours = XPengWorldVectorEnv(B, **parts, max_episode_steps=45, autoreset_mode=mode)
    single = lambda: XPengWorldEnv(**parts, max_episode_steps=45)
    theirs = gymnasium.vector.SyncVectorEnv([single] * B, autoreset_mode=mode)
    a, b = ours.reset(seed=3), theirs.reset(seed=3)
    assert all(close(row(a[0], i), row(b[0], i)) for i in range(B))
    ended = 0
    for actions in drive(0, 70):
        a, b = ours.step(actions), theirs.step(actions)
        assert all(close(row(a[0], i), row(b[0], i)) for i in range(B))
        assert np.allclose(a[1], b[1], atol=1e-5)
        assert np.array_equal(a[2], b[2])
        assert np.array_equal(a[3], b[3])
        same_info(a[4], b[4])
        ended += (a[2] | a[3]).sum()
    assert ended >= 2 + B


def same_info(a, b):
    assert set(a) == set(b)
    for key, value in a.items():
        other = b[key]
        if isinstance(value, dict):
            same_info(value, other)
        elif key == "final_obs":
            assert all((x is None) == (y is None) and (x is None or close(x, y)) for x, y in zip(value, other, strict=True))
        elif value.dtype == object:
            assert list(value) == list(other), key
        else:
            assert np.allclose(value, other, atol=1e-5), key


def test_next_step_ignores_the_action_of_an_episode_that_begins(parts):
    env = XPengWorldVectorEnv(B, **parts, max_episode_steps=2)
    env.reset(seed=0)
    env.step(still())
    _, _, _, truncated, _ = env.step(still())
    assert truncated.all()
    observation, reward, terminated, truncated, info = env.step(np.full((B, 2), np.nan, np.float32))
    assert not reward.any()
    assert not (terminated | truncated).any()
    assert not info["_rules"].any()
    assert env.step(still())[4]["stats"]["length"].tolist() == [1] * B
    assert observation in env.observation_space


def test_disabled_autoreset_asks_for_the_reset_and_resets_by_mask(parts):
    env = XPengWorldVectorEnv(B, **parts, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    over = np.zeros(B, bool)
    for actions in drive(1, 60):
        observation, _, terminated, truncated, _ = env.step(actions)
        over = terminated | truncated
        if over.any():
            break
    assert over.tolist() == [False, True, False, False]
    with pytest.raises(SimulatorError, match="reset_mask"):
        env.step(still())
    fresh, info = env.reset(seed=[None, 8, None, None], options={"reset_mask": over})
    assert info["_scenario"].tolist() == over.tolist()
    assert info["scenario"]["seed"][1] == 8
    alone, _ = XPengWorldEnv(**parts).reset(seed=8)
    assert close(row(fresh, 1), alone)
    assert close(row(fresh, 0), row(observation, 0))


def test_a_restored_batch_goes_on_exactly_across_autoresets(parts):
    env = XPengWorldVectorEnv(B, **parts, max_episode_steps=20)
    env.reset(seed=7)
    actions = drive(2, 40)
    for action in actions[:10]:
        env.step(action)
    moment = env.snapshot()
    first = [env.step(action) for action in actions[10:]]
    env.restore(moment)
    second = [env.step(action) for action in actions[10:]]
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(a[0][name], b[0][name]) for name in a[0])
        assert np.array_equal(a[1], b[1])
        same_info(a[4], b[4])


def test_a_recorded_row_is_its_own_episode(parts):
    env = XPengWorldVectorEnv(B, **parts, record=True, max_episode_steps=30, autoreset_mode="SameStep")
    env.reset(seed=1)
    for actions in drive(3, 50):
        env.step(actions)
    length = env.track.time[:, -1].mul(10).round().long()
    for index in range(B):
        track = env.episode_track(index)
        assert track.steps == length[index] + 1
        assert torch.allclose(track.time[0], torch.arange(track.steps) * 0.1, atol=1e-4)


def test_bad_actions_and_settings_are_refused(parts):
    env = XPengWorldVectorEnv(B, **parts)
    with pytest.raises(SimulatorError, match="reset"):
        env.step(still())
    env.reset(seed=0)
    with pytest.raises(ActionError, match="NaN"):
        env.step(still() + np.nan)
    with pytest.raises(ActionError, match="shape"):
        env.step(np.zeros((B + 1, 2), np.float32))
    with pytest.raises(ConfigError, match="did you mean 'SameStep'"):
        XPengWorldVectorEnv(B, **parts, autoreset_mode="Samestep")
    with pytest.raises(ConfigError, match="seeds"):
        env.reset(seed=[1, 2])


def test_make_vec_makes_it_with_the_registered_time_limit(parts):
    gymnasium.register(
        "XPengFakeVec-v0", entry_point=XPengWorldEnv, vector_entry_point=XPengWorldVectorEnv, max_episode_steps=6, kwargs=parts
    )
    try:
        env = gymnasium.make_vec("XPengFakeVec-v0", num_envs=2)
    finally:
        del gymnasium.registry["XPengFakeVec-v0"]
    assert isinstance(env, XPengWorldVectorEnv)
    env.reset(seed=0)
    flags = [env.step(np.zeros((2, 2), np.float32))[3].all() for _ in range(6)]
    assert flags == [False] * 5 + [True]
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
    wrapped.reset(seed=0)
    for _ in range(6):
        info = wrapped.step(np.zeros((2, 2), np.float32))[4]
    assert info["episode"]["l"].tolist() == [6, 6]
