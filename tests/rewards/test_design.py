"""Reward designs: the formula by hand, and what is refused at load with the line it stands in."""

import pytest
import torch
from rewards_worlds import LIMIT, drive, straight_road
from xpeng_world.errors import ConfigError
from xpeng_world.rewards import design_names, load_design
from xpeng_world.scene import Track


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def last(design, track):
    return design.step(track)


def steady(speed, steps=30, **more):
    return drive(*straight_road(), x=[40.0 + 0.1 * speed * t for t in range(steps)], **more)


def test_a_perfect_second_earns_one():
    rewards = load_design().reward(steady(LIMIT))
    assert float(rewards[0, -10:].sum()) == pytest.approx(1.0, abs=1e-3)


def test_standing_without_a_reason_earns_nothing():
    assert float(load_design().step(steady(0.0)).reward) == 0.0


def test_faults_lower_the_reward():
    perfect = float(load_design().step(steady(LIMIT)).reward)
    assert float(load_design().step(steady(LIMIT, y=0.6)).reward) == pytest.approx(0.5 * perfect)  # lane keeping, strength 1/2
    assert float(load_design().step(steady(LIMIT + 1.115)).reward) == pytest.approx(0.5 * perfect, abs=1e-4)  # half the tolerated excess
    assert float(load_design().step(steady(LIMIT, y=-0.7)).reward) == 0.0  # a corner off the road


def test_a_crash_ends_the_episode_and_costs():
    # rear of the standing car at 45.9; the front gets from 45.4 to 46.4
    step = load_design().step(drive(*straight_road(), x=[42.0, 43.0, 44.0], agents=[{"x": 47.9}]))
    assert step.terminated.tolist() == [True]
    assert [label for label, ended in step.ended_by.items() if bool(ended)] == ["at_fault_collision"]
    assert float(step.reward) < -1.9
    assert float(step.values["at_fault_collision"]) == 0.0


def test_leaving_the_road_or_the_route_ends_the_episode():
    off_road = load_design().step(drive(*straight_road(), x=[40.0, 41.0], y=[0.0, -2.0]))
    assert [label for label, ended in off_road.ended_by.items() if bool(ended)] == ["on_road"]
    far = load_design().step(drive(*straight_road(), x=[40.0, 41.0], y=[0.0, -31.0]))
    assert [label for label, ended in far.ended_by.items() if bool(ended)] == ["on_road", "off_route"]
    assert far.terminated.tolist() == [True]


def test_red_light_costs_but_does_not_end():
    road, route = straight_road(stop_at=60.0)
    step = load_design().step(drive(road, route, x=[57.0, 58.0], signals=[1, 1]))
    assert step.terminated.tolist() == [False]
    assert float(step.reward) < -1.8


def test_the_formula(tmp_path):
    design = load_design(
        write(
            tmp_path,
            """
            scale: 2
            terms: {progress: {weight: 0.5}}
            factors: {speed_limit: {strength: 0.5, parameters: {tolerated_excess_mps: 4}}}
            gates: {drivable_area: {}}
            costs:
              beside: {rule: off_route, weight: 0.1}
              corner: {rule: on_road, weight: 3}
            ends: {off_route: {above: 0.4, reward: -1}}
            """,
        )
    )
    # 1.2 m a step at 12 m/s, 2 above the limit of 10: factor 1 - 0.5 * (1 - 0.5) = 0.75; 0.3 m beside the route
    track = steady(12.0, y=0.3)
    # 2 * (0.5 * 1.2 * 0.75 * 1 - 0.1 * 0.3 - 3 * 0) = 0.84
    assert float(design.step(track).reward) == pytest.approx(0.84, abs=1e-4)
    # 0.5 m beside it: 2 * (0.45 - 0.05 - 1) = -1.2 and the end
    step = design.step(steady(12.0, y=0.5))
    assert float(step.reward) == pytest.approx(-1.2, abs=1e-4)
    assert step.terminated.tolist() == [True]


def test_a_batch_is_scored_row_by_row():
    tracks = [steady(LIMIT), steady(4.0), steady(LIMIT, y=0.6)]
    together = load_design().step(Track.cat(tracks))
    apart = torch.cat([load_design().step(track).reward for track in tracks])
    torch.testing.assert_close(together.reward, apart)


def test_every_shipped_design_loads():
    assert "default" in design_names()
    for name in design_names():
        assert load_design(name).description


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("costs:\n  jerk: {weight: -1}\n", 2, "the weight of 'jerk' must be 0 or more, not -1; what is to be lowered belongs under terms"),
        ("terms:\n  progres: {weight: 1}\n", 2, "unknown rule 'progres'; did you mean 'progress'"),
        ("terms:\n  a:\n    rule: lane_keping\n    weight: 1\n", 3, "unknown rule 'lane_keping'; did you mean 'lane_keeping'"),
        ("scale: 1\nterm: {}\n", 2, "unknown key 'term'; did you mean 'terms'"),
        ("terms:\n  progress:\n    wheight: 1\n", 3, "unknown key 'wheight'; did you mean 'weight'"),
        ("terms:\n  progress: {}\n", 2, "'progress' needs a 'weight'"),
        ("terms:\n  progress: {weight: heavy}\n", 2, "'weight' must be a float, not 'heavy'"),
        ("terms:\n  progress: {weight: yes}\n", 2, "'weight' must be a float, not True"),
        ("terms:\n  progress: {weight: .nan}\n", 2, "'weight' must be finite"),
        ("scale: .inf\nterms:\n  progress: {weight: 1}\n", 1, "'scale' must be finite"),
        ("gates:\n  lane_keeping:\n    parameters:\n      offset: 1\n", 4, "has no parameter 'offset'; did you mean 'offset_m'"),
        ("gates:\n  lane_keeping:\n    parameters:\n      offset_m: wide\n", 4, "must be a float, not 'wide'"),
        ("gates:\n  lane_keeping:\n    parameters: {offset_m: .nan}\n", 3, "must be finite"),
        ("gates:\n  progress: {}\n", 2, r"rule 'progress' ranges over \[-20, 20\] m; gates need values in \[0, 1\]"),
        ("factors:\n  comfort: {strength: 2}\n", 2, r"strength of 'comfort' must be in \[0, 1\]"),
        ("ends:\n  on_road: {reward: -1}\n", 2, "needs 'below' or 'above'"),
        ("gates:\n  on_road: {}\n  on_road: {}\n", 3, "'on_road' stands here twice"),
        ("gates:\n  on_road: {}\nends:\n  on_road: {below: 1}\n", 4, "'on_road' stands under gates already"),
        ("gates:\n  - on_road\n", 1, "expected 'key: value' lines here"),
        ("gates: {on_road\n", 2, "not readable as YAML"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_design(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_unknown_designs_and_empty_ones(tmp_path):
    with pytest.raises(ConfigError, match="unknown design 'defalt'; did you mean 'default'"):
        load_design("defalt")
    with pytest.raises(ConfigError, match="no design file"):
        load_design(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="names no rule"):
        load_design(write(tmp_path, "description: nothing\n"))


def test_a_design_takes_rules_from_files_beside_it(tmp_path):
    (tmp_path / "haste.py").write_text(
        "from xpeng_world.rewards import rule\n"
        "@rule(kind='term', unit='m/s', low=0.0, high=60.0, neutral=0.0, source='mine')\n"
        "def haste_for_this_test(track):\n    return track.ego.speed\n"
    )
    design = load_design(write(tmp_path, "terms:\n  haste: {rule: haste.py, weight: 0.5}\n"))
    assert float(design.step(steady(6.0)).reward) == pytest.approx(3.0, abs=1e-4)


def entries(design, section):
    return {entry.label: entry for entry in getattr(design, section)}


def test_a_design_extends_another(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "description: base\nscale: 2\n"
        "terms:\n  progress: {weight: 0.5}\n"
        "factors:\n  time_to_collision: {strength: 0.5, parameters: {horizon_s: 0.6}}\n  comfort: {strength: 0.5}\n"
        "gates:\n  on_road: {}\n"
    )
    text = (
        "description: mine\nextends: base.yaml\ndrop: [comfort]\n"
        "factors:\n  time_to_collision: {strength: 1.0, parameters: {step_s: 0.1}}\n"
        "costs:\n  on_road: {weight: 3}\n  comfort: {weight: 1}\n"
    )
    design = load_design(write(tmp_path, text))
    assert (design.name, design.description, design.scale) == ("mine", "mine", 2.0)
    assert entries(design, "terms")["progress"].weight == 0.5
    changed = entries(design, "factors")
    assert list(changed) == ["time_to_collision"]
    assert changed["time_to_collision"].strength == 1.0
    assert changed["time_to_collision"].parameters == {"horizon_s": 0.6, "step_s": 0.1}
    assert design.gates == ()  # moved to the costs
    assert {label: entry.weight for label, entry in entries(design, "costs").items()} == {"on_road": 3.0, "comfort": 1.0}


def test_another_rule_under_a_label_starts_without_the_old_parameters(tmp_path):
    (tmp_path / "base.yaml").write_text("factors:\n  close: {rule: time_to_collision, strength: 0.4, parameters: {horizon_s: 0.6}}\n")
    design = load_design(write(tmp_path, "extends: base.yaml\nfactors:\n  close: {rule: headway}\n"))
    (close,) = design.factors
    assert (close.rule.name, close.strength, dict(close.parameters)) == ("headway", 0.4, {})


def test_extends_goes_over_several_files_and_shipped_designs(tmp_path):
    (tmp_path / "middle.yaml").write_text("extends: safety_first\nscale: 1\n")
    design = load_design(write(tmp_path, "extends: middle.yaml\nfactors:\n  headway: {strength: 0.75}\n"))
    assert design.scale == 1.0
    assert entries(design, "factors")["headway"].strength == 0.75
    assert entries(design, "ends")["at_fault_collision"].reward == -300.0
    assert entries(design, "ends")["at_fault_collision"].below == 1.0  # of `default`


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("scale: 1\nextends: defalt\n", 2, "unknown design 'defalt'; did you mean 'default'"),
        ("extends: nowhere.yaml\n", 1, "no design file"),
        ("extends: mine.yaml\n", 1, "'extends' goes round in a circle: mine.yaml -> mine.yaml"),
        ("extends: default\ndrop: [comfrt]\n", 2, "nothing named 'comfrt' to drop; did you mean 'comfort'"),
        ("extends: default\ndrop:\n  a: b\n", 2, "'drop' must be a list of names"),
        ("extends: default\nfactors:\n  comfort: {strength: 3}\n", 3, r"strength of 'comfort' must be in \[0, 1\]"),
        ("extends: default\nfactors:\n  comfort:\n    parameters: {grade: true}\n", 4, "did you mean 'graded'"),
    ],
)
def test_errors_of_extending_name_file_and_line(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_design(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_circle_over_several_files_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: c.yaml\n")
    (tmp_path / "c.yaml").write_text("scale: 1\nextends: b.yaml\n")
    with pytest.raises(ConfigError, match=r"c.yaml:2: 'extends' goes round in a circle: b.yaml -> c.yaml -> b.yaml"):
        load_design(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", design_names())
def test_shipped_designs_reward_good_driving_above_standing_and_crashing(name):
    design, last_second = load_design(name), slice(-10, None)
    drive_well, stand = steady(LIMIT, 40), steady(0.0, 40)
    crash = steady(LIMIT, 40, agents=[{"x": 78.0}])
    off = steady(LIMIT, 40, y=-0.8)
    earned = lambda track: float(design.reward(track)[0, last_second].sum())
    assert earned(drive_well) > 0.5
    assert earned(drive_well) > (1.5 if name.endswith("learner") else 2.0) * max(0.0, earned(stand))  # the score gives 9 of 14 for standing
    assert earned(drive_well) > earned(crash)
    assert earned(drive_well) > earned(off) or name == "carl"  # its lanes end where the centre leaves them
