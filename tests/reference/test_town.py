from __future__ import annotations

import itertools

import pytest
import torch
from xpeng_world.data import read_clips
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation.suites import load_suite
from xpeng_world.factory.record import record
from xpeng_world.reference.demand import FIRST_WALKER
from xpeng_world.reference.networks import build_network
from xpeng_world.reference.roadmap import read_road_map
from xpeng_world.reference.world import ReferenceWorld
from xpeng_world.road import LaneKind
from xpeng_world.scenario import DRAWN, draw_scenario
from xpeng_world.scene import AgentKind

TOWN = {"family": "town", "density": "dense"}


@pytest.fixture(scope="module")
def scenes():
    """A standing ego's scenes in a busy town, 6 s."""
    world = ReferenceWorld(camera=False)
    state = world.reset([3], TOWN)
    found = [state.scene]
    for _ in range(60):
        state = world.step(state, torch.tensor([[0.0, -0.5]]))
        found.append(state.scene)
    return found


def test_a_town_is_only_there_when_asked_for() -> None:
    assert {draw_scenario(seed).family for seed in range(60)} == set(DRAWN)
    assert draw_scenario(1, {"family": "town"}).family == "town"


def test_other_families_have_neither_pavements_nor_walkers() -> None:
    for family in DRAWN:
        road, index = read_road_map(build_network(family, 3))
        assert not bool((road.kind == int(LaneKind.WALKING)).any())
        assert not index.sidewalks


def test_people_walk_and_cyclists_ride(scenes) -> None:
    kinds, walked = set(), 0.0
    for first, second in itertools.pairwise(scenes):
        a, b = first.agents, second.agents
        kinds |= set(a.kind[0, a.valid[0]].tolist())
        on_foot = a.valid[0] & (a.kind[0] == int(AgentKind.PEDESTRIAN))
        assert bool((a.id[0, on_foot] >= FIRST_WALKER).all())
        assert bool((a.id[0, a.valid[0] & ~on_foot] < FIRST_WALKER).all())
        same = on_foot & b.valid[0] & (a.id[0] == b.id[0])
        walked += float((b.position - a.position)[0, same].norm(dim=-1).sum())
    assert {int(AgentKind.PEDESTRIAN), int(AgentKind.CAR)} <= kinds
    assert walked > 5.0
    assert int((scenes[0].agents.kind == int(AgentKind.PEDESTRIAN)).sum()) <= 10


def test_pavements_are_there_once_for_each_way_and_lead_on() -> None:
    road, index = read_road_map(build_network("town", 0))
    walks = (road.kind[0] == int(LaneKind.WALKING)).nonzero().squeeze(-1)
    lines = road.centreline[0, walks]
    back = (lines.flatten(1).unsqueeze(1) - lines.flip(1).flatten(1)).norm(dim=-1).amin(-1)
    assert float(back.max()) < 1e-3
    onward = road.successors[0, walks]
    assert float((onward >= 0).any(-1).float().mean()) > 0.85  # some end at the edge of the town
    ends = lines[:, -1].unsqueeze(1).expand(-1, 4, -1)[onward >= 0]
    starts = road.centreline[0, onward[onward >= 0], 0]
    assert float((ends - starts).norm(dim=-1).max()) < 16.0
    assert bool((road.kind[0, onward[onward >= 0]] == int(LaneKind.WALKING)).all())
    assert index.sidewalks


def test_a_roundabout_and_a_lane_that_ends_are_driven() -> None:
    road, index = read_road_map(build_network("town", 0))
    ring = [edge for edge in index.edges if edge.count("r") == 2]
    assert len(ring) == 4
    for edge in ring:
        assert index.following(edge)
    narrowing = [(a, b) for a, b in index.links if len(index.edges[a]) == 2 and len(index.edges[b]) == 1]
    assert narrowing
    assert int((road.signal_lane >= 0).sum()) >= 1


def test_towns_drive_on_the_left_too() -> None:
    world = ReferenceWorld(camera=False, traffic_side="left")
    state = world.reset([2], TOWN)
    for _ in range(10):
        state = world.step(state, torch.zeros(1, 2))
    assert int(state.scene.road.traffic_side) == -1
    assert bool((state.scene.agents.kind == int(AgentKind.PEDESTRIAN)).any())


def test_suites_name_families_and_scenarios(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine:\n  families: [town]\n  scenario: {scenario: jaywalker, braking_mps2: 3}\n  episodes: 3\n")
    suite = load_suite(str(path))
    assert [episode.scenario["family"] for episode in suite.episodes] == ["town"] * 3
    assert suite.episodes[0].scenario["braking_mps2"] == 3
    path = tmp_path / "wrong.yaml"
    path.write_text("mine:\n  families: [toun]\n")
    with pytest.raises(ConfigError, match="unknown family 'toun' in suite 'mine'; did you mean 'town'"):
        load_suite(str(path))
    path = tmp_path / "worse.yaml"
    path.write_text("mine:\n  scenario: {scenario: jaywalk}\n")
    with pytest.raises(ConfigError, match="unknown scenario 'jaywalk'"):
        load_suite(str(path))


def test_scenes_are_recorded_without_pictures(tmp_path) -> None:
    record(tmp_path, 1, workers=1, steps=8, mixture={"expert": 1}, scenario={"family": "town"}, camera=False)
    clip = next(iter(read_clips(tmp_path)))
    assert clip.steps == 8
    assert int(clip.frames.max()) == 0
    assert int(clip.track.agents.valid.sum()) > 0
