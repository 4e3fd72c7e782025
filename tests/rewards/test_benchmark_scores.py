"""nuPlan's, CARLA's, Bench2Drive's and CaRL's scores by hand. The ego is the sedan: 4.8 m long, 1.9 m wide; the limit is 10 m/s."""

import dataclasses
import math

import pytest
import torch
from rewards_worlds import LANE, LIMIT, drive, straight_road
from xpeng_world.errors import ConfigError
from xpeng_world.rewards.scores import bench2drive, carl, carla_ds, epdms_two_stages, nuplan_cls
from xpeng_world.road import SignalState
from xpeng_world.scene import AgentKind, Track


def steady(speed=LIMIT, steps=41, start=40.0, **more):
    return drive(*straight_road(), x=[start + 0.1 * speed * t for t in range(steps)], **more)


def box(x, kind, **more):
    return {"x": x, "kind": int(kind), "length": 1.0, "width": 1.0, **more}


def nuplan(track, expert=40.0):
    return nuplan_cls(track, torch.tensor([expert]))


def test_nuplan_of_a_perfect_drive_and_its_weights():
    assert nuplan(steady()).total.tolist() == pytest.approx([100.0])
    assert float(nuplan(steady(), 80.0).total) == pytest.approx(100 * (2.5 + 5 + 4 + 2) / 16, abs=1e-2)  # half of the expert's way
    assert float(nuplan(steady(acceleration=2.5)).total) == pytest.approx(100 * 14 / 16, abs=1e-2)


def test_nuplan_speed_is_the_metres_over_the_limit():
    # 1.115 m/s over it all the time: half of 2.23
    assert float(nuplan(steady(LIMIT + 1.115)).total) == pytest.approx(100 * (5 + 5 + 2 + 2) / 16, abs=1e-2)
    over = [LIMIT + 2.23] * 10 + [LIMIT] * 31
    track = steady(speed=LIMIT)
    track.ego.state[0, :, 3] = torch.tensor(over)
    assert float(nuplan(track).terms["speed_limit"]) == pytest.approx(1 - 10 / 41, abs=1e-3)


def test_nuplan_making_progress_asks_for_a_fifth():
    assert float(nuplan(steady(), 199.0).terms["making_progress"]) == 1.0  # 40 / 199
    assert float(nuplan(steady(), 201.0).total) == 0.0
    # both are raised to 2 m, so standing where the expert stood is full progress
    assert float(nuplan(steady(0.0), 1.0).terms["progress"]) == 1.0


@pytest.mark.parametrize(("gap", "passes"), [(8.9, False), (9.1, True)])
def test_nuplan_looks_ahead_every_tenth_of_a_second(gap, passes):
    # a standing car; 0.9 s ahead the ego has moved 9 m, 1.0 s is above 0.95 s already
    track = drive(*straight_road(), x=[40.0, 40.0], speed=LIMIT, agents=[{"x": 42.4 + gap + 2.0}])
    assert float(nuplan(track, 0.0).terms["time_to_collision"]) == float(passes)


def test_nuplan_sees_what_lies_between_navsims_looks():
    # a walker crosses fast: it is in the ego's way only from 0.38 s to 0.55 s ahead
    walker = {"x": 45.0, "y": -6.0, "heading": math.pi / 2, "speed": 13.0, "length": 0.4, "width": 0.4, "kind": int(AgentKind.PEDESTRIAN)}
    track = drive(*straight_road(), x=[40.0, 40.0], speed=LIMIT, agents=[walker])
    assert float(nuplan(track, 0.0).terms["time_to_collision"]) == 0.0


def test_nuplan_allows_03_m_over_the_edge():
    # the road's right edge is at y = -1.6, the side of the ego 0.95 m right of its centre
    for y, expected in ((-0.94, 1.0), (-0.96, 0.0)):
        assert float(nuplan(steady(y=y)).terms["drivable_area"]) == expected


def test_nuplan_counts_collisions_by_kind():
    one = box(70.0, AgentKind.STATIC)
    assert float(nuplan(steady(agents=[one])).terms["no_at_fault_collision"]) == 0.5
    assert float(nuplan(steady(agents=[one, box(75.0, AgentKind.STATIC)])).terms["no_at_fault_collision"]) == 0.0
    assert float(nuplan(steady(agents=[box(70.0, AgentKind.PEDESTRIAN)])).terms["no_at_fault_collision"]) == 0.0
    assert float(nuplan(steady(agents=[box(70.0, AgentKind.CAR)])).terms["no_at_fault_collision"]) == 0.0


def whole(**more):
    """From x = 40 to 2 m before the route's end at 300."""
    return drive(*straight_road(), x=[40.0 + t for t in range(259)], speed=LIMIT, **more)


def test_carla_of_a_whole_route():
    for version in ("2.0", "2.1"):
        score = carla_ds(whole(), version)
        assert score.total.tolist() == [100.0]
        assert (score.terms["route_completion"].item(), score.terms["penalty"].item()) == (1.0, 1.0)
    assert float(carla_ds(steady()).total) == pytest.approx(100 * 40 / 260, abs=1e-2)


@pytest.mark.parametrize(
    ("kind", "name", "factor", "cost"),
    [
        (AgentKind.PEDESTRIAN, "pedestrian", 0.5, 1.0),
        (AgentKind.CAR, "vehicle", 0.6, 0.7),
        (AgentKind.BICYCLE, "vehicle", 0.6, 0.7),
        (AgentKind.STATIC, "static", 0.65, 0.6),
    ],
)
def test_carla_prices_collisions(kind, name, factor, cost):
    track = whole(agents=[box(100.0, kind)])
    assert float(carla_ds(track, "2.0").total) == pytest.approx(100 * factor, abs=1e-3)
    assert float(carla_ds(track, "2.1").total) == pytest.approx(100 / (1 + cost), abs=1e-3)
    twice = whole(agents=[box(100.0, kind), box(150.0, kind)])
    assert float(carla_ds(twice, "2.0").total) == pytest.approx(100 * factor**2, abs=1e-3)
    assert float(carla_ds(twice, "2.1").total) == pytest.approx(100 / (1 + 2 * cost), abs=1e-3)
    assert float(carla_ds(twice, "2.1").rates[name]) == 2


@pytest.mark.parametrize(("shown", "factor", "cost"), [(SignalState.RED, 0.7, 0.4), (SignalState.STOP_SIGN, 0.8, 0.25)])
def test_carla_prices_red_lights_and_stop_signs(shown, factor, cost):
    road, route = straight_road(stop_at=120.0)
    track = drive(road, route, x=[40.0 + t for t in range(259)], speed=LIMIT, signals=[int(shown)] * 259)
    assert float(carla_ds(track, "2.0").total) == pytest.approx(100 * factor, abs=1e-3)
    assert float(carla_ds(track, "2.1").total) == pytest.approx(100 / (1 + cost), abs=1e-3)


def test_carla_takes_the_share_off_the_route():
    # 50 of 258 m on the oncoming lane (and a step over to it and back: 1 m along and 6.4 m across)
    y = [0.0] * 100 + [2 * LANE] * 50 + [0.0] * 109
    score = carla_ds(drive(*straight_road(), x=[40.0 + t for t in range(259)], y=y, speed=LIMIT))
    step = math.hypot(1.0, 2 * LANE)
    assert float(score.terms["penalty"]) == pytest.approx(1 - (49 + step) / (256 + 2 * step), abs=1e-3)


def test_carla_prices_being_slower_than_the_others():
    others = [{"x": [60.0 + 0.1 * 20 * t for t in range(41)], "y": LANE, "speed": 20.0}]  # within 50 m all the time
    score = carla_ds(steady(agents=others), "2.0")
    near = sum(math.hypot(20 + t, LANE) < 50 for t in range(41))
    share = (0.5 * near + 41 - near) / 41
    assert float(score.terms["penalty"]) == pytest.approx(1 - 0.3 * (1 - share), abs=1e-3)
    assert float(carla_ds(steady(agents=others), "2.1").terms["penalty"]) == pytest.approx(1 / (1 + 0.4 * (1 - share)), abs=1e-3)
    assert float(carla_ds(steady(agents=others), "2.0", slow=False).terms["penalty"]) == 1.0


def test_carla_ends_30_m_off_the_route():
    y = [0.0] * 100 + [-31.0] * 50 + [0.0] * 109
    score = carla_ds(drive(*straight_road(), x=[40.0 + t for t in range(259)], y=y, speed=LIMIT))
    assert float(score.terms["route_completion"]) == pytest.approx(100 / 260, abs=1e-2)


def test_carla_versions_are_known():
    with pytest.raises(ConfigError, match=r"unknown version '2\.2' of CARLA's driving score"):
        carla_ds(steady(), "2.2")


def test_bench2drive_by_hand():
    # 40 columns are two segments; the second has hard acceleration
    harsh = [0.0] * 22 + [3.0] * 18
    found = bench2drive(steady(steps=40, acceleration=harsh))
    assert found["smoothness"].tolist() == [0.5]
    assert found["success"].tolist() == [0.0]
    assert found["efficiency"].tolist() == [100.0]
    done = bench2drive(whole())
    assert (done["success"].item(), done["driving_score"].item()) == (1.0, 100.0)
    assert bench2drive(whole(agents=[box(100.0, AgentKind.STATIC)]))["success"].item() == 0.0


def test_carl_by_hand():
    # 1 m of 300 a step
    step = 100 / 300
    assert carl(steady())[0, 1:].tolist() == pytest.approx([step] * 40, abs=1e-4)
    assert carl(steady(LIMIT + 1.115))[0, 1:].tolist() == pytest.approx([0.5 * 1.1115 * step] * 40, abs=1e-3)
    beside = carl(steady(y=0.6))[0]
    assert beside[1:29].tolist() == pytest.approx([step] * 28, abs=1e-4)
    assert beside[29:].tolist() == pytest.approx([step / 2] * 12, abs=1e-4)  # 30 columns are 3 s
    back = steady(y=[0.6] * 32 + [0.0] * 9)
    assert float(carl(back)[0, -1]) == pytest.approx(step / 2, abs=1e-4)  # it lasts


def test_carls_caution_lasts_and_a_collision_ends_it():
    step = 100 / 300
    # rear of the standing box at 69.5: within 9 m of the front (42.4 + t) from t = 18.1 on; touched at t = 28
    found = carl(steady(agents=[box(70.0, AgentKind.STATIC)]))[0]
    assert float(found[10]) == pytest.approx(step, abs=1e-4)
    assert float(found[25]) == pytest.approx(step / 2, abs=1e-4)
    assert float(found[28]) == pytest.approx(step / 2 - 1.0, abs=1e-4)
    assert found[29:].tolist() == [0.0] * 12


def test_comfort_of_carl_is_graded():
    track = steady(acceleration=2.5)  # one of six bounds
    assert float(carl(track)[0, -1]) == pytest.approx(100 / 300 * (1 - 0.5 / 6), abs=1e-4)


def test_what_cannot_be_scored_is_nan_and_leaves_the_others():
    broken = steady()
    broken.ego.state[0, 3, 0] = math.nan
    both = Track.cat([steady(), broken])
    for score in (nuplan_cls(both, torch.tensor([40.0, 40.0])), carla_ds(both)):
        assert bool(torch.isfinite(score.total[0]))
        assert bool(torch.isnan(score.total[1]))
        assert score.unscored == ["", "NaN in the ego's state"]
    figures = bench2drive(both)
    assert all(bool(torch.isnan(value[1])) and bool(torch.isfinite(value[0])) for value in figures.values())


def test_columns_after_the_end_do_not_count():
    track = steady(agents=[box(70.0, AgentKind.CAR)])
    valid = track.valid.clone()
    valid[:, 16:] = False
    cut = dataclasses.replace(track, valid=valid)
    assert float(carla_ds(cut).terms["penalty"]) == 1.0
    assert float(nuplan(cut, 15.0).total) == pytest.approx(100.0, abs=1e-2)
    assert carl(cut)[0, 16:].tolist() == [0.0] * 25


def test_two_stages_multiply_and_nearer_states_weigh_more():
    # exp(0) to exp(-ln 3): weights 3/4 and 1/4, so 87.5 points in the second stage
    first, second = torch.tensor([80.0, 50.0]), torch.tensor([[100.0, 50.0], [60.0, 60.0]])
    distance = torch.tensor([[0.0, math.log(3.0)], [2.0, 9.0]])
    assert epdms_two_stages(first, second, distance).tolist() == pytest.approx([70.0, 30.0])
    second[1, 0] = math.nan
    assert torch.isnan(epdms_two_stages(first, second, distance)).tolist() == [False, True]
    with pytest.raises(ValueError, match="need"):
        epdms_two_stages(first, second[:1], distance)
