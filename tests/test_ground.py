from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.ground import DASH, LINE_WIDTH, Ground, GroundPlan
from xpeng_world.world_model.video.layout import CHANNEL, LayoutRasteriser

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parent / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


def areas(quads: np.ndarray) -> np.ndarray:
    x, y = quads[..., 0].astype(float), quads[..., 1].astype(float)
    return 0.5 * (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1)


@pytest.mark.parametrize("road", [roads.straight_road(), roads.straight_road(walking=True), roads.crossing()])
def test_all_ground_looks_up(road) -> None:
    for kind, quads in GroundPlan(road).quads().items():
        assert (areas(quads) >= -1e-3).all(), kind


def test_dashes_that_two_lanes_share_are_painted_once() -> None:
    road = roads.straight_road(length=90.0, lanes=2, oncoming=0)
    dashes = GroundPlan(road).quads()[Ground.DASHED]
    assert len(dashes) == 10  # one every 9 m
    assert areas(dashes) == pytest.approx(DASH * LINE_WIDTH, rel=0.01)


def test_streets_have_kerbs_and_country_roads_none() -> None:
    assert len(GroundPlan(roads.crossing()).quads()[Ground.KERB]) > 0
    assert len(GroundPlan(roads.straight_road()).quads()[Ground.KERB]) == 0


def test_a_map_without_lanes_is_bare_ground() -> None:
    road = roads.straight_road()
    empty = dataclasses.replace(road, kind=torch.zeros_like(road.kind), junctions=torch.zeros_like(road.junctions))
    assert all(len(quads) == 0 for quads in GroundPlan(empty).quads().values())
    channels = LayoutRasteriser()(roads.scene_on(empty, (0.0, 0.0, 0.0))).channels[0]
    assert channels[CHANNEL["road"]].max() == 0
    assert channels[CHANNEL["ground"]].max() == 255
