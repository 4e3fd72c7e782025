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
    merge_evidence(path, run("second", 2.5, b=3.0))
    merged = read_evidence(path)
    assert merged["command"] == ["first", "second"]
    assert merged["seconds"] == 5.5
    assert {key: figure["value"] for key, figure in merged["metrics"].items()} == {"a": 1.0, "b": 3.0, "c": 2.0}


def test_a_merged_file_says_which_run_measured_what(tmp_path):
    path = tmp_path / "main.json"
    begun = {**run("before", 1.0, a=1.0, b=1.0, c=1.0), "command": ["before", "long before"], "commit": "aaaaaaaaaaaa"}
    write_evidence(path, begun)  # as files were kept that knew one run only
    later = {**run("later", 2.0, b=2.0, d=2.0, e=2.0), "commit": "bbbbbbbbbbbb", "machine": "another", "seeds": [4]}
    merge_evidence(path, later, keys=["b"])
    merge_evidence(path, later, keys=["d"])
    found = read_evidence(path)
    assert [(each["command"], each["commit"], each["figures"]) for each in found["runs"]] == [
        (["before", "long before"], "aaaaaaaaaaaa", ["a", "c"]),
        ("later", "bbbbbbbbbbbb", ["b", "d"]),
    ]
    assert (found["commit"], found["machine"], found["seeds"], found["seconds"]) == ("bbbbbbbbbbbb", "another", [3, 4], 3.0)
    merge_evidence(path, run("again", 4.0, a=3.0, c=3.0))
    found = read_evidence(path)
    assert found["command"] == ["later", "again"]  # nothing is left of those before
    assert found["seconds"] == 6.0
    merge_evidence(tmp_path / "all.json", found, keys=["c", "d"])  # a file that is a sum is told apart as well
    assert [(each["command"], each["figures"]) for each in read_evidence(tmp_path / "all.json")["runs"]] == [
        ("later", ["d"]),
        ("again", ["c"]),
    ]
    merge_evidence(path, run("last", 1.0, a=4.0, b=4.0, c=4.0, d=4.0))
    assert "runs" not in read_evidence(path)
    assert read_evidence(merge_evidence(tmp_path / "none.json", run("last", 1.0, a=1.0), keys=[]))["metrics"] == {}


def test_merging_names_a_figure_that_was_not_measured(tmp_path):
    with pytest.raises(DataError, match="measured no 'z'; it has: a"):
        merge_evidence(tmp_path / "m.json", run(a=1.0), keys=["z"])


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"command": "x"})])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"m\.json"):
        read_evidence(path)
