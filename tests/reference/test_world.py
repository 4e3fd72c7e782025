"""The reference world: states are values, episodes depend on nothing but their seed and actions."""

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.errors import ActionError, ConfigError, SimulatorError
from xpeng_world.geometry import project_polyline
from xpeng_world.reference.world import ReferenceWorld
from xpeng_world.road import ROUTE_STEP, LaneKind
from xpeng_world.scenario import FAMILIES
from xpeng_world.world import World, observe


@pytest.fixture(scope="module")
def world():
    return ReferenceWorld(camera=False)


def drive(world, state, steps, steer=0.05):
    states = [state]
    for k in range(steps):
        states.append(world.step(states[-1], torch.tensor([[steer, 0.2 if k % 3 else -0.1]])))
    return states


def assert_same(a, b):
    first, second = flatten(a.scene), flatten(b.scene)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_it_is_a_world(world):
    assert isinstance(world, World)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_and_actions_make_the_same_episode(world, family):
    scenario = {"family": family, "network_seed": 0, "density": "dense"}
    first = drive(world, world.reset([7], scenario), 25)
    world.reset([8], scenario)
    second = drive(world, world.reset([7], scenario), 25)
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)
    other = world.reset([8], scenario)
    assert not torch.equal(other.scene.ego.state, first[0].scene.ego.state)


def test_a_state_can_be_restored_and_branched(world):
    states = drive(world, world.reset([3], {"family": "city", "network_seed": 0, "density": "dense"}), 30)
    middle = states[15]
    braking = world.step(middle, torch.tensor([[0.0, -1.0]]))
    assert not torch.equal(braking.scene.ego.state, states[16].scene.ego.state)
    again = drive(world, middle, 0)
    for k in range(15, 30):
        again.append(world.step(again[-1], torch.tensor([[0.05, 0.2 if k % 3 else -0.1]])))
    for a, b in zip(again, states[15:], strict=True):
        assert_same(a, b)
    assert again[-1].memory.actions.shape == (1, 30, 2)
    assert int(again[-1].step) == 30
    assert float(again[-1].scene.time) == pytest.approx(3.0)


def test_two_worlds_can_take_turns():
    a, b = ReferenceWorld(camera=False), ReferenceWorld(camera=False)
    scenario = {"family": "country", "network_seed": 0}
    alone = drive(a, a.reset([1], scenario), 3)
    left, right = a.reset([1], scenario), b.reset([2], scenario)
    for k in range(3):
        action = torch.tensor([[0.05, 0.2 if k % 3 else -0.1]])
        left, right = a.step(left, action), b.step(right, action)
    assert_same(left, alone[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_start_lies_on_its_route_and_is_free(world, family):
    for seed in range(4):
        state = world.reset([seed], {"family": family, "network_seed": 0, "density": "dense"})
        scene = state.scene
        arc, lateral, heading = project_polyline(scene.ego.position, scene.route.points)
        assert abs(float(lateral)) < 0.4
        assert abs(float(torch.remainder(heading - scene.ego.heading + torch.pi, 2 * torch.pi) - torch.pi)) < 0.1
        lane = scene.road.nearest_lanes(scene.ego.position.unsqueeze(1), 1, (LaneKind.DRIVING,))[0, 0]
        assert bool(scene.route.lane_mask(scene.road.width.shape[1])[0, lane])
        limit = float(scene.road.speed_limit[0, lane])
        assert float(scene.ego.speed) <= 0.9 * limit + 0.01
        assert float(scene.route.length - arc) > max(500.0, 30 * limit)
        agents = scene.agents
        gap = (agents.position - scene.ego.position.unsqueeze(1)).norm(dim=-1)[agents.valid]
        assert float(gap.min() if len(gap) else 10.0) > 2.0
        assert float((scene.route.points[0, 1:] - scene.route.points[0, :-1]).norm(dim=-1).max()) < ROUTE_STEP + 0.05
        assert observe(state).route.shape == (1, 20, 2)


def test_traffic_is_about(world):
    counts = {}
    for density in ("sparse", "dense"):
        counts[density] = sum(
            int(world.reset([seed], {"family": "city", "network_seed": 0, "density": density}).scene.agents.valid.sum())
            for seed in range(4)
        )
    assert counts["dense"] > 1.5 * counts["sparse"] > 0


def test_misuse_is_refused_in_one_line(world):
    with pytest.raises(SimulatorError, match="one worker process per episode"):
        world.reset([1, 2])
    with pytest.raises(ConfigError, match="did you mean 'city'"):
        world.reset([1], {"family": "citi"})
    state = world.reset([1], {"family": "country", "network_seed": 0})
    with pytest.raises(ActionError, match=r"\[1, 2\]"):
        world.step(state, torch.zeros(2, 2))
    with pytest.raises(ActionError, match="NaN"):
        world.step(state, torch.full((1, 2), torch.nan))


def test_appearance_and_blank_frames(world):
    state = world.reset([1], {"family": "country", "network_seed": 0, "appearance": "rain"})
    assert int(state.scene.appearance) == 3
    assert state.frame.shape == (1, 64, 128, 3)
    assert state.frame.dtype == torch.uint8
