"""Rules of distance, priority, lanes and ride on cases worked out by hand. The ego is the sedan: 4.8 m long, 1.9 m wide."""

import dataclasses
import math

import pytest
import torch
from rewards_worlds import LANE, drive, straight_road, with_junction
from xpeng_world.rewards.rules import (
    blocking,
    energy,
    headway,
    jerk,
    kerb_distance,
    lane_change_gap,
    lane_change_notice,
    min_speed,
    needless_lane_change,
    overtaking_side,
    relative_progress,
    ride_comfort,
    route_adherence,
    safe_distance,
    shoulder,
    side_distance,
    speed_for_conditions,
    steering_reversals,
    stop_sign,
    wrong_way,
    yield_to_priority,
    yield_to_walkers,
)
from xpeng_world.road import LaneKind
from xpeng_world.scene import AgentKind, Appearance

GREEN, OFF, STOP = 3, 0, 4
WALKER = {"length": 0.6, "width": 0.6, "kind": int(AgentKind.PEDESTRIAN)}
CHANGE = {"x": [40.0, 41.0, 42.0, 43.0], "y": [1.3, 1.5, 1.7, 1.9], "speed": 10.0}  # into the left lane at t = 2


def values(rule, track, **parameters):
    return [round(v, 4) for v in rule(track, **parameters)[0].tolist()]


def ahead(gap, **others):
    """A car of 4 m whose rear is `gap` ahead of the front of an ego at x = 40."""
    return {"x": 40.0 + 2.4 + gap + 2.0, **others}


def at_limit(limit):
    road, route = straight_road()
    return dataclasses.replace(road, speed_limit=torch.full_like(road.speed_limit, limit)), route


@pytest.mark.parametrize(
    ("gap", "speed", "expected"),
    # a second at 3.5 m/s2 from 10 m/s: 11.75 m, then from 13.5 m/s by 4 m/s2: 22.78125 m; the leader's stop takes off v^2 / 16
    [(34.6, 0.0, 1.0), (17.265625, 0.0, 0.5), (30.6, 8.0, 1.0), (15.265625, 8.0, 0.5)],
)
def test_safe_distance_leaves_room_to_stop(gap, speed, expected):
    track = drive(*straight_road(), x=[40.0], speed=10.0, agents=[ahead(gap, speed=speed)])
    assert values(safe_distance, track) == [expected]


def test_safe_distance_holds_on_a_free_road():
    assert values(safe_distance, drive(*straight_road(), x=[40.0], speed=30.0)) == [1.0]


@pytest.mark.parametrize(("y", "expected"), [(2.2001, 1.0), (2.075, 0.5), (-2.075, 0.5), (1.9, 0.0)])
def test_side_distance_is_what_both_may_drift(y, expected):
    # each drifts 0.1 m in a second at 0.2 m/s2 and 0.2^2 / 1.6 = 0.025 m more: 0.25 m together; the half widths are 1 and 0.95
    beside = {"x": 41.0, "y": y, "speed": 10.0}
    assert values(side_distance, drive(*straight_road(), x=[40.0], speed=10.0, agents=[beside])) == [expected]
    assert values(side_distance, drive(*straight_road(), x=[40.0], speed=0.0, agents=[beside])) == [1.0]
    assert values(side_distance, drive(*straight_road(), x=[40.0], speed=10.0, agents=[beside | {"x": 44.5}])) == [1.0]


def test_side_distance_grows_with_the_speed_across():
    # 10 sin 0.05 = 0.49979 m/s to the left: 0.59979 m and 0.69979^2 / 1.6 = 0.30607 m for the ego, 0.125 m for the other: 1.03086 m.
    # In the ego's frame the other is 3 cos 0.05 = 2.99625 m left, with half extents across of 1.09871 and 0.95: 0.94754 m apart
    track = drive(*straight_road(), x=[40.0], heading=0.05, speed=10.0, agents=[{"x": 40.0, "y": 3.0, "speed": 10.0}])
    assert values(side_distance, track) == pytest.approx([0.94754 / 1.03086], abs=1e-3)


@pytest.mark.parametrize(("gap", "speed", "expected"), [(20.1, 10.0, 1.0), (10.0, 10.0, 0.5), (1.0, 1.9, 1.0), (2.05, 2.05, 0.5)])
def test_headway_is_two_seconds(gap, speed, expected):
    assert values(headway, drive(*straight_road(), x=[40.0], speed=speed, agents=[ahead(gap)])) == [expected]


@pytest.mark.parametrize(
    ("y", "way", "expected"),
    [
        # the ego's way is 0.95 + 0.5 + 0.3 = 1.75 m to each side: in it from 1.5 s to 3.8 s, and the ego is there after 17.3 m, 1.73 s;
        # 100 / (2 * 15.3) = 3.268 m/s2
        (-4.0, 1, 1 - 1.26797 / 3),
        (-4.0, -1, 1.0),  # walks away
        (-12.0, 1, 1.0),  # comes 5 s after the ego
        (4.0, -1, 1 - 1.26797 / 3),
    ],
)
def test_walkers_on_the_way_are_yielded_to(y, way, expected):
    walker = WALKER | {"x": 60.0, "y": y, "heading": way * math.pi / 2, "speed": 1.5}
    track = drive(*straight_road(), x=[40.0], speed=10.0, agents=[walker])
    assert values(yield_to_walkers, track) == pytest.approx([expected], abs=1e-3)
    assert values(yield_to_walkers, drive(*straight_road(), x=[40.0], speed=4.0, agents=[walker])) == [1.0]  # 16 / 30.6 is gentle


def test_who_comes_from_the_right_goes_first():
    # 20 m ahead less its half width and the ego's half length: 16.6 m, 1.66 s; it needs (15 - 2 - 0.95) / 8 = 1.51 s
    crossing = {"x": 60.0, "y": -15.0, "heading": math.pi / 2, "speed": 8.0}
    expected = pytest.approx([1 - (100 / (2 * 15.6) - 2) / 3], abs=1e-3)
    road, route = straight_road()
    here = {"x": [40.0], "speed": 10.0}
    assert values(yield_to_priority, drive(road, route, **here, agents=[crossing])) == expected
    assert values(yield_to_priority, drive(road, route, **here, agents=[crossing | {"y": 15.0, "heading": -math.pi / 2}])) == [1.0]
    assert values(yield_to_priority, drive(road, route, **here, agents=[crossing | {"y": -40.0}])) == [1.0]  # comes 3 s later
    assert values(yield_to_priority, drive(with_junction(road, 30.0, 50.0), route, **here, agents=[crossing])) == [1.0]
    left = dataclasses.replace(road, traffic_side=-torch.ones_like(road.traffic_side))
    assert values(yield_to_priority, drive(left, route, **here, agents=[crossing])) == [1.0]


@pytest.mark.parametrize(
    ("speeds", "x", "expected"),
    [
        # the line is at x = 60, so the front (2.4 m ahead) enters its region at x > 57.6: in step 2 of those drives
        ([1.0, 1.0, 1.0, 1.0], [57.4, 57.5, 57.7, 57.8], [1, 1, 0, 1]),  # rolls through
        ([0.09, 1.0, 1.0, 1.0], [57.4, 57.5, 57.7, 57.8], [1, 1, 1, 1]),  # stood just before
        ([0.1, 1.0, 1.0, 1.0], [57.4, 57.5, 57.7, 57.8], [1, 1, 0, 1]),  # 0.1 m/s is not standing
        ([0.0] + [1.0] * 20 + [1.0], [55.5] * 21 + [57.7], [1] * 21 + [0]),  # stood 2.1 s ago
        ([0.0] + [1.0] * 19 + [1.0], [55.5] * 20 + [57.7], [1] * 21),  # 2.0 s ago
        ([9.0, 9.0], [57.7, 58.6], [1, 1]),  # was in the region from the beginning
    ],
)
def test_a_stop_sign_is_stopped_for(speeds, x, expected):
    road, route = straight_road(stop_at=60.0)
    track = drive(road, route, x=x, speed=speeds, signals=[STOP] * len(x))
    assert values(stop_sign, track) == expected
    assert values(stop_sign, drive(road, route, x=x, speed=speeds, signals=[GREEN] * len(x))) == [1] * len(x)


def test_waiting_at_a_stop_sign_is_right():
    # the front is 1.4 m before the line, nearer than the 1.5 m of a stand: the right speed is nought
    road, route = straight_road(stop_at=60.0)
    waits = {"x": [56.2] * 3, "speed": 0.0}
    assert values(relative_progress, drive(road, route, **waits, signals=[STOP] * 3)) == [1.0] * 3
    assert values(relative_progress, drive(road, route, **waits, signals=[OFF] * 3)) == [0.0] * 3
    behind = [{"x": 48.0}]
    assert values(blocking, drive(road, route, **waits, agents=behind, signals=[STOP] * 3)) == [0.0] * 3
    assert values(blocking, drive(road, route, **waits, agents=behind, signals=[OFF] * 3)) == [1.0] * 3


def test_at_a_stop_sign_everybody_who_crosses_goes_first():
    road, route = straight_road(stop_at=60.0)
    from_left = {"x": 65.0, "y": 15.0, "heading": -math.pi / 2, "speed": 8.0}
    # as from the right: 25 m less 2.4 and 1 is 21.6 m, 2.16 s against 1.51 s; 100 / (2 * 20.6) = 2.42718 m/s2. The line is 17.6 m ahead
    # of the front, out of the 15 m in which signals are near, so the ego is taken 3 m nearer: 100 / (2 * 14.6) = 3.42466, 1.56 s
    near = drive(road, route, x=[46.0], speed=10.0, agents=[from_left], signals=[STOP])
    assert values(yield_to_priority, near) == pytest.approx([1 - (100 / (2 * 14.6) - 2) / 3], abs=1e-3)
    assert values(yield_to_priority, drive(road, route, x=[46.0], speed=10.0, agents=[from_left], signals=[OFF])) == [1.0]


@pytest.mark.parametrize(
    ("before", "expected"),
    # the ego drifts at 10 sin 0.2 = 1.99 m/s and is over the line in the last step, which counts as drifting too
    [(20, 1.0), (14, 1.0), (9, 0.5), (4, 0.0), (0, 0.0)],
)
def test_a_change_of_lane_is_seen_coming(before, expected):
    steps = 25
    y = [1.7 - 0.0001 * (steps - 1 - t) if t == steps - 1 else 1.5 - 0.001 * (steps - 1 - t) for t in range(steps)]
    heading = [0.2 if t >= steps - 1 - before else 0.0 for t in range(steps)]
    track = drive(*straight_road(), x=[40.0 + t for t in range(steps)], y=y, heading=heading, speed=10.0)
    assert values(lane_change_notice, track) == pytest.approx([1.0] * (steps - 1) + [expected], abs=1e-3)


def test_a_working_light_decides_instead_of_priority():
    road, route = straight_road(stop_at=60.0)
    crossing = {"x": 70.0, "y": -15.0, "heading": math.pi / 2, "speed": 6.0}
    for state, yields in ((GREEN, False), (OFF, True)):
        track = drive(road, route, x=[52.0], speed=10.0, signals=[state], agents=[crossing])
        assert (values(yield_to_priority, track)[0] < 1) is yields


@pytest.mark.parametrize(
    ("weather", "speed", "expected"),
    [(Appearance.DAYLIGHT, 10.0, 1.0), (Appearance.RAIN, 8.5, 1.0), (Appearance.RAIN, 9.615, 0.5), (Appearance.DUSK, 10.615, 0.5)],
)
def test_rain_and_dusk_lower_the_limit(weather, speed, expected):
    track = drive(*straight_road(), x=[40.0], speed=speed)
    track = dataclasses.replace(track, appearance=torch.tensor([int(weather)]))
    assert values(speed_for_conditions, track) == [expected]


def test_overtaking_on_the_side_of_the_kerb():
    fast = {"x": [40.0, 42.0, 44.0], "speed": 20.0}
    slower = {"x": [41.0, 41.8, 42.6], "y": LANE, "speed": 8.0}  # left of the ego, passed at t = 1
    road, route = at_limit(20.0)
    assert values(overtaking_side, drive(road, route, **fast, agents=[slower])) == [1, 0, 1]
    assert values(overtaking_side, drive(*straight_road(), **fast, agents=[slower])) == [1, 1, 1]  # in towns lanes are free to choose
    queue = {"x": [41.0, 42.6 - 0.8, 42.6], "y": LANE, "speed": 16.0}
    assert values(overtaking_side, drive(road, route, **fast, agents=[queue])) == [1, 1, 1]
    assert values(overtaking_side, drive(road, route, **fast, y=LANE, agents=[slower | {"y": 0.0}])) == [1, 1, 1]
    other = drive(road, route, **fast, agents=[slower])
    other.agents.id[0, 1:, 0] = 5  # another car in that slot, which never was ahead
    assert values(overtaking_side, other) == [1, 1, 1]


def test_lane_changes_leave_others_room():
    # at t = 2 the follower's front is 42 - 12.4 + 2 = 31.6, 8 m behind the ego's rear, and closes at 6 m/s: 36 / 16 = 2.25 m/s2
    follower = {"x": [28.0, 28.8, 29.6, 30.4], "y": LANE, "speed": 16.0}
    assert values(lane_change_gap, drive(*straight_road(), **CHANGE, agents=[follower])) == [1, 1, 0.875, 1]
    assert values(lane_change_gap, drive(*straight_road(), **CHANGE, agents=[follower | {"y": 0.0}])) == [1] * 4
    assert values(lane_change_gap, drive(*straight_road(), **CHANGE, agents=[{"x": 44.0, "y": LANE, "speed": 10.0}])) == [1, 1, 0, 1]
    assert values(lane_change_gap, drive(*straight_road(), **CHANGE)) == [1] * 4


def test_a_change_of_lane_needs_a_reason():
    road, route = straight_road()
    assert values(needless_lane_change, drive(road, route, **CHANGE)) == [0, 0, 1, 0]
    slow = {"x": 70.0, "y": 0.0, "speed": 5.0}
    assert values(needless_lane_change, drive(road, route, **CHANGE, agents=[slow])) == [0] * 4
    assert values(needless_lane_change, drive(road, route, **CHANGE, agents=[slow | {"speed": 9.0}])) == [0, 0, 1, 0]
    back = CHANGE | {"y": [1.9, 1.7, 1.5, 1.3]}
    assert values(needless_lane_change, drive(road, route, **back)) == [0] * 4
    elsewhere = dataclasses.replace(route, lanes=torch.tensor([[0, 5, 6, 7, 8, 9]]))  # the right lane leads nowhere after its first piece
    assert values(needless_lane_change, drive(road, elsewhere, **CHANGE)) == [0] * 4


def test_a_fast_change_is_one_change():
    # 3 m a step, 0.3 m of it to the left
    steps = range(12)
    track = drive(*straight_road(), x=[40.0 + 3 * t for t in steps], y=[0.3 * t for t in steps], heading=0.1, speed=30.0)
    assert values(needless_lane_change, track) == [0] * 6 + [1] + [0] * 5


def test_whoever_crawls_without_reason_blocks():
    behind = {"x": 30.0}
    road, route = straight_road()
    crawl = lambda speed, *others: values(blocking, drive(road, route, x=[40.0], speed=speed, agents=list(others)))
    assert crawl(1.0, behind) == [1.0]
    assert crawl(3.0, behind) == [0.0]
    assert crawl(1.0, behind, ahead(1.6)) == [0.0]
    assert crawl(1.0, behind, ahead(40.0)) == [1.0]
    assert crawl(1.0, {"x": 5.0}) == [0.0]  # 30.6 m off
    assert crawl(1.0, behind | {"y": LANE}) == [0.0]


def test_driving_against_the_traffic():
    road, route = straight_road()
    track = drive(road, route, x=[50.0] * 4, y=[0.0, LANE, 2 * LANE, 2 * LANE], heading=[0.0, 0.0, 0.0, math.pi], speed=5.0)
    assert values(wrong_way, track) == [1, 1, 0, 1]
    assert values(wrong_way, drive(road, route, x=[50.0], y=2 * LANE, speed=0.4)) == [1]
    assert values(wrong_way, drive(with_junction(road, 40.0, 60.0), route, x=[50.0], y=2 * LANE, speed=5.0)) == [1]


def test_the_shoulder_is_for_standing():
    road, route = straight_road()
    road = dataclasses.replace(road, kind=torch.where(torch.arange(road.kind.shape[1]) < 5, int(LaneKind.SHOULDER), road.kind))
    track = drive(road, route, x=[50.0] * 3, y=[0.0, 0.0, LANE], speed=[5.0, 0.4, 5.0])
    assert values(shoulder, track) == [0, 1, 1]


def test_kerb_distance_is_from_the_side_of_the_car():
    # the road ends at y = -1.6, and the car's right side is 0.95 m right of its centre
    track = drive(*straight_road(), x=[50.0] * 5, y=[0.0, -0.36, -0.5, -0.66, -1.7])
    assert values(kerb_distance, track) == pytest.approx([1, 0.29 / 0.3, 0.5, 0, 0], abs=1e-3)
    assert values(kerb_distance, track, margin_m=0.6)[:3] == pytest.approx([1, 0.29 / 0.6, 0.25], abs=1e-3)
    road, route = straight_road()
    wide = drive(with_junction(road, 30.0, 80.0), route, x=[50.0], y=20.0 - 0.95 - 0.15)  # its far edge is at y = 20
    assert values(kerb_distance, wide) == pytest.approx([0.5], abs=1e-3)


def test_jerk_is_the_slope_of_the_acceleration():
    track = drive(*straight_road(), x=[40.0] * 8, speed=1.0, acceleration=[-0.2 * t for t in range(8)])
    assert values(jerk, track)[-1] == pytest.approx(2.0, abs=1e-3)
    assert values(jerk, track, free_mps3=0.5)[-1] == pytest.approx(1.5, abs=1e-3)


def test_energy_is_power_at_the_wheels():
    # 1600 N of inertia, 0.6 * 0.65 * 100 = 39 N of air and 188.352 N of tyres at 10 m/s
    track = drive(*straight_road(), x=[40.0] * 3, speed=10.0, acceleration=[1.0, 0.0, -2.0])
    assert values(energy, track) == pytest.approx([18.27352, 2.27352, 0.0], abs=1e-3)
    assert values(energy, track, recovered=0.5) == pytest.approx([18.27352, 2.27352, -0.5 * 29.72648], abs=1e-3)


def test_steering_to_and_fro_counts_once():
    steering = [0.0, 0.01, 0.0, 0.0, 0.0, 0.003, 0.0]  # 0.57 degrees, then less than 0.2
    track = drive(*straight_road(), x=[40.0] * 7, speed=5.0, steering=steering)
    assert values(steering_reversals, track) == [0, 0, 1, 0, 0, 0, 0]
    held = drive(*straight_road(), x=[40.0] * 7, speed=5.0, steering=[0.0, 0.01, 0.02, 0.03, 0.03, 0.03, 0.03])
    assert values(steering_reversals, held) == [0] * 7


def test_ride_comfort_is_the_felt_acceleration():
    for state in ({"acceleration": 0.9575}, {"speed": 10.0, "yaw_rate": 0.09575}):
        track = drive(*straight_road(), x=[40.0] * 25, **({"speed": 1.0} | state))
        assert values(ride_comfort, track)[-1] == pytest.approx(0.5, abs=1e-3)
    assert values(ride_comfort, drive(*straight_road(), x=[40.0] * 25, speed=1.0, acceleration=0.3))[-1] == 1.0


def test_min_speed_is_that_of_the_others():
    other = {"x": 60.0, "y": LANE, "speed": 10.0}
    mean = lambda speed, *agents: values(min_speed, drive(*straight_road(), x=[40.0], speed=speed, agents=list(agents)))
    assert mean(5.0, other) == [0.5]
    assert mean(6.0, other, other | {"x": 30.0, "speed": 14.0}) == [0.5]
    assert mean(12.0, other) == [1.0]
    assert mean(5.0, other | {"x": 91.0}) == mean(5.0, other | {"heading": math.pi}) == mean(5.0, other | {"speed": 0.4}) == [1.0]


def test_route_adherence_allows_junctions():
    road, route = straight_road()
    assert values(route_adherence, drive(road, route, x=[50.0] * 3, y=[0.0, LANE, 2 * LANE])) == [1, 1, 0]
    assert values(route_adherence, drive(with_junction(road, 40.0, 60.0), route, x=[50.0], y=2 * LANE)) == [1]
