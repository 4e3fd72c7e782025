from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from xpeng_world.camera import CAMERA
from xpeng_world.world_model.video.denoiser import Condition, FrameDenoiser
from xpeng_world.world_model.video.gaze import HIGHEST, LOWEST, NOWHERE, gaze
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS
from xpeng_world.world_model.video.sizes import SIZES, new_painter, take_over
from xpeng_world.world_model.video.sky import COLUMNS, ROWS, SkyMap


def looks(heading: float) -> torch.Tensor:
    return gaze(torch.tensor([[0.0, 0.0, heading]]))


def condition(batch: int = 2, heading: float = 0.3) -> Condition:
    size = (CAMERA.height, CAMERA.width)
    generator = torch.Generator().manual_seed(0)
    draw = lambda channels: torch.rand(batch, channels, *size, generator=generator)
    layout = draw(len(CHANNELS))
    layout[:, : CHANNEL["green"] + 1] *= draw(1) > 0.5
    zero = torch.zeros(batch)
    pose = torch.tensor([[3.0, -4.0, heading]]).repeat(batch, 1)
    return Condition(draw(3), torch.ones(batch, 1, *size), layout, torch.zeros(batch, 8), zero.long(), zero, gaze(pose))


@pytest.mark.parametrize("heading", [0.0, 1.2, -3.1])
def test_the_middle_of_the_picture_looks_along_the_heading_and_its_left_further_round(heading: float) -> None:
    azimuth, elevation, _, _ = looks(heading)[0]
    half = CAMERA.horizontal_fov / 2
    turn = lambda column: math.remainder(float(azimuth[20, column]) * math.pi - heading, 2 * math.pi)
    assert (turn(CAMERA.width // 2) + turn(CAMERA.width // 2 - 1)) / 2 == pytest.approx(0, abs=1e-5)
    assert turn(0) == pytest.approx(half, abs=0.02)
    assert turn(CAMERA.width - 1) == pytest.approx(-half, abs=0.02)
    assert azimuth.abs().max() <= 1
    middle = elevation[:, CAMERA.width // 2]
    level = int((middle > NOWHERE).sum())  # rows above LOWEST
    row = CAMERA.height / 2 + CAMERA.focal * math.tan(CAMERA.pitch - LOWEST)
    assert abs(level - row) <= 1
    top = LOWEST + (float(middle[0]) + 1) / 2 * (HIGHEST - LOWEST)
    assert top == pytest.approx(math.atan((CAMERA.height / 2 - 0.5) / CAMERA.focal) + CAMERA.pitch, abs=0.005)


def test_without_a_heading_nobody_looks_at_the_sky() -> None:
    known, unknown = gaze(torch.tensor([[0.0, 0.0, 0.5], [math.nan] * 3]))
    assert torch.isfinite(unknown).all()
    assert (unknown[1] == NOWHERE).all()
    assert (known[1] > NOWHERE).any()


@pytest.mark.parametrize("azimuth", [0.4, math.pi - 0.001, -2.0])
def test_a_mark_in_the_panorama_stands_where_it_is_and_only_in_the_open_sky(azimuth: float) -> None:
    sky = SkyMap()
    column = int((azimuth / math.pi + 1) / 2 * COLUMNS)
    with torch.no_grad():
        sky.panorama[0, :, (column - 1) % COLUMNS] = sky.panorama[0, :, column] = 1.0
        clear = torch.zeros(1, len(CHANNELS), CAMERA.height, CAMERA.width)
        for heading, side in ((azimuth, 0), (azimuth - 0.3, -1), (azimuth + 0.3, 1)):
            seen = sky(looks(heading), clear)[0, 0]
            where = float((seen.sum(0) * (torch.arange(CAMERA.width) + 0.5)).sum() / seen.sum()) - CAMERA.width / 2
            assert where == pytest.approx(side * CAMERA.focal * math.tan(0.3), abs=1.5)
            assert seen[40:].abs().max() == 0
        hidden = clear.clone()
        hidden[:, CHANNEL["building"], :, :64] = 1
        beside = sky(looks(azimuth), hidden)[0, 0]
    assert beside[:, :64].abs().max() == 0
    assert beside[:, 64:].abs().max() > 0
    assert sky.panorama.shape[1:] == (ROWS, COLUMNS)


@pytest.mark.parametrize("size", ["tiny", "patches", "latent"])
def test_a_painter_that_is_given_more_images_paints_as_before_until_it_is_trained(size: str) -> None:
    torch.manual_seed(0)
    fields = dataclasses.asdict(SIZES[size]) | {"layout_channels": len(CHANNELS) - 3, "sky": False}
    fields |= {"ground": False, "light": False} if "ground" in fields else {}
    old = type(new_painter(size))(**fields)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    new, asked = new_painter(size), condition()
    take_over(new, old)
    noisy, level = torch.randn(2, *new.canvas(CAMERA.height, CAMERA.width)), torch.ones(2)
    with torch.no_grad():
        assert torch.allclose(new(noisy, level, asked), old(noisy, level, asked), atol=1e-5)
        for name, texels in new.named_parameters():
            if name.startswith(("sky_map.", "ground_maps.")):
                texels.normal_()
        again = new_painter(size)
        take_over(again, new)
        assert torch.equal(again(noisy, level, asked), new(noisy, level, asked))
        turned = dataclasses.replace(asked, gaze=condition(heading=2.0).gaze)
        assert not torch.allclose(new(noisy, level, turned), new(noisy, level, asked), atol=1e-3)
        new.sky_map.panorama.zero_()
        for texels in new.ground_maps.maps if size == "tiny" else ():
            texels.zero_()
        without = new_painter(size, sky=False)
        take_over(without, new)
        assert torch.allclose(without(noisy, level, asked), new(noisy, level, asked), atol=1e-5)


def test_a_painter_of_another_kind_or_size_is_not_taken_over() -> None:
    with pytest.raises(ValueError, match="a PatchTransformer"):
        take_over(new_painter("tiny"), new_painter("patches"))
    with pytest.raises(ValueError, match="of shape"):
        take_over(new_painter("tiny"), FrameDenoiser(widths=[16, 32, 64], depths=[1, 1, 1], condition_width=64, sky=True))
