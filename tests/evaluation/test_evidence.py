import json
import re

import pytest
from xpeng_world.errors import DataError
from xpeng_world.evaluation.bootstrap import Estimate
from xpeng_world.evaluation.evidence import FIELDS, evidence, machine, merge_evidence, read_evidence, write_evidence


def run(command="xpeng-world eval idle", seconds=1.0, **metrics):
    return evidence(metrics, command=command, seconds=seconds, seeds=[3])


def test_a_record_has_all_fields_and_survives_the_disk(tmp_path):
    record = run(a=Estimate(1.0, 0.5, 1.5, 9), b=2)
    assert tuple(record) == FIELDS
    assert record["metrics"] == {
        "a": {"value": 1.0, "low": 0.5, "high": 1.5, "n": 9},
        "b": {"value": 2.0, "low": None, "high": None, "n": 1},
    }
    path = write_evidence(tmp_path / "new" / "m.json", record)
    assert read_evidence(path) == record
    assert [p.name for p in path.parent.iterdir()] == ["m.json"]


def test_commit_and_machine_are_named_without_a_host(monkeypatch):
    import socket

    assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown", run()["commit"])
    assert socket.gethostname() not in machine().split()
    assert "cores" in machine()


def test_a_figure_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="'a' is nan"):
        run(a=float("nan"))


def test_merging_keeps_other_figures_and_replaces_measured_ones(tmp_path):
    path = tmp_path / "main.json"
    merge_evidence(path, run("first", 1.0, a=1.0, b=1.0))
    merge_evidence(path, run("second", 2.0, b=2.0, c=2.0, d=2.0), keys=["b", "c"])
    merge_evidence(path, run("second", 2.0, b=3.0))
    merged = read_evidence(path)
    assert merged["command"] == ["first", "second"]
    assert merged["seconds"] == 5.0
    assert {key: figure["value"] for key, figure in merged["metrics"].items()} == {"a": 1.0, "b": 3.0, "c": 2.0}


def test_merging_names_a_figure_that_was_not_measured(tmp_path):
    with pytest.raises(DataError, match="measured no 'z'; it has: a"):
        merge_evidence(tmp_path / "m.json", run(a=1.0), keys=["z"])


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"command": "x"})])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"m\.json"):
        read_evidence(path)
