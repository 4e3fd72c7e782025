import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from xpeng_world.envs import XPengWorldEnv
from xpeng_world.errors import ActionError, ConfigError, SimulatorError
from xpeng_world.rewards import WINDOW_STEPS

AHEAD = np.zeros(2, np.float32)


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in ("camera", "ego", "route"))


@pytest.fixture
def fake_id(parts, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    gymnasium.register("XPengFake-v0", entry_point=XPengWorldEnv, max_episode_steps=300, kwargs=parts)
    yield "XPengFake-v0"
    del gymnasium.registry["XPengFake-v0"]


@pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning", "ignore:.*pkg_resources.*:DeprecationWarning")
def test_gymnasium_accepts_the_environment_with_every_render_mode(fake_id):
    check_env(gymnasium.make(fake_id).unwrapped)


def test_stable_baselines3_accepts_the_environment(parts):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    sb3_check_env(XPengWorldEnv(**parts))


def test_observations_lie_in_the_space_and_info_tells_rules_stats_and_scenario(parts):
    env = XPengWorldEnv(**parts)
    observation, info = env.reset(seed=4, options={"family": "city", "appearance": "rain", "split": "test"})
    assert info["scenario"]["family"] == "city"
    assert info["scenario"]["appearance"] == "rain"
    assert info["scenario"]["split"] == "test"
    total, progress = 0.0, 0.0
    for step in range(1, 6):
        observation, reward, terminated, truncated, info = env.step(np.array([0.0, 0.5], np.float32))
        total, progress = total + reward, progress + info["rules"]["progress"]
        assert observation in env.observation_space
        assert not terminated
        assert not truncated
        assert info["stats"]["length"] == step
        assert info["stats"]["return"] == pytest.approx(total, rel=1e-5)
        assert info["stats"]["rules"]["progress"] == pytest.approx(progress / step, rel=1e-5)
    assert "ended" not in info


def test_observations_can_be_written_without_touching_the_world(parts):
    env = XPengWorldEnv(**parts)
    observation, _ = env.reset(seed=0)
    before = env.scene.ego.state.clone()
    for array in observation.values():
        array[:] = 0
    assert torch.equal(env.scene.ego.state, before)
    assert not equal(observation, env.restore(env.snapshot()))


def test_leaving_the_road_terminates_and_does_not_truncate(parts):
    env = XPengWorldEnv(**parts, max_episode_steps=200)
    env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        _, _, terminated, truncated, info = env.step(np.array([1.0, 0.0], np.float32))
    assert (terminated, truncated) == (True, False)
    assert info["ended"] == "on_road"


def test_the_end_of_the_route_truncates(parts):
    env = XPengWorldEnv(**parts)
    env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        _, _, terminated, truncated, info = env.step(np.array([0.0, 1.0], np.float32))
    assert (terminated, truncated) == (False, True)
    assert info["ended"] == "route_end"
    assert float(env.scene.ego.x[0]) == pytest.approx(float(env.scene.route.length[0]) - 3, abs=4.0)


def test_the_time_limit_truncates_at_exactly_its_step(parts):
    env = XPengWorldEnv(**parts, max_episode_steps=5)
    env.reset(seed=0)
    flags = [env.step(AHEAD)[3] for _ in range(5)]
    assert flags == [False] * 4 + [True]


def test_gymnasium_make_brings_the_time_limit(fake_id):
    for wanted, expected in ((None, 300), (320, 320), (7, 7)):
        env = gymnasium.make(fake_id, max_episode_steps=wanted)
        env.reset(seed=2)  # a route of 360 m
        for step in range(1, expected + 1):
            _, _, terminated, truncated, _ = env.step(AHEAD)
            assert (terminated, truncated) == (False, step == expected)


def test_a_restored_snapshot_goes_on_exactly(parts):
    env = XPengWorldEnv(**parts, record=True)
    env.reset(seed=5)
    actions = [env.action_space.sample() * 0.1 for _ in range(12)]
    for action in actions[:4]:
        env.step(action)
    moment = env.snapshot()
    first = [env.step(action) for action in actions[4:]]
    first_next, _ = env.reset()
    restored = env.restore(moment)
    assert restored in env.observation_space
    second = [env.step(action) for action in actions[4:]]
    second_next, _ = env.reset()
    for a, b in zip(first, second, strict=True):
        assert equal(a[0], b[0])
        assert a[1:] == b[1:]
    assert equal(first_next, second_next)


def test_equal_seeds_give_equal_episodes_and_unseeded_ones_follow_the_last_seed(parts):
    def three_episodes(env):
        out = []
        for seed in (9, None, None):
            out.append(env.reset(seed=seed)[0])
            out.append(env.step(AHEAD)[0])
        return out

    once, again = three_episodes(XPengWorldEnv(**parts)), three_episodes(XPengWorldEnv(**parts))
    assert all(equal(a, b) for a, b in zip(once, again, strict=True))
    assert not equal(once[0], once[2])


def test_scenario_defaults_hold_and_options_override_them_for_one_episode(parts):
    env = XPengWorldEnv(**parts, scenario={"family": "motorway", "density": "dense"})
    _, info = env.reset(seed=1, options={"family": "country"})
    assert (info["scenario"]["family"], info["scenario"]["density"]) == ("country", "dense")
    _, info = env.reset(seed=1)
    assert info["scenario"]["family"] == "motorway"


@pytest.mark.parametrize(
    ("action", "words"),
    [([np.nan, 0.0], "NaN"), ([np.inf, 0.0], "infinite"), ([1.5, 0.0], r"outside \[-1, 1\]"), ([0.0], "shape"), ([[0.0, 0.0]], "shape")],
)
def test_bad_actions_are_refused_in_one_line_and_the_episode_goes_on(parts, action, words):
    env = XPengWorldEnv(**parts)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=words) as error:
        env.step(np.array(action, np.float32))
    assert "\n" not in str(error.value)
    assert env.step(AHEAD)[4]["stats"]["length"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"render_mode": "rgb"}, "did you mean 'rgb_array'"),
        ({"profile": "van"}, "give it to the world itself"),
        ({"world": "reference", "profile": "sedna"}, "sedan"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"world": "lerned"}, "did you mean 'learned'"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_do(parts, options, words):
    with pytest.raises(ConfigError, match=words):
        XPengWorldEnv(**(parts | options))


def test_wrong_options_are_refused(parts):
    env = XPengWorldEnv(**parts)
    with pytest.raises(ConfigError, match="did you mean 'density'"):
        env.reset(options={"densty": "dense"})
    with pytest.raises(SimulatorError, match="reset"):
        env.step(AHEAD)


def test_a_recorded_episode_is_the_whole_track(parts):
    env = XPengWorldEnv(**parts, record=True)
    env.reset(seed=0)
    for _ in range(60):
        env.step(AHEAD)
    track = env.episode_track()
    assert track.steps == 61
    assert torch.allclose(track.time[0], torch.arange(61) * 0.1, atol=1e-4)
    assert env.track.steps == WINDOW_STEPS
    assert torch.equal(track.ego.state[:, -WINDOW_STEPS:], env.track.ego.state)
    plain = XPengWorldEnv(**parts)
    plain.reset(seed=0)
    with pytest.raises(ValueError, match="record=True"):
        plain.episode_track()
