from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
from pathlib import Path

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.errors import ConfigError
from xpeng_world.geometry import box_corners, boxes_overlap
from xpeng_world.road import LaneKind
from xpeng_world.scene import DT, AgentKind, Scene
from xpeng_world.world_model.traffic import SLOTS, IdmTraffic, Traffic, make_traffic
from xpeng_world.world_model.traffic.draws import uniform

_spec = importlib.util.spec_from_file_location("roads_local", Path(__file__).parent / "roads_local.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)

AWAY = (150.0, 60.0, 0.0, 0.0)  # an ego that is in nobody's way


def drive(scene: Scene, steps: int, traffic: Traffic | None = None, seeds: list[int] | None = None):
    """Scenes of a rollout with the ego standing still, and the last memory."""
    traffic = traffic or IdmTraffic(spawning=False)
    batch = scene.time.shape[0]
    seed = torch.tensor(seeds or list(range(batch)))
    agents, memory = traffic.reset(scene, seed)
    scene = dataclasses.replace(scene, agents=agents)
    scenes = [scene]
    for k in range(steps):
        agents, memory = traffic.step(scene, scene.ego, memory, seed, torch.full((batch,), k))
        time = scene.time + DT
        scene = dataclasses.replace(scene, agents=agents, time=time, signals=scene.road.signals_at(time))
        scenes.append(scene)
    return scenes, memory


def gaps_to_ego(scenes: list[Scene]) -> torch.Tensor:
    return torch.stack([s.ego.x - s.profile.length / 2 - s.agents.position[:, 0, 0] - s.agents.length[:, 0] / 2 for s in scenes])[:, 0]


def overlapping_pairs(scenes: list[Scene]) -> set[tuple[int, int, int]]:
    pairs = set()
    for scene in scenes:
        agents = scene.agents
        corners = box_corners(agents.position, agents.heading, agents.length, agents.width)
        both = agents.valid[:, :, None] & agents.valid[:, None] & (agents.id[:, :, None] < agents.id[:, None])
        for b, i, j in (boxes_overlap(corners[:, :, None], corners[:, None]) & both).nonzero().tolist():
            pairs.add((b, int(agents.id[b, i]), int(agents.id[b, j])))
    return pairs


def four_arms(batch: int = 2) -> Scene:
    agents = []
    for k in range(4):
        c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][k]
        for d in (20.0, 45.0, 70.0, 95.0):
            x, y = -9 - d, -1.65
            agents.append((x * c - y * s, x * s + y * c, k * math.pi / 2, 10.0))
    return roads.scene(roads.crossing(), (60.0, 30.0, 0.0, 0.0), agents, batch)


@pytest.mark.parametrize("ego_y", [0.0, 1.6])
def test_brakes_behind_a_standing_ego_even_one_partly_in_the_lane(ego_y: float) -> None:
    scenes, _ = drive(roads.scene(roads.straight(), (160.0, ego_y, 0.0, 0.0), [(70.0, 0.0, 0.0, 14.0)]), 200)
    gap = gaps_to_ego(scenes)
    assert gap.min() > 1.0
    assert scenes[-1].agents.speed[0, 0] < 0.05
    assert gap[-1] < 5.0
    assert scenes[-1].agents.brake[0, 0]
    assert any(bool(s.agents.brake[0, 0]) and s.agents.speed[0, 0] > 2 for s in scenes)


def test_an_ego_beside_the_lane_stops_nobody() -> None:
    scenes, _ = drive(roads.scene(roads.straight(), (160.0, 3.6, 0.0, 0.0), [(70.0, 0.0, 0.0, 12.0)]), 100)
    assert scenes[-1].agents.position[0, 0, 0] > 170


def test_brakes_for_an_ego_that_crosses_its_way() -> None:
    scenes, _ = drive(roads.scene(roads.straight(), (160.0, 0.0, math.pi / 2, 0.0), [(70.0, 0.0, 0.0, 14.0)]), 200)
    last = scenes[-1].agents
    assert last.position[0, 0, 0] + 2.3 < 160 - 0.95


def test_stops_at_red_and_goes_at_green() -> None:
    road = roads.straight(red_at=3)
    red, _ = drive(roads.scene(road, AWAY, [(120.0, 0.0, 0.0, 14.0)]), 150)
    front = red[-1].agents.position[0, 0, 0] + 2.3
    assert 236.0 < front < 240.0
    assert red[-1].agents.speed[0, 0] < 0.05
    green = dataclasses.replace(road, phase_state=torch.where(road.phase_state > 0, 3, 0))
    free, _ = drive(roads.scene(green, AWAY, [(120.0, 0.0, 0.0, 14.0)]), 150)
    assert not free[-1].agents.valid[0, 0] or free[-1].agents.position[0, 0, 0] > 250


def test_follows_at_the_models_equilibrium_gap() -> None:
    road = roads.straight(pieces=40)
    scene = roads.scene(road, AWAY, [(100.0, 0.0, 0.0, 9.0), (60.0, 0.0, 0.0, 9.0)])
    traffic = IdmTraffic(spawning=False)
    seed = torch.tensor([0])
    agents, memory = traffic.reset(scene, seed)
    memory.character[0, 0] = torch.tensor([9.0 / roads.LIMIT, 1.5, 1.5, 2.0])  # the leader wants 9 m/s
    memory.character[0, 1] = torch.tensor([1.0, 1.5, 1.5, 2.0])
    scene = dataclasses.replace(scene, agents=agents)
    for k in range(300):
        ego = scene.ego.map(lambda t: t.clone())
        ego.state[0, 0] = float(agents.position[0, 0, 0])  # the ego keeps them company, far aside
        agents, memory = traffic.step(scene, ego, memory, seed, torch.tensor([k]))
        scene = dataclasses.replace(scene, agents=agents, ego=ego)
    gap = float(agents.position[0, 0, 0] - agents.position[0, 1, 0]) - 4.6
    speed = float(agents.speed[0, 1])
    assert speed == pytest.approx(9.0, abs=0.05)
    wanted = roads.LIMIT
    assert gap == pytest.approx((2.5 + 1.5 * speed) / math.sqrt(1 - (speed / wanted) ** 4), abs=0.3)


def test_an_episode_is_the_same_alone_and_in_a_batch() -> None:
    scene = four_arms(batch=3)
    together, memory = drive(scene, 120, IdmTraffic(), seeds=[3, 11, 8])
    alone, own = drive(scene[1], 120, IdmTraffic(), seeds=[11])
    for name, tensor in flatten(alone[-1].agents).items():
        assert torch.allclose(tensor[0].float(), flatten(together[-1].agents)[name][1].float(), atol=1e-5), name
    assert torch.equal(own.chain[0], memory.chain[1])
    assert not torch.equal(together[-1].agents.state[0], together[-1].agents.state[1])


def test_stepping_one_state_twice_gives_one_future() -> None:
    scenes, memory = drive(four_arms(), 20, IdmTraffic())
    before = {name: tensor.clone() for name, tensor in {**flatten(scenes[-1]), **flatten(memory)}.items()}
    seed, step = torch.tensor([0, 1]), torch.tensor([21, 21])
    one = IdmTraffic().step(scenes[-1], scenes[-1].ego, memory, seed, step)
    two = IdmTraffic().step(scenes[-1], scenes[-1].ego, memory, seed, step)
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(flatten(a).values(), flatten(b).values(), strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in {**flatten(scenes[-1]), **flatten(memory)}.items())


def test_a_crossing_flows_without_crashes() -> None:
    scenes, memory = drive(four_arms(batch=2), 300, IdmTraffic())
    assert len(overlapping_pairs(scenes)) <= 1
    crossed = sum(int(((s.agents.position.norm(dim=-1) < 9) & s.agents.valid).any()) for s in scenes)
    assert crossed > 80
    final = scenes[-1].agents
    assert float((memory.waited * final.valid).max()) < 25


def test_arrivals_keep_the_number_of_agents() -> None:
    scene = four_arms()
    scenes, memory = drive(scene, 300, IdmTraffic())
    count = torch.stack([s.agents.valid.sum(-1) for s in scenes]).float()
    assert (memory.target == 16).all()
    assert (count.mean(0) > 13).all()
    assert count.max() <= 16
    seen = {}
    for before, after in itertools.pairwise(scenes):
        fresh = after.agents.valid & ~(after.agents.id.unsqueeze(-1) == before.agents.id.unsqueeze(-2)).any(-1)
        for b, i in fresh.nonzero().tolist():
            away = float((after.agents.position[b, i] - after.ego.position[b]).norm())
            seen[b, int(after.agents.id[b, i])] = away
    assert all(50 < away < 125 for away in seen.values())


def test_agents_keep_to_their_lanes_and_turn_smoothly() -> None:
    scenes, _ = drive(four_arms(), 120)
    for before, after in itertools.pairwise(scenes):
        same = before.agents.valid & after.agents.valid & (before.agents.id == after.agents.id)
        moved = (after.agents.position - before.agents.position).norm(dim=-1)[same]
        turned = torch.remainder(after.agents.heading - before.agents.heading + math.pi, 2 * math.pi)[same] - math.pi
        assert (moved < 2.0).all()
        assert (turned.abs() < 0.3).all()
        driven = 0.5 * (before.agents.speed + after.agents.speed)[same] * DT
        assert (moved - driven).abs().max() < 0.35


def test_an_agent_beside_its_lane_comes_back_to_it() -> None:
    scenes, _ = drive(roads.scene(roads.straight(), AWAY, [(60.0, 1.2, 0.1, 12.0)]), 60)
    offset = torch.stack([s.agents.position[0, 0, 1] for s in scenes])
    assert abs(float(offset[1]) - 1.2) < 0.15
    assert offset[40:].abs().max() < 0.15
    assert offset.min() > -0.4


def test_invalid_slots_are_empty() -> None:
    scenes, _ = drive(four_arms(), 60, IdmTraffic())
    agents = scenes[-1].agents
    assert agents.valid.shape[1] == SLOTS
    assert (agents.state[~agents.valid] == 0).all()
    assert (agents.id[~agents.valid] == -1).all()
    assert not agents.brake[~agents.valid].any()


def test_names() -> None:
    road = roads.scene(roads.straight(), AWAY, [(60.0, 0.0, 0.0, 12.0)])
    agents, _ = make_traffic("none").reset(road, torch.tensor([1]))
    assert not agents.valid.any()
    assert isinstance(make_traffic("idm"), Traffic)
    with pytest.raises(ConfigError, match="did you mean 'idm'"):
        make_traffic("idn")


def test_draws_are_uniform_and_depend_on_every_counter() -> None:
    draw = uniform(torch.tensor([[5], [6]]), torch.arange(20000), 3)
    assert draw.min() >= 0
    assert draw.max() < 1
    assert draw.mean() == pytest.approx(0.5, abs=0.01)
    assert draw.var() == pytest.approx(1 / 12, abs=0.005)
    assert torch.corrcoef(draw)[0, 1].abs() < 0.03
    assert not torch.equal(draw, uniform(torch.tensor([[5], [6]]), torch.arange(20000), 4))


def test_overtakes_a_slow_leader_in_the_next_lane() -> None:
    scene = roads.scene(roads.straight(pieces=12, lanes=2), (350.0, 60.0, 0.0, 0.0), [(300.0, 0.0, 0.0, 6.0), (260.0, 0.0, 0.0, 13.0)])
    traffic = IdmTraffic(spawning=False)
    seed = torch.tensor([0])
    agents, memory = traffic.reset(scene, seed)
    memory.character[0, 0, 0] = 6.0 / roads.LIMIT
    scene = dataclasses.replace(scene, agents=agents)
    offsets = []
    for k in range(120):
        agents, memory = traffic.step(scene, scene.ego, memory, seed, torch.tensor([k]))
        scene = dataclasses.replace(scene, agents=agents)
        offsets.append(float(agents.position[0, 1, 1]))
        if agents.position[0, 1, 0] > 440:
            break
    assert offsets[-1] == pytest.approx(3.3, abs=0.2)
    assert max(abs(b - a) for a, b in itertools.pairwise(offsets)) < 0.3
    assert agents.position[0, 1, 0] > agents.position[0, 0, 0]


def test_leaves_a_lane_that_ends_and_waits_for_a_gap() -> None:
    road = roads.straight(pieces=8, lanes=2)
    successors = road.successors.clone()
    successors[0, 3] = -1  # the right lane ends after 240 m
    road = dataclasses.replace(road, successors=successors)
    row = [(170.0 - 14.0 * k, 3.3, 0.0, 9.0) for k in range(6)]
    scenes, _ = drive(roads.scene(road, (220.0, 60.0, 0.0, 0.0), [(150.0, 0.0, 0.0, 9.0), *row]), 200)
    assert not overlapping_pairs(scenes)
    merging = [(s.agents.position[0, 0], bool(s.agents.valid[0, 0])) for s in scenes]
    assert all(float(p[0]) < 240 or abs(float(p[1]) - 3.3) < 1.8 for p, valid in merging if valid)
    assert any(float(p[0]) > 250 for p, valid in merging if valid)


def test_people_and_cyclists_arrive_where_there_are_pavements() -> None:
    def arrivals(pavement: bool):
        lines = [[(60.0 * k, 0.0), (60.0 * k + 60, 0.0)] for k in range(10)]
        kinds = [LaneKind.DRIVING] * 10
        onward = [[k + 1] if k < 9 else [] for k in range(10)]
        if pavement:
            lines += [[(60.0 * k, -4.0), (60.0 * k + 60, -4.0)] for k in range(10)]
            kinds += [LaneKind.WALKING] * 10
            onward += [[10 + k + 1] if k < 9 else [] for k in range(10)]
        scene = roads.scene(
            roads.build(lines, kinds, onward), (300.0, 30.0, 0.0, 0.0), [(x, 0.0, 0.0, 8.0) for x in (20, 60, 100, 140, 180)]
        )
        seen = {}
        for seed in range(12):
            for later in drive(scene, 90, IdmTraffic(), [seed])[0][1:]:
                agents = later.agents
                for i in (agents.valid & (agents.id >= 5))[0].nonzero().flatten().tolist():
                    seen.setdefault((seed, int(agents.id[0, i])), (AgentKind(int(agents.kind[0, i])), agents.state[0, i]))
        return list(seen.values())

    kinds = {kind for kind, _ in arrivals(False)}
    assert kinds
    assert not kinds & {AgentKind.PEDESTRIAN, AgentKind.BICYCLE}
    people = [state for kind, state in arrivals(True) if kind == AgentKind.PEDESTRIAN]
    others = [(kind, state) for kind, state in arrivals(True) if kind != AgentKind.PEDESTRIAN]
    assert people
    assert all(abs(float(state[1]) + 4.0) < 0.3 and float(state[3]) < 2.0 and float(state[7]) == 1.75 for state in people)
    assert all(abs(float(state[1])) < 0.5 for _, state in others)
    assert AgentKind.BICYCLE in {kind for kind, _ in others}
