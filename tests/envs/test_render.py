from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from xpeng_world.envs import XPengWorldEnv, XPengWorldVectorEnv, render_birds_eye, render_episode

RED_CAR = (220, 20, 20)


def near(picture, colour):
    return (np.abs(picture.astype(int) - np.array(colour)) < 12).all(-1)


def test_pictures_show_camera_and_map_side_by_side(parts):
    env = XPengWorldEnv(**parts, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (256, 768, 3)
    assert picture.dtype == np.uint8
    vector = XPengWorldVectorEnv(2, **parts, render_mode="rgb_array")
    vector.reset(seed=0)
    assert [p.shape for p in vector.render()] == [(256, 768, 3)] * 2
    assert np.array_equal(vector.render()[0], picture)


def test_a_car_ahead_is_drawn_above_the_ego_and_one_to_the_left_on_its_left(fake):
    scene = fake.FakeWorld().reset([0]).scene
    x, y = float(scene.ego.x[0]), float(scene.ego.y[0])

    def centre_of_car(at):
        state = scene.agents.state.clone()
        state[0, :, :2] = torch.tensor(at)
        colour = torch.tensor(RED_CAR).div(255).expand_as(scene.agents.colour)
        rows, columns = np.nonzero(
            near(render_birds_eye(replace(scene, agents=replace(scene.agents, state=state, colour=colour))), RED_CAR)
        )
        return rows.mean(), columns.mean()

    ahead, left = centre_of_car([x + 16, y]), centre_of_car([x + 16, y + 8])
    scale = 256 / 80
    assert ahead[1] == pytest.approx(128, abs=1)
    assert ahead[0] == pytest.approx(256 * 0.68 - 16 * scale, abs=1.5)
    assert left[1] == pytest.approx(128 - 8 * scale, abs=1.5)


def test_the_map_turns_with_the_ego(fake):
    scene = fake.FakeWorld().reset([0]).scene
    turned = scene.ego.state.clone()
    turned[0, 2] = torch.pi / 2
    green = (50, 200, 80)
    straight, across = (
        near(render_birds_eye(s), green) for s in (at_60(scene), at_60(replace(scene, ego=replace(scene.ego, state=turned))))
    )
    assert np.ptp(np.nonzero(straight)[1]) > np.ptp(np.nonzero(straight)[0])
    assert np.ptp(np.nonzero(across)[0]) > np.ptp(np.nonzero(across)[1])


def at_60(scene):
    state = scene.ego.state.clone()
    state[0, 0] = 50.0
    return replace(scene, ego=replace(scene.ego, state=state))


@pytest.mark.filterwarnings("ignore:.*pkg_resources.*")
def test_a_window_opens_and_closes_without_a_screen(parts, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    env = XPengWorldEnv(**parts, render_mode="human")
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    assert pygame.display.get_surface().get_size() == (768, 256)
    assert env.render() is None
    env.close()
    assert not pygame.display.get_init()
    env.close()


def test_every_bright_pixel_of_a_caption_has_its_dark_rim_around_it(fake):
    scene = fake.FakeWorld().reset([0]).scene
    grey = torch.full((64, 128, 3), 128, dtype=torch.uint8)
    plain, written = (render_episode(scene, grey, lines).astype(int) for lines in ((), ("speed 12.3 m/s  reward 0.09  red light",)))
    letters = (written > 140).all(-1) & (plain == 128).all(-1)
    dark = (written < 40).all(-1) & (plain == 128).all(-1)
    assert letters.sum() > 100
    near_letters = cv2.dilate(letters.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert dark.sum() > 100
    assert not (dark & ~near_letters).any()
