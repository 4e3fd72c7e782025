import json

import numpy as np
import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation.bench_car import bench_car, percentile_ms
from xpeng_world.policies.car import CarNet, CarNetConfig


def test_percentiles_are_of_the_decisions_in_ms():
    seconds = np.arange(1, 101) / 1000
    assert percentile_ms(seconds, 50).value == pytest.approx(50.5)
    late = percentile_ms(seconds, 99)
    assert late.value == pytest.approx(99.01)
    assert late.low < late.value <= late.high <= 100
    assert late.n == 100


def test_figures_of_a_network_are_written(tmp_path, capsys):
    CarNet(CarNetConfig(widths=(4, 6), camera_features=8, state_features=8, features=8)).save(tmp_path / "net")
    path = bench_car(str(tmp_path / "net"), str(tmp_path / "out"), decisions=100, seed=0)
    record = json.loads(path.read_text())
    assert set(record["metrics"]) == {"decision_ms_p50", "decision_ms_p99"}
    assert 0 < record["metrics"]["decision_ms_p50"]["value"] <= record["metrics"]["decision_ms_p99"]["value"]
    assert record["threads"] == 1
    assert "decision ms p99" in capsys.readouterr().out


def test_what_no_car_can_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="reads the scene"):
        bench_car("expert", str(tmp_path), decisions=100, seed=0)
    with pytest.raises(ConfigError, match="too few"):
        bench_car("idle", str(tmp_path), decisions=99, seed=0)
