from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from xpeng_world.camera import CAMERA
from xpeng_world.evaluation.painter_speed import random_condition
from xpeng_world.scene import Appearance
from xpeng_world.world_model.video.denoiser import UNKNOWN_APPEARANCE, FrameDenoiser
from xpeng_world.world_model.video.fit_light import BATCH, fit_light
from xpeng_world.world_model.video.gaze import NOWHERE, gaze
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS, COLOUR, COVER_CHANNELS, NEAREST
from xpeng_world.world_model.video.lighting import GAIN, LearnedLight
from xpeng_world.world_model.video.sizes import new_painter, take_over
from xpeng_world.world_model.video.store import Samples

NORMAL = slice(CHANNEL["normal_x"], CHANNEL["normal_z"] + 1)
COLOURS = (0.2, 0.4, 0.6)
DAY = torch.tensor([int(Appearance.DAYLIGHT)])


def wall(depth: float = 2.5, normal: tuple[float, float, float] = (1.0, 0.0, 0.0), cover: float = 1.0) -> torch.Tensor:
    """A layout [1, C, 1, 1] of a wall that covers so much of a pixel before the sky."""
    layout = torch.zeros(1, len(CHANNELS), 1, 1)
    layout[0, CHANNEL["building"]] = cover
    layout[0, COLOUR] = cover * torch.tensor(COLOURS).view(3, 1, 1)
    layout[0, NORMAL] = cover * (0.5 + 0.5 * torch.tensor(normal)).view(3, 1, 1)
    layout[0, CHANNEL["inverse_depth"]] = math.sqrt(NEAREST / depth)
    return layout


NOWHERE_KNOWN = torch.full((1, 4, 1, 1), NOWHERE)


@torch.no_grad()
def light(ambient: float = 0.5, lamp: float = 0.0, haze: float = 1e-9, beyond: float = 0.0) -> LearnedLight:
    """Light from the east, so much haze in a metre, of this brightness."""
    made = LearnedLight(len(CHANNELS))
    for parameter in made.parameters():
        parameter.zero_()
    made.light[..., 0] = ambient / GAIN
    made.light[..., 2] = lamp / GAIN
    made.haze += math.log(100 * haze) / GAIN
    made.beyond[..., 0] = beyond / GAIN
    return made


def seen(made: LearnedLight, layout: torch.Tensor, appearance: torch.Tensor = DAY, looks: torch.Tensor = NOWHERE_KNOWN) -> list[float]:
    """What it says; compiled it says the same of what bytes can hold."""
    bytes_of, more = layout[:, : len(CHANNELS)].mul(255).round().byte(), layout[:, len(CHANNELS) :]
    with torch.no_grad():
        compiled = made.compiled(bytes_of, more, looks, appearance, 0, torch.empty(1, 4, *layout.shape[2:]))
        held = torch.cat((bytes_of.float() / 255, more), 1)
        assert torch.allclose(made(held, looks, appearance), compiled, atol=1e-5)
    return made(layout, looks, appearance).detach().flatten().tolist()


def test_a_wall_is_its_colour_in_the_light_that_falls_on_it() -> None:
    made = light(ambient=0.5, lamp=0.3)
    assert seen(made, wall(normal=(1.0, 0.0, 0.0))) == pytest.approx([0.8 * c for c in COLOURS] + [1.0], abs=1e-5)
    assert seen(made, wall(normal=(0.0, 1.0, 0.0))) == pytest.approx([0.5 * c for c in COLOURS] + [1.0], abs=1e-5)
    assert seen(made, wall(normal=(-1.0, 0.0, 0.0))) == pytest.approx([0.5 * c for c in COLOURS] + [1.0], abs=1e-5)
    assert seen(made, wall(cover=0.5)) == pytest.approx([0.4 * c for c in COLOURS] + [0.5], abs=1e-5)
    with torch.no_grad():
        made.light[..., 1] = 0.1 / GAIN
    assert seen(made, wall(normal=(0.0, 0.0, 1.0))) == pytest.approx([0.6 * c for c in COLOURS] + [1.0], abs=1e-5)
    assert seen(made, wall(normal=(0.0, 0.0, -1.0))) == pytest.approx([0.4 * c for c in COLOURS] + [1.0], abs=1e-5)


def test_walls_with_windows_have_a_light_of_their_own() -> None:
    made, windowed = light(ambient=0.5, lamp=0.3), wall()
    windowed[0, CHANNEL["facade"]] = 1.0
    assert seen(made, windowed) == seen(made, wall())
    with torch.no_grad():
        made.facade[..., 0], made.facade[..., 2] = 0.2 / GAIN, -0.3 / GAIN
    assert seen(made, windowed) == pytest.approx([0.7 * c for c in COLOURS] + [1.0], abs=1e-5)
    assert seen(made, wall()) == pytest.approx([0.8 * c for c in COLOURS] + [1.0], abs=1e-5)
    beside = wall()
    beside[0, CHANNEL["facade"]] = 0.5  # and half of a plain one
    assert seen(made, beside) == pytest.approx([0.75 * c for c in COLOURS] + [1.0], abs=1e-5)


def test_lit_windows_are_as_bright_whatever_share_of_a_pixel_they_fill() -> None:
    made, glass = light(ambient=0.5), 0.4  # of the colour of the wall
    with torch.no_grad():
        made.shine[:], made.pane[:] = torch.tensor([2.0, 1.0, 0.5]) / GAIN, (1 - glass) / GAIN
    for share in (0.0, 0.3, 1.0):
        pane = wall()
        pane[0, CHANNEL["window"]] = pane[0, CHANNEL["lit"]] = share
        pane[0, COLOUR] *= 1 - share * (1 - glass)
        dark = [0.5 * c * (1 - share * (1 - glass)) for c in COLOURS]
        shining = [0.5 * c * share * more for c, more in zip(COLOURS, (2.0, 1.0, 0.5), strict=True)]
        assert seen(made, pane) == pytest.approx([a + b for a, b in zip(dark, shining, strict=True)] + [1.0], abs=1e-5)


def test_what_asphalt_mirrors_comes_as_the_layout_says_and_kerbs_as_what_stands() -> None:
    made, road = light(ambient=0.4, haze=1 / 200), torch.zeros(1, len(CHANNELS), 1, 1)
    road[0, CHANNEL["inverse_depth"]], road[0, CHANNEL["shade"]] = math.sqrt(NEAREST / 50), 0.5
    road[0, COLOUR] = torch.tensor(COLOURS).view(3, 1, 1)
    left = math.exp(-0.25)
    for asphalt in (1.0, 0.25, 0.0):
        road[0, CHANNEL["road"]], road[0, CHANNEL["dash"]], road[0, CHANNEL["ground"]] = 0.5 * asphalt, 0.5 * asphalt, 1 - asphalt
        share = asphalt + (1 - asphalt) * 0.4 * 0.5 * left
        assert seen(made, road) == pytest.approx([share * c for c in COLOURS] + [left], abs=1e-5)


def test_what_shares_a_pixel_is_lit_and_fades_each_by_itself() -> None:
    made, row = light(ambient=0.4, haze=1 / 200), 40
    with torch.no_grad():
        made.rest[DAY, :3, CHANNEL["road"]] = torch.tensor([0.3, 0.2, 0.1]) / GAIN
    layout = torch.zeros(1, len(CHANNELS), CAMERA.height, 1)
    layout[:, :, row] = wall(20.0, cover=0.25)[..., 0]
    layout[0, CHANNEL["road"], row], layout[0, CHANNEL["shade"], row] = 0.75, 0.3  # of that a part is in the shade
    down = (row + 5 / 6 - CAMERA.height / 2) / CAMERA.focal
    down = down * math.cos(CAMERA.pitch) - math.sin(CAMERA.pitch)
    left, behind = math.exp(-20 / 200), math.exp(-CAMERA.above_ground / down / 200)
    looks = NOWHERE_KNOWN.expand(-1, -1, CAMERA.height, -1)
    whole = torch.tensor(seen(made, layout, looks=looks)).view(4, CAMERA.height)
    ground = [behind * (0.75 - 0.3) * c for c in (0.3, 0.2, 0.1)]
    there = [0.4 * left * 0.25 * c + under for c, under in zip(COLOURS, ground, strict=True)]
    assert whole[:, row].tolist() == pytest.approx([*there, 0.25 * left + 0.75 * behind], abs=1e-5)
    assert float(whole[:, :row].abs().max()) == 0.0


def test_glass_has_a_base_colour_that_is_learned_and_is_lit_as_bodies_are() -> None:
    made, glass = light(ambient=0.4, lamp=0.3, haze=1 / 200), wall(50.0)
    glass[0, COLOUR], glass[0, CHANNEL["building"]], glass[0, CHANNEL["cabin"]] = 0.0, 0.0, 1.0
    left = math.exp(-0.25)
    assert seen(made, glass) == pytest.approx([0.0] * 3 + [left], abs=1e-5)
    with torch.no_grad():
        made.base[DAY, :, 0] = torch.tensor(COLOURS) / GAIN  # of cabins
    assert seen(made, glass) == pytest.approx([0.7 * left * c for c in COLOURS] + [left], abs=1e-5)
    assert seen(made, wall(50.0)) == pytest.approx([0.7 * left * c for c in COLOURS] + [left], abs=1e-5)
    glass[0, COLOUR], glass[0, CHANNEL["body"]], glass[0, CHANNEL["cabin"]] = 0.1, 0.5, 0.5  # and a body beside it
    assert seen(made, glass) == pytest.approx([0.7 * left * (0.5 * c + 0.1) for c in COLOURS] + [left], abs=1e-5)


def test_the_sun_lights_what_leans_towards_it() -> None:
    made = light(ambient=0.4)
    with torch.no_grad():
        made.sun[DAY] = torch.tensor([[0.6, 0.0, 0.8], [0.5, 0.4, 0.3]]) / GAIN
    for normal in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.8, 0.0, 0.6), (-0.8, 0.0, 0.6), (-0.6, 0.0, 0.8), (-1.0, 0.0, 0.0)):
        facing = max(0.0, 0.6 * normal[0] + 0.8 * normal[2])
        lit = [(0.4 + facing * sun) * c for sun, c in zip((0.5, 0.4, 0.3), COLOURS, strict=True)]
        assert seen(made, wall(normal=normal)) == pytest.approx([*lit, 1.0], abs=1e-5)


def test_what_is_far_fades_and_the_sky_is_nothing() -> None:
    made = light(ambient=1.0, haze=1 / 200)
    for depth in (2.5, 50.0, 200.0, 700.0):
        left = math.exp(-depth / 200)
        assert seen(made, wall(depth)) == pytest.approx([left * c for c in COLOURS] + [left], abs=1e-5)
    assert seen(made, torch.zeros(1, len(CHANNELS), 1, 1)) == [0.0] * 4
    made = light(ambient=1.0, haze=1 / 200, beyond=0.8)
    assert seen(made, torch.zeros(1, len(CHANNELS), 1, 1)) == pytest.approx([0.8] * 3 + [0.0])
    assert seen(made, wall(200.0)) == pytest.approx([c / math.e + 0.8 * (1 - 1 / math.e) for c in COLOURS] + [1 / math.e], abs=1e-5)


def test_haze_is_brighter_on_one_side_where_the_heading_is_known() -> None:
    made, none = light(beyond=0.5), torch.zeros(1, len(CHANNELS), 1, 1)
    with torch.no_grad():
        made.beyond[:, :, 1] = 0.2 / GAIN  # the cosine of the azimuth
    for azimuth, there in ((0.0, 0.7), (0.5, 0.5), (1.0, 0.3)):
        known = torch.tensor([azimuth, 0.5, NOWHERE, NOWHERE]).view(1, 4, 1, 1)
        assert seen(made, none, looks=known) == pytest.approx([there] * 3 + [0.0], abs=1e-5)
    assert seen(made, none) == pytest.approx([0.5] * 3 + [0.0], abs=1e-5)


def test_the_rest_tells_what_has_no_base_colour_apart() -> None:
    made, road = light(), torch.zeros(1, len(CHANNELS), 1, 1)
    road[0, CHANNEL["road"]], road[0, CHANNEL["inverse_depth"]] = 1.0, 1.0
    assert seen(made, road) == pytest.approx([0, 0, 0, 1], abs=1e-5)
    with torch.no_grad():
        made.rest[DAY, 0, CHANNEL["road"]] = 0.3 / GAIN
        made.rest[DAY, 3:, CHANNEL["lit"]] = torch.tensor([1.0, 1.0, 0.5]) / GAIN  # base colours of lit windows count twice
        made.rest[DAY, :, CHANNEL["building"]] = 1.0  # light alone tells those of walls
    assert seen(made, road) == pytest.approx([0.3, 0, 0, 1], abs=1e-5)
    pane = wall()
    assert seen(made, pane) == pytest.approx([0.5 * c for c in COLOURS] + [1.0], abs=1e-5)
    pane[0, CHANNEL["lit"]] = 1.0
    assert seen(made, pane) == pytest.approx([1.0 * COLOURS[0], 1.0 * COLOURS[1], 0.75 * COLOURS[2], 1.0], abs=1e-5)
    road[0, CHANNEL["shade"]] = 0.4
    assert seen(made, road) == pytest.approx([0.18, 0, 0, 1], abs=1e-5)
    assert seen(made, road, torch.tensor([UNKNOWN_APPEARANCE])) == pytest.approx([0, 0, 0, 1], abs=1e-5)


def test_the_sky_is_what_its_panorama_and_the_height_say_and_nothing_hides_it_but_things() -> None:
    made = LearnedLight(len(CHANNELS) + 2, sky=2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.beyond[..., 0] = 0.5 / GAIN
        made.above[DAY, 0, 3], made.above[DAY, 1, 1] = 1.0 / GAIN, 0.2 / GAIN  # red of the first feature, green of the height
        made.rest += 1.0  # says nothing of it
    clouds = torch.tensor([0.3, 0.9]).view(1, 2, 1, 1)
    for height in (-0.5, 1.0):
        looks = torch.tensor([0.2, height, NOWHERE, NOWHERE]).view(1, 4, 1, 1)
        open_sky = torch.cat((torch.zeros(1, len(CHANNELS), 1, 1), clouds), 1)
        assert seen(made, open_sky, looks=looks) == pytest.approx([0.8, 0.5 + 0.2 * height, 0.5, 0.0], abs=1e-5)
        left = math.exp(-0.5)
        far, hidden = (torch.cat((wall(depth), 0 * clouds), 1) for depth in (50.0, 2.5))  # as the panorama is found in the open sky alone
        behind = [(1 - left) * brightness for brightness in (0.5, 0.5 + 0.2 * height, 0.5)]
        assert seen(made, far, looks=looks) == pytest.approx([*behind, left], abs=1e-5)
        with torch.no_grad():
            made.start += 0.03 / GAIN
        assert seen(made, far, looks=looks)[3] == pytest.approx(math.exp(-0.47), abs=1e-5)
        assert seen(made, hidden, looks=looks) == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-5)
        with torch.no_grad():
            made.start.zero_()


def test_the_kernel_says_what_gradients_are_asked_for() -> None:
    torch.manual_seed(0)
    made = LearnedLight(len(CHANNELS) + 6 + 3, sky=6)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    known = gaze(torch.tensor([[0.0, 0.0, 1.0], [5.0, 2.0, -2.0], [math.nan] * 3]))
    patches = torch.rand(3, len(CHANNELS) + 9, 8, 16).lt(0.2).repeat_interleave(8, 2).repeat_interleave(8, 3)  # some things here and there
    images, looks = torch.where(patches, torch.rand(patches.shape), 0.0), torch.tensor([2, UNKNOWN_APPEARANCE, 0])
    apart = torch.full((3, 6, *images.shape[2:]), 7.0)
    with torch.no_grad():
        assert made(images, known, looks, apart[:, 1:5]).data_ptr() == apart[:, 1:5].data_ptr()
    assert torch.allclose(apart[:, 1:5], made(images, known, looks), atol=1e-5)
    assert (apart[:, [0, 5]] == 7.0).all()  # nothing beside it


def test_headlamps_light_the_same_pixels_of_every_picture_and_of_its_crops() -> None:
    made = LearnedLight(len(CHANNELS))
    for parameter in made.parameters():
        parameter.data.zero_()
    made.beam.data[int(Appearance.DUSK), 1, 20:24, 30:34] = 0.3 / GAIN
    empty, looks = torch.zeros(2, len(CHANNELS), 64, 128), torch.full((2, 4, 64, 128), NOWHERE)
    weathers = torch.tensor([int(Appearance.DUSK), int(Appearance.DAYLIGHT)])
    for learning in (False, True):
        with torch.set_grad_enabled(learning):
            lit = made(empty, looks, weathers)
            assert lit[0, 1, 42:46, 62:66].tolist() == [[pytest.approx(0.3)] * 4] * 4
            assert lit[0, 1].sum().item() == pytest.approx(0.3 * 64, rel=1e-4)
            assert not lit[1].any()
            assert not lit[0, [0, 2, 3]].any()
            crop = made(empty[..., 40:104], looks[..., 40:104], weathers, column=40)
            assert torch.allclose(crop, lit[..., 40:104], atol=1e-6)
    assert made(torch.zeros(1, len(CHANNELS), 128, 256), torch.full((1, 4, 128, 256), NOWHERE), weathers[:1])[0, 1, 88, 128] > 0.29


def noise(painter: FrameDenoiser) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, CAMERA.height, CAMERA.width), torch.ones(2)


def test_light_that_is_new_to_a_painter_changes_nothing_and_is_kept() -> None:
    torch.manual_seed(0)
    asked = random_condition(2, "cpu")
    old = new_painter("tiny", light=False)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    new = new_painter("tiny")
    take_over(new, old)
    noisy, level = noise(new)
    with torch.no_grad():
        assert torch.allclose(new(noisy, level, asked), old(noisy, level, asked), atol=1e-5)
        for parameter in (*new.lighting.parameters(), new.out.weight, new.stem.weight):
            torch.nn.init.normal_(parameter, std=0.05)
        again = new_painter("tiny")
        take_over(again, new)
        assert torch.equal(again(noisy, level, asked), new(noisy, level, asked))
        more = new_painter("tiny", context=2)
        longer = dataclasses.replace(asked, warped=torch.cat((asked.warped, torch.rand_like(asked.warped)), 1))
        take_over(more, new)
        assert torch.allclose(more(noisy, level, longer), new(noisy, level, asked), atol=1e-5)
    with pytest.raises(ValueError, match=r"'out\.weight' of shape"):
        take_over(new_painter("tiny", light=False), new)


def test_a_painter_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    painter, asked = new_painter("tiny"), random_condition(2, "cpu")
    asked = dataclasses.replace(asked, gaze=gaze(torch.tensor([[0.0, 0.0, 1.0], [5.0, 2.0, -2.0]])), layout=asked.layout.clone())
    asked.layout[:, COVER_CHANNELS, :20] = 0
    for name, parameter in painter.named_parameters():
        torch.nn.init.normal_(parameter, std=0.01 if name.startswith("lighting.") else 0.05)
    noisy, level = noise(painter)
    learning = painter(noisy, level, asked)
    with torch.no_grad():
        assert torch.allclose(painter(noisy, level, asked), learning, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(painter(noisy, level, asked).float(), learning, atol=0.2, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(painter(noisy, level, asked).float(), learning, atol=0.2, rtol=0.05)
    learning.square().mean().backward()
    assert all((parameter.grad is None) == name.startswith("lighting.") for name, parameter in painter.named_parameters())
    painter.lit(asked.layout, asked.gaze, asked.appearance).square().mean().backward()  # which learns from pictures alone
    assert all(parameter.grad.abs().max() > 0 for parameter in painter.lighting.parameters())


@torch.no_grad()
def test_a_painter_can_leave_the_layout_as_it_is_lit() -> None:
    painter, asked = new_painter("tiny"), random_condition(2, "cpu")
    painter.out.bias[16:] = 1.0  # all of it, and nothing painted
    asked.seen.zero_()
    asked.warped.zero_()
    painted = painter(*noise(painter), asked)
    assert torch.allclose(painted, 2 * painter.lit(asked.layout, asked.gaze, asked.appearance) - 1, atol=1e-5)


class Walls:
    """Random walls, seen in a light: what `fit_light` asks of a store. One clip in two has no scene, and pictures of nothing."""

    def __init__(self, truth: LearnedLight, looks: torch.Tensor | None = None) -> None:
        self._truth, self._looks = truth, looks

    def windows(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(1000), np.full(1000, 1e-3)

    @torch.no_grad()
    def samples(self, first: np.ndarray, length: int) -> Samples:
        rng, (height, width) = torch.Generator().manual_seed(int(first.sum())), (8, 16)
        count, draw = len(first), lambda *shape: torch.rand(*shape, generator=rng)
        layout = torch.zeros(count, len(CHANNELS), height, width)
        layout[:, CHANNEL["building"]] = 1.0
        layout[:, COLOUR] = draw(count, 3, height, width)
        layout[:, NORMAL] = (draw(count, 3, 1, 1) - 0.5).div(0.5).sign() * torch.tensor([0.5, 0.0, 0.0]).view(3, 1, 1) + 0.5
        layout[:, CHANNEL["inverse_depth"]] = (NEAREST / (5 + 400 * draw(count, height, width))).sqrt()
        if self._looks is not None:  # and open sky beside them
            layout[..., : width // 2] = 0.0
        layout = layout.mul(255).round().byte()
        looks = torch.full((1, 4, height, width), NOWHERE) if self._looks is None else self._looks
        looks, known = looks.expand(count, -1, -1, -1).contiguous(), torch.arange(count) % 2 == 0
        frames = self._truth(layout.float() / 255, looks, DAY.expand(count))[:, :3].mul(255).round().byte()
        frames = frames.permute(0, 2, 3, 1).unsqueeze(1).repeat(1, 2, 1, 1, 1)
        frames[~known] = 0
        return Samples(
            frames=frames, layout=layout.unsqueeze(1), flow=torch.zeros(count, 1, 2, height, width), actions=torch.zeros(count, 1, 2),
            ego=torch.zeros(count, 1, 7), motion=torch.zeros(count, 1, 3), appearance=DAY.expand(count), has_scene=known,
            gaze=looks.unsqueeze(1),
        )  # fmt: skip


def test_light_is_fitted_to_what_is_seen() -> None:
    torch.manual_seed(0)
    store = Walls(light(ambient=0.3, lamp=0.3, haze=1 / 100, beyond=0.3))
    again, painter = new_painter("tiny"), new_painter("tiny")
    again.load_state_dict(painter.state_dict())
    found = store.samples(np.arange(BATCH), 1)
    known = found.has_scene

    @torch.no_grad()
    def error() -> float:
        lit = painter.lit(found.layout[:, 0], found.gaze[:, 0], found.appearance)
        return float((lit - found.frames[:, 1].permute(0, 3, 1, 2) / 255)[known].abs().mean())

    before = error()
    fit_light(painter, store, seed=3, steps=400)
    assert error() < 0.1 * before
    fit_light(again, store, seed=3, steps=400)
    for name, value in painter.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize("maps", [False, True])
def test_a_fit_moves_nothing_but_the_light_and_new_maps(maps: bool) -> None:
    painter = new_painter("tiny")
    before = {name: value.clone() for name, value in painter.state_dict().items()}
    fit_light(painter, Walls(light(), gaze(torch.zeros(1, 3))[..., 16:24, :16]), seed=0, steps=2, maps=maps)
    moved = {name for name, value in painter.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert {name.split(".")[0] for name in moved} == ({"lighting", "sky_map"} if maps else {"lighting"})
