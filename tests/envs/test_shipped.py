"""The learned world as it ships: the same episode alone and in a batch, after a restore, and a street to look at."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import xpeng_world
from xpeng_world.envs import XPengWorldEnv, make_world
from xpeng_world.policies import load_policy
from xpeng_world.world import observe

B, STEPS = 8, 12


@pytest.fixture(scope="module")
def world():
    return make_world("learned")


def actions(step: int, count: int) -> torch.Tensor:
    rows = torch.arange(count, dtype=torch.float32)
    return torch.stack((0.1 * torch.sin(rows + step / 4), 0.3 * torch.cos(rows - step / 6)), -1)


def test_an_episode_is_the_same_alone_and_as_one_of_eight(world) -> None:
    together = world.reset(list(range(B)), {"split": "test"})
    alone = world.reset([5], {"split": "test"})
    for step in range(STEPS):
        together = world.step(together, actions(step, B))
        alone = world.step(alone, actions(step, B)[5:6])
        assert torch.allclose(together.scene.ego.state[5], alone.scene.ego.state[0], atol=1e-5)
        assert torch.allclose(together.scene.agents.state[5], alone.scene.agents.state[0], atol=1e-4)
        assert (together.frame[5].float() - alone.frame[0].float()).abs().mean() <= 1.0


def test_a_restored_episode_goes_on_as_before() -> None:
    env = XPengWorldEnv()
    env.reset(seed=4, options={"family": "city"})
    drive = lambda: [env.step(np.array([0.05, 0.2], np.float32)) for _ in range(6)]
    drive()
    moment = env.snapshot()
    once = drive()
    env.restore(moment)
    for a, b in zip(once, drive(), strict=True):
        assert np.array_equal(a[0]["camera"], b[0]["camera"])
        assert np.array_equal(a[0]["ego"], b[0]["ego"])
        assert a[1:4] == b[1:4]


def test_actions_turn_the_view(world) -> None:
    start = world.reset([11], {"split": "test", "family": "country", "appearance": "daylight"})
    left = right = start
    for _ in range(15):
        left, right = world.step(left, torch.tensor([[0.6, 0.0]])), world.step(right, torch.tensor([[-0.6, 0.0]]))
    assert left.scene.ego.heading > right.scene.ego.heading
    assert (left.frame.float() - right.frame.float()).abs().mean() > 8


def test_the_shipped_driver_drives(world) -> None:
    policy = load_policy("driver")
    assert not policy.privileged
    state = world.reset([2, 3], {"split": "train"})
    memory = policy.initial_memory([2, 3])
    before = state.scene.ego.position
    for _ in range(20):
        action, memory = policy.act(observe(state), memory)
        state = world.step(state, action)
    assert ((state.scene.ego.position - before).norm(dim=-1) > 1.0).any()


def test_every_split_family_and_density_begins(world) -> None:
    blind = make_world("learned", camera=False)
    for split in ("train", "validation", "test"):
        for family in ("city", "motorway", "country"):
            for density in ("sparse", "dense"):
                state = blind.reset([1, 2], {"split": split, "family": family, "density": density})
                assert torch.isfinite(state.scene.ego.state).all()


def test_the_vector_environment_is_made_by_name() -> None:
    envs = gymnasium.make_vec("XPengWorld-v0", num_envs=3)
    observation, _ = envs.reset(seed=1)
    observation, reward, *_ = envs.step(np.zeros((3, 2), np.float32))
    assert observation["camera"].shape == (3, 64, 128, 3)
    assert np.isfinite(reward).all()
    envs.close()


@pytest.mark.parametrize("mode", ["", ":slow"])
def test_the_shipped_vla_can_be_read_and_looks(world, mode) -> None:
    policy = load_policy(f"vla{mode}")
    state = world.reset([3, 4], {"split": "validation", "family": "city", "density": "dense"})
    memory, looked = policy.initial_memory([3, 4]), False
    for _ in range(4):
        action, after = policy.act(observe(state), memory)
        swapped = policy.act(observe(replace(state, frame=state.frame.flip(0))), memory)[0]
        looked |= not torch.equal(action, swapped)
        state, memory = world.step(state, action), after
    assert looked
    assert policy.unparsable == 0


def test_all_weights_together_stay_small() -> None:
    folder = Path(xpeng_world.__file__).parent / "weights"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 40e6


def test_guards_keep_quiet_on_a_usual_drive_and_trip_at_an_impossible_speed() -> None:
    env = XPengWorldEnv(world_options={"guards": True})
    env.reset(seed=3, options={"split": "test", "family": "city"})
    expert = load_policy("expert")
    for _ in range(15):
        action, _ = expert.act(None, None, env.scene)
        *_, truncated, info = env.step(action[0].numpy())
        assert not truncated
    assert all(0 < value < 1 for value in info["guards"].values())
    state = env._episodes.state
    ego = state.scene.ego.state.clone()
    ego[:, 3] = 70.0  # m/s
    scene = replace(state.scene, ego=replace(state.scene.ego, state=ego))
    env._episodes = replace(env._episodes, state=replace(state, scene=scene))
    for _ in range(20):
        *_, truncated, info = env.step(np.array([0.0, 1.0], np.float32))
        if truncated:
            break
    assert info["guards"]["read_back"] > 1
