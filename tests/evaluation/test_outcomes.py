"""False-safe rate: drives that fail in the reference world, replayed in the learned one."""

import csv
import io

import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation.fidelity.outcomes import Replay, outcome_figures, outcome_replays, replay_table


@pytest.fixture(scope="module")
def replays():
    return outcome_replays("learned", 3, seed=0)


def test_failing_drives_are_replayed_from_both_starts(replays):
    whole, short = ([one for one in replays if one.whole is kind] for kind in (True, False))
    assert [one.seed for one in whole] == [one.seed for one in short]
    assert sum(one.truth != "safe" for one in whole) == 3
    assert {one.truth for one in replays} <= {"collision", "off_road", "safe"}


def test_leaving_the_road_is_the_same_in_both_worlds(replays):
    """The ego's physics and the road are the same, so only another road user can come in between."""
    off = [one for one in replays if one.truth == "off_road" and not one.whole]
    assert off
    assert all(one.dream != "safe" for one in off)


def test_rates_by_hand():
    made = lambda truth, dream: Replay(truth, dream, False, "random", 0)
    found = [
        made("collision", "safe"),
        made("collision", "off_road"),
        made("off_road", "off_road"),
        made("safe", "safe"),
        made("safe", "collision"),
    ]
    figures = outcome_figures([*found, *(Replay(one.truth, one.truth, True, one.driver, one.seed) for one in found)])
    assert figures["false_safe_rate"].value == pytest.approx(1 / 3)
    assert figures["false_safe_collision"].value == pytest.approx(1 / 2)
    assert figures["false_alarm_rate"].value == pytest.approx(1 / 2)
    assert figures["false_safe_rate_whole"].value == figures["false_alarm_rate_whole"].value == 0
    assert figures["false_safe_episodes"].value == 3


def test_the_table_has_every_replay(replays):
    rows = list(csv.DictReader(io.StringIO(replay_table(replays))))
    assert len(rows) == len(replays)
    assert {row["from"] for row in rows} == {"start", "5 s before the end"}


def test_the_reference_world_has_no_false_safe_rate():
    with pytest.raises(ConfigError, match="no scene to begin from"):
        outcome_replays("reference", 1, seed=0)
