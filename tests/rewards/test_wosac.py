"""Realism of simulated road users on cases worked out by hand. The ego is the sedan: 4.8 m long, 1.9 m wide; agents are 4 by 2 m."""

import dataclasses
import math

import pytest
import torch
from rewards_worlds import drive, moved_world, straight_road
from xpeng_world.errors import DataError
from xpeng_world.geometry import box_corners, signed_box_distance
from xpeng_world.rewards.facts import road_edges
from xpeng_world.rewards.scores import agent_features, wosac
from xpeng_world.rewards.scores.wosac import TERMS
from xpeng_world.scene import DT, Track

STEPS, BEGIN = 14, 3
RED, GREEN = 1, 3


def scene(ego=9.0, leader=9.0, gap=20.0, y=0.0, steps=STEPS, signals=GREEN, at=20.0):
    """The ego at x = 20 and a car whose rear is `gap` ahead of its front, both keeping their speeds from column BEGIN - 1 on."""
    road, route = straight_road(stop_at=60.0)
    along = lambda start, speed: [start + DT * (9.0 * min(t, BEGIN - 1) + speed * max(0, t - BEGIN + 1)) for t in range(steps)]
    car = {"x": along(at + 2.4 + gap + 2.0, leader), "speed": leader}
    sideways = [0.0] * BEGIN + [y] * (steps - BEGIN)
    return drive(road, route, x=along(at, ego), y=sideways, speed=ego, agents=[car], signals=[signals] * steps)


def test_the_weights_sum_to_one():
    assert sum(term.weight for term in TERMS.values()) == pytest.approx(1.0)


def test_rollouts_like_the_log():
    # 11 steps are simulated, of which the last has no central difference: in two rollouts 20 samples of 9 m/s, all in the bin from 7.5 to
    # 10 m/s, against 10 bins with 0.1 each. Nothing ever happens: (2 + 0.001) / (2 + 0.002)
    found = wosac(scene(), Track.cat([scene(), scene()]), BEGIN)
    assert found.objects == 2
    assert found.unscored == ""
    assert found.terms["linear_speed"] == pytest.approx(20.1 / 21.0, abs=1e-5)
    assert found.terms["time_to_collision"] == pytest.approx(22.1 / 23.0, abs=1e-5)  # nobody closes in: always the last bin
    for name in ("collision", "off_road", "red_light"):
        assert found.terms[name] == pytest.approx(2.001 / 2.002, abs=1e-6)
    assert found.rates["ade_m"] == found.rates["min_ade_m"] == 0
    total = sum(TERMS[name].weight * value for name, value in found.terms.items())
    assert found.total == pytest.approx(total)
    assert found.groups["kinematic"] == pytest.approx(sum(found.terms[n] for n in list(TERMS)[:4]) / 4)


def test_a_log_that_the_rollouts_do_not_hold():
    # both drive 14 m/s in the rollouts: the difference over column 3 (9 and 14 m/s in turn: 14 from column 2 on) is the simulated one
    rollouts = Track.cat([scene(ego=14.0, leader=14.0)] * 3)
    found = wosac(scene(), rollouts, BEGIN)
    assert found.terms["linear_speed"] == pytest.approx(0.1 / 31.0, rel=1e-4)
    assert found.rates["ade_m"] == pytest.approx(sum(0.5 * t for t in range(1, 12)) / 11, abs=1e-4)  # 5 m/s * 0.1 s a step


def test_a_crash_in_one_of_four_rollouts():
    # 20 m at 30 m/s less 9 are gone after 0.95 s: in the tenth of eleven steps
    fine, crash = scene(), scene(ego=30.0)
    found = wosac(fine, Track.cat([fine, fine, fine, crash]), BEGIN)
    assert found.terms["collision"] == pytest.approx(3.001 / 4.002, abs=1e-6)
    assert found.rates["collision"] == 0.25
    assert found.rates["log_collision"] == 0
    after = wosac(crash, Track.cat([fine, fine, fine, crash]), BEGIN)
    assert after.terms["collision"] == pytest.approx(1.001 / 4.002, abs=1e-6)
    assert after.rates["log_collision"] == 1


def test_features_by_hand():
    # the leader is 12 m ahead of the front in column 2; closing in at 5 m/s, 11.5 m and 2.3 s are left in column 3
    track = scene(ego=10.0, leader=5.0, gap=12.0, y=-1.0)
    found = agent_features(track, [0])
    gap = 12.0 - 0.5  # the middles are 1 m apart across, the half widths 0.95 and 1
    assert float(found["distance_to_nearest_object"][0, 0, 3]) == pytest.approx(gap, abs=1e-3)
    assert float(found["distance_to_nearest_object"][0, 1, 3]) == pytest.approx(gap, abs=1e-3)
    assert float(found["time_to_collision"][0, 0, 4]) == pytest.approx((gap - 0.5) / 5.0, abs=1e-3)
    assert float(found["time_to_collision"][0, 1, 4]) == 5.0  # it follows nobody
    # the road ends at y = -1.6: the ego's right side is at -0.95, then at -1.95
    assert float(found["distance_to_road_edge"][0, 0, 2]) == pytest.approx(-0.65, abs=1e-3)
    assert float(found["distance_to_road_edge"][0, 0, 3]) == pytest.approx(0.35, abs=1e-3)
    assert found["off_road"][0, 0].tolist() == [False] * 3 + [True] * 11
    assert not bool(found["off_road"][0, 1].any())
    # 9, then 10 m/s: the difference over column 2 is 9.5 m/s, so acceleration over column 3 is (10 - 9.5) / 0.2
    straight = agent_features(scene(ego=10.0), [0])
    assert straight["linear_speed"][0, 0, 1:4].tolist() == pytest.approx([9.0, 9.5, 10.0], abs=1e-3)
    assert straight["linear_acceleration"][0, 0, 2:5].tolist() == pytest.approx([5.0, 2.5, 0.0], abs=1e-2)
    assert math.isnan(float(straight["linear_speed"][0, 0, -1]))
    assert math.isnan(float(straight["linear_acceleration"][0, 0, -2]))


def test_turning_past_the_back_is_a_small_turn():
    road, route = straight_road()
    heading = [math.pi - 0.02, math.pi - 0.01, -math.pi, -math.pi + 0.01, -math.pi + 0.02]
    found = agent_features(drive(road, route, x=[50.0] * 5, heading=heading, speed=0.0), [])
    assert found["angular_speed"][0, 0, 1:4].tolist() == pytest.approx([0.1] * 3, abs=1e-4)


@pytest.mark.parametrize(("signals", "expected"), [(RED, 1), (GREEN, 0)])
def test_lines_crossed_under_red(signals, expected):
    # the middle of the ego comes from x = 59.8 to 60.7 in column 3, the line is at x = 60
    found = agent_features(scene(at=58.0, signals=signals), [0])
    assert found["red_light"][0, 0].sum() == expected
    assert bool(found["red_light"][0, 0, 3]) == bool(expected)


def test_objects_are_known_by_their_ids():
    log, other = scene(), scene(ego=12.0)
    more = dataclasses.replace(other, agents=other.agents.map(lambda t: torch.cat((torch.zeros_like(t), t), 2)))
    more.agents.id[:, :, 0] = -1
    assert wosac(log, more, BEGIN) == wosac(log, other, BEGIN)


def test_who_is_missing_gives_no_samples():
    gone = scene()
    gone.agents.valid[:, 8:] = False
    found = wosac(scene(), Track.cat([scene(), gone]), BEGIN)
    # the ego has 20 samples in its bin, the car 10 + 4: columns 3 to 6, for column 7 has no neighbour any more
    assert found.terms["linear_speed"] == pytest.approx(math.sqrt((20.1 / 21.0) * (14.1 / 15.0)), abs=1e-5)
    only = wosac(scene(), Track.cat([scene(), gone]), BEGIN, evaluated=[], ego=True)
    assert only.objects == 1
    assert only.terms["linear_speed"] == pytest.approx(20.1 / 21.0, abs=1e-5)


def test_the_world_frame_does_not_matter():
    # no value at the edge of a bin
    log, rollouts = scene(gap=20.2), Track.cat([scene(ego=11.6, y=0.3, gap=20.2), scene(leader=4.1, gap=20.2)])
    here, there = wosac(log, rollouts, BEGIN), wosac(*(moved_world(t, 0.7, (30.0, -20.0)) for t in (log, rollouts)), BEGIN)
    assert here.total == pytest.approx(there.total, abs=1e-3)


def test_what_cannot_be_scored_says_so():
    nobody = wosac(scene(), scene(), BEGIN, evaluated=[], ego=False)
    assert math.isnan(nobody.total)
    assert nobody.unscored == "nobody to judge"
    short = scene(steps=5)  # columns 3 and 4: no acceleration in either
    found = wosac(short, short, BEGIN)
    assert math.isnan(found.total)
    assert found.unscored == "no step has linear_acceleration"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda log, r: (Track.cat([log, log]), r, 3), "2 rows"),
        (lambda log, r: (log, r.columns(slice(0, 9)), 3), "9 columns"),
        (lambda log, r: (log, r, 1), "begin=1"),
        (lambda log, r: (log, r, 14), "begin=14"),
        (lambda log, r: (dataclasses.replace(log, ego=log.ego.map(lambda t: t * torch.nan)), r, 3), "NaN among the states of the log"),
    ],
)
def test_tracks_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        wosac(*change(scene(), scene()))
    with pytest.raises(DataError, match="no agent 7"):
        wosac(scene(), scene(), BEGIN, evaluated=[7])


def test_rollouts_of_another_drive_are_refused():
    log, other = scene(), scene(at=21.0)
    with pytest.raises(DataError, match=r"rollout 1 is 1\.00 m from the log in column 0, before begin=3"):
        wosac(log, Track.cat([log, other]), BEGIN)
    road, route = straight_road(pieces=3)
    elsewhere = dataclasses.replace(log, road=road, route=route)
    with pytest.raises(DataError, match="another road"):
        wosac(log, elsewhere, BEGIN)


def test_edges_are_where_nothing_drivable_follows():
    road, _ = straight_road(pieces=2, lanes=2)  # y from -1.6 to 8 with the oncoming lane
    edges = road_edges(road)
    assert sorted(edges[..., 1].unique().tolist()) == pytest.approx([-1.6, 8.0])
    assert float((edges[:, 1] - edges[:, 0]).norm(dim=-1).sum()) == pytest.approx(240.0, abs=0.01)


@pytest.mark.parametrize(("x", "y", "expected"), [(6.0, 0.0, 2.0), (3.0, 0.0, -1.0), (0.0, 1.5, -0.5), (7.0, 6.0, 5.0), (4.0, 2.0, 0.0)])
def test_signed_distance_of_boxes(x, y, expected):
    # two boxes of 4 by 2 m; at (7, 6) they are 3 m and 4 m apart
    box = lambda x, y: box_corners(torch.tensor([x, y]), torch.tensor(0.0), torch.tensor(4.0), torch.tensor(2.0))
    assert float(signed_box_distance(box(0.0, 0.0), box(x, y))) == pytest.approx(expected, abs=1e-5)
