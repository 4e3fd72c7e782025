"""The decorator, the registry and the checks around every call."""

import importlib.metadata

import pytest
import torch
from rewards_worlds import drive, straight_road
from torch import Tensor
from xpeng_world.errors import ConfigError, XPengWorldError
from xpeng_world.rewards import RULES, find_rule, rule
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

    with pytest.raises(XPengWorldError, match=r"rule 'raising_rule' failed at step 4 .*AttributeError"):
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
    for found in RULES.values():
        assert found.source
        assert found.unit
        assert found.function.__doc__
