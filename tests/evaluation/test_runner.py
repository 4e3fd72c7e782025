import csv
import json
import subprocess
from dataclasses import replace

import pytest
import torch
from xpeng_world.errors import ConfigError, DataError, SimulatorError
from xpeng_world.evaluation import runner
from xpeng_world.evaluation.expert_distance import ExpertDistances
from xpeng_world.evaluation.report import figures, write_report
from xpeng_world.evaluation.runner import run_suite, worst_and_best
from xpeng_world.evaluation.suites import Episode, Suite

SUITE = Suite("little", "", 12, tuple(Episode(i, 10 + i, {"split": "train"}) for i in range(5)))


class Steady:
    """Holds one steering and one pedal."""

    name, privileged = "steady", False

    def __init__(self, steering=0.0, pedal=0.0):
        self.action = torch.tensor([steering, pedal])

    def initial_memory(self, seeds):
        return None

    def act(self, observation, memory, scene=None):
        return self.action.expand(observation.camera.shape[0], 2), memory


class Breaking:
    """A world whose episode of one seed fails on the way."""

    def __init__(self, world, seed):
        self.world, self.seed = world, seed

    def reset(self, seeds, scenario=None):
        return self.world.reset(seeds, scenario)

    def step(self, state, actions):
        if bool(((state.seed == self.seed) & (state.step == 3)).any()):
            raise SimulatorError("the engine stopped")
        return self.world.step(state, actions)


def test_standing_still_has_no_progress_and_no_infraction(fake):
    found = run_suite("idle", fake.FakeWorld(), SUITE)
    assert [row.episode.index for row in found.rows] == [0, 1, 2, 3, 4]
    for row in found.rows:
        assert row.ended == "time_limit"
        assert row.scores["no_at_fault_collision"] == row.scores["drivable_area"] == row.scores["traffic_light"] == 1
        assert row.scores["ego_progress"] < 0.9


def test_every_episode_has_the_scores_of_other_benchmarks(fake):
    found = run_suite("idle", fake.FakeWorld(), SUITE)
    for row in found.rows:
        assert 50 < row.scores["nuplan_cls"] < 100  # nothing wrong in 1.2 s but that the expert is faster
        assert row.scores["carla_ds_2_0"] == pytest.approx(100 * row.scores["route_completion"] * (1 - 0.3 * (1 - pace(row))), abs=0.1)
        assert row.scores["bench2drive_success"] == 0
    summary = figures(found)
    assert {"nuplan_cls", "carla_ds_2_0", "carla_ds_2_1", "bench2drive_smoothness"} <= set(summary)


def pace(row) -> float:
    return row.scores["bench2drive_efficiency"] / 100


def test_leaving_the_road_ends_the_episode_at_nought(fake):
    found = run_suite(Steady(steering=-1.0, pedal=0.3), fake.FakeWorld(), replace(SUITE, steps=40).first(2))
    for row in found.rows:
        assert row.ended == "on_road"
        assert row.scores["nuplan_cls"] == 0
        assert row.scores["drivable_area"] == 0
        assert row.scores["epdms"] == 0
        assert row.scores["off_road"] == 1


def test_the_score_is_the_weighted_mean_of_its_own_terms(fake):
    for row in run_suite(Steady(pedal=0.1), fake.FakeWorld(), SUITE).rows:
        s = row.scores
        gates = s["no_at_fault_collision"] * s["drivable_area"] * s["driving_direction"] * s["traffic_light"]
        weighted = 5 * s["ego_progress"] + 5 * s["time_to_collision"] + 2 * s["lane_keeping"] + 2 * s["history_comfort"]
        assert s["epdms"] == pytest.approx(100 * gates * weighted / 14)


def test_the_expert_is_its_own_measure(fake):
    assert all(row.scores["ego_progress"] == 1.0 for row in run_suite("expert", fake.FakeWorld(), SUITE).rows)


def test_an_episode_scores_the_same_alone_and_in_a_batch(fake):
    together = run_suite(Steady(0.02, 0.2), fake.FakeWorld(), SUITE, batch=5).rows
    alone = run_suite(Steady(0.02, 0.2), fake.FakeWorld(), SUITE, batch=1).rows
    for a, b in zip(together, alone, strict=True):
        assert a.ended == b.ended
        assert a.scores == pytest.approx(b.scores, rel=1e-4, abs=1e-4)


def test_another_seed_is_another_draw(fake):
    first, second = (run_suite("idle", fake.FakeWorld(), SUITE.first(1), seed=seed).rows[0] for seed in (0, 1))
    assert first.episode.seed != second.episode.seed


def test_what_fails_is_reported_and_in_no_mean(fake, tmp_path):
    found = run_suite("expert", Breaking(fake.FakeWorld(), seed=12), SUITE, batch=4, keep=tmp_path)
    assert [row.unscored for row in found.rows] == ["", "", "the engine stopped", "", ""]
    assert found.score == pytest.approx(sum(row.scores["epdms"] for row in found.scored) / 4)
    assert figures(found)["unscored"].value == 1
    assert figures(found)["epdms"].n == 4


def test_a_score_that_is_not_finite_is_reported(fake, monkeypatch):
    monkeypatch.setattr(runner, "score_track", lambda track, distance: {"epdms": float("nan")})
    with pytest.raises(DataError, match="none of 5 episodes could be scored; the first: epdms is nan"):
        run_suite("idle", fake.FakeWorld(), SUITE)


def test_only_the_worst_and_the_best_drive_are_kept(fake, tmp_path):
    found = run_suite(Steady(0.01, 0.3), fake.FakeWorld(), SUITE, batch=2, keep=tmp_path)
    extremes = {row.kept for row in worst_and_best(found.rows)}
    assert set(tmp_path.iterdir()) == extremes


def test_the_report_is_written(fake, tmp_path):
    drives = tmp_path / "drives"
    drives.mkdir()
    suite = replace(SUITE, steps=6).first(2)
    found = run_suite(Steady(pedal=0.2), fake.FakeWorld(), suite, keep=drives)
    path = write_report(found, tmp_path, "xpeng-world eval steady")
    record = json.loads(path.read_text())
    assert record["seeds"] == [10, 11]
    assert record["metrics"]["epdms"]["value"] == pytest.approx(found.score)
    with open(tmp_path / "episodes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(line["epdms"]) for line in table] == pytest.approx([row.scores["epdms"] for row in found.rows], rel=1e-5)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 2
    assert "http" not in page
    assert video_stream(tmp_path / "worst.mp4").count("h264") == 1
    assert "yuv420p" in video_stream(tmp_path / "best.mp4")


def video_stream(path):
    import imageio_ffmpeg

    told = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True, check=False).stderr
    return next(line for line in told.splitlines() if "Video:" in line)


def test_the_expert_s_distances_are_kept_between_runs(tmp_path):
    episode = SUITE.episodes[0]
    ExpertDistances("reference", 30).put(episode, 12.5)
    assert ExpertDistances("reference", 30).get(episode) == 12.5
    assert ExpertDistances("reference", 31).get(episode) is None
    assert ExpertDistances("reference", 30).get(replace(episode, scenario={"split": "test"})) is None
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text("{")
    assert ExpertDistances("reference", 30).get(episode) is None


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": 0}, {"seed": -1}])
def test_numbers_out_of_range(fake, wrong):
    with pytest.raises(ConfigError, match="at least"):
        run_suite("idle", fake.FakeWorld(), SUITE, **wrong)


def test_unknown_policy_names_the_nearest(fake):
    with pytest.raises(ConfigError, match="did you mean 'expert'"):
        run_suite("expret", fake.FakeWorld(), SUITE)
