import json

import numpy as np
import pytest
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation.bench_car import bench_car, percentile_ms, rate
from xpeng_world.policies.car import CarNet, CarNetConfig
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.world_model.video.tokenizer import FrameTokenizer


def test_percentiles_are_of_the_decisions_in_ms():
    seconds = np.arange(1, 101) / 1000
    assert percentile_ms(seconds, 50).value == pytest.approx(50.5)
    late = percentile_ms(seconds, 99)
    assert late.value == pytest.approx(99.01)
    assert late.low < late.value <= late.high <= 100
    assert late.n == 100


def test_figures_of_a_network_are_written(tmp_path, capsys):
    CarNet(CarNetConfig(widths=(4, 6), camera_features=8, state_features=8, features=8)).save(tmp_path / "net")
    path = bench_car(str(tmp_path / "net"), str(tmp_path / "out"), decisions=100, data=None, seed=0)
    record = json.loads(path.read_text())
    assert set(record["metrics"]) == {"decision_ms_p50", "decision_ms_p99"}
    assert 0 < record["metrics"]["decision_ms_p50"]["value"] <= record["metrics"]["decision_ms_p99"]["value"]
    assert record["threads"] == 1
    assert "decision ms p99" in capsys.readouterr().out


def test_what_no_car_can_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="reads the scene"):
        bench_car("expert", str(tmp_path), decisions=100, data=None, seed=0)
    with pytest.raises(ConfigError, match="too few"):
        bench_car("idle", str(tmp_path), decisions=99, data=None, seed=0)


def test_a_vla_is_timed_in_both_modes(tmp_path):
    VlaModel.create("tiny", FrameTokenizer(widths=[16, 16, 16], blocks=1)).save(tmp_path / "vla")
    path = bench_car(str(tmp_path / "vla:slow"), str(tmp_path / "out"), decisions=100, data=None, seed=0)
    record = json.loads(path.read_text())
    assert set(record["metrics"]) == {"decisions_per_s_fast", "decisions_per_s_slow"}
    assert record["metrics"]["decisions_per_s_fast"]["value"] > record["metrics"]["decisions_per_s_slow"]["value"] > 0


def test_a_rate_is_of_the_mean_time():
    found = rate(np.array([0.1, 0.3]))
    assert found.value == pytest.approx(5.0)
    assert found.low <= 5.0 <= found.high


def test_driving_without_clips_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        bench_car("idle", str(tmp_path), decisions=100, data=str(tmp_path / "none"), seed=0)
