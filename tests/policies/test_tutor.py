import dataclasses

import pytest
import torch
from xpeng_world.policies import load_policy
from xpeng_world.policies.expert import Expert
from xpeng_world.policies.tutor import Tutor
from xpeng_world.road import SignalState


def accelerating(scene, acceleration):
    """The scene with another acceleration of the ego."""
    state = scene.ego.state.clone()
    state[..., 4] = acceleration
    return dataclasses.replace(scene, ego=dataclasses.replace(scene.ego, state=state))


def pedals(driver, scene):
    return [float(driver.drive(accelerating(scene, a))[0, 1]) for a in (-2.0, 0.0, 2.0)]


def test_its_pedal_does_not_depend_on_the_cars_acceleration(fake):
    scene = fake.make_scene(speed=13.0, cars=[(45.0, 0.0, 3.0)])
    tutor, expert = pedals(Tutor(), scene), pedals(Expert(), scene)
    assert max(tutor) - min(tutor) < 1e-6
    assert max(expert) - min(expert) > 0.3  # the expert stays near the acceleration there is
    assert max(tutor) < -0.2


@pytest.mark.parametrize(("gap", "speed"), [(45.0, 2.0), (35.0, 6.0)])
def test_it_asks_for_braking_in_proportion_to_the_need(fake, gap, speed):
    near, far = (Tutor().drive(fake.make_scene(speed=14.0, cars=[(g, 0.0, speed)]))[0, 1] for g in (gap, 1.5 * gap))
    assert near < far


def at_red(fake, gap, speed):
    """A scene with its front bumper `gap` m before a red line."""
    scene = fake.make_scene(speed=speed, light=(150.0, [(100.0, SignalState.RED)]))
    front = float(scene.road.stop_line[0, 0].mean(0)[0] - scene.ego.position[0, 0] - scene.profile.length[0] / 2)
    return fake.make_scene(speed=speed, light=(150.0 - front + gap, [(100.0, SignalState.RED)]))


def test_asks_for_more_braking_the_later_a_red_light_is_braked_for(fake):
    wanted = [float(Tutor().drive(at_red(fake, gap, 11.0))[0, 1]) for gap in (22.0, 16.0, 13.0)]
    assert wanted[0] > wanted[1] > wanted[2] >= -1.0
    assert wanted[2] < float(Expert().drive(at_red(fake, 13.0, 11.0))[0, 1])


@pytest.mark.parametrize("gap", [4.0, 1.0, -0.5])
def test_brakes_before_a_red_line_that_the_expert_passes(fake, gap):
    scene = at_red(fake, gap, 12.0)
    assert float(Tutor().drive(scene)[0, 1]) == -1.0
    assert float(Expert().drive(scene)[0, 1]) > -0.3


def test_goes_on_once_a_red_line_is_behind(fake):
    assert float(Tutor().drive(at_red(fake, -1.5, 6.0))[0, 1]) > 0


def test_drives_as_safely_as_the_expert(fake):
    scene = fake.make_scene(speed=13.0, cars=[(120.0, 0.0, 0.0)], light=(150.0, [(100.0, SignalState.RED)]))
    tutor, start = Tutor(), scene
    for _ in range(220):
        scene = fake.advance(scene, tutor.act(None, None, scene)[0])
    assert float(scene.ego.speed) < 0.1
    assert 60.0 < float((scene.ego.position - start.ego.position).norm()) < 120 - 4.7


def test_steers_as_the_expert_does(fake):
    scene = fake.make_scene(speed=9.0, bend=0.05)
    torch.testing.assert_close(Tutor().drive(scene)[:, 0], Expert().drive(scene)[:, 0])


def test_is_known_by_name():
    assert load_policy("tutor").privileged
