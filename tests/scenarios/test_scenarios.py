from __future__ import annotations

import dataclasses

import gymnasium as gym
import pytest
import torch
import xpeng_world  # noqa: F401
from xpeng_world.batched import flatten
from xpeng_world.envs import make_world
from xpeng_world.errors import ConfigError
from xpeng_world.geometry import project_polyline
from xpeng_world.policies import load_policy
from xpeng_world.scenario import draw_scenario
from xpeng_world.scenarios import FAMILIES, IDENTITY, advance, put_on_road
from xpeng_world.scenarios.actors import Actor, Phase, script_of
from xpeng_world.scenarios.script import When
from xpeng_world.scene import DT, AgentKind, Ego, Scene
from xpeng_world.world import World, WorldState

STILL = torch.zeros(1, 2)


def learned() -> World:
    return make_world("learned", camera=False)


def actors(state: WorldState) -> torch.Tensor:
    """States [A, 8] of the scripted road users that are there."""
    agents = state.scene.agents
    mine = agents.valid[0] & (agents.id[0] >= IDENTITY) & (agents.id[0] < IDENTITY + 16)
    return agents.state[0, mine]


def driven(world: World, seed: int, scenario: dict, steps: int, policy: str | None = None) -> list[WorldState]:
    state = world.reset([seed], scenario)
    states = [state]
    driver = load_policy(policy) if policy else None
    memory = driver.initial_memory([seed]) if driver else None
    for _ in range(steps):
        action = STILL
        if driver is not None:
            action, memory = driver.act(None, memory, state.scene)
        state = world.step(state, action)
        states.append(state)
    return states


def on_route(scene: Scene, place: torch.Tensor) -> tuple[float, float]:
    """How far ahead of the ego on its route a place [2] is, and how far left of it, in m."""
    here, _, _ = project_polyline(scene.ego.position, scene.route.points)
    at, aside, _ = project_polyline(place.unsqueeze(0), scene.route.points)
    return float(at - here), float(aside)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_is_the_same_from_the_same_seed(name) -> None:
    first, second = (driven(learned(), 4, {"scenario": name}, 15) for _ in range(2))
    assert len(actors(first[0])) >= 1
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.scene.agents.state, b.scene.agents.state)
    described = learned().describe(4, {"scenario": name})
    assert described.incident.name == name
    assert described.seed == 4


def test_a_lead_brakes_to_standstill_as_hard_as_asked() -> None:
    states = driven(learned(), 1, {"scenario": "hard_braking_lead", "braking_mps2": 5.0, "after_s": 1.0, "gap_m": 20}, 60)
    speeds = torch.stack([actors(state)[0, 3] for state in states])
    assert float(speeds[9]) == pytest.approx(float(states[0].scene.ego.speed))
    assert float((speeds[20] - speeds[30]) / (10 * DT)) == pytest.approx(5.0, abs=0.01)
    assert float(speeds[-1]) == 0.0
    ahead, aside = on_route(states[0].scene, actors(states[0])[0, :2])
    assert ahead == pytest.approx(20 + 2.3 + float(states[0].scene.profile.length) / 2, abs=0.3)
    assert abs(aside) < 0.3


def test_a_car_cuts_in_from_the_next_lane() -> None:
    states = driven(learned(), 2, {"scenario": "cut_in", "after_s": 1, "duration_s": 2}, 40)
    aside = [abs(on_route(s.scene, actors(s)[0, :2])[1]) for s in (states[5], states[-1])]
    assert aside[0] > 2.5
    assert aside[1] < 0.5


def test_whoever_follows_stops_behind_a_blocked_lane() -> None:
    """Followers are the traffic's; the expert, as one of them, stops too or passes."""
    states = driven(learned(), 3, {"scenario": "blocked_lane", "ahead_m": 60, "density": "sparse"}, 90, "expert")
    lorry = actors(states[0])[0]
    assert float(lorry[3]) == 0.0
    assert torch.equal(actors(states[-1])[0, :2], lorry[:2])
    gap = [float((s.scene.ego.position[0] - lorry[:2]).norm()) for s in states]
    assert min(gap) > 2.2  # it neither drove into it nor through it


def test_a_walker_steps_out_such_that_the_ego_can_just_stop() -> None:
    braking = torch.tensor([[0.0, -0.75]])
    world = learned()
    state = world.reset([6], {"scenario": "jaywalker", "braking_mps2": 4.0})
    assert float(actors(state)[0, 3]) == 0.0
    agents = state.scene.agents
    assert int(agents.kind[0, agents.id[0] == IDENTITY][0]) == int(AgentKind.PEDESTRIAN)
    walking = 0
    nearest = 1e9
    for _ in range(120):
        walker = actors(state)
        if len(walker) and float(walker[0, 3]) > 0:
            walking += 1
        if len(walker):
            nearest = min(nearest, float((walker[0, :2] - state.scene.ego.position[0]).norm()))
        state = world.step(state, braking if walking > 6 else STILL)
    assert walking > 10
    assert nearest > 2.0


def test_wrong_way_drivers_come_towards_the_ego() -> None:
    state = driven(learned(), 1, {"scenario": "wrong_way_driver", "speed_mps": 6}, 1)[-1]
    car = actors(state)[0]
    assert float(torch.cos(car[2] - state.scene.ego.heading[0])) < -0.7
    assert abs(on_route(state.scene, car[:2])[1]) < 1.0


def test_runners_cross_against_red_while_the_ego_has_green() -> None:
    states = driven(learned(), 5, {"scenario": "red_light_runner"}, 1)
    state = states[0]
    car = actors(state)[0]
    across = abs(float(torch.sin(car[2] - state.scene.ego.heading[0])))
    assert state.scene.signals[0].eq(3).any()
    assert across > 0.3 or on_route(state.scene, car[:2])[0] > 40  # the road bends on the way there


def test_columns_stop_and_go() -> None:
    states = driven(learned(), 1, {"scenario": "dense_stop_and_go", "cars": 3, "period_s": 6, "speed_mps": 5}, 100)
    last = torch.stack([actors(s)[-1, 3] for s in states])
    assert float(last.max()) == pytest.approx(5.0)
    assert float(last[20:].min()) == 0.0
    assert float(last[40:].max()) > 3.0
    assert len(actors(states[0])) == 3


def test_a_script_follows_its_phases() -> None:
    path = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    phases = [Phase(When.TIME, 0.5, 0.0, 2.0), Phase(When.EGO_ARRIVES, 2.0, 6.0, 3.0, 3.0, 1.0)]
    script = script_of([Actor(path, 10.0, 4.0, mark=torch.tensor([50.0, 0.0]), phases=phases)])
    ego = Ego(torch.tensor([[0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0]]))
    before = script
    for k in range(1, 21):
        before, script = script, advance(script, ego, torch.tensor([k * DT]))
    assert float(script.speed) == pytest.approx(4.0 - 2.0 * 1.6, abs=1e-4)
    assert int(script.phase) == 1
    near = Ego(torch.tensor([[35.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0]]))
    for k in range(21, 31):
        before, script = script, advance(script, near, torch.tensor([k * DT]))
    assert float(script.lateral) == pytest.approx(1.0, abs=1e-4)
    agents = put_on_road(script, before)
    assert float(agents.acceleration) == pytest.approx(3.0, abs=1e-3)
    assert float(agents.heading) > 0.1  # it moves to its left
    assert float(agents.position[0, 0, 1]) == pytest.approx(1.0, abs=1e-4)


def test_the_others_see_the_actors_and_states_branch(tmp_path) -> None:
    world = learned()
    state = driven(world, 8, {"scenario": "hard_braking_lead"}, 10)[-1]
    one, two = world.step(state, STILL), world.step(state, STILL)
    for a, b in zip(flatten(one.scene).values(), flatten(two.scene).values(), strict=True):
        assert torch.equal(a, b)
    for traffic in ("none", "learned"):
        other = make_world("learned", camera=False, traffic=traffic)
        assert len(actors(driven(other, 8, {"scenario": "hard_braking_lead"}, 5)[-1])) == 1


def test_gym_takes_and_tells_the_scenario() -> None:
    env = gym.make("XPengWorld-v0", world_options={"camera": False})
    _, info = env.reset(seed=3, options={"scenario": "cut_in", "gap_m": 12})
    assert info["scenario"]["scenario"] == "cut_in"
    assert info["scenario"]["gap_m"] == 12
    _, info = env.reset(seed=3)
    assert "gap_m" not in info["scenario"]
    vector = gym.make_vec("XPengWorld-v0", num_envs=3, world_options={"camera": False})
    _, info = vector.reset(seed=1, options={"scenario": "blocked_lane"})
    assert list(info["scenario"]["scenario"]) == ["blocked_lane"] * 3
    vector.step(vector.action_space.sample() * 0)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"scenario": "cut_inn"}, "unknown scenario 'cut_inn'; did you mean 'cut_in'"),
        ({"scenario": "cut_in", "gap": 3}, "unknown scenario key 'gap'; did you mean 'gap_m'"),
        ({"scenario": "cut_in", "gap_m": 300}, r"gap_m=300 of scenario 'cut_in' is outside 2 to 60 \(m between"),
        ({"scenario": "cut_in", "gap_m": "far"}, "gap_m=far of scenario 'cut_in' is no number"),
        ({"gap_m": 3}, "unknown scenario key 'gap_m'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(wanted, message) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_scenario(1, wanted)


def test_a_road_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"scenario 'red_light_runner' fits none of 200 starts; the last, on motorway \d+: there is no traffic"
    ):
        learned().reset([1], {"scenario": "red_light_runner", "family": "motorway"})


def test_without_a_scenario_nothing_changes() -> None:
    assert draw_scenario(5) == dataclasses.replace(draw_scenario(5), incident=None)
    assert type(learned().reset([5]).memory).__name__ == "LearnedMemory"


@pytest.mark.parametrize("name", ["hard_braking_lead", "jaywalker", "blocked_lane", "dense_stop_and_go"])
def test_the_reference_world_plays_them_too(name) -> None:
    world = make_world("reference", camera=False)
    states = driven(world, 0, {"scenario": name}, 30)
    assert len(actors(states[0])) >= 1
    again = world.step(states[20], STILL)  # simulated again from the seed
    assert torch.equal(actors(again), actors(states[21]))
    assert torch.equal(again.scene.agents.state, states[21].scene.agents.state)
    assert world.describe(0, {"scenario": name}).incident.name == name


def test_cars_of_the_reference_world_stop_behind_a_standing_actor() -> None:
    world = make_world("reference", camera=False)
    states = driven(world, 7, {"scenario": "hard_braking_lead", "family": "city", "density": "dense", "gap_m": 30}, 100, "expert")
    for state in states:
        agents = state.scene.agents
        lead = agents.state[0, agents.id[0] == IDENTITY]
        others = agents.state[0, agents.valid[0] & (agents.id[0] != IDENTITY)]
        if len(lead) and len(others):
            assert float((others[:, :2] - lead[0, :2]).norm(dim=-1).min()) > 1.5
