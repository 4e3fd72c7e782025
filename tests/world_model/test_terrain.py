from __future__ import annotations

import math

import pytest
import torch
from xpeng_world.camera import CAMERA
from xpeng_world.world_model.video.gaze import NOWHERE, PERIOD, gaze
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS
from xpeng_world.world_model.video.terrain import FEATURES, SPANS, TEXELS, GroundMaps, pixel_lengths

ROAD, GRASS = slice(0, FEATURES), slice(FEATURES, 2 * FEATURES)


def all_of(*names: str) -> torch.Tensor:
    layout = torch.zeros(1, len(CHANNELS), CAMERA.height, CAMERA.width)
    layout[:, [CHANNEL[name] for name in names], CAMERA.height // 2 :] = 1 / len(names)
    return layout


@torch.no_grad()
def marked(kind: int, x: float, y: float) -> GroundMaps:
    """Maps with one spot of about 2 m in one of them."""
    maps = GroundMaps()
    side, span = TEXELS[kind], SPANS[kind]
    column, row = (int(value % span / span * side) for value in (x, y))
    reach = max(1, round(side / span))
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            maps.maps[kind][0, (row + i) % side, (column + j) % side] = 1.0
    return maps


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (1000.0, -500.0, 2.2), (-77.7, 12.3, -1.0)])
def test_a_pixel_looks_at_the_place_that_projects_to_it(pose: tuple[float, float, float]) -> None:
    x, y, heading = pose
    looks = gaze(torch.tensor([pose]))[0]
    for ahead, left in ((8.0, 0.0), (8.0, 2.0), (20.0, -5.0)):
        depth = (ahead - CAMERA.forward) * math.cos(CAMERA.pitch) - CAMERA.above_ground * math.sin(CAMERA.pitch)
        down = (ahead - CAMERA.forward) * math.sin(CAMERA.pitch) + CAMERA.above_ground * math.cos(CAMERA.pitch)
        column = int(CAMERA.width / 2 - CAMERA.focal * left / depth)
        row = int(CAMERA.height / 2 + CAMERA.focal * down / depth)
        wanted = (x + ahead * math.cos(heading) - left * math.sin(heading), y + ahead * math.sin(heading) + left * math.cos(heading))
        for found, place in zip(looks[2:, row, column], wanted, strict=True):
            away = abs((float(found) - place + PERIOD / 2) % PERIOD - PERIOD / 2)
            assert away < float(pixel_lengths(CAMERA.height, torch.device("cpu"))[row]) + 0.1
    assert (looks[2:, : CAMERA.height // 2 - 3] == NOWHERE).all()


@pytest.mark.parametrize(("kind", "names", "part"), [(0, ("road", "junction"), ROAD), (1, ("ground",), GRASS)])
def test_a_spot_stays_where_it_is_while_the_camera_moves(kind, names, part) -> None:
    x, y = 130.0, 43.0
    maps, layout = marked(kind, x, y), all_of(*names)
    for pose in ((x - 8.0, y, 0.0), (x, y - 8.0, math.pi / 2), (x - 8.0 + 3 * SPANS[kind], y - SPANS[kind], 0.0)):
        seen = maps(gaze(torch.tensor([pose])), layout)[0].detach()
        total = seen[part][0]
        where = float((total.sum(0) * (torch.arange(CAMERA.width) + 0.5)).sum() / total.sum()) - CAMERA.width / 2
        assert abs(where) < 4
        row = float((total.sum(1) * (torch.arange(CAMERA.height) + 0.5)).sum() / total.sum())
        level = CAMERA.height / 2 + CAMERA.focal * (CAMERA.above_ground / (8.0 - CAMERA.forward) + CAMERA.pitch)
        assert abs(row - level) < 4.5
        assert seen[GRASS if part is ROAD else ROAD].abs().max() == 0
    away = maps(gaze(torch.tensor([(x + 20.0, y, 0.0)])), layout)[0].detach()  # behind the camera, and its repeats not ahead
    assert kind == 0 or away.abs().max() == 0


def test_nothing_is_found_without_a_pose_or_without_ground() -> None:
    maps = GroundMaps()
    with torch.no_grad():
        for texels in maps.maps:
            texels.normal_()
        known, unknown = torch.tensor([[1.0, 2.0, 0.5]]), torch.full((1, 3), math.nan)
        assert maps(gaze(known), all_of("road", "ground")).abs().max() > 0
        assert maps(gaze(unknown), all_of("road", "ground")).abs().max() == 0
        assert maps(gaze(known), all_of("building")).abs().max() == 0
        both = maps(gaze(torch.cat((known, unknown))), all_of("road").repeat(2, 1, 1, 1))
        assert torch.equal(both[:1], maps(gaze(known), all_of("road")))
        assert both[1].abs().max() == 0


def test_far_pixels_which_are_long_are_told_less() -> None:
    length = pixel_lengths(CAMERA.height, torch.device("cpu")).flatten()
    assert (length[CAMERA.height // 2 :].diff() <= 0).all()
    maps = GroundMaps()
    with torch.no_grad():
        for texels in maps.maps:
            texels.fill_(1.0)
        seen = maps(gaze(torch.zeros(1, 3)), all_of("road"))[0, 0, :, CAMERA.width // 2]
    assert seen[-1] == pytest.approx(10.0)
    assert seen[CAMERA.height // 2 + 2] < 3.0
    assert (seen[CAMERA.height // 2 :].diff() >= -1e-4).all()
