"""Road users judged on cases worked out by hand. The ego is the sedan: 4.8 m long, 1.9 m wide; agents are 4 by 2 m, lanes 3.2 m."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation.bootstrap import Estimate
from xpeng_world.evaluation.fidelity import FidelityConfig, cost, fidelity, reaction, traffic, windows
from xpeng_world.evaluation.fidelity.conduct import COUNTS, conduct, first_touches, red_lights
from xpeng_world.evaluation.fidelity.traffic import headlines
from xpeng_world.evaluation.fidelity.windows import BEGIN, Window, roll_out, simulated_agents
from xpeng_world.rewards.cases import LANE, drive, straight_road
from xpeng_world.scene import DT, Track
from xpeng_world.world_model.traffic import SLOTS, Traffic, make_traffic
from xpeng_world.world_model.traffic.baselines import ConstantVelocityTraffic, LogReplayTraffic, ReplayTraffic

STEPS = BEGIN + 30
RED, GREEN = 1, 3
SEEDS = torch.arange(4)


def positions(start, speeds):
    """Places on a line at those speeds in m/s, one more than there are speeds."""
    return [start, *(start + DT * np.cumsum(speeds)).tolist()]


def vehicle(start, speeds, y=0.0, **more):
    return {"x": positions(start, speeds[:-1]), "y": y, "speed": list(speeds), **more}


def log_of(*agents, steps=STEPS, ego=8.0, start=10.0, signals=GREEN):
    road, route = straight_road(stop_at=60.0)
    shown = [signals] * steps if isinstance(signals, int) else signals
    return drive(road, route, x=positions(start, [ego] * (steps - 1)), speed=ego, agents=agents, signals=shown)


@pytest.fixture
def slowing():
    """A vehicle that brakes from 9 m/s at 2 m/s2, from column BEGIN on, and one behind that keeps 5 m/s."""
    speeds = [9.0] * BEGIN + [max(0.0, 9.0 - 0.2 * k) for k in range(1, STEPS - BEGIN + 1)]
    return log_of(vehicle(60.0, speeds), vehicle(20.0, [5.0] * STEPS, y=LANE))


def test_the_log_is_more_real_than_constant_velocity(slowing):
    window = Window(simulated_agents(slowing), "logs", 0)
    found = {kind: traffic.judge_window(window, kind, "learned", SEEDS).realism for kind in ("log_replay", "constant_velocity")}
    assert found["log_replay"].objects == 2
    assert found["log_replay"].rates["ade_m"] == pytest.approx(0.0, abs=1e-5)
    assert found["log_replay"].total > found["constant_velocity"].total + 0.05


def test_constant_velocity_goes_straight_on(slowing):
    log = simulated_agents(slowing)
    rolled = roll_out(ConstantVelocityTraffic(), log, SEEDS[:2])
    assert rolled.batch_size == 2
    assert torch.equal(rolled.agents.state[0, :BEGIN], log.agents.state[0, :BEGIN])
    last = log.agents.position[0, BEGIN - 1, 0]
    ahead = 9.0 * DT * torch.arange(1, STEPS - BEGIN + 1)
    assert torch.allclose(rolled.agents.position[1, BEGIN:, 0, 0], last[0] + ahead, atol=1e-3)
    assert torch.equal(rolled.agents.id[0, -1], log.agents.id[0, BEGIN - 1])


def test_a_recording_is_repeated_to_its_end_and_then_gone(slowing):
    log = simulated_agents(slowing)
    rolled = roll_out(LogReplayTraffic(log), log, SEEDS[:1])
    assert torch.equal(rolled.agents.state, log.agents.state)
    played = LogReplayTraffic(log)
    agents, memory = played.reset(log.scene(STEPS - 1), SEEDS[:1])
    assert agents.valid.any()
    after, _ = played.step(log.scene(STEPS - 1), log.scene(STEPS - 1).ego, memory, SEEDS[:1], SEEDS[:1])
    assert not after.valid.any()
    assert (after.id == -1).all()


def test_replay_moves_agents_as_another_of_their_kind(slowing):
    pedestrian = {"x": 40.0, "y": 8.0, "speed": 1.0, "kind": 4, "heading": 0.5}
    speeds = slowing.agents.speed[0].tolist()
    log = simulated_agents(log_of(vehicle(60.0, [s[0] for s in speeds]), vehicle(20.0, [5.0] * STEPS, y=LANE), pedestrian))
    rolled = roll_out(ReplayTraffic(log), log, SEEDS)
    moved = rolled.agents.position[:, -1] - rolled.agents.position[:, BEGIN - 1]
    true = log.agents.position[0, -1] - log.agents.position[0, BEGIN - 1]
    assert torch.allclose(moved[:, 0], true[1].expand(4, 2), atol=1e-3)  # the first does what the second did, and the other way round
    assert torch.allclose(moved[:, 1], true[0].expand(4, 2), atol=1e-3)
    assert rolled.agents.speed[0, -1, 0] == pytest.approx(5.0)
    straight = 3.0 * torch.tensor([np.cos(0.5), np.sin(0.5)])  # nobody else walks: 1 m/s for 3 s
    assert torch.allclose(moved[0, 2], straight.float(), atol=1e-3)


def test_replay_turns_motion_into_the_agents_own_frame():
    steps = 20
    log = log_of(vehicle(30.0, [6.0] * steps), {"x": 50.0, "y": 9.0, "speed": 0.0, "heading": np.pi / 2}, steps=steps)
    rolled = roll_out(ReplayTraffic(simulated_agents(log)), simulated_agents(log), SEEDS[:1])
    moved = rolled.agents.position[0, -1] - rolled.agents.position[0, BEGIN - 1]
    assert moved[1].tolist() == pytest.approx([0.0, 6.0 * DT * (steps - BEGIN)], abs=1e-3)


def test_replay_goes_on_with_the_last_step_of_a_donor_that_leaves():
    log = log_of(vehicle(30.0, [6.0] * STEPS), vehicle(60.0, [3.0] * STEPS, y=LANE))
    valid = log.agents.valid.clone()
    valid[0, BEGIN + 5 :, 0] = False
    log = simulated_agents(dataclasses.replace(log, agents=dataclasses.replace(log.agents, valid=valid)))
    rolled = roll_out(ReplayTraffic(log), log, SEEDS[:1])
    moved = rolled.agents.position[0, -1, 1] - rolled.agents.position[0, BEGIN - 1, 1]
    assert moved.tolist() == pytest.approx([6.0 * DT * (STEPS - BEGIN), 0.0], abs=1e-3)


def test_baselines_are_traffic_and_have_names():
    log = log_of(vehicle(30.0, [6.0] * STEPS))
    for one in (make_traffic("constant_velocity"), ReplayTraffic(log), LogReplayTraffic(log)):
        assert isinstance(one, Traffic)
    assert make_traffic("constant_velocity", slots=3).reset(log.scene(0), SEEDS[:1])[0].valid.shape == (1, 3)
    with pytest.raises(ConfigError, match=r"track \[1, T\]"):
        LogReplayTraffic(Track.cat([log, log]))


def test_only_agents_that_traffic_takes_are_in_a_window():
    many = [vehicle(12.0 + 4.5 * k, [0.0] * STEPS, y=9.0) for k in range(SLOTS + 3)]
    late = vehicle(20.0, [0.0] * STEPS, y=6.0)
    log = log_of(*many, late)
    valid = log.agents.valid.clone()
    valid[0, :BEGIN, -1] = False  # comes after the history
    log = simulated_agents(dataclasses.replace(log, agents=dataclasses.replace(log.agents, valid=valid)))
    assert log.agents.valid.shape == (1, STEPS, SLOTS)
    assert log.agents.valid.all()
    assert SLOTS + 3 not in log.agents.id
    far = simulated_agents(log_of(vehicle(160.0, [0.0] * STEPS), vehicle(30.0, [0.0] * STEPS, y=9.0)))
    assert far.agents.valid[0, :, 0].sum() < far.agents.valid[0, :, 1].sum() == STEPS  # farther off than traffic reaches at first


def test_collisions_are_counted_once_and_not_if_they_touch_at_first():
    # the second comes from 10 m behind at 5 m/s and drives through the first, the third and fourth overlap from the beginning on
    log = log_of(
        vehicle(50.0, [0.0] * STEPS), vehicle(36.0 - 5.0 * DT * BEGIN, [5.0] * STEPS), vehicle(80.0, [0.0] * STEPS, y=9.0),
        vehicle(81.0, [0.0] * STEPS, y=9.0),
    )  # fmt: skip
    found = first_touches(log.agents)
    assert found.sum() == 1
    assert found[0, 0, 1]
    counts = dict(zip(COUNTS, conduct(log)[0].tolist(), strict=True))
    assert counts["collisions"] == 1
    assert counts["hours"] == pytest.approx(4 * (STEPS - BEGIN) * DT / 3600)
    aside = dataclasses.replace(
        log.agents, state=log.agents.state + torch.tensor([0.0, 1.0] + [0.0] * 6) * torch.tensor([[0.0], [2.1], [0], [0]])
    )
    assert first_touches(aside).sum() == 0


def test_red_lights_are_counted_by_approach():
    # the line is at x = 60. One passes it, one stops 1 m before, one is 30 m away, one comes the other way, one walks beside the road
    standing = [0.0] * STEPS
    log = log_of(
        vehicle(45.0, [8.0] * STEPS), vehicle(57.0, standing, y=LANE), vehicle(28.0, standing),
        vehicle(75.0, [-8.0] * STEPS, y=LANE, heading=np.pi), vehicle(45.0, [8.0] * STEPS, y=-4.0), signals=RED,
    )  # fmt: skip
    approaches, runs = red_lights(log)
    assert approaches.any(-1)[0].tolist() == [True, True, False, False, False]
    assert runs.any(-1)[0].tolist() == [True, False, False, False, False]
    assert runs.sum() == 1


def test_a_light_that_turns_red_behind_the_front_is_not_run():
    log = lambda red_from: log_of(vehicle(43.0, [8.0] * STEPS), signals=[RED if t >= red_from else GREEN for t in range(STEPS)])
    front = log(0).agents.position[0, :, 0, 0] + 2.0
    crossing = int((front > 60.0).int().argmax())
    assert red_lights(log(crossing))[1].sum() == 0
    assert red_lights(log(crossing - 1))[1].sum() == 1
    assert red_lights(log(crossing - 1))[0].sum() == 1


def test_braking_that_suffices_by_hand():
    # from 10 m/s: 5 m in half a second, then 100 / 8 = 12.5 m; an ego that brakes at 7 m/s2 stands after 100 / 14 = 7.14 m
    time = DT * torch.arange(81)
    follower = reaction.braked_distance(10.0, time)
    assert float(follower[-1]) == pytest.approx(17.5)
    assert float(follower[10]) == pytest.approx(5.0 + 5.0 - 2.0 * 0.25)
    ego = reaction.braked_distance(10.0, time, braking=7.0, reaction=0.0)
    assert float(ego[-1]) == pytest.approx(100 / 14)
    always = torch.ones(81, dtype=torch.bool)
    assert bool(reaction.contact(10.2, ego, follower, always, 9.0))  # 17.5 - 7.14 = 10.36
    assert not bool(reaction.contact(10.5, ego, follower, always, 9.0))
    assert not bool(reaction.contact(10.2, ego, follower, ~always, 9.0))


def test_cases_and_who_keeps_clear():
    # followers 10.5 and 9.5 m behind an ego that brakes from 10 m/s: only the first could have stopped
    def cases(gap, kind="brake"):
        log = log_of(vehicle(100.0 - 2.4 - gap - 2.0, [10.0] * 100), ego=10.0, start=100.0, steps=100)
        return [
            case for case in reaction._cases_at(log, 0, "logs", 0) if case.manoeuvre == kind and float(case.log.profile.length[0]) > 4.5
        ]

    assert len(cases(10.5)) == 1
    assert len(cases(9.5)) == 0
    assert len(cases(9.5, "stop")) == 1
    (case,) = cases(12.0)
    assert case.ego[0, -1, 3] == 0
    assert float(case.ego[0, -1, 0]) == pytest.approx(100.0 + 100 / 14, abs=1e-3)
    assert float(reaction.keep_clear([case], "constant_velocity", "learned", 0)) == 0.0
    assert float(reaction.keep_clear([case], "idm", "learned", 0)) == 1.0
    figures = reaction.reaction_figures([case], {"idm": torch.tensor([1.0]), "learned": torch.tensor([0.25])})
    assert figures["logs_keep_clear_brake_idm"].value == 1.0
    assert figures["logs_keep_clear_learned"].value == 0.25
    assert figures["logs_cases"].value == 1


def test_an_ego_that_cuts_in():
    log = log_of(vehicle(88.0, [10.0] * 100, y=LANE), ego=8.0, start=100.0, steps=100)
    ((slot, gap, aside),) = reaction.followers(log.scene(0), beside=True)
    assert (slot, gap, aside) == (0, pytest.approx(12.0 - 4.4), pytest.approx(LANE))
    assert reaction.followers(log.scene(0), beside=False) == []
    ego, driven, shift = reaction.ego_motion(log, 2.0, LANE)
    assert float(shift[10]) == pytest.approx(LANE / 2)  # halfway after one of two seconds
    assert ego[0, 20:, 1].tolist() == pytest.approx([LANE] * (100 - 20), abs=1e-4)
    assert ego[0, 20:, 3].tolist() == pytest.approx([4.0] * (100 - 20), abs=1e-4)  # 8 - 2 * 2
    assert float(driven[20]) == pytest.approx(12.0, abs=1e-3)


def test_any_vehicle_may_be_the_ego():
    log = log_of(vehicle(60.0, [6.0] * STEPS))
    swapped = reaction.as_ego(log, 0)
    assert torch.equal(swapped.ego.state[..., :4], log.agents.state[:, :, 0, :4])
    assert torch.equal(swapped.agents.state[:, :, 0, :4], log.ego.state[..., :4])
    assert float(swapped.profile.length[0]) == 4.0
    assert swapped.agents.state[0, 0, 0, 5].item() == pytest.approx(4.8)


def test_a_crowd_has_as_many_as_asked_for():
    road, route = straight_road(pieces=8)
    scene = drive(road, route, x=[100.0, 100.8]).scene(0)
    crowd = cost.crowded(scene, 40)
    assert crowd.agents.valid.sum() == 40
    assert len(crowd.agents.id.unique()) == 40
    gaps = (crowd.agents.position[0, :, None] - crowd.agents.position[0]).norm(dim=-1) + 1e3 * torch.eye(40)
    assert gaps.min() > 3.0


@pytest.fixture
def recorded(tmp_path, slowing):
    """A folder of one clip of the reference world and one of a human driver."""
    with ShardWriter(tmp_path / "logs") as writer:
        for provenance in ({"split": "test"}, {"split": "test", "driver": "human"}):
            frames = torch.zeros(STEPS, 64, 128, 3, dtype=torch.uint8)
            writer.add(Clip(frames, torch.zeros(STEPS, 2), slowing, provenance))
    return tmp_path / "logs"


def test_the_part_writes_figures_of_both_sources(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "cost_figures", lambda *_: {})
    kinds = ["log_replay", "constant_velocity", "idm"]
    config = FidelityConfig(
        data=str(recorded), out=str(tmp_path / "out"), part="traffic", traffic=kinds, rollouts=3, seconds=2, strips=1, clips=2
    )
    record = json.loads(fidelity(config).read_text())
    metrics = record["metrics"]
    assert "traffic=[log_replay,constant_velocity,idm] rollouts=3" in record["command"]
    for source in ("logs", "human"):
        over = metrics[f"{source}_realism_over_constant_velocity"]["value"]
        both = [metrics[f"{source}_realism_{kind}"]["value"] for kind in kinds[:2]]
        assert over == pytest.approx(both[0] - both[1])
        assert over > 0
        assert metrics[f"{source}_collisions_per_hour_log"]["value"] == 0
    assert (tmp_path / "out" / "strip_0.png").is_file()
    rows = list(csv.DictReader((tmp_path / "out" / "traffic.csv").read_text().splitlines()))
    assert [row["traffic"] for row in rows] == kinds * (len(rows) // 3)
    again = json.loads(fidelity(dataclasses.replace(config, out=str(tmp_path / "again"))).read_text())
    assert again["metrics"] == metrics


def test_wrong_values_are_refused(recorded, tmp_path):
    run = lambda **changes: fidelity(FidelityConfig(**({"data": str(recorded), "out": str(tmp_path), "part": "traffic"} | changes)))
    with pytest.raises(ConfigError, match="did you mean 'idm'"):
        run(traffic=["idn"])
    with pytest.raises(ConfigError, match="traffic is empty"):
        run(traffic=[])
    with pytest.raises(ConfigError, match="takes one folder"):
        run(part="pictures", data=["a", "b"])
    with pytest.raises(ConfigError, match="rollouts=0"):
        run(rollouts=0)


def test_clips_that_are_too_short_are_refused(tmp_path, slowing):
    with ShardWriter(tmp_path) as writer:
        writer.add(
            Clip(torch.zeros(15, 64, 128, 3, dtype=torch.uint8), torch.zeros(15, 2), slowing.columns(slice(0, 15)), {"split": "test"})
        )
    with pytest.raises(DataError, match="record some first"):
        windows.read_windows([str(tmp_path)], 1, 80)


def test_the_first_kind_is_known_by_short_names() -> None:
    long = {"logs_realism_learned": Estimate(0.8), "logs_realism_idm": Estimate(0.7), "logs_keep_clear_learned": Estimate(0.9)}
    assert headlines(long, ["learned", "idm"]) == {
        "realism_logs": Estimate(0.8),
        "realism_logs_idm": Estimate(0.7),
        "keep_clear_rate": Estimate(0.9),
    }
