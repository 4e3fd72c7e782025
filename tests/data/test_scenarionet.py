from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.data import import_scenarionet, read_clips
from xpeng_world.data.restricted_pickle import read_plain_pickle
from xpeng_world.errors import DataError
from xpeng_world.road import SignalState
from xpeng_world.scene import AgentKind

STEPS = 40


def track(kind: str, x: float, y: float, speed: float, missing: int | None = None) -> dict:
    time = 0.1 * np.arange(STEPS)
    valid = np.ones(STEPS, dtype=bool)
    if missing is not None:
        valid[missing] = False
    return {
        "type": kind,
        "state": {
            "position": np.stack((x + speed * time, np.full(STEPS, y), np.zeros(STEPS)), -1).astype(np.float32),
            "heading": np.zeros(STEPS, dtype=np.float32),
            "velocity": np.stack((np.full(STEPS, speed), np.zeros(STEPS)), -1).astype(np.float32),
            "valid": valid,
            "length": np.full((STEPS, 1), 4.4, dtype=np.float32),
            "width": np.full((STEPS, 1), 1.9, dtype=np.float32),
        },
        "metadata": {"type": kind},
    }


def scenario(**changes) -> dict:
    line = lambda a, b, y: np.stack((np.linspace(a, b, 20), np.full(20, y), np.zeros(20)), -1)
    lane = lambda a, b, y, **more: {"type": "LANE_SURFACE_STREET", "polyline": line(a, b, y), "speed_limit_kmh": 50, **more}
    made = {
        "id": "made-up",
        "version": "1",
        "length": STEPS,
        "metadata": {"ts": 0.1 * np.arange(STEPS), "sdc_id": "0", "dataset": "test"},
        "tracks": {
            "0": track("VEHICLE", 1010.0, 2000.0, 8.0),
            "1": track("VEHICLE", 1030.0, 2000.0, 8.0),
            "2": track("PEDESTRIAN", 1050.0, 2006.0, 1.0),
            "3": track("CYCLIST", 1015.0, 2003.5, 4.0, missing=9),
        },
        "map_features": {
            "a": lane(1000, 1060, 2000.0, exit_lanes=["b"], left_neighbor=[{"feature_id": "c"}]),
            "b": lane(1060, 1150, 2000.0),
            "c": lane(1000, 1060, 2003.5, right_neighbor=[{"feature_id": "a"}]),
            "line": {"type": "ROAD_LINE_BROKEN_SINGLE_WHITE", "polyline": line(1000, 1060, 2001.7)},
        },
        "dynamic_map_states": {
            "a": {"type": "TRAFFIC_LIGHT", "state": {"object_state": ["LANE_STATE_STOP"] * 25 + ["LANE_STATE_GO"] * 15}}
        },
    }
    return {**made, **changes}


def written(folder: Path, value: object, name: str = "sd_test.pkl", protocol: int = 4) -> Path:
    path = folder / name
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_scenario_becomes_a_clip(tmp_path, protocol) -> None:
    report = import_scenarionet(written(tmp_path, scenario(), protocol=protocol), tmp_path / "out", test_share=0)
    assert report.left_out == {"road users with missing moments": 1}
    (clip,) = read_clips(tmp_path / "out", frames=False)
    seen, offset = clip.track, torch.tensor(clip.provenance["offset"])
    assert clip.provenance["dataset"] == "test"
    wanted = torch.stack((1010 + 0.8 * torch.arange(STEPS), torch.full((STEPS,), 2000.0)), -1)
    torch.testing.assert_close(seen.ego.position[0] + offset, wanted, atol=1e-2, rtol=0)
    assert sorted(seen.agents.kind[0, 0].tolist()) == [int(AgentKind.CAR), int(AgentKind.PEDESTRIAN)]
    assert float(seen.agents.length[0, 0, 0]) == pytest.approx(4.4)
    assert float(seen.road.speed_limit[0, 0]) == pytest.approx(50 / 3.6)
    assert seen.road.successors[0, 0, 0] == 1
    assert seen.road.left[0, 0] == 3  # "b" has two pieces
    assert seen.signals[0, :, 0].tolist() == [int(SignalState.RED)] * 25 + [int(SignalState.GREEN)] * 15


def test_egos_can_be_chosen(tmp_path) -> None:
    path = written(tmp_path, scenario())
    assert import_scenarionet(path, tmp_path / "all", test_share=0, egos="all").clips == {"train": 2}
    with pytest.raises(DataError, match="unknown egos 'al'; did you mean 'all'"):
        import_scenarionet(path, tmp_path / "none", egos="al")


class Evil:
    """Would run a command if it were unpickled as usual."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_nothing_in_a_pickle_is_executed(tmp_path) -> None:
    mark = tmp_path / "executed"
    for number, value in enumerate((Evil(mark), {"tracks": [Evil(mark)]}, np.array([Evil(mark)], dtype=object), {"a": np.dtype(object)})):
        path = written(tmp_path, value, f"sd_{number}.pkl")
        with pytest.raises(DataError, match="is not read"):
            read_plain_pickle(path)
    path = tmp_path / "sd_eval.pkl"
    path.write_bytes(b"cbuiltins\neval\n(S'1+1'\ntR.")
    with pytest.raises(DataError, match=r"it names builtins\.eval"):
        read_plain_pickle(path)
    assert not mark.exists()


def test_arrays_and_plain_containers_are_read(tmp_path) -> None:
    value = {"a": [1, 2.5, "text", None, True], "b": (np.arange(6).reshape(2, 3), np.float32(3)), "c": {"x"}, "d": np.array(["u", "v"])}
    for protocol in (2, 3, 4, 5):
        found = read_plain_pickle(written(tmp_path, value, protocol=protocol))
        assert found["a"] == value["a"]
        assert np.array_equal(found["b"][0], value["b"][0])
        assert found["d"].tolist() == ["u", "v"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"tracks": {}}, "it needs tracks, map_features, metadata, length"),
        (scenario(metadata={"ts": 0.2 * np.arange(STEPS), "sdc_id": "0"}), "steps of 0.200 to 0.200 s, not 0.1 s"),
        (scenario(tracks={"0": {"type": "VEHICLE"}}), "not as ScenarioNet writes it"),
        (scenario(metadata={"ts": 0.1 * np.arange(STEPS), "sdc_id": "77"}), "no vehicle in"),
        (scenario(map_features={}), "no lane of any length"),
    ],
)
def test_bad_scenarios_are_one_clear_line(tmp_path, value, message) -> None:
    with pytest.raises(DataError, match=message):
        import_scenarionet(written(tmp_path, value), tmp_path / "out", test_share=0)


def test_a_damaged_pickle_is_one_clear_line(tmp_path) -> None:
    path = tmp_path / "sd_x.pkl"
    path.write_bytes(b"no pickle")
    with pytest.raises(DataError, match=r"is damaged, or no pickle|is not read"):
        import_scenarionet(path, tmp_path / "out")
