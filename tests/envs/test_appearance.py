"""What the shipped world remembers of looks: weather and light for a whole rollout, a car's colour when it comes back into view."""

import dataclasses
import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from xpeng_world.envs import make_world
from xpeng_world.scene import AgentKind, Appearance, Scene
from xpeng_world.world_model.video.layout import LayoutRasteriser

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)

STILL = torch.zeros(1, 2)


@pytest.fixture(scope="module")
def generator():
    return make_world("learned").generator


def paint_on(generator, scenes, frame):
    """The picture after a list of scenes, one step apart."""
    for step, (before, now) in enumerate(itertools.pairwise(scenes), 1):
        frame = generator.next(
            before, now, frame, STILL.expand(now.batch_size, 2), torch.arange(now.batch_size), torch.full((now.batch_size,), step)
        )
    return frame


def turned(scene: Scene, angle: float) -> Scene:
    state = scene.ego.state.clone()
    state[:, 2] += angle
    return dataclasses.replace(scene, ego=dataclasses.replace(scene.ego, state=state))


def test_a_car_that_comes_back_into_view_has_its_colour(generator) -> None:
    rasterise, looks = LayoutRasteriser(), {}
    for name, colour in {"red": (0.8, 0.05, 0.05), "blue": (0.05, 0.1, 0.8)}.items():
        scene = roads.scene_on(
            roads.straight_road(scenery=True), ego=(20.0, -1.75, 0.0), agents=[roads.agent_row(AgentKind.CAR, 32.0, -1.75)]
        )
        agents = dataclasses.replace(scene.agents, colour=torch.tensor(colour).expand_as(scene.agents.colour))
        scene = dataclasses.replace(scene, agents=agents)
        car = rasterise.instances(scene)[0] == 0
        first = paint_on(generator, [scene] * 4, generator.first(scene, torch.zeros(1, dtype=torch.int64)))
        way = [
            scene,
            *(turned(scene, 0.3 * k) for k in range(1, 9)),
            *(turned(scene, 0.3 * k) for k in reversed(range(1, 9))),
            scene,
            scene,
            scene,
        ]
        assert not (rasterise.instances(way[8]) == 0).any()
        later = paint_on(generator, way, first)
        looks[name] = [picture[0][car].float().mean(0) for picture in (first, later)]
    for before, after in looks.values():
        assert (before - after).abs().max() < 15
    assert looks["red"][1][0] > looks["red"][1][2] + 20
    assert looks["blue"][1][2] > looks["blue"][1][0] + 20


def test_weather_and_light_last_for_a_rollout(generator) -> None:
    scene = roads.scene_on(
        roads.straight_road(scenery=True), ego=(0.0, -1.75, 0.0), speed=4.0, agents=[roads.agent_row(AgentKind.CAR, 60.0, -1.75)]
    )
    scene = dataclasses.replace(Scene.cat([scene] * len(Appearance)), appearance=torch.arange(len(Appearance)))
    first = generator.first(scene, torch.zeros(len(Appearance), dtype=torch.int64))
    scenes = [scene]
    for _ in range(80):
        state = scenes[-1].ego.state.clone()
        state[:, 0] += 0.4
        scenes.append(dataclasses.replace(scenes[-1], ego=dataclasses.replace(scene.ego, state=state), time=scenes[-1].time + 0.1))
    last = paint_on(generator, scenes, first)
    fresh = generator.first(scenes[-1], torch.ones(len(Appearance), dtype=torch.int64))
    distance = torch.cdist(last.float().flatten(1), fresh.float().flatten(1))
    assert distance.argmin(1).tolist() == list(range(len(Appearance)))
