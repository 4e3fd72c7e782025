from __future__ import annotations

import re

import pytest
from xpeng_world.errors import DataError
from xpeng_world.evaluation.bootstrap import Estimate
from xpeng_world.evaluation.evidence import evidence, read_evidence, write_evidence
from xpeng_world.evaluation.results import keep, results


def run(folder, command="xpeng-world bench", **figures):
    return write_evidence(folder / "metrics.json", evidence(figures, command=command, seconds=1.0, seeds=[1]))


def test_kept_figures_stand_on_the_page(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "a", step_fps_b1=Estimate(30.5, 29.0, 32.0, 5), import_s=0.7)
    keep("a", "main", ["step_fps_b1"])
    assert list(read_evidence("benchmarks/results/main.json")["metrics"]) == ["step_fps_b1"]
    run(tmp_path / "b", command="xpeng-world bench b=true", import_s=0.8)
    keep("b", "main", None)
    text = results("benchmarks/results", "docs/results.md").read_text()
    assert "| `step_fps_b1` | 30.5 | 29 to 32 | 5 | 1 |" in text
    assert "| `import_s` | 0.8 |  | 1 | 2 |" in text
    assert re.search(r"# 1: commit .* threads\nxpeng-world bench\n# 2: commit .* threads\nxpeng-world bench b=true\n", text)


def test_what_is_not_there_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no figures"):
        keep("nowhere", "main", None)
    run(tmp_path / "a", import_s=0.7)
    with pytest.raises(DataError, match="no 'demo_s'"):
        keep("a", "main", ["demo_s"])
    with pytest.raises(DataError, match="no evidence"):
        results("benchmarks/results", "docs/results.md")
