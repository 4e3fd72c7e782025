import json
import multiprocessing
import queue

import pytest
import torch
from xpeng_world.data import read_clips
from xpeng_world.errors import CheckpointError, ConfigError, SimulatorError
from xpeng_world.factory.record import _next, drive_episode, record
from xpeng_world.policies import load_policy
from xpeng_world.policies.car import CarNet, CarNetConfig


def test_records_resumes_and_reports(fake, tmp_path):
    first = record(tmp_path, episodes=3, seed=0, workers=1, steps=12, world=fake.FakeWorld, clips_per_shard=2)
    assert first["episodes"] == 3
    assert first["frames"] == first["frames_recorded_now"]
    more = record(tmp_path, episodes=5, seed=0, workers=1, steps=12, world=fake.FakeWorld, clips_per_shard=2)
    assert more["episodes"] == 5
    assert more["frames_recorded_now"] < more["frames"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == more
    clips = list(read_clips(tmp_path, split="train"))
    assert sorted(c.provenance["seed"] for c in clips) == [0, 1, 2, 3, 4]
    again = record(tmp_path, episodes=5, seed=0, workers=1, steps=12, world=fake.FakeWorld)
    assert again["frames_recorded_now"] == 0


def test_actions_lead_from_scene_to_scene(fake):
    clip = drive_episode(fake.FakeWorld(), load_policy("noisy_expert"), 7, {"split": "train"}, 20)
    assert clip.steps == 20
    assert clip.actions[-1].abs().sum() == 0
    moved = fake.advance(clip.track.scene(5), clip.actions[5:6])
    assert torch.allclose(moved.ego.state, clip.track.scene(6).ego.state, atol=1e-4)


def test_an_episode_ends_soon_after_a_failure(fake):
    clip = drive_episode(fake.FakeWorld(), load_policy("offroad"), 3, {}, 400)
    assert clip.provenance["ended"] == "failure"
    nearest = torch.cdist(clip.track.ego.position[0], clip.track.route.points[0]).amin(-1)
    assert nearest[-11] < 2.6 + 1.5
    assert nearest[-1] > 2.6


def test_drivers_come_from_the_mixture_and_the_seed(fake, tmp_path):
    result = record(tmp_path, episodes=4, workers=1, steps=5, world=fake.FakeWorld, mixture={"idle": 1.0, "expert": 0.0})
    assert list(result["mixture"]) == ["idle"]


def test_a_trained_policy_may_drive(fake, tmp_path):
    CarNet(CarNetConfig(widths=(4, 6), camera_features=8, state_features=8, features=8)).save(tmp_path / "net")
    result = record(tmp_path / "logs", episodes=1, workers=1, steps=5, world=fake.FakeWorld, mixture={str(tmp_path / "net"): 1.0})
    assert list(result["mixture"]) == ["net"]
    (tmp_path / "net" / "config.json").write_text("{")
    with pytest.raises(CheckpointError):
        record(tmp_path / "more", episodes=1, workers=1, steps=5, world=fake.FakeWorld, mixture={str(tmp_path / "net"): 1.0})


def test_a_failing_world_is_one_line(fake, tmp_path):
    def broken():
        world = fake.FakeWorld()
        world.step = lambda state, action: (_ for _ in ()).throw(SimulatorError("the engine stopped"))
        return world

    with pytest.raises(SimulatorError, match=r"^episode 0 \(\w+\): the engine stopped$"):
        record(tmp_path, episodes=1, workers=1, steps=5, world=broken)


def test_workers_report_an_error_and_keep_nothing_broken(tmp_path):
    with pytest.raises(ConfigError, match="no world 'nowhere'"):
        record(tmp_path, episodes=2, workers=2, steps=5, world="nowhere")


def test_workers_end_with_the_process_that_started_them(monkeypatch):
    tasks = queue.Queue()
    for seed in (4, 5, None):
        tasks.put(seed)
    assert _next(tasks) == 4
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: type("Killed", (), {"is_alive": lambda self: False})())
    assert _next(tasks) is None
    assert tasks.get() == 5


@pytest.mark.parametrize("wrong", [{"mixture": {"exprt": 1.0}}, {"split": "trian"}, {"episodes": 0}, {"steps": 1}])
def test_wrong_requests_are_refused(fake, tmp_path, wrong):
    with pytest.raises(ConfigError):
        record(tmp_path, **{"episodes": 1, "workers": 1, "world": fake.FakeWorld, **wrong})
