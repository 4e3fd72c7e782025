from dataclasses import replace

import pytest
import torch
from xpeng_world.policies.vla import Vocabulary
from xpeng_world.policies.vla.reasoning import evidence, think
from xpeng_world.policies.vla.words import THOUGHT_LENGTH, WORDS
from xpeng_world.road import SignalState
from xpeng_world.scene import Track
from xpeng_world.world import WorldState, observe

VOCABULARY = Vocabulary(60)
GENTLE, HARD, NONE, GO = [0.0, -0.2], [0.0, -0.6], [0.0, 0.0], [0.0, 0.6]


def thought(worlds, action, stop_at=None, **scene) -> str:
    road, route = worlds.straight_road(pieces=5, stop_at=stop_at)
    track = worlds.drive(road, route, x=[40.0], **scene)
    moment = track.scene(0)
    zero = torch.zeros(1, dtype=torch.int64)
    observation = observe(WorldState(moment, torch.zeros(1, 64, 128, 3, dtype=torch.uint8), zero, zero))
    ids = think(VOCABULARY, evidence(track, observation), torch.tensor([action]))
    assert ids.shape == (1, THOUGHT_LENGTH)
    return VOCABULARY.text(ids[0])


def test_an_empty_road_is_driven_at_its_limit(worlds):
    assert thought(worlds, NONE, speed=9.9) == ("lead none none red none limit 40kmh turn ahead none contact none so hold for limit")
    assert thought(worlds, GO, speed=3.0).endswith("so gain for road")


def test_a_slower_vehicle_ahead_is_named_with_gap_and_time(worlds):
    # its rear is 20 m past the ego's front: 22 m less 2 m, 40 + 2.4 m
    ahead = {"x": 40.0 + 2.4 + 20.0 + 2.0, "speed": 4.0}
    words = thought(worlds, HARD, speed=8.0, agents=[ahead])
    assert words == "lead 20m closing red none limit 40kmh turn ahead none contact 5s so brake for vehicle"
    assert "lead 20m steady" in thought(worlds, NONE, speed=4.0, agents=[ahead])
    assert "lead 20m opening" in thought(worlds, NONE, speed=2.0, agents=[ahead])
    assert "lead none none" in thought(worlds, NONE, speed=8.0, agents=[{**ahead, "y": 3.2}])


def test_a_red_light_stops_and_a_green_one_does_not(worlds):
    red = thought(worlds, GENTLE, stop_at=60.0, signals=[int(SignalState.RED)], speed=7.0)
    assert "red 20m" in red
    assert red.endswith("so ease for signal")
    assert "red none" in thought(worlds, NONE, stop_at=60.0, signals=[int(SignalState.GREEN)], speed=7.0)
    assert "so stop" in thought(worlds, NONE, stop_at=60.0, signals=[int(SignalState.RED)], speed=0.0)


@pytest.mark.parametrize(("bend", "way"), [(1 / 15, "left"), (-1 / 15, "right")])
def test_a_turn_ahead_is_named_with_its_side(fake, bend, way):
    scene = fake.make_scene(bend=bend, speed=6.0)
    scene = replace(scene, ego=replace(scene.ego, state=scene.ego.state + torch.tensor([35.0, 0, 0, 0, 0, 0, 0])))
    zero = torch.zeros(1, dtype=torch.int64)
    seen = observe(WorldState(scene, torch.zeros(1, 64, 128, 3, dtype=torch.uint8), zero, zero))
    ids = think(VOCABULARY, evidence(Track.of([scene]), seen), torch.tensor([GENTLE]))
    # the bend begins at 60 m, 15 m ahead; it has turned by 20 degrees some 5 m on
    assert f"turn {way} 20m" in VOCABULARY.text(ids[0])


def test_all_words_are_known_and_the_same_scene_gives_the_same_thought(worlds):
    first = thought(worlds, NONE, speed=9.9)
    assert first == thought(worlds, NONE, speed=9.9)
    assert set(first.split()) <= set(WORDS)
