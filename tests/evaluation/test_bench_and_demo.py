import json

import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation import bench as benchmark
from xpeng_world.evaluation.demo import demo


def test_every_step_is_timed_but_the_first(fake):
    seconds = benchmark.single_steps(fake.FakeWorld(), 3)
    assert len(seconds) == 3
    assert min(seconds) > 0


def test_a_batch_is_timed_by_the_frame(fake):
    seconds = benchmark.vector_steps(fake.FakeWorld(), 8, batch=4)
    assert len(seconds) == 2
    assert min(seconds) > 0


def test_speed_is_frames_over_seconds_with_the_spread_of_repeats():
    runs = iter([[0.1, 0.3], [0.1, 0.1]])
    found = benchmark.speed(lambda: next(runs), repeats=2)
    assert found.value == pytest.approx(7.5)
    assert (found.low, found.high, found.n) == (5.0, 10.0, 2)


def test_bench_writes_its_figures_and_restores_threads(fake, tmp_path, monkeypatch, capsys):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(benchmark, "import_seconds", lambda: 0.25)
    path = benchmark.bench(fake.FakeWorld(), str(tmp_path), frames=2, repeats=1, batch=2, threads=1, reference=False, make=[], rival=False)
    record = json.loads(path.read_text())
    assert set(record["metrics"]) == {"step_fps_b1", "step_fps_b2", "peak_memory_mib", "import_s"}
    assert record["threads"] == 1
    assert torch.get_num_threads() == before
    assert "step fps b2" in capsys.readouterr().out
    options = {"frames": 2, "repeats": 1, "batch": 2, "threads": 1, "reference": False, "make": [], "rival": False}
    labelled = json.loads(benchmark.bench(fake.FakeWorld(), str(tmp_path), **options, label="two_threads").read_text())
    assert set(labelled["metrics"]) == {f"{name}_two_threads" for name in record["metrics"]}
    assert labelled["command"].endswith("label=two_threads")
    with pytest.raises(ConfigError, match="label='a-b' must be of letters"):
        benchmark.bench(fake.FakeWorld(), str(tmp_path), **options, label="a-b")


def test_bench_refuses_nothing_to_measure(tmp_path):
    with pytest.raises(ConfigError, match="at least 1"):
        benchmark.bench("learned", str(tmp_path), frames=0, repeats=1, batch=1, threads=None, reference=False, make=[], rival=False)


def test_importing_takes_measurable_time():
    assert 0 < benchmark.import_seconds() < 60


def test_the_demo_leaves_a_video_and_a_scorecard(fake, tmp_path, capsys):
    video = demo("idle", fake.FakeWorld(), str(tmp_path), seconds=0.5, seed=3)
    assert video.stat().st_size > 1000
    assert {path.name for path in tmp_path.iterdir()} == {"drive.mp4", "metrics.json"} | (
        {"cache"} if (tmp_path / "cache").exists() else set()
    )
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["episodes"]["value"] == 1
    told = capsys.readouterr().out
    assert "closed-loop EPDMS" in told
    assert "drive.mp4" in told.replace("\n", "")


def test_a_demo_of_no_time(tmp_path):
    with pytest.raises(ConfigError, match="shorter than a step"):
        demo("idle", "learned", str(tmp_path), seconds=0, seed=3)


def test_the_rival_is_of_its_size_and_the_ratio_of_one_run(fake, monkeypatch):
    from xpeng_world.evaluation import rival

    assert 4.2e6 < sum(p.numel() for p in rival.rival_network().parameters()) < 4.6e6
    monkeypatch.setattr(benchmark, "RIVAL_FRAMES", 1)
    figures = benchmark.rival_ratios(fake.FakeWorld(), frames=2, repeats=2, batch=2)
    assert figures["rival_fps_b1"].n == 2
    assert figures["fps_ratio_b2"].value > 0
    assert set(figures) == {"rival_fps_b1", "fps_ratio_b1", "rival_fps_b2", "fps_ratio_b2"}


def test_the_video_model_alone_is_timed(tmp_path) -> None:
    options = {"frames": 4, "repeats": 2, "batch": 1, "threads": 1, "reference": False, "make": [], "rival": False}
    path = benchmark.bench("learned", str(tmp_path), **options, painter=4, precision="float32")
    record = json.loads(path.read_text())
    assert list(record["metrics"]) == ["painter_fps_b4"]
    assert 0.2 < record["metrics"]["painter_fps_b4"]["value"] < 1e5
    assert "painter=4 device=cpu precision=float32 compiled=false" in record["command"]
    with pytest.raises(ConfigError, match="device=warp cannot be used"):
        benchmark.bench("learned", str(tmp_path), **options, painter=4, device="warp")
    with pytest.raises(ConfigError, match="did you mean 'float32'"):
        benchmark.bench("learned", str(tmp_path), **options, painter=4, precision="float3")
    with pytest.raises(ConfigError, match="painter=-1"):
        benchmark.bench("learned", str(tmp_path), **options, painter=-1)
