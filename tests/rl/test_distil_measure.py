from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation.evidence import read_evidence
from xpeng_world.policies import load_policy
from xpeng_world.policies.car import SIZES, CarNet
from xpeng_world.rl import distil_measure
from xpeng_world.rl.distil_measure import digest, measure_student, parameters


@pytest.fixture
def folders(tmp_path):
    torch.manual_seed(0)
    for name, size in (("teacher", "small"), ("student", "micro"), ("alone", "micro")):
        CarNet(SIZES[size]).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def drives(monkeypatch):
    """Points by policy in place of driving; counts the suites that were driven."""
    points = {"teacher": [80.0, 60.0, 0.0, 100.0], "student": [70.0, 60.0, 10.0, 80.0], "alone": [40.0, 55.0, 0.0, 15.0]}
    driven = []

    def run_suite(policy, world, suite, *, workers, seed):
        driven.append(policy.rsplit("/")[-1])
        rows = [SimpleNamespace(episode=e, scores={"epdms": p}) for e, p in zip(suite.episodes, points[driven[-1]], strict=False)]
        return SimpleNamespace(scored=rows)

    monkeypatch.setattr(distil_measure, "run_suite", run_suite)
    return SimpleNamespace(points=points, driven=driven)


def measure(folders, **changes):
    base = {
        "student": str(folders / "student"),
        "teacher": str(folders / "teacher"),
        "figure": "student_share",
        "alone": "none",
        "out": str(folders / "out"),
    }
    base |= {"world": "reference", "suite": "validation", "episodes": 4, "workers": 1, "seed": 0, "draws": 1, "results": "none"}
    return measure_student(**{**base, **changes})


def test_shares_are_ratios_of_means_over_the_same_episodes(folders, drives) -> None:
    figures = read_evidence(measure(folders, alone=str(folders / "alone")))["metrics"]
    assert figures["student_share"]["value"] == pytest.approx(220 / 240)
    assert figures["student_share"]["low"] <= 220 / 240 <= figures["student_share"]["high"]
    assert figures["student_share"]["n"] == 4
    assert figures["distilled_over_alone"]["value"] == pytest.approx(220 / 110)
    assert figures["teacher_score"]["value"] == 60
    count = {name: sum(p.numel() for p in CarNet(SIZES[name]).parameters()) for name in SIZES}
    assert figures["parameters_ratio"]["value"] == pytest.approx(count["micro"] / count["small"])
    assert figures["parameters_ratio"]["value"] <= 0.1


def test_what_was_scored_is_scored_again_only_when_it_changed(folders, drives) -> None:
    results = folders / "line.json"
    measure(folders)
    measure(folders, results=str(results))
    assert drives.driven == ["student", "teacher"]
    assert "student_share" in json.loads(results.read_text())["metrics"]
    torch.manual_seed(5)
    CarNet(SIZES["micro"]).save(folders / "student")
    measure(folders)
    assert drives.driven == ["student", "teacher", "student"]
    measure(folders, seed=1)
    assert drives.driven[3:] == ["student", "teacher"]
    measure(folders, draws=2)  # both are there
    assert len(drives.driven) == 5


def test_draws_count_together_and_the_difference_is_in_points(folders, drives) -> None:
    measure(folders, seed=3)
    drives.points["student"] = [90.0, 60.0, 0.0, 100.0]
    record = read_evidence(measure(folders, seed=3, draws=2))
    share, points = (record["metrics"][name] for name in ("student_share", "student_share_points"))
    assert share["value"] == pytest.approx((220 + 250) / 480)
    assert points["value"] == pytest.approx((-20 + 10) / 8)
    assert points["low"] <= points["value"] <= points["high"]
    assert share["n"] == points["n"] == 8
    assert record["command"].endswith("seed=3 draws=2")
    assert len(set(record["seeds"])) == 8
    with pytest.raises(ConfigError, match="draws=0"):
        measure(folders, draws=0)


def test_a_teacher_without_a_network_has_no_ratio(folders, drives) -> None:
    drives.points["expert"] = [50.0, 50.0, 50.0, 50.0]
    figures = read_evidence(measure(folders, teacher="expert"))["metrics"]
    assert "parameters_ratio" not in figures
    assert figures["student_share"]["value"] == pytest.approx(220 / 200)
    assert parameters(load_policy("expert")) == 0
    assert digest("expert") == ""
    assert digest(str(folders / "student")) != digest(str(folders / "alone"))


def test_nothing_to_compare_with_is_said(folders, drives) -> None:
    drives.points["teacher"] = [0.0, 0.0, 0.0, 0.0]
    with pytest.raises(DataError, match="has points"):
        measure(folders)
    with pytest.raises(ConfigError, match="did you mean 'expert'"):
        measure(folders, teacher="expart")
