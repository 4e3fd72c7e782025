from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.errors import ActionError, CheckpointError, ConfigError
from xpeng_world.scene import DT, Scene
from xpeng_world.vehicles import bicycle_step
from xpeng_world.world import World, observe
from xpeng_world.world_model.learned import LearnedWorld
from xpeng_world.world_model.starts import StartBank
from xpeng_world.world_model.traffic import IdmTraffic, NoTraffic

_spec = importlib.util.spec_from_file_location("roads_local", Path(__file__).parent / "roads_local.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


class Painter:
    """Writes what it was asked into the frame: steps, and how far the ego has come."""

    def no_past(self, frame: torch.Tensor) -> None:
        return None

    def first(self, scene: Scene, seed: torch.Tensor) -> torch.Tensor:
        return torch.zeros(scene.time.shape[0], 64, 128, 3, dtype=torch.uint8)

    def next(self, previous, scene, frame, actions, seed, step) -> torch.Tensor:
        assert torch.allclose(scene.time, previous.time + DT)
        frame = frame.clone()
        frame[:, 0, 0, 0] += 1
        frame[:, 0, 0, 1] = step.to(torch.uint8)
        return frame


@pytest.fixture(scope="module")
def world() -> LearnedWorld:
    agents = [(60.0 + 25 * k, 0.0, 0.0, 9.0) for k in range(4)]
    items = [(roads.scene(roads.straight(red_at=8), (20.0 + 5 * k, 0.0, 0.0, 10.0), agents[: k + 2]), "city", 3 + k) for k in range(2)]
    items.append((roads.scene(roads.crossing(), (-60.0, -1.65, 0.0, 8.0), [(-20.0, -1.65, 0.0, 5.0)]), "country", 5))
    return LearnedWorld(Painter(), IdmTraffic(), StartBank.collect(items))


def rollout(world: LearnedWorld, seeds: list[int], steps: int = 25):
    state = world.reset(seeds)
    action = torch.tensor([0.05, 0.3])
    for _ in range(steps):
        state = world.step(state, action.expand(len(seeds), 2))
    return state


def test_is_a_world_whose_states_can_be_observed(world: LearnedWorld) -> None:
    assert isinstance(world, World)
    state = rollout(world, [1, 2, 3])
    assert state.frame.shape == (3, 64, 128, 3)
    assert (state.step == 25).all()
    assert torch.allclose(state.scene.time, torch.full((3,), 25 * DT))
    assert (state.frame[:, 0, 0] == torch.tensor([25, 25, 0])).all()
    assert torch.isfinite(observe(state).ego).all()


def test_the_ego_follows_the_bicycle_model(world: LearnedWorld) -> None:
    state = world.reset([4])
    action = torch.tensor([[0.4, -0.2]])
    expected = bicycle_step(state.scene.ego, action, state.scene.profile, DT)
    assert torch.equal(world.step(state, action).scene.ego.state, expected.state)


def test_an_episode_is_the_same_alone_and_in_a_batch(world: LearnedWorld) -> None:
    together, alone = rollout(world, [5, 6, 7]), rollout(world, [6])
    for part in ("ego", "agents"):
        for name, tensor in flatten(getattr(alone.scene, part)).items():
            assert torch.allclose(tensor[0].float(), flatten(getattr(together.scene, part))[name][1].float(), atol=1e-5), name


def test_a_state_is_a_snapshot(world: LearnedWorld) -> None:
    state = rollout(world, [8, 9])
    actions = torch.tensor([[0.1, 0.5], [-0.2, -1.0]])
    first, again, other = world.step(state, actions), world.step(state, actions), world.step(state, -actions)
    assert all(torch.equal(a, b) for a, b in zip(flatten(first).values(), flatten(again).values(), strict=True))
    assert not torch.equal(first.scene.ego.state, other.scene.ego.state)
    swapped = state[[1, 0]]
    assert torch.allclose(world.step(swapped, actions[[1, 0]]).scene.agents.state, first.scene.agents.state[[1, 0]], atol=1e-5)


def test_starts_from_a_logged_scene_and_frame(world: LearnedWorld) -> None:
    scene = roads.scene(roads.straight(), (30.0, 0.0, 0.0, 7.0), [(80.0, 0.0, 0.0, 6.0)], batch=2)
    frame = torch.full((2, 64, 128, 3), 7, dtype=torch.uint8)
    state = world.reset_from(scene, frame, [1, 2])
    assert torch.equal(state.frame, frame)
    assert torch.equal(state.scene.ego.state, scene.ego.state)
    assert state.scene.agents.valid.sum() == 2
    assert not LearnedWorld(None, NoTraffic(), None).reset_from(scene, None, [1, 2]).scene.agents.valid.any()


def test_refuses_what_it_cannot_do(world: LearnedWorld, tmp_path: Path) -> None:
    state = world.reset([1])
    with pytest.raises(ActionError):
        world.step(state, torch.tensor([[2.0, 0.0]]))
    with pytest.raises(ConfigError, match="unknown scenario key"):
        world.reset([1], {"familly": "city"})
    with pytest.raises(ConfigError, match="no network 7"):
        world.reset([1], {"network_seed": 7})
    with pytest.raises(CheckpointError):
        LearnedWorld.load(tmp_path, camera=False)
    world.starts.save(tmp_path)
    loaded = LearnedWorld.load(tmp_path, camera=False)
    assert not loaded.step(loaded.reset([3]), torch.zeros(1, 2)).frame.any()
