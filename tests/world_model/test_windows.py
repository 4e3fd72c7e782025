"""Walls of the layout, and the windows in them."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from xpeng_world.camera import CAMERA
from xpeng_world.road import BUILDINGS, TREES, SceneryKind
from xpeng_world.scene import AgentKind
from xpeng_world.world_model.video.layout import AGENT_CHANNELS, CHANNEL, CHANNELS, COLOUR, LayoutRasteriser

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


@pytest.fixture(scope="module")
def rasterise() -> LayoutRasteriser:
    return LayoutRasteriser()


def block(length: float, width: float, height: float, x=30.0, y=0.0, heading=0.0, kind=SceneryKind.BUILDING):
    """A straight road with one building in its way."""
    draft = roads._Draft()
    draft.lane((0.0, 0.0), (200.0, 0.0))
    draft.scenery.append((x, y, heading, length, width, height, kind, (0.6, 0.5, 0.4)))
    return draft.build()


def test_walls_have_a_window_in_the_middle_of_every_bay(rasterise) -> None:
    channels = rasterise(roads.scene_on(block(10.0, 16.0, 9.6), ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
    window = channels[CHANNEL["window"]]
    face = 25.0  # m ahead
    for bay in range(5):  # 16 m in bays of 3.2 m, 9.6 m in storeys of 3.2 m
        for storey in range(3):
            u, v = roads.pixel(face, 8.0 - 3.2 * (bay + 0.5), 3.2 * (storey + 0.53))
            if 0 <= v < CAMERA.height:
                assert window[int(v), int(u)] > 0.98
            u, v = roads.pixel(face, 8.0 - 3.2 * (bay + 0.5), 3.2 * (storey + 0.06))
            assert window[int(v), int(u)] < 0.4
    assert window[channels[CHANNEL["building"]] < 0.1].max() == 0.0
    assert torch.equal(channels[CHANNEL["facade"]], channels[CHANNEL["building"]])


def test_windows_too_small_to_see_leave_their_share(rasterise) -> None:
    for x, heading in ((160.0, 0.0), (90.0, 0.9)):
        channels = rasterise(roads.scene_on(block(16.0, 32.0, 32.0, x, 0.0, heading), ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
        wall = (channels[CHANNEL["building"]] > 0.99) & (channels[CHANNEL["normal_z"]] < 0.51)
        assert wall.sum() > 40
        assert channels[CHANNEL["window"]][wall].mean() == pytest.approx(10 / 16 * 9 / 16, abs=0.04)


def test_every_wall_in_a_pixel_has_its_windows(rasterise) -> None:
    cars = [roads.agent_row(AgentKind.CAR, 14.0, left, heading=0.4) for left in (3.0, 0.0, -3.0)]
    scene = roads.scene_on(block(10.0, 16.0, 9.6), ego=(0.0, 0.0, 0.0), agents=cars)
    channels, fine = (draw(scene).channels[0].float() for draw in (rasterise, LayoutRasteriser(CAMERA.scaled(3), 1)))
    beside = (channels[list(AGENT_CHANNELS)].sum(0) > 0) & (channels[CHANNEL["building"]] > 0)
    mean = torch.nn.functional.avg_pool2d(fine, 3)
    assert beside.sum() > 50
    assert (mean[CHANNEL["window"]][beside] > 50).sum() > 15
    error = (channels - mean)[[CHANNEL["window"], *range(*COLOUR.indices(len(CHANNELS)))]][:, beside]
    assert error.square().mean(1).sqrt().max() < 8


@pytest.mark.parametrize(("kind", "share"), [(SceneryKind.RIBBON_BUILDING, 0.5), (SceneryKind.GLASS_BUILDING, 15 / 16 * 14 / 16)])
def test_facades_are_told_apart(rasterise, kind, share) -> None:
    near = rasterise(roads.scene_on(block(10.0, 16.0, 9.6, kind=kind), ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
    wall = (near[CHANNEL["building"]] > 0.99) & (near[CHANNEL["normal_z"]] < 0.51)
    assert near[CHANNEL["window"]][wall].mean() == pytest.approx(share, abs=0.04)
    u, v = roads.pixel(25.0, 0.0, 3.2 * 0.56)
    assert near[CHANNEL["window"], int(v)][wall[int(v)]].min() > (0.98 if kind == SceneryKind.RIBBON_BUILDING else 0.3)
    u, v = roads.pixel(25.0, 1.6, 3.2 * 0.15)
    assert (near[CHANNEL["window"], int(v), int(u)] > 0.8) == (kind == SceneryKind.GLASS_BUILDING)


def test_a_map_that_differs_in_kinds_alone_is_drawn_anew(rasterise) -> None:
    seen = [rasterise(roads.scene_on(block(10.0, 16.0, 9.6, kind=kind), ego=(0.0, 0.0, 0.0))).channels for kind in BUILDINGS]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    trees = []
    for kinds in (TREES, TREES[::-1]):  # the same kinds, of other trees
        draft = roads._Draft()
        draft.lane((0.0, 0.0), (200.0, 0.0))
        for y, kind in zip((3.0, -3.0), kinds, strict=True):
            draft.scenery.append((20.0, y, 0.0, 4.0, 4.0, 6.0, kind, (0.2, 0.45, 0.15)))
        trees.append(rasterise(roads.scene_on(draft.build(), ego=(0.0, 0.0, 0.0))).channels)
    assert not torch.equal(*trees)


def test_low_buildings_have_pitched_roofs_and_thin_ones_no_windows(rasterise) -> None:
    low = rasterise(roads.scene_on(block(14.0, 10.0, 6.0, 32.0, 0.0), ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
    building = low[CHANNEL["building"]] > 0.5
    middle, ridge = roads.pixel(25.0, 0.0, 5.5), roads.pixel(25.0, 4.5, 5.5)  # the gable faces the camera
    assert building[int(middle[1]), int(middle[0])]
    assert not building[int(ridge[1]), int(ridge[0])]
    aside = rasterise(roads.scene_on(block(14.0, 10.0, 6.0, 32.0, 0.0, math.pi / 2), ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
    u, v = roads.pixel(28.5, 0.0, 4.4)  # its slope does
    assert aside[CHANNEL["normal_z"], int(v), int(u)] == pytest.approx(0.5 + 0.5 * 5.3 / math.hypot(5.3, 0.38 * 6.0), abs=0.02)
    assert aside[CHANNEL["window"], int(v), int(u)] == aside[CHANNEL["facade"], int(v), int(u)] == 0
    barrier = rasterise(roads.scene_on(block(0.4, 30.0, 4.0), ego=(0.0, 0.0, 0.0))).channels[0]
    assert barrier[CHANNEL["building"]].max() == 255
    assert barrier[CHANNEL["window"]].max() == barrier[CHANNEL["facade"]].max() == 0
