import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import xpeng_world
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from xpeng_world.envs import make_world
from xpeng_world.envs.registration import register_envs
from xpeng_world.errors import ConfigError
from xpeng_world.world_model.learned import SHIPPED

IDS = ("XPengWorld-v0", "XPengReference-v0")


def test_import_registers_and_stays_light():
    heavy = "('torch', 'cv2', 'pygame', 'stable_baselines3', 'libsumo', 'panda3d', 'diffusers')"
    code = (
        "import sys, time; start = time.perf_counter(); import xpeng_world, gymnasium; seconds = time.perf_counter() - start\n"
        f"assert not [name for name in {heavy} if name in sys.modules]\n"
        f"assert all(gymnasium.spec(name).max_episode_steps == 300 for name in {IDS})\n"
        "print(seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.5


def test_registering_again_changes_nothing():
    before = dict(gymnasium.registry)
    register_envs()
    assert gymnasium.registry == before


def test_the_public_names_resolve_and_others_do_not():
    for name in ("XPengWorldEnv", "XPengWorldVectorEnv", "make_world", "draw_scenario", "XPengWorldError"):
        assert getattr(xpeng_world, name).__name__ == name
    assert xpeng_world.__version__
    with pytest.raises(AttributeError, match="no attribute 'XPengWorldEnvs'"):
        _ = xpeng_world.XPengWorldEnvs


def test_worlds_are_found_by_name_or_refused(fake):
    world = fake.FakeWorld()
    assert make_world(world) is world
    with pytest.raises(ConfigError, match="did you mean 'reference'"):
        make_world("refrence")


def needs(name):
    """Skip where the world of an id cannot be had."""
    if name == "XPengWorld-v0" and not list(SHIPPED.rglob("*.safetensors")):
        pytest.skip("weights/small holds no weights")
    if name == "XPengReference-v0":
        pytest.importorskip("libsumo")
        pytest.importorskip("panda3d")


@pytest.mark.filterwarnings("ignore:.*pkg_resources.*")
@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_the_registered_environments(name, monkeypatch):
    needs(name)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    road = {"network_seed": 0} if name == "XPengReference-v0" else {}
    env = gymnasium.make(name, scenario={"family": "country", **road}).unwrapped
    check_env(env)
    sb3_check_env(env)


def test_the_learned_world_is_the_same_alone_and_in_a_batch():
    needs("XPengWorld-v0")
    single, vector = gymnasium.make("XPengWorld-v0"), gymnasium.make_vec("XPengWorld-v0", num_envs=2)
    alone, _ = single.reset(seed=21)
    batch, _ = vector.reset(seed=20)
    for _ in range(5):
        for key in ("ego", "route"):
            assert np.allclose(alone[key], batch[key][1], atol=1e-5)
        assert np.abs(alone["camera"].astype(int) - batch["camera"][1]).max() <= 1
        action = np.array([0.05, 0.3], np.float32)
        alone, reward, *_ = single.step(action)
        batch, rewards, *_ = vector.step(np.stack((action, action)))
        assert reward == pytest.approx(rewards[1], abs=1e-5)


def test_the_profile_of_a_world_by_name_is_the_egos():
    needs("XPengReference-v0")
    env = gymnasium.make("XPengReference-v0", profile="van", world_options={"camera": False})
    env.reset(seed=0, options={"family": "country", "network_seed": 0})
    assert float(env.unwrapped.scene.profile.length[0]) == pytest.approx(5.9)
