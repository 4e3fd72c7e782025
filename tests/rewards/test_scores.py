"""PDMS, EPDMS and the headline by hand, and what cannot be scored."""

import dataclasses

import pytest
import torch
from rewards_worlds import LIMIT, drive, lively_track, straight_road
from xpeng_world.rewards.scores import epdms, epdms_closed_loop, episode_terms, extended_comfort, pdms
from xpeng_world.scene import Ego, Track


def steady(speed=LIMIT, steps=41, **more):
    return drive(*straight_road(), x=[40.0 + 0.1 * speed * t for t in range(steps)], **more)


def test_a_perfect_drive_earns_100_points():
    score = epdms_closed_loop(steady(), torch.tensor([40.0]))
    assert score.total.tolist() == pytest.approx([100.0])
    assert score.unscored == [""]
    assert score.rates["progress_m"].tolist() == pytest.approx([40.0], abs=1e-3)
    assert score.rates["duration_s"].tolist() == pytest.approx([4.0])
    assert score.rates["mean_speed_mps"].tolist() == pytest.approx([LIMIT], abs=1e-3)
    assert score.rates["route_completion"].tolist() == pytest.approx([40 / 260], abs=1e-4)


def test_the_headline_weighs_progress_5_of_14():
    # 40 m where the expert made 80: EP 1/2; (5 / 2 + 5 + 2 + 2) / 14 = 11.5 / 14
    assert float(epdms_closed_loop(steady(), torch.tensor([80.0])).total) == pytest.approx(100 * 11.5 / 14, abs=1e-2)


def test_lane_keeping_and_comfort_weigh_2_of_14():
    assert float(epdms_closed_loop(steady(y=0.6), torch.tensor([40.0])).total) == pytest.approx(100 * 12 / 14, abs=1e-2)
    assert float(epdms_closed_loop(steady(acceleration=2.5), torch.tensor([40.0])).total) == pytest.approx(100 * 12 / 14, abs=1e-2)


def test_time_to_collision_weighs_5_of_14():
    # a standing car whose rear ends up 5 m before the front: within 0.9 s (9 m), never touched
    score = epdms_closed_loop(steady(agents=[{"x": 80.0 + 2.4 + 5.0 + 2.0}]), torch.tensor([40.0]))
    assert float(score.terms["no_at_fault_collision"]) == 1.0
    assert float(score.total) == pytest.approx(100 * 9 / 14, abs=1e-2)


def test_progress_counts_only_above_5_metres_of_the_expert():
    for expert, expected in ((5.0, 1.0), (5.1, 0.0)):
        assert float(episode_terms(steady(0.0), torch.tensor([expert]))["ego_progress"]) == expected
    assert float(episode_terms(steady(), torch.tensor([20.0]))["ego_progress"]) == 1.0  # clipped


def test_a_gate_takes_everything_but_the_terms_stay():
    crash = epdms_closed_loop(steady(agents=[{"x": 70.0}]), torch.tensor([40.0]))
    assert crash.total.tolist() == [0.0]
    assert float(crash.terms["ego_progress"]) == pytest.approx(1.0, abs=1e-4)
    assert float(crash.rates["at_fault_collision"]) == 1.0
    static = epdms_closed_loop(steady(agents=[{"x": 70.0, "kind": 5, "length": 1.0, "width": 1.0}]), torch.tensor([40.0]))
    assert float(static.total) == pytest.approx(50 * 9 / 14, abs=1e-2)  # NC 1/2, TTC 0


def test_total_follows_from_the_terms():
    for seed in range(4):
        track = lively_track(seed=seed)
        track.valid[:, 25:] = False  # ended before the worst came
        score = epdms_closed_loop(track, torch.tensor([60.0]))
        t = {name: float(value) for name, value in score.terms.items()}
        gate = t["no_at_fault_collision"] * t["drivable_area"] * t["driving_direction"] * t["traffic_light"]
        sum_ = 5 * t["ego_progress"] + 5 * t["time_to_collision"] + 2 * t["lane_keeping"] + 2 * t["history_comfort"]
        assert float(score.total) == pytest.approx(100 * gate * sum_ / 14, abs=1e-3)


def test_an_episode_that_ends_early_keeps_what_it_earned():
    whole = steady(steps=41)
    ended = dataclasses.replace(whole, valid=whole.valid.clone())
    ended.valid[:, 21:] = False  # 20 m
    score = epdms_closed_loop(ended, torch.tensor([40.0]))
    assert float(score.terms["ego_progress"]) == pytest.approx(0.5, abs=1e-4)
    assert float(score.rates["duration_s"]) == pytest.approx(2.0)
    assert float(score.rates["distance_m"]) == pytest.approx(20.0, abs=1e-3)


def test_rates_count_events():
    road, route = straight_road(stop_at=60.0)
    track = drive(road, route, x=[50.0 + t for t in range(30)], signals=[1] * 30, agents=[{"x": 75.0, "y": -1.9}])
    score = epdms_closed_loop(track, torch.tensor([29.0]))
    assert float(score.rates["red_lights"]) == 1.0
    assert float(score.rates["collision"]) == 1.0
    assert float(score.rates["off_road"]) == 0.0
    behind = drive(*straight_road(), x=[60.0 + 0.5 * t for t in range(12)], agents=[{"x": [52.0 + t for t in range(12)], "speed": 10.0}])
    rates = epdms_closed_loop(behind, torch.tensor([5.5])).rates
    assert float(rates["collision"]) == 1.0
    assert float(rates["at_fault_collision"]) == 0.0


def test_pdms_weighs_5_5_2_of_12_and_has_two_gates():
    # EP 1/2, lane keeping does not count: (5 + 5 / 2 + 2) / 12
    assert float(pdms(steady(y=0.6), torch.tensor([80.0])).total) == pytest.approx(100 * 9.5 / 12, abs=1e-2)
    road, route = straight_road(stop_at=60.0)
    red = drive(road, route, x=[40.0 + t for t in range(41)], signals=[1] * 41)
    assert float(pdms(red, torch.tensor([40.0])).total) == pytest.approx(100.0)
    assert float(epdms(red, torch.tensor([40.0]), torch.ones(1)).total) == 0.0


def test_epdms_weighs_extended_comfort_2_of_16():
    assert float(epdms(steady(), torch.tensor([40.0]), torch.zeros(1)).total) == pytest.approx(100 * 14 / 16)
    assert float(epdms(steady(), torch.tensor([40.0]), torch.ones(1)).total) == pytest.approx(100.0)


def test_extended_comfort_compares_two_plans_where_they_overlap():
    first = steady(acceleration=[0.02 * t for t in range(41)])
    shifted = lambda more: steady(acceleration=[0.02 * (t + 5) + more for t in range(41)])
    assert extended_comfort(shifted(0.0), first, 5).tolist() == [1.0]
    assert extended_comfort(shifted(0.69), first, 5).tolist() == [1.0]  # a constant difference is that RMS
    assert extended_comfort(shifted(0.71), first, 5).tolist() == [0.0]
    turning = lambda rate: steady(heading=[0.1 * rate * t for t in range(41)])
    assert extended_comfort(turning(0.09), turning(0.0), 5).tolist() == [1.0]
    assert extended_comfort(turning(0.11), turning(0.0), 5).tolist() == [0.0]
    with pytest.raises(ValueError, match=r"less than 0\.55 s"):
        extended_comfort(first, first, 6)


def test_what_cannot_be_scored_is_nan_and_says_why():
    tracks = [steady() for _ in range(4)]
    tracks[1].ego.state[0, 7, 3] = torch.nan
    tracks[2] = dataclasses.replace(tracks[2], route=dataclasses.replace(tracks[2].route, length=torch.zeros(1)))
    tracks[3].agents.state[0, 7, 0, 0] = torch.inf
    score = epdms_closed_loop(Track.cat(tracks), torch.full((4,), 40.0))
    assert score.total.isnan().tolist() == [False, True, True, True]
    assert float(score.total[0]) == pytest.approx(100.0)
    assert score.unscored == ["", "NaN in the ego's state", "no route", "NaN in an agent's state"]
    for value in (*score.terms.values(), *score.rates.values()):
        assert value.isnan().tolist() == [False, True, True, True]
    assert epdms_closed_loop(steady(), torch.tensor([torch.nan])).unscored == ["no reference progress"]
    alone = steady()
    alone = dataclasses.replace(alone, ego=Ego(alone.ego.state), valid=torch.zeros_like(alone.valid))
    assert epdms_closed_loop(alone, torch.tensor([40.0])).unscored == ["fewer than two valid steps"]
