"""Ranking of policies in both worlds, on a short suite."""

import json

import numpy as np
import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation.fidelity import FidelityConfig, fidelity
from xpeng_world.evaluation.fidelity.ranking import Ranking, labels, rank_policies, ranking_figures


def test_policies_are_scored_in_both_worlds_and_kept(tmp_path):
    config = FidelityConfig(out=str(tmp_path), part="ranking", policies=["expert", "idle", "offroad"], suite="smoke", episodes=2, workers=1)
    record = json.loads(fidelity(config).read_text())
    assert record["metrics"]["ranking_policies"]["value"] == 3
    assert -1 <= record["metrics"]["ranking_spearman"]["value"] <= 1
    assert record["command"] == "xpeng-world fidelity part=ranking world=learned suite=smoke episodes=2 seed=0"
    lines = (tmp_path / "ranking.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["policy", "expert", "idle", "offroad"]
    assert (tmp_path / "ranking.png").stat().st_size > 5000


def test_an_episode_without_a_score_is_left_out():
    points = np.array([[10.0, np.nan], [50.0, 50.0], [90.0, 90.0]])
    assert ranking_figures(Ranking(["a", "b", "c"], points, points))["ranking_spearman"].value == pytest.approx(1)


def test_unknown_policies_are_refused_before_anything_is_driven():
    with pytest.raises(ConfigError, match="nobody"):
        rank_policies("learned", ["expert", "idle", "nobody"], "smoke", 1, 0, 1)


def test_policies_of_the_same_points_are_named_side_by_side():
    a, b = np.array([0.0, 50.0, 2.0, 0.0, 80.0]), np.array([0.0, 50.0, 2.0, 20.0, 80.0])
    named = labels(["random", "ppo", "circle", "idle", "expert"], a, b)
    assert named == [("random, circle", 0.0, 0.0), ("ppo", 50.0, 50.0), ("idle", 0.0, 20.0), ("expert", 80.0, 80.0)]
