from __future__ import annotations

import json

import pytest
from xpeng_world.cli import main
from xpeng_world.evaluation import runner
from xpeng_world.factory import gain, gain_grpo


def test_draws_of_a_suite_count_together(tmp_path, monkeypatch) -> None:
    class InThisProcess:
        def __init__(self, processes): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def map(self, function, items, chunksize):
            return [function(item) for item in items]

    def run_suite(policy, world, suite, workers, seed):
        row = lambda index, points: runner.Row(type("Episode", (), {"index": index})(), scores={"epdms": points})
        return type("Found", (), {"scored": [row(k, 50.0 + 10 * seed + (4.0 if "seed" in policy else 0.0)) for k in range(3)]})()

    monkeypatch.setattr(gain, "run_suite", run_suite)
    monkeypatch.setattr(gain_grpo, "_train", lambda fields: fields["out"])
    monkeypatch.setattr(gain_grpo.multiprocessing, "get_context", lambda kind: type("Context", (), {"Pool": InThisProcess}))
    assert main(["measure-grpo", f"out={tmp_path}", "seeds=[0,1]", "judges=[learned]", "draws=2", "init=vla"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["metrics"]["grpo_gain_learned_seed0"]["n"] == 6
    assert metrics["metrics"]["grpo_start_score_learned"]["value"] == pytest.approx(55.0)
    assert metrics["metrics"]["grpo_gain_learned"]["value"] == pytest.approx(4.0)
    assert "draws=2" in metrics["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seeds=[]"], "at least one"),
        (["draws=0"], "at least one"),
        (["judges=[dream]"], "unknown judge 'dream'"),
        (["settings={grup:4}"], "did you mean 'group'"),
        (["settings={seed:4}"], "set by measure-grpo itself"),
        (["settings={hold:often}"], "wrong value for hold"),
        (["suite=standart"], "did you mean 'standard'"),
    ],
)
def test_bad_words_are_answered_before_any_work(tmp_path, capsys, words, message) -> None:
    assert main(["measure-grpo", f"out={tmp_path / 'run'}", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
