import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.geometry import project_polyline
from xpeng_world.policies import Expert
from xpeng_world.road import SignalState


def drive(fake, steps, **road):
    """Drive the expert and return lateral offsets, speeds, accelerations and arcs, each [steps]."""
    expert, scene, rows = Expert(), fake.make_scene(**road), []
    for _ in range(steps):
        action, _ = expert.act(None, None, scene)
        scene = fake.advance(scene, action)
        arc, lateral, _ = project_polyline(scene.ego.position, scene.route.points)
        rows.append((float(lateral), float(scene.ego.speed), float(scene.ego.acceleration), float(arc)))
    return [torch.tensor(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("bend", [0.0, 0.03, 0.125, -0.125])
def test_keeps_the_route_within_comfort(fake, bend):
    lateral, _, acceleration, arc = drive(fake, 160, bend=bend, speed=8.0)
    assert lateral.abs().max() < 0.45
    assert acceleration.min() > -4.0
    assert acceleration.max() < 2.4
    assert acceleration.diff().abs().max() / 0.1 < 4.1
    assert arc[-1] > 90


def test_reaches_and_keeps_the_limit(fake):
    _, speed, _, _ = drive(fake, 200, speed=5.0, limit=13.9)
    assert speed[-1] == pytest.approx(13.9, abs=0.15)
    assert speed.max() < 14.0


def test_stops_behind_a_standing_car(fake):
    _, speed, acceleration, arc = drive(fake, 250, speed=13.0, cars=[(120.0, 0.0, 0.0)])
    assert speed[-1] < 0.05
    assert 1.5 < 120 - 2.3 - 2.4 - arc[-1] < 4.0
    assert acceleration.min() > -3.7


def test_follows_a_slower_car(fake):
    _, speed, _, _ = drive(fake, 250, speed=13.0, cars=[(60.0, 0.0, 6.0)])
    assert speed[-1] == pytest.approx(6.0, abs=0.2)


def test_cars_beside_the_way_do_not_slow_it(fake):
    _, speed, _, _ = drive(fake, 60, speed=13.0, cars=[(60.0, 3.2, 0.0), (90.0, -3.2, 0.0), (150.0, 3.3, -13.0)])
    assert speed.min() > 12.9


def test_brakes_for_a_car_about_to_cross(fake):
    scene = fake.make_scene(speed=10.0, cars=[(35.0, 0.0, 5.0)])
    scene.agents.state[0, 0, 1:3] = torch.tensor([-10.0, torch.pi / 2])  # 10 m to the right, heading across
    assert float(Expert().drive(scene)[0, 1]) < -0.05


def test_stops_at_red_before_the_line(fake):
    _, speed, _, arc = drive(fake, 200, speed=12.0, light=(120.0, [(100.0, SignalState.RED)]))
    assert speed[-1] < 0.05
    assert 0.2 < 120 - 2.4 - arc[-1] < 2.5


def test_drives_on_at_green_after_red(fake):
    _, _, _, arc = drive(fake, 250, speed=12.0, light=(80.0, [(15.0, SignalState.RED), (100.0, SignalState.GREEN)]))
    assert arc[140] < 80
    assert arc[-1] > 100


@pytest.mark.parametrize(("line", "stops"), [(70.0, True), (36.0, False)])
def test_yellow_stops_only_where_it_can(fake, line, stops):
    programme = [(3.0, SignalState.YELLOW), (100.0, SignalState.RED)]
    _, speed, acceleration, arc = drive(fake, 120, speed=13.0, light=(line, programme))
    assert (float(speed[-1]) < 0.1) == stops
    assert (float(arc[-1]) < line) == stops
    assert acceleration.min() > -3.7


def test_mirrored_scenes_get_mirrored_steering(fake):
    left, right = fake.make_scene(bend=0.05, speed=9.0, lateral=0.7), fake.make_scene(bend=-0.05, speed=9.0, lateral=-0.7)
    a, b = Expert().drive(left), Expert().drive(right)
    assert torch.allclose(a * torch.tensor([-1.0, 1.0]), b, atol=1e-5)


def test_an_episode_is_driven_alike_alone_and_in_a_batch(fake):
    scenes = [fake.make_scene(bend=b, speed=8.0, cars=[(40.0, 0.0, 4.0)]) for b in (0.0, 0.05, -0.1)]
    together = Expert().drive(type(scenes[0]).cat(scenes))
    assert torch.allclose(together, torch.cat([Expert().drive(s) for s in scenes]), atol=1e-5)


def test_needs_the_scene():
    with pytest.raises(ConfigError, match="reads the scene"):
        Expert().act(None, None, None)
