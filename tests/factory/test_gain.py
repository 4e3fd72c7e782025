from __future__ import annotations

import json

import numpy as np
import pytest
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation import runner
from xpeng_world.factory import gain
from xpeng_world.factory.gain import crossed_bootstrap, gains, measure_gain, scores


def test_the_mean_is_over_all_and_the_interval_covers_seeds_and_episodes() -> None:
    samples = np.asarray([[1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 6.0, 8.0]])
    found = crossed_bootstrap(samples)
    assert found.value == pytest.approx(4.5)
    assert found.low < 4.5 < found.high
    assert found.n == 2
    assert crossed_bootstrap(samples) == found
    same = crossed_bootstrap(np.full((3, 5), 2.0))
    assert (same.value, same.low, same.high) == (2.0, 2.0, 2.0)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    alike = rng.normal(0, 1, (3, 200))
    apart = alike + np.asarray([[-5.0], [0.0], [5.0]])
    width = lambda e: e.high - e.low
    assert width(crossed_bootstrap(apart)) > 3 * width(crossed_bootstrap(alike))


def test_gains_are_over_the_episodes_that_all_have() -> None:
    start = {1: 50.0, 2: 60.0, 3: 10.0}
    found = gains("grpo", "learned", start, [{1: 52.0, 2: 64.0, 4: 0.0}, {1: 51.0, 2: 65.0}], [0, 7], "before")
    assert found["grpo_gain_learned"].value == pytest.approx(3.0)
    assert found["before_learned"].value == pytest.approx(55.0)
    assert found["grpo_score_learned"].value == pytest.approx(58.0)
    assert found["grpo_gain_learned_seed0"].value == pytest.approx(3.0)
    assert found["grpo_gain_learned_seed7"].value == pytest.approx(3.0)
    with pytest.raises(DataError, match="nothing to compare"):
        gains("grpo", "learned", start, [{9: 1.0}], [0], "before")


def test_scores_are_kept_until_the_weights_change(tmp_path, monkeypatch) -> None:
    asked = []

    def run_suite(policy, world, suite, workers, seed):
        asked.append(policy)
        row = lambda index, points: runner.Row(type("Episode", (), {"index": index})(), scores={"epdms": points})
        return type("Found", (), {"scored": [row(4, 12.5), row(6, 80.0)]})()

    monkeypatch.setattr(gain, "run_suite", run_suite)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model").write_text("a")
    ask = lambda suite: scores(tmp_path / "kept.json", {"policy": str(weights), "world": "learned", "suite": suite, "seed": 0}, None, 1)
    assert ask("validation") == ask("validation") == {4: 12.5, 6: 80.0}
    assert len(asked) == 1
    (weights / "model").write_text("b")
    ask("validation")
    ask("standard")
    assert len(asked) == 3


def test_draws_of_a_suite_count_together(tmp_path, monkeypatch) -> None:
    asked = []

    def scores(kept, what, suite, workers):
        asked.append(kept.name)
        return {k: 50.0 + 10 * what["seed"] + (0.0 if what["policy"] == "x" else 4.0) for k in range(3)}

    monkeypatch.setattr(gain, "scores", scores)
    monkeypatch.setattr(gain.multiprocessing, "get_context", lambda kind: type("Context", (), {"Pool": Done}))
    path = measure_gain("x", str(tmp_path), [0, 1], 10, "learned", "smoke", 3, 2, ["reference"], None, 1, "none")
    record = json.loads(path.read_text())
    assert record["metrics"]["ppo_gain_reference"]["value"] == pytest.approx(4.0)
    assert record["metrics"]["start_score_reference"]["value"] == pytest.approx(85.0)
    assert record["metrics"]["ppo_gain_reference_seed0"]["n"] == 6
    assert "seed=3 draws=2" in record["command"]
    assert asked[:2] == ["start-reference-smoke-3.json", "start-reference-smoke-4.json"]


class Done:
    """A pool whose runs have been trained."""

    def __init__(self, processes): ...
    def __enter__(self):
        return self

    def __exit__(self, *error): ...
    def map(self, function, items, chunksize):
        return [item["out"] for item in items]


@pytest.mark.parametrize(("seeds", "draws", "judges"), [([], 1, ["learned"]), ([0], 0, ["learned"]), ([0], 1, [])])
def test_too_little_to_measure_is_refused(tmp_path, seeds, draws, judges) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        measure_gain("x", str(tmp_path), seeds, 10, "learned", "smoke", 0, draws, judges, None, 1, "none")
