from __future__ import annotations

import json

import pytest
from xpeng_world.envs import make_world
from xpeng_world.evaluation.left_hand import left_hand_figures, measure_left
from xpeng_world.evaluation.runner import Evaluation, Row
from xpeng_world.evaluation.suites import Episode, load_suite


def scored(points: list[float | None]) -> Evaluation:
    rows = [
        Row(Episode(k, k, {}), scores={} if p is None else {"epdms": p}, unscored="crashed" if p is None else "")
        for k, p in enumerate(points)
    ]
    return Evaluation("p", "w", load_suite("smoke"), rows, 1.0)


def test_gaps_are_over_the_episodes_that_all_have() -> None:
    found = {
        "right_hand_score": scored([90, 80, 70, None]),
        "left_hand_score": scored([60, 80, None, 10]),
        "left_hand_score_mirrored": scored([90, 70, 70, 10]),
    }
    figures = left_hand_figures(found)
    assert figures["left_hand_gap"].value == pytest.approx(15.0)
    assert figures["left_hand_gap_mirrored"].value == pytest.approx(5.0)
    assert figures["right_hand_score"].n == 2


def test_traffic_keeps_left_in_the_world_of_that_name() -> None:
    world = make_world("reference:left", camera=False)
    state = world.reset([3], {"family": "city"})
    assert int(state.scene.road.traffic_side) == -1


def test_both_sides_are_scored(tmp_path) -> None:
    path = measure_left("weights/small/micro", str(tmp_path), "smoke", 1, 0, 1)
    metrics = json.loads(path.read_text())["metrics"]
    assert set(metrics) == {"right_hand_score", "left_hand_score", "left_hand_score_mirrored", "left_hand_gap", "left_hand_gap_mirrored"}
    assert metrics["left_hand_gap"]["value"] == pytest.approx(metrics["right_hand_score"]["value"] - metrics["left_hand_score"]["value"])
