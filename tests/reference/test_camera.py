from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.camera import CAMERA, Camera
from xpeng_world.errors import SimulatorError
from xpeng_world.reference.atmosphere import LOOKS
from xpeng_world.reference.camera import ReferenceCamera
from xpeng_world.road import BUILDINGS, RoadMap
from xpeng_world.scene import AgentKind, Appearance, Scene

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


@pytest.fixture(scope="module")
def camera() -> ReferenceCamera:
    return ReferenceCamera()


def project(points, ego, camera: Camera = CAMERA) -> np.ndarray:
    """Image coordinates (x, y) of world points [P, 3] by the pinhole, worked out by hand."""
    points = np.asarray(points, float)
    x, y, heading = ego
    forward = math.cos(heading) * (points[:, 0] - x) + math.sin(heading) * (points[:, 1] - y) - camera.forward
    left = -math.sin(heading) * (points[:, 0] - x) + math.cos(heading) * (points[:, 1] - y)
    up = points[:, 2] - camera.above_ground
    depth = forward * math.cos(camera.pitch) + up * math.sin(camera.pitch)
    above = up * math.cos(camera.pitch) - forward * math.sin(camera.pitch)
    return np.stack((camera.width / 2 - camera.focal * left / depth, camera.height / 2 - camera.focal * above / depth), 1)


def picture(camera: ReferenceCamera, scene: Scene) -> np.ndarray:
    return camera.render(scene)[0].numpy().astype(int)


def without_borders(road: RoadMap) -> RoadMap:
    return dataclasses.replace(road, left_border=torch.zeros_like(road.left_border), right_border=torch.zeros_like(road.right_border))


def bare_road() -> RoadMap:
    return without_borders(roads.straight_road(240.0, lanes=1, oncoming=0))


@pytest.mark.parametrize(
    ("ego", "at", "heading"),
    [((0.0, -1.75, 0.0), (14.0, -1.0), 0.0), ((20.0, 3.0, 0.7), (31.0, 11.0), 0.7), ((5.0, 0.0, -0.2), (17.0, -5.0), -0.2)],
)
def test_a_box_is_where_the_pinhole_puts_it(camera, ego, at, heading):
    size = (2.0, 2.0, 1.2)
    red = roads.agent_row(AgentKind.STATIC, *at, heading=heading, size=size, colour=(1.0, 0.0, 0.0))
    frame = picture(camera, roads.scene_on(bare_road(), ego, agents=[red], appearance=Appearance.OVERCAST))
    changed = frame[..., 0] - frame[..., 1] > 60
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    local = np.array([(sx, sy, z) for sx in (-1, 1) for sy in (-1, 1) for z in (0.0, size[2])])
    c, s = math.cos(heading), math.sin(heading)
    corners = np.stack((at[0] + c * local[:, 0] - s * local[:, 1], at[1] + s * local[:, 0] + c * local[:, 1], local[:, 2]), 1)
    image = project(corners, ego)
    assert abs(columns[0] - image[:, 0].min()) <= 1
    assert abs(columns[-1] + 1 - image[:, 0].max()) <= 1
    assert abs(rows[0] - image[:, 1].min()) <= 1
    assert abs(rows[-1] + 1 - image[:, 1].max()) <= 1


def test_a_stop_line_is_where_the_pinhole_puts_it(camera):
    road, ego = without_borders(roads.crossing()), (-18.0, -1.75, 0.0)
    line = picture(camera, roads.scene_on(road, ego)) - picture(camera, roads.scene_on(roads_without_stop_lines(road), ego))
    rows, columns = np.nonzero(line.max(-1) > 25)
    near, far = project([(-8.5, -1.75, 0.0)], ego)[0, 1], project([(-8.0, -1.75, 0.0)], ego)[0, 1]
    ahead = np.abs(columns - CAMERA.width / 2) < 8
    assert abs(rows[ahead].max() + 1 - near) <= 1
    assert abs(rows[ahead].min() - far) <= 1
    left, right = project([(-8.25, 0.0, 0.0), (-8.25, -3.5, 0.0)], ego)[:, 0]
    at = np.abs(rows - (near + far) / 2) < 3
    own = columns[at][(columns[at] > left - 6) & (columns[at] < right + 6)]
    assert abs(own.min() - left) <= 1
    assert abs(own.max() + 1 - right) <= 1


def roads_without_stop_lines(road):
    return dataclasses.replace(road, stop_line=torch.zeros_like(road.stop_line))


def test_same_scene_same_pixels_alone_in_a_batch_and_in_another_camera(camera):
    road = roads.straight_road(lanes=2, scenery=True)
    cars = [roads.agent_row(AgentKind.CAR, 20.0 + 9 * k, -1.75) for k in range(5)]
    scenes = [roads.scene_on(road, (2.0 * k, -1.75, 0.0), agents=cars, time=0.1 * k, appearance=a) for k, a in enumerate(Appearance)]
    alone = torch.cat([camera.render(s) for s in scenes])
    again = ReferenceCamera().render(Scene.cat(scenes))
    assert alone.shape == (4, 64, 128, 3)
    assert alone.dtype == torch.uint8
    assert torch.equal(alone, again)
    assert not torch.equal(alone[0], alone[1])


def test_brake_lights_and_signals_show_their_state(camera):
    road = roads.crossing()
    ego = (-30.0, -1.75, 0.0)
    car = lambda brake: [roads.agent_row(AgentKind.CAR, -19.0, -1.75, brake=brake, colour=(0.5, 0.5, 0.5))]
    dark, bright = (picture(camera, roads.scene_on(road, ego, agents=car(b))) for b in (False, True))
    assert ((bright[..., 0] - bright[..., 1]) - (dark[..., 0] - dark[..., 1])).max() > 60
    green, red = (picture(camera, roads.scene_on(road, ego, time=t)) for t in (1.0, 30.0))
    difference = red - green
    assert difference[..., 0].max() > 60
    assert difference[..., 1].min() < -40
    head = road.signal_head[0, 0].numpy()
    top, bottom = project([head[:3] + np.array((0, 0, dz)) for dz in (0.88, -0.88)], ego)
    brighter = np.argwhere(difference[..., 0] > 60).mean(0)
    greener = np.argwhere(difference[..., 1] < -40).mean(0)
    assert np.abs(brighter + 0.5 - top[::-1]).max() <= 1.0
    assert np.abs(greener + 0.5 - bottom[::-1]).max() <= 1.0


def test_every_kind_of_road_user_covers_its_box(camera):
    road, ego = bare_road(), (0.0, -1.75, 0.0)
    empty = picture(camera, roads.scene_on(road, ego))
    for kind in AgentKind:
        for heading in (0.0, math.pi):
            row = roads.agent_row(kind, 18.0, -1.75, heading=heading, colour=(0.9, 0.1, 0.8))
            frame = picture(camera, roads.scene_on(road, ego, agents=[row]))
            length, _, height = roads.SIZES[kind]
            top = project([(18.0 - length / 2, -1.75, height)], ego)[0, 1]
            foot = project([(18.0 - length / 2, -1.75, 0.0)], ego)[0, 1]
            rows = np.flatnonzero((np.abs(frame - empty).max(-1) > 30).any(1))
            assert abs(rows.min() - top) <= 2.0
            assert abs(rows.max() + 1 - foot) <= 2.0


def test_rain_hides_what_is_far_and_dusk_is_darker(camera):
    road = roads.straight_road(300.0, lanes=2, scenery=True)
    day, overcast, dusk, rain = (picture(camera, roads.scene_on(road, (2.0, -1.75, 0.0), appearance=a)) for a in Appearance)
    assert dusk.mean() < 0.75 * overcast.mean() < day.mean()
    far = slice(24, 29)
    assert rain[far, 56:72].std() < 0.75 * overcast[far, 56:72].std()


def test_rain_falls_by_the_scene_s_time(camera):
    road = bare_road()
    at = lambda t: picture(camera, roads.scene_on(road, time=t, appearance=Appearance.RAIN))
    assert np.array_equal(at(0.3), at(0.3))
    assert 0 < np.abs(at(0.3) - at(0.4)).mean() < 8


def test_a_wet_road_mirrors_lamps(camera):
    road, ego = bare_road(), (0.0, -1.75, 0.0)
    car = lambda brake: [roads.agent_row(AgentKind.CAR, 14.0, -1.75, brake=brake)]
    braking, dark = (picture(camera, roads.scene_on(road, ego, agents=car(b), appearance=Appearance.RAIN)) for b in (True, False))
    below = slice(int(project([(11.7, -1.75, 0.0)], ego)[0, 1]) + 2, 64)
    gain = (braking - dark)[below]
    assert gain[..., 0].max() > 8
    assert gain[..., 1].max() < gain[..., 0].max() / 2


def test_the_grain_of_the_road_stays_where_it_is_in_the_world(camera):
    road = bare_road()
    first, second = (picture(camera, roads.scene_on(road, (x, -1.75, 0.0), appearance=Appearance.OVERCAST))[..., 1] for x in (20.0, 22.0))
    spots = np.array([(x, y, 0.0) for x in np.arange(27.5, 33.0, 0.1) for y in np.arange(-2.0, -1.4, 0.1)])
    at = lambda frame, x: frame[tuple(project(spots, (x, -1.75, 0.0))[:, ::-1].astype(int).T)]
    assert np.corrcoef(at(first, 20.0), at(second, 22.0))[0, 1] > 0.6
    assert np.corrcoef(at(first, 20.0), at(second, 20.0))[0, 1] < 0.4


def test_dashes_stand_at_the_arc_length_of_their_lane(camera):
    road, ego = roads.straight_road(60.0, lanes=2, oncoming=0), (0.0, -1.75, 0.0)
    frame = picture(camera, roads.scene_on(road, ego))
    brightness = lambda x: frame[tuple((project([(x, -3.5, 0.0)], ego)[0, ::-1]).astype(int))].mean()
    assert min(brightness(x) for x in (9.7, 10.5, 11.3)) > 1.5 * max(brightness(x) for x in (6.0, 7.0, 14.0, 15.0))


def test_without_panda3d_the_error_says_what_to_install(monkeypatch):
    for name in ("xpeng_world.reference.stage", "xpeng_world.reference.panda"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "panda3d", None)
    with pytest.raises(SimulatorError, match=r"pip install xpeng-world\[reference\]"):
        ReferenceCamera()


def test_buildings_fade_into_the_haze_as_far_as_they_are(camera) -> None:
    road = roads.straight_road(scenery=True)
    distances = (40.0, 110.0)
    scenes = []
    for away in (*distances, None):
        kinds, boxes, paint = torch.zeros_like(road.scenery_kind), road.scenery.clone(), road.scenery_colour.clone()
        if away is not None:
            kinds[0, 0] = int(BUILDINGS[0])
            boxes[0, 0] = torch.tensor([away, 0.35 * away, 0.0, 1.6, 0.3 * away, 0.2 * away])  # as large in either picture
        paint[0, 0] = torch.tensor([0.9, 0.1, 0.1])
        changed = dataclasses.replace(road, scenery_kind=kinds, scenery=boxes, scenery_colour=paint)
        scenes.append(roads.scene_on(changed, (0.0, -1.75, 0.0), appearance=Appearance.RAIN))
    *walls, empty = (picture(camera, scene).astype(int) for scene in scenes)
    red = [(wall[..., 0] - wall[..., 2])[np.abs(wall - empty).max(-1) > 12] for wall in walls]
    assert min(map(len, red)) > 30
    near, far = (away - 0.8 - CAMERA.forward for away in distances)
    bricks = [np.quantile(values, 0.97) for values in red]  # the rest are windows, in part
    assert bricks[1] / bricks[0] == pytest.approx(math.exp((near - far) / LOOKS[Appearance.RAIN].haze), abs=0.13)
