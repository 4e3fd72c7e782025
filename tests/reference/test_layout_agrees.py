"""The layout and the reference world's pictures are drawn by two programs from one description: they must agree on what is where."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from xpeng_world.bodies import VAN, VAN_HEIGHT
from xpeng_world.facades import CELLS, panes, phase, window_patterns
from xpeng_world.ground import GroundPlan
from xpeng_world.reference.atmosphere import LOOKS
from xpeng_world.reference.camera import ReferenceCamera
from xpeng_world.road import BUILDINGS, TREES, SignalState
from xpeng_world.roadside import PAVEMENT_COLOUR, STEEL, VERGE_COLOUR, mast
from xpeng_world.scene import AgentKind, Appearance
from xpeng_world.world_model.video.layout import AGENT_CHANNELS, CHANNEL, LayoutRasteriser

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


@pytest.fixture(scope="module")
def camera() -> ReferenceCamera:
    return ReferenceCamera()


def picture(camera, scene) -> np.ndarray:
    return camera.render(scene)[0].numpy().astype(int)


def layout(scene) -> dict[str, np.ndarray]:
    channels = LayoutRasteriser()(scene).channels[0].numpy().astype(int)
    return {name: channels[index] for name, index in CHANNEL.items()}


@pytest.mark.parametrize("kind", [AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS, AgentKind.BICYCLE, AgentKind.PEDESTRIAN, VAN])
@pytest.mark.parametrize(("ahead", "left", "heading"), [(13.0, 0.5, 0.0), (14.0, 4.0, 3.0), (12.0, -1.0, 1.1)])
def test_a_road_user_covers_the_same_pixels(camera, kind, ahead, left, heading) -> None:
    size = (5.6, 2.05, VAN_HEIGHT + 0.5) if kind == VAN else None
    row = roads.agent_row(AgentKind.CAR if kind == VAN else kind, ahead, left, heading=heading, size=size, colour=(0.9, 0.1, 0.9))
    road = roads.straight_road(lanes=1, oncoming=0)
    empty, full = (roads.scene_on(road, (0.0, 0.0, 0.0), agents=rows, appearance=Appearance.OVERCAST) for rows in ([], [row]))
    share = sum(layout(full)[name] for name in _names(AGENT_CHANNELS))
    seen = np.abs(picture(camera, full) - picture(camera, empty)).max(-1) > 10
    above = np.flatnonzero((share > 0).any(1)).max() - 2  # around its feet is its shadow
    assert (share > 250).sum() > 10
    assert seen[share > 250].mean() >= 0.85  # some parts are as dark as the road
    beyond = cv2.dilate((share > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    assert (seen & beyond)[:above].sum() < 0.05 * seen.sum()  # some of the shadow of those that stand askew


def _names(channels) -> list[str]:
    return [name for name, index in CHANNEL.items() if index in channels]


@pytest.mark.parametrize("kind", BUILDINGS)
@pytest.mark.parametrize("appearance", list(Appearance))
def test_windows_that_the_layout_calls_lit_shine(camera, kind, appearance) -> None:
    road = roads.straight_road(scenery=True)
    built = road.scenery_kind == int(BUILDINGS[0])
    road = dataclasses.replace(road, scenery_kind=torch.where(built, int(kind), road.scenery_kind))
    light = 255 * 0.94 * window_patterns(int(appearance))[1][BUILDINGS.index(kind)].max()
    bright, dark = [], []
    for x in (5.0, 40.0, 75.0, 110.0):
        scene = roads.scene_on(road, (x, -1.75, 0.6), appearance=appearance)
        channels, frame = layout(scene), picture(camera, scene)
        near = channels["inverse_depth"] > 255 * (2.5 / 40) ** 0.5  # where a window is not less than a pixel
        bright.append(frame[near & (channels["lit"] > max(light, 1))])
        dark.append(frame[near & (channels["window"] > 240) & (channels["lit"] == 0)])
    bright, dark = np.concatenate(bright), np.concatenate(dark)
    assert len(dark) > 50
    if not LOOKS[appearance].lamps:
        assert len(bright) == 0
        return
    assert len(bright) > 20
    assert (bright[:, 0].mean(), bright[:, 1].mean()) > (1.4 * dark[:, 0].mean(), 1.2 * dark[:, 1].mean())


def test_windows_repeat_and_a_light_nobody_knows_has_none_lit() -> None:
    light = {appearance: window_patterns(appearance)[1] for appearance in (*map(int, Appearance), len(Appearance))}
    assert light[len(Appearance)].sum() == light[int(Appearance.DAYLIGHT)].sum() == 0
    assert 0 < (light[int(Appearance.RAIN)] > 0).mean() < (light[int(Appearance.DUSK)] > 0).mean() < 0.6
    glass = window_patterns(int(Appearance.DAYLIGHT))[0]
    assert 0.8 <= glass.min() < 1 < glass.max() <= 1.25
    assert panes(BUILDINGS[0], Appearance.DUSK) is panes(BUILDINGS[0], Appearance.DUSK)
    assert {phase(index) for index in range(16)} == {(i, j) for i in range(CELLS) for j in range(CELLS) if (3 * i - 7 * j) % CELLS == 0}


def test_masts_stand_beside_the_road_and_look_like_steel(camera) -> None:
    road = roads.crossing()
    scene = roads.scene_on(road, (-30.0, -1.75, 0.0), appearance=Appearance.OVERCAST)
    steel = layout(scene)["pole"] > 250
    assert steel.sum() > 10
    look = LOOKS[Appearance.OVERCAST]
    colour = 255 * np.array(STEEL) * look.shade(np.array([-1.0, 0.0, 0.0], np.float32))
    assert np.abs(picture(camera, scene)[steel].mean(0) - colour).max() < 25
    ground = GroundPlan(road).driven
    for head in road.signal_head[0].numpy()[road.signal_lane[0].numpy() >= 0]:
        foot = mast(head, ground, 1)[:4].reshape(-1, 3)
        assert foot[:, 2].min() == 0
        assert foot[:, :2].mean(0).astype(float) not in ground
        far = mast(head + np.array([1000.0, 0, 0, 0], np.float32), ground, 1)
        assert len(far) == 4  # away from all roads, no arm


@pytest.mark.parametrize(("town", "kind", "other"), [(False, "verge", "pavement"), (True, "pavement", "verge")])
def test_what_is_beside_the_road_looks_as_the_layout_says(camera, town, kind, other) -> None:
    road, place = (roads.crossing(), (-40.0, -1.75, -0.5)) if town else (roads.straight_road(), (20.0, -1.75, -0.5))
    scene = roads.scene_on(road, place, appearance=Appearance.OVERCAST)
    channels, frame = layout(scene), picture(camera, scene)
    near = channels["inverse_depth"] > 255 * (2.5 / 30) ** 0.5
    there, grass = (near & (channels["ground"] == 255) & chosen for chosen in (channels[kind] == 255, channels[kind] == 0))
    albedo = np.array({"verge": VERGE_COLOUR, "pavement": PAVEMENT_COLOUR}[kind])
    colour = 255 * albedo * LOOKS[Appearance.OVERCAST].shade(np.array([0.0, 0.0, 1.0], np.float32))
    assert there.sum() > 100
    assert grass.sum() > 100
    assert np.abs(np.median(frame[there], axis=0) - colour).max() < 12
    assert np.abs(np.median(frame[grass], axis=0) - colour).max() > 20
    assert town or channels[other].max() == 0


def test_the_skyline_is_seen_from_as_far_as_in_the_picture(camera) -> None:
    road = roads.straight_road(scenery=True)
    kinds, boxes = torch.zeros_like(road.scenery_kind), road.scenery.clone()
    kinds[0, 0] = int(BUILDINGS[0])
    boxes[0, 0] = torch.tensor([500.0, 100.0, 0.0, 30.0, 30.0, 40.0])
    scenes = [
        roads.scene_on(dataclasses.replace(road, scenery_kind=kind, scenery=boxes), (0.0, -1.75, 0.0), appearance=Appearance.DAYLIGHT)
        for kind in (kinds, torch.zeros_like(kinds))
    ]
    there = layout(scenes[0])["building"] > 250
    changed = np.abs(picture(camera, scenes[0]) - picture(camera, scenes[1])).max(-1) > 20
    assert there.sum() >= 12
    assert changed[there].all()
    assert changed.sum() < 3 * there.sum()


def test_signs_of_a_bus_are_lamps_of_their_colour(camera) -> None:
    row = roads.agent_row(AgentKind.BUS, 16.0, -1.75, colour=(0.1, 0.1, 0.3))
    scene = roads.scene_on(roads.straight_road(), (0.0, -1.75, 0.0), agents=[row], appearance=Appearance.DUSK)
    channels, frame = layout(scene), picture(camera, scene)
    sign = channels["front_lamp"] > 120
    assert sign.sum() > 5
    assert channels["colour_r"][sign].mean() > 2 * channels["colour_b"][sign].mean()
    dark = (channels["body"] > 250) & (channels["colour_r"] < 60)
    assert frame[sign][:, 0].mean() > 2 * frame[dark][:, 0].mean()


def test_edges_cover_the_same_part_of_a_pixel(camera) -> None:
    road = roads.crossing()
    bare = dataclasses.replace(road, signal_head=road.signal_head + torch.tensor([5000.0, 0, 0, 0]))
    off, missing, housing = [], [], (14.0, 15.0, 15.0)
    for x in (-45.0, -37.3, -29.6, -24.2):
        scenes = [roads.scene_on(each, (x, -1.75, 0.07), appearance=Appearance.OVERCAST) for each in (road, bare)]
        channels, (seen, behind) = layout(scenes[0]), (picture(camera, scene) for scene in scenes)
        lit = sum(channels[name] for name in ("red", "yellow", "green", "colour_r"))
        share = channels["signal"] / 255
        edge = (share > 0) & (share < 1) & (lit == 0) & (channels["pole"] == 0)
        painted = share[..., None] * housing + (1 - share[..., None]) * behind
        off.append(np.abs(seen - painted)[edge])
        missing.append(np.abs(seen - behind)[edge])
    assert len(np.concatenate(off)) > 60
    assert np.concatenate(off).mean() < 3
    assert np.concatenate(missing).mean() > 40


def test_lenses_have_the_colours_of_the_picture(camera) -> None:
    road = roads.crossing()
    scene = roads.scene_on(road, (-26.0, -1.75, 0.0), appearance=Appearance.OVERCAST)
    for state in SignalState:
        shown = dataclasses.replace(scene, signals=torch.full_like(scene.signals, int(state)))
        channels, frame = layout(shown), picture(camera, shown)
        tint = np.stack([channels[f"colour_{c}"] for c in "rgb"], -1)
        lens = (channels["signal"] == 255) & (tint.max(-1) > 0) & (channels["pole"] == 0)
        assert lens.sum() > 3
        assert np.abs(frame[lens] - tint[lens]).mean() < 20
        for name, kind in (("red", SignalState.RED), ("yellow", SignalState.YELLOW), ("green", SignalState.GREEN)):
            assert bool((channels[name] > 100).any()) == (state == kind)


def test_a_wet_road_mirrors_lamps_where_and_as_brightly_as_in_the_picture(camera) -> None:
    road, ego = roads.crossing(), (-34.0, -1.75, 0.0)
    rows = [[roads.agent_row(AgentKind.CAR, -22.0, -1.75, brake=brake)] for brake in (True, False)]
    for look in (Appearance.RAIN, Appearance.OVERCAST):
        scenes = [roads.scene_on(road, ego, agents=agents, appearance=look) for agents in rows]
        braking, rolling = (layout(scene) for scene in scenes)
        standing = sum(braking[name] for name in (*_names(AGENT_CHANNELS), "signal", "red", "yellow", "green", "pole", "building", "tree"))
        ground = (standing == 0) & (braking["ground"] + braking["road"] + braking["junction"] > 250)
        more = np.stack([braking[f"colour_{c}"] - rolling[f"colour_{c}"] for c in "rgb"], -1)[ground]
        shown = (picture(camera, scenes[0]) - picture(camera, scenes[1]))[ground]
        if look != Appearance.RAIN:
            assert not more.any()
            continue
        bright = more[:, 0] > 5
        assert bright.sum() > 10
        assert 0.9 < shown[bright, 0].sum() / more[bright, 0].sum() < 1.05
        assert np.abs(shown[more.max(-1) == 0]).max() <= 2
    lenses = [dataclasses.replace(scenes[0], appearance=torch.tensor([int(Appearance.RAIN)])) for _ in range(2)]
    lenses[1] = dataclasses.replace(lenses[1], signals=torch.zeros_like(lenses[1].signals))
    lit, off = (layout(scene) for scene in lenses)
    gained = (picture(camera, lenses[0]) - picture(camera, lenses[1])).max(-1)
    gleam = ground & (np.stack([lit[f"colour_{c}"] - off[f"colour_{c}"] for c in "rgb"]).max(0) > 10)
    assert gleam.sum() > 5
    assert gained[gleam].mean() > 8


def test_parts_of_a_body_hide_each_other_as_in_the_picture(camera) -> None:
    """The lid of a boot behind glass at the same height is a matter of a fine pixel's depth."""
    alike, seen = 0, 0
    for ahead, left, heading in [(x, y, h) for x in (9.0, 10.3, 12.1, 15.7) for y in (-2.4, -1.75, -0.6) for h in (-0.12, 0.03, 0.2)]:
        row = roads.agent_row(AgentKind.CAR, ahead, left, heading=heading, colour=(0.95, 0.95, 0.95))
        scene = roads.scene_on(roads.straight_road(), (0.0, -1.75, 0.0), agents=[row], appearance=Appearance.OVERCAST)
        channels, frame = layout(scene), picture(camera, scene).max(-1)
        body, glass = channels["body"] == 255, channels["cabin"] == 255
        body &= np.stack([channels[f"colour_{c}"] for c in "rgb"]).min(0) > 230
        alike += (frame[body] > 130).sum() + (frame[glass] < 70).sum()
        seen += body.sum() + glass.sum()
    assert seen > 3000
    assert alike == seen


@pytest.mark.parametrize("kind", BUILDINGS)
def test_windows_are_where_they_are_in_the_picture(camera, kind) -> None:
    road = roads.straight_road(scenery=True)
    built = road.scenery_kind == int(BUILDINGS[0])
    colour = torch.full_like(road.scenery_colour, 0.8)
    road = dataclasses.replace(road, scenery_kind=torch.where(built, int(kind), 0), scenery_colour=colour)
    told, seen = [], []
    for x in (5.0, 40.0, 75.0, 110.0):
        for heading in (-0.5, 0.4, 0.7):
            scene = roads.scene_on(road, (x, -1.75, heading), appearance=Appearance.OVERCAST)
            channels, frame = layout(scene), picture(camera, scene)
            wall = (channels["building"] == 255) & (channels["normal_z"] == 128) & (channels["inverse_depth"] > 255 * (2.5 / 70) ** 0.5)
            told.append(channels["colour_g"][wall])
            seen.append(frame[..., 1][wall])
    told, seen = np.concatenate(told), np.concatenate(seen)
    assert len(told) > 2000
    assert np.corrcoef(told, seen)[0, 1] > 0.92


@pytest.mark.parametrize("look", list(Appearance))
def test_the_ground_is_as_dark_under_road_users_as_in_the_picture(camera, look) -> None:
    told, seen, road = [], [], roads.straight_road(lanes=2, oncoming=0)
    places = [(AgentKind.CAR, 13.0, 0.5, 0.2), (AgentKind.BUS, 18.0, 4.0, 0.0), (AgentKind.TRUCK, 24.0, -1.0, 1.0), (VAN, 45.0, 0.0, 0.0)]
    for kind, ahead, left, heading in places:
        size = (5.6, 2.05, VAN_HEIGHT + 0.5) if kind == VAN else None
        row = roads.agent_row(AgentKind.CAR if kind == VAN else kind, ahead, left, heading=heading, size=size)
        empty, full = (roads.scene_on(road, (0.0, 0.0, 0.0), agents=rows, appearance=look) for rows in ([], [row]))
        channels = layout(full)
        darker = 1 - picture(camera, full).sum(-1) / picture(camera, empty).sum(-1)
        ground = channels["ground"] + channels["road"] + channels["edge"] + channels["dash"] > 250
        chosen = ground & (channels["colour_r"] == 0) & ((channels["shade"] > 0) | (darker > 0.02))
        told.append(channels["shade"][chosen] / 255)
        seen.append(darker[chosen])
    told, seen = np.concatenate(told), np.concatenate(seen)
    assert len(told) > 30
    assert np.corrcoef(told, seen)[0, 1] > 0.9
    assert np.abs(told - seen).mean() < 0.05  # dusk and rain are brightened as a whole


def test_the_ground_is_as_dark_under_trees_as_in_the_picture(camera) -> None:
    road = roads.straight_road(scenery=True)
    trees = np.isin(road.scenery_kind, TREES)
    assert trees.any()
    kinds = torch.where(torch.from_numpy(trees), road.scenery_kind, 0)
    boxes = road.scenery.clone()
    boxes[..., 5] = 60.0  # so tall that the crown is out of the picture
    told, seen = [], []
    for x in (5.0, 40.0, 75.0):
        scenes = [
            roads.scene_on(dataclasses.replace(road, scenery_kind=kind, scenery=boxes), (x, -1.75, 0.6), appearance=Appearance.DAYLIGHT)
            for kind in (kinds, torch.zeros_like(kinds))
        ]
        channels = layout(scenes[0])
        darker = 1 - picture(camera, scenes[0]).sum(-1) / picture(camera, scenes[1]).sum(-1)
        ground = (channels["ground"] + channels["road"] + channels["edge"] + channels["dash"] > 250) & (channels["shade"] > 0)
        told.append(channels["shade"][ground] / 255)
        seen.append(darker[ground])
    told, seen = np.concatenate(told), np.concatenate(seen)
    assert len(told) > 20
    assert np.abs(told - seen).mean() < 0.03


def test_roofs_and_lenses_far_ahead_are_as_unseen_as_in_the_picture(camera) -> None:
    road = roads.straight_road(scenery=True)
    kinds, boxes = torch.zeros_like(road.scenery_kind), road.scenery.clone()
    kinds[0, 0] = int(BUILDINGS[0])
    boxes[0, 0] = torch.tensor([500.0, 30.0, torch.pi / 2, 40.0, 12.0, 7.4])  # its pitched roof faces the camera
    house, none = (dataclasses.replace(road, scenery_kind=kind, scenery=boxes) for kind in (kinds, torch.zeros_like(kinds)))
    for x, roofed in ((430.0, True), (60.0, False)):
        with_it, without = (roads.scene_on(one, (x, -1.75, 0.0), appearance=Appearance.OVERCAST) for one in (house, none))
        channels = layout(with_it)
        assert ((channels["building"] > 200) & (channels["normal_z"] > 160)).any() == roofed
        shown = np.abs(picture(camera, with_it) - picture(camera, without)).max(-1) > 8
        assert shown.any()
        assert not shown[: np.flatnonzero(channels["building"].any(1)).min()].any()
    crossing = roads.crossing()
    stands = [roads.scene_on(crossing, (x, -1.75, 0.0)) for x in (-40.0, -200.0)]
    lit = [sum(layout(one)[name] for name in ("red", "yellow", "green")).sum() for one in stands]
    assert lit[0] > 0
    assert lit[1] == 0
