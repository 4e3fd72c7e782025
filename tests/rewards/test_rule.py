"""The decorator, the registry and the checks around every call."""

import dataclasses
import importlib.metadata

import pytest
import torch
from rewards_worlds import drive, straight_road
from torch import Tensor
from xpeng_world.errors import ConfigError, XPengWorldError
from xpeng_world.rewards import RULES, check_rule, find_rule, load_design, rule
from xpeng_world.rewards.scores import epdms_closed_loop
from xpeng_world.scene import Track

SAYS = {"kind": "term", "unit": "1", "low": 0.0, "high": 1.0, "neutral": 1.0, "source": "a test"}


@pytest.fixture
def track():
    return drive(*straight_road(), x=[40.0 + t for t in range(5)])


def test_a_rule_that_returns_nan_names_itself_and_the_step(track):
    @rule(**SAYS)
    def broken_rule(track: Track) -> Tensor:
        values = torch.ones_like(track.time)
        values[0, 3] = torch.nan
        return values

    with pytest.raises(XPengWorldError, match=r"rule 'broken_rule' returned NaN at step 3 \(t = 0\.3 s\) of batch element 0"):
        broken_rule(track)
    track.valid[0, 3] = False  # what is not valid is not looked at
    assert broken_rule(track).tolist() == [[1.0] * 5]


def test_a_rule_that_raises_names_itself_and_the_step(track):
    @rule(**SAYS)
    def raising_rule(track: Track) -> Tensor:
        return track.nothing

    with pytest.raises(XPengWorldError, match=r"rule 'raising_rule' failed at steps 0 to 4 .*AttributeError"):
        raising_rule(track)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda track: torch.ones(3), r"returned torch\.float32 \[3\].*must return a float tensor \[1, 5\]"),
        (lambda track: track.valid, r"returned torch\.bool"),
        (lambda track: 1.0, "returned float"),
        (lambda track: torch.full_like(track.time, 1.5), r"returned 1\.5, outside \[0, 1\]"),
        (lambda track: torch.full_like(track.time, torch.inf), r"returned inf, outside"),
    ],
)
def test_wrong_values_are_refused(track, made, message):
    @rule(**SAYS)
    def wrong_rule(track: Track) -> Tensor:
        return made(track)

    with pytest.raises(XPengWorldError, match=message):
        wrong_rule(track)


def test_wrong_declarations_are_refused():
    with pytest.raises(ConfigError, match="unknown kind 'gates'; did you mean 'gate'"):
        rule(**(SAYS | {"kind": "gates"}))(lambda track: track.time)
    with pytest.raises(ConfigError, match="neutral 2 is outside"):
        rule(**(SAYS | {"neutral": 2.0}))(lambda track: track.time)

    def untyped(track: Track, *, horizon_s=1.0) -> Tensor:
        return track.time

    with pytest.raises(ConfigError, match="parameter 'horizon_s' must be keyword-only, typed"):
        rule(**SAYS)(untyped)


def test_parameters_are_checked_by_the_signature():
    checked = find_rule("time_to_collision").check_parameters({"horizon_s": 1})
    assert checked == {"horizon_s": 1.0}
    assert isinstance(checked["horizon_s"], float)
    with pytest.raises(ConfigError, match="has no parameter 'horizon'; did you mean 'horizon_s'"):
        find_rule("time_to_collision").check_parameters({"horizon": 1.0})
    for wrong in ("far", True, None):
        with pytest.raises(ConfigError, match="must be a float"):
            find_rule("time_to_collision").check_parameters({"horizon_s": wrong})
    with pytest.raises(ConfigError, match="must be finite"):
        find_rule("time_to_collision").check_parameters({"horizon_s": float("nan")})


def test_unknown_rule_says_the_nearest():
    with pytest.raises(ConfigError, match="unknown rule 'lane_keping'; did you mean 'lane_keeping'"):
        find_rule("lane_keping")


FILE = '''
"""A rule of somebody's own."""
import torch
from xpeng_world.rewards import rule

@rule(kind="cost", unit="m/s2", low=0.0, high=20.0, neutral=0.0, source="mine")
def braking(track, *, free_mps2: float = 2.0):
    return (-track.ego.acceleration - free_mps2).clamp_min(0)
'''


def test_a_rule_from_a_file(tmp_path, track):
    (tmp_path / "mine.py").write_text(FILE)
    found = find_rule("mine.py", beside=tmp_path)
    assert found(drive(*straight_road(), x=[40.0], acceleration=-3.0), free_mps2=1.0).tolist() == [[2.0]]
    assert find_rule("mine.py:braking", beside=tmp_path).name == "braking"
    with pytest.raises(ConfigError, match="holds no rule 'brakin'; did you mean 'braking'"):
        find_rule("mine.py:brakin", beside=tmp_path)
    with pytest.raises(ConfigError, match=r"no file .*other\.py"):
        find_rule("other.py", beside=tmp_path)
    (tmp_path / "mine.py").write_text("import nothing_of_the_kind")
    with pytest.raises(ConfigError, match="cannot be loaded: ModuleNotFoundError"):
        find_rule("mine.py", beside=tmp_path)


def test_two_files_may_not_take_one_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(FILE)
    find_rule("one.py", beside=tmp_path)
    with pytest.raises(ConfigError, match="a rule named 'braking' exists already"):
        find_rule("two.py", beside=tmp_path)


def test_installed_packages_add_rules(monkeypatch):
    class Entry:
        name, value = "theirs", "theirs:rule"

        def load(self):
            return find_rule("progress")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry()] if group == "xpeng_world.rules" else [])
    assert find_rule("theirs") is RULES["progress"]
    monkeypatch.setattr(Entry, "load", lambda self: 3)
    with pytest.raises(ConfigError, match=r"entry point 'theirs' .* is no rule"):
        find_rule("others")


def test_every_built_in_rule_says_what_it_is():
    built_in = [found for found in RULES.values() if found.function.__module__.startswith("xpeng_world.rewards.rules")]
    assert len(built_in) >= 35
    for found in built_in:
        assert found.source
        assert found.unit
        assert found.function.__doc__


def steady_drive(steps=80):
    speeds = [10.0 + 0.1 * (t % 7) for t in range(steps)]
    pedal = [0.5 * (t % 11) - 4.0 for t in range(steps)]
    return drive(*straight_road(), x=[20.0 + t for t in range(steps)], speed=speeds, acceleration=pedal)


HEAD = "from xpeng_world.rewards import rule\n\n\n@rule(kind='cost', unit='m/s', low=0.0, high=1e6, neutral=0.0, source='none')\n"
RULES_THAT_CHEAT = {
    "writes into the track": "track.ego.state.mul_(0); return track.ego.speed",
    "looks ahead": "return track.ego.speed.flip(1)",
    "looks back further than 32 steps": "return track.ego.speed.cumsum(1)",
}


@pytest.mark.parametrize("fault", RULES_THAT_CHEAT)
def test_rules_that_cannot_be_trained_on_are_found(tmp_path, fault):
    path = tmp_path / f"{fault.replace(' ', '_')}.py"
    path.write_text(f"{HEAD}def {path.stem}(track):\n    {RULES_THAT_CHEAT[fault]}\n")
    track = steady_drive()
    before = track.ego.state.clone()
    with pytest.raises(XPengWorldError, match=rf"{path.stem}\.py:\d+: rule '{path.stem}' {fault}"):
        check_rule(find_rule(str(path)), track)
    assert torch.equal(track.ego.state, before)


@pytest.mark.parametrize("name", ["comfort", "jerk", "headway", "time_to_collision"])
def test_rules_that_can_be_are_not_accused(name):
    track = steady_drive()
    before = track.ego.state.clone()
    assert check_rule(find_rule(name), track) is None
    assert torch.equal(track.ego.state, before)


def test_a_rule_that_fails_says_where_in_its_file(tmp_path):
    path = tmp_path / "misspelt.py"
    path.write_text(f"{HEAD}def misspelt(track):\n    values = track.ego.sped\n    return values\n")
    with pytest.raises(XPengWorldError, match=r"misspelt\.py:6: rule 'misspelt' failed at steps 0 to 79.*'sped'"):
        find_rule(str(path))(steady_drive())


def test_a_file_without_a_rule_says_so(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"empty\.py defines no rule; decorate"):
        find_rule(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": None}, "the track has no signals"),
        ({"road": None}, "the track has no road"),
        ({"signals": torch.zeros(1, 80, 3, dtype=torch.int64)}, "shows 3 signals and its road map has 1"),
    ],
)
def test_a_track_without_what_rules_need_is_refused(change, message):
    with pytest.raises(XPengWorldError, match=message):
        find_rule("comfort")(dataclasses.replace(steady_drive(), **change))


def test_a_road_of_nan_is_refused():
    track = steady_drive()
    road = dataclasses.replace(track.road, centreline=track.road.centreline * torch.nan)
    broken = dataclasses.replace(track, road=road)
    with pytest.raises(XPengWorldError, match="road map holds NaN"):
        load_design("default").evaluate(broken)
    assert epdms_closed_loop(broken, torch.tensor([50.0])).unscored == ["NaN in the road map"]
    with pytest.raises(XPengWorldError, match=r"\[3\] distances of the expert for 1 drives"):
        epdms_closed_loop(track, torch.ones(3))
