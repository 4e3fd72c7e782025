"""What holds for every rule whatever the drive: symmetry, invariance, causality, and windows that equal the whole track."""

import dataclasses

import pytest
import torch
from rewards_worlds import lawless_track, lively_track, mirrored, moved_world
from xpeng_world.rewards import WINDOW_STEPS, load_design
from xpeng_world.rewards.rule import RULES, find_rule
from xpeng_world.scene import Track

find_rule("progress")
NAMES = sorted(name for name, rule in RULES.items() if rule.function.__module__.startswith("xpeng_world.rewards.rules"))
TRACKS = [lively_track(100, 0), lively_track(100, 1), lawless_track()]


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_says_something_of_some_track(name):
    """Otherwise the properties below would hold of constants."""
    found = torch.cat([RULES[name](track) for track in TRACKS])
    if name != "on_road":
        assert float(found.max() - found.min()) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_same_in_a_mirror(name):
    for track in TRACKS:
        assert_close(RULES[name](mirrored(track)), RULES[name](track))


@pytest.mark.parametrize("name", NAMES)
def test_values_do_not_depend_on_the_world_frame(name):
    assert_close(RULES[name](moved_world(TRACKS[0], 0.7, (30.0, -20.0))), RULES[name](TRACKS[0]))


@pytest.mark.parametrize("name", NAMES)
def test_values_do_not_depend_on_the_batch(name):
    together = RULES[name](Track.cat(TRACKS))
    for row, track in enumerate(TRACKS):
        assert_close(together[row], RULES[name](track)[0])


@pytest.mark.parametrize("name", NAMES)
def test_rules_are_causal(name):
    assert_close(RULES[name](TRACKS[0].columns(slice(0, 50))), RULES[name](TRACKS[0])[:, :50])


@pytest.mark.parametrize("name", NAMES)
def test_last_column_of_a_window_equals_the_track(name):
    track = TRACKS[0]
    if name == "lane_keeping":  # its two seconds go on across a junction, however long that is
        track = dataclasses.replace(track, road=dataclasses.replace(track.road, junctions=track.road.junctions[:, :0]))
    whole = RULES[name](track)
    for end in range(30, track.steps + 1, 2):
        assert_close(RULES[name](track.columns(slice(end - 26, end)))[:, -1], whole[:, end - 1])


def test_stepping_an_episode_gives_the_values_of_the_whole_track():
    design, track = load_design("default"), TRACKS[1]
    whole, rewards = design.evaluate(track), design.reward(track)
    window = Track.of([track.scene(0)])
    for t in range(track.steps):
        if t > 0:
            window = window.append(track.scene(t), WINDOW_STEPS)
        step = design.step(window)
        for label, value in step.values.items():
            assert_close(value, whole[label][:, t])
        assert_close(step.reward, rewards[:, t])


def test_a_restarted_row_begins_anew_and_leaves_the_others():
    design, track = load_design("default"), Track.cat(TRACKS[:2])
    window = Track.of([track.scene(0)])
    for t in range(1, 40):
        window = window.append(track.scene(t), WINDOW_STEPS)
    design.step(window)
    window = window.restart([1], TRACKS[1].scene(0))
    for t in range(3):
        window = window.append(
            Track.cat([TRACKS[0].columns(slice(40 + t, 41 + t)), TRACKS[1].columns(slice(t + 1, t + 2))]).scene(0), WINDOW_STEPS
        )
    step = design.step(window)
    for label, value in step.values.items():
        assert_close(value[0], design.evaluate(TRACKS[0])[label][0, 42])
        assert_close(value[1], design.evaluate(TRACKS[1])[label][0, 3])


@pytest.mark.parametrize("name", NAMES)
def test_invalid_columns_are_neutral(name):
    track = dataclasses.replace(TRACKS[0])
    track.valid[:, 60:] = False
    found = RULES[name](dataclasses.replace(track, valid=track.valid.clone()))
    track.valid[:] = True
    assert bool((found[:, 60:] == RULES[name].neutral).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_road_without_agents_signals_or_junctions_is_fine(name):
    track = TRACKS[0]
    agents = track.agents.map(lambda t: t[:, :, :0])
    road = dataclasses.replace(
        track.road,
        junctions=track.road.junctions[:, :0],
        **{
            k: getattr(track.road, k)[:, :0]
            for k in ("stop_line", "signal_head", "signal_lane", "phase_end", "phase_state", "phase_offset")
        },
    )
    bare = dataclasses.replace(track, agents=agents, road=road, signals=track.signals[:, :, :0])
    assert RULES[name](bare).shape == track.valid.shape
