"""Every rule on cases worked out by hand. The ego is the sedan: 4.8 m long, 1.9 m wide, rear axle 1.45 m behind its centre."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from rewards_worlds import LANE, LIMIT, drive, straight_road, with_junction
from scipy.signal import savgol_filter
from xpeng_world.rewards.history import smoothed
from xpeng_world.rewards.rules import (
    at_fault_collision,
    comfort,
    drivable_area,
    driving_direction,
    lane_keeping,
    off_route,
    on_road,
    progress,
    red_light,
    relative_progress,
    required_braking,
    speed_limit,
    time_to_collision,
)
from xpeng_world.rewards.rules.comfort import comfort_bounds
from xpeng_world.scene import AgentKind

GREEN, YELLOW, RED = 3, 2, 1


def values(rule, track, **parameters):
    return [round(v, 4) for v in rule(track, **parameters)[0].tolist()]


def steady(speed, steps, start=40.0):
    return [start + speed * 0.1 * t for t in range(steps)]


def test_front_collision_with_a_moving_car_is_at_fault_once():
    # gap between centres 8 - 0.5 t; they touch below (4.8 + 4.0) / 2 = 4.4, so first at t = 8 (8 - 4.0 = 4.0; at t = 7 it is 4.5)
    track = drive(*straight_road(), x=steady(10, 12), agents=[{"x": steady(5, 12, 48.0), "speed": 5.0}])
    assert values(at_fault_collision, track) == [1.0] * 8 + [0.0] + [1.0] * 3


def test_being_hit_from_behind_is_not_at_fault():
    track = drive(*straight_road(), x=steady(5, 12, 60.0), agents=[{"x": steady(10, 12, 52.0), "speed": 10.0}])
    assert values(at_fault_collision, track) == [1.0] * 12


def test_standing_ego_is_never_at_fault():
    for speed, expected in ((0.05, 1.0), (0.06, 0.0)):
        track = drive(*straight_road(), x=[40.0] * 3, speed=speed, agents=[{"x": [48.0, 48.0, 43.0], "heading": math.pi, "speed": 5.0}])
        assert values(at_fault_collision, track)[-1] == expected


def test_static_object_counts_half():
    agent = {"x": 46.0, "length": 1.0, "width": 1.0, "kind": int(AgentKind.STATIC)}
    # the box begins at 45.5, the ego's front is at 42.4 + t: it overlaps from t = 4 (46.4) on, at t = 3 it is 45.4
    assert values(at_fault_collision, drive(*straight_road(), x=steady(10, 6), agents=[agent])) == [1, 1, 1, 1, 0.5, 1]


def test_side_collision_is_at_fault_only_in_several_lanes():
    # a car beside the ego drifts into it; the ego's centre at y = 0 (all corners in lane 0) or y = 1 (corners at 0.05 and 1.95: two lanes)
    for y, expected in ((0.0, 1.0), (1.0, 0.0)):
        beside = {"x": steady(10, 5, 39.0), "y": [y + 3, y + 3, y + 3, y + 1.9, y + 1.9], "speed": 10.0}
        assert values(at_fault_collision, drive(*straight_road(), x=steady(10, 5), y=y, agents=[beside])) == [1, 1, 1, expected, 1]


def test_whoever_overlaps_at_the_start_is_ignored():
    agent = {"x": [43.0] * 4 + [60.0] * 2 + [44.0] * 2, "speed": 0.0}
    assert values(at_fault_collision, drive(*straight_road(), x=steady(1, 8), speed=1.0, agents=[agent])) == [1.0] * 8
    other = drive(*straight_road(), x=steady(1, 8), speed=1.0, agents=[agent])
    other.agents.id[0, 4:, 0] = 7  # another car in that slot: its contact counts
    assert values(at_fault_collision, other) == [1.0] * 6 + [0.0, 1.0]


def test_drivable_area_has_no_tolerance():
    # the road's right edge is at y = -1.6, the ego's right side 0.95 m right of its centre
    track = drive(*straight_road(), x=[50.0] * 3, y=[-0.64, -0.66, -1.7])
    assert values(drivable_area, track) == [1, 0, 0]
    assert values(on_road, track) == [1, 1, 0]


def test_junction_polygon_is_drivable():
    road, route = straight_road(lanes=1, oncoming=False)
    track = drive(with_junction(road, 100.0, 130.0), route, x=[90.0, 115.0], y=10.0)
    assert values(drivable_area, track) == [0, 1]


def test_driving_direction_sums_one_second_off_the_route():
    # the route's lanes reach to y = 4.8; at y = 6.4 the ego is on the oncoming lane, at 10 m/s 1 m a step
    y = [0.0] * 3 + [2 * LANE] * 10
    track = drive(*straight_road(), x=steady(10, 13), y=y, speed=10.0)
    # the step into the oncoming lane moves sqrt(1 + 6.4^2) = 6.48 m: at once 0
    assert values(driving_direction, track)[3] == 0
    slow = drive(*straight_road(), x=steady(5, 20), y=2 * LANE, speed=5.0)
    # 0.5 m a step, none in the first: 1.5 m at t = 3, 2.0 at t = 4, 5.0 at t = 10; the window of 11 columns never holds 6 m
    assert values(driving_direction, slow) == [1.0] * 4 + [0.5] * 16
    fast = drive(*straight_road(), x=steady(10, 9), y=2 * LANE, speed=10.0)
    assert values(driving_direction, fast) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0, 0, 0]  # t metres after t steps
    road, route = straight_road()
    excluded = drive(with_junction(road, 30.0, 60.0), route, x=steady(10, 9), y=2 * LANE, speed=10.0)
    assert values(driving_direction, excluded) == [1.0] * 9


@pytest.mark.parametrize(("state", "expected"), [(RED, 0.0), (YELLOW, 1.0), (GREEN, 1.0)])
def test_red_light_counts_at_the_line_once(state, expected):
    road, route = straight_road(stop_at=60.0)
    # front bumper at x + 2.4: 59.9, 60.4, ...: the box enters the region [60, 62] at t = 1
    track = drive(road, route, x=[57.5, 58.0, 58.5, 59.0], signals=[state] * 4)
    assert values(red_light, track) == [1.0, expected, 1.0, 1.0]


def test_light_that_turns_red_over_the_ego_is_no_crossing():
    road, route = straight_road(stop_at=60.0)
    track = drive(road, route, x=[57.5, 58.0, 58.5, 59.0], signals=[YELLOW, YELLOW, RED, RED])
    assert values(red_light, track) == [1.0] * 4


def test_red_light_of_the_other_direction_or_off_the_route_is_no_matter():
    road, route = straight_road(stop_at=60.0)
    crossing = {"x": [57.5, 58.0, 58.5], "signals": [RED] * 3}
    other_way = dataclasses.replace(road, signal_head=road.signal_head + torch.tensor([0, 0, 0, math.pi]))
    assert values(red_light, drive(other_way, route, **crossing)) == [1.0] * 3
    elsewhere = dataclasses.replace(route, lanes=torch.tensor([[5, 6, 7, 8, 9]]))  # the left lane alone
    assert values(red_light, drive(road, elsewhere, **crossing)) == [1.0] * 3


def test_time_to_collision_looks_09_seconds_ahead():
    # ego 10 m/s, standing car ahead: boxes touch when the centres are 4.4 apart; 0.9 s ahead the ego has moved 9 m
    for gap, expected in ((13.3, 0.0), (13.5, 1.0)):
        track = drive(*straight_road(), x=[40.0], speed=10.0, agents=[{"x": 40.0 + gap}])
        assert values(time_to_collision, track) == [expected]
    # with a horizon of 0.6 s it moves 6 m
    track = drive(*straight_road(), x=[40.0], speed=10.0, agents=[{"x": 50.5}])
    assert values(time_to_collision, track, horizon_s=0.6) == [1.0]
    assert values(time_to_collision, track) == [0.0]


def test_time_to_collision_counts_who_comes_from_the_side_only_in_several_lanes():
    # 0.9 s ahead the walker is 0.8 m left of the ego's middle (half widths 0.95 + 0.3) and, from the rear axle at x = 38.55, at
    # atan2(0.8, 0.95) = 40 degrees: neither ahead nor behind; at 0.6 s it is still 1.7 m off
    for y, expected in ((0.0, 1.0), (1.0, 0.0)):
        walker = {
            "x": 39.5,
            "y": y + 3.5,
            "heading": -math.pi / 2,
            "speed": 3.0,
            "length": 0.6,
            "width": 0.6,
            "kind": int(AgentKind.PEDESTRIAN),
        }
        assert values(time_to_collision, drive(*straight_road(), x=[40.0], y=y, speed=1.0, agents=[walker])) == [expected]


def test_time_to_collision_is_skipped_for_a_standing_ego():
    oncoming = {"x": 47.0, "heading": math.pi, "speed": 10.0}
    for speed, expected in ((0.004, 1.0), (0.006, 0.0)):
        assert values(time_to_collision, drive(*straight_road(), x=[40.0], speed=speed, agents=[oncoming])) == [expected]


def test_progress_is_metres_along_the_route():
    track = drive(*straight_road(), x=[40.0, 41.0, 41.5, 41.0], y=[0, 0.5, 0.5, 0.5])
    assert values(progress, track) == [0.0, 1.0, 0.5, -0.5]


def test_progress_never_jumps():
    # a route that comes back 1 m beside itself: stepping over to the way back moves 1 m and would gain about 160 m of route
    road, route = straight_road()
    there, back = torch.arange(0.0, 101.0, 2.0), torch.arange(100.0, 19.0, -2.0)
    points = torch.cat((torch.stack((there, torch.zeros_like(there)), -1), torch.stack((back, torch.ones_like(back)), -1)))
    route = dataclasses.replace(route, points=points[None], length=torch.tensor([101.0 + 80.0]))
    track = drive(road, route, x=[40.0, 40.0], y=[0.0, 1.0], speed=0.0)
    assert values(progress, track) == [0.0, 2.0]  # twice the metre it moved


def test_lane_keeping_fails_after_two_seconds_beside_the_centre():
    track = drive(*straight_road(), x=steady(10, 30), y=[0.0] * 3 + [0.51] * 27, speed=10.0)
    assert values(lane_keeping, track) == [1.0] * 22 + [0.0] * 8  # 20 columns off: t = 3 .. 22
    assert values(lane_keeping, drive(*straight_road(), x=steady(10, 30), y=0.49, speed=10.0)) == [1.0] * 30
    broken = [0.51] * 19 + [0.0] + [0.51] * 10
    assert values(lane_keeping, drive(*straight_road(), x=steady(10, 30), y=broken, speed=10.0)) == [1.0] * 30


def test_junction_steps_neither_count_nor_break_lane_keeping():
    road, route = straight_road()
    road = with_junction(road, 49.5, 59.5)  # columns 10 to 19 of x = 40, 41, ...
    track = drive(road, route, x=steady(10, 35), y=0.6, speed=10.0)
    assert values(lane_keeping, track) == [1.0] * 29 + [0.0] * 6  # 10 columns before it, 10 after: at t = 29


def test_speed_limit_falls_to_nought():
    track = drive(*straight_road(), x=[40.0] * 4, speed=[LIMIT, LIMIT + 1.115, LIMIT + 2.23, 5.0])
    assert values(speed_limit, track) == [1.0, 0.5, 0.0, 1.0]


def test_off_route_is_a_distance():
    assert values(off_route, drive(*straight_road(), x=[50.0, 50.0], y=[3.0, -31.0])) == [3.0, 31.0]


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ({"acceleration": 2.39}, 6),
        ({"acceleration": 2.41}, 5),
        ({"acceleration": -4.04}, 6),
        ({"acceleration": -4.06}, 5),
        ({"speed": 10.0, "yaw_rate": 0.488}, 6),  # 4.88 m/s2 across
        ({"speed": 10.0, "yaw_rate": -0.490}, 5),
        ({"heading": [0.094 * t for t in range(30)]}, 6),  # 0.94 rad/s
        ({"heading": [-0.096 * t for t in range(30)]}, 5),
    ],
)
def test_comfort_bounds(state, kept):
    track = drive(*straight_road(), x=[40.0] * 30, **({"speed": 1.0} | state))
    got = values(comfort, track, graded=True)[-1]
    assert got == pytest.approx(kept / 6, abs=1e-3)
    assert values(comfort, track)[-1] == float(got > 0.999)


def test_comfort_jerk_bounds():
    # a straight line passes both filters unchanged, so 22 columns of steady jerk give that jerk
    for jerk, kept in ((4.12, True), (4.14, False), (-4.12, True), (-4.14, False)):
        track = drive(*straight_road(), x=[40.0] * 24, speed=1.0, acceleration=[0.1 * jerk * (t - 12) for t in range(24)])
        assert bool(comfort_bounds(track)[0, -1, 3]) is kept
    for jerk, kept in ((8.36, True), (8.38, False)):  # of the magnitude: only across, at 1 m/s
        track = drive(*straight_road(), x=[40.0] * 24, speed=1.0, yaw_rate=[0.1 * jerk * t for t in range(24)])
        assert bool(comfort_bounds(track)[0, -1, 2]) is kept


def test_comfort_yaw_acceleration_bound():
    for acceleration, kept in ((1.92, True), (1.94, False)):
        track = drive(*straight_road(), x=[40.0] * 8, speed=0.0, heading=[0.5 * acceleration * (0.1 * t) ** 2 for t in range(8)])
        assert bool(comfort_bounds(track)[0, -1, 5]) is kept


def test_heading_may_pass_half_a_turn():
    heading = [(math.pi - 0.2 + 0.04 * t + math.pi) % (2 * math.pi) - math.pi for t in range(12)]
    assert values(comfort, drive(*straight_road(), x=[40.0] * 12, speed=1.0, heading=heading)) == [1.0] * 12


def test_smoothing_is_scipys_last_value():
    generator = np.random.default_rng(0)
    series = generator.normal(size=40)
    for window, order, derivative in ((8, 2, 0), (15, 2, 1), (5, 2, 1), (5, 3, 2)):
        mine = smoothed(torch.tensor(series)[None], window, order, derivative, step=0.1)[0]
        for t in (window - 1, 20, 39):
            reference = savgol_filter(series[: t + 1], window, order, deriv=derivative, delta=0.1)[-1]
            assert float(mine[t]) == pytest.approx(reference, abs=1e-8)


def test_relative_progress_asks_for_the_limit_on_a_free_road():
    track = drive(*straight_road(), x=[40.0, 41.0, 41.5, 41.5])
    assert values(relative_progress, track) == [0.0, 1.0, 0.5, 0.0]  # 1 m a step is the limit of 10 m/s


def test_waiting_earns_only_where_it_is_right():
    road, route = straight_road(stop_at=60.0)
    standing = {"x": [56.5, 56.5], "speed": 0.0}  # front at 58.9, 1.1 m before the line
    assert values(relative_progress, drive(road, route, signals=[RED] * 2, **standing))[-1] == 1.0
    assert values(relative_progress, drive(road, route, signals=[GREEN] * 2, **standing))[-1] == 0.0
    behind = [{"x": 62.5}]  # its rear is at 60.5, 1.6 m ahead of the front
    assert values(relative_progress, drive(road, route, signals=[GREEN] * 2, agents=behind, **standing))[-1] == 1.0
    beside = [{"x": 62.5, "y": LANE}]
    assert values(relative_progress, drive(road, route, signals=[GREEN] * 2, agents=beside, **standing))[-1] == 0.0


def test_relative_progress_before_a_red_light_follows_the_braking_curve():
    road, route = straight_road(stop_at=60.0)
    # front at 48.5 + 2.4 = 50.9, 9.1 m before the line, of which 1.5 are left: sqrt(2 * 2 * 7.6) = 5.514 m/s is right
    track = drive(road, route, x=[48.25, 48.5], signals=[RED] * 2, speed=2.5)
    assert values(relative_progress, track)[-1] == pytest.approx(2.5 / 5.514, abs=1e-3)


def test_required_braking_for_the_box_ahead():
    # the ego's front is at 40 + 2.4 = 42.4 and closes at 10 m/s; each gap is 1 m more than counts
    for gap, needed in ((51.0, 1.0), (26.0, 2.0), (15.2857, 3.5), (11.0, 5.0), (6.0, 10.0)):  # 10^2 / (2 * (gap - 1))
        track = drive(*straight_road(), x=[40.0], speed=10.0, agents=[{"x": 42.4 + gap + 2.25, "length": 4.5}])
        assert values(required_braking, track)[-1] == pytest.approx(min(1, max(0, 1 - (needed - 2) / 3)), abs=2e-3)
    fleeing = drive(*straight_road(), x=[40.0], speed=10.0, agents=[{"x": 47.0, "speed": 10.0}])
    assert values(required_braking, fleeing) == [1.0]  # nobody closes in


def test_required_braking_for_a_red_light_and_no_other():
    road, route = straight_road(stop_at=60.0)
    moving = {"x": [46.6], "speed": 9.0}  # front at 49.0, 11 m before the line: 81 / (2 * 10) = 4.05
    assert values(required_braking, drive(road, route, signals=[RED], **moving))[-1] == pytest.approx(1 - 2.05 / 3, abs=1e-3)
    assert values(required_braking, drive(road, route, signals=[GREEN], **moving))[-1] == 1.0
