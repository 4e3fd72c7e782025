import csv
import json

import pytest
import torch
from PIL import Image
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation import fidelity as module
from xpeng_world.evaluation.pictures import absolute_error, decibels, squared_error
from xpeng_world.scene import Track
from xpeng_world.world_model.video.layout import LayoutRasteriser, composite

STEPS = 25


class Painter:
    """Paints the flat picture of the layout, or holds on to the first frame."""

    def __init__(self, copies=False):
        self.copies, self.rasteriser, self.seen = copies, LayoutRasteriser(), []

    def next(self, previous, scene, frame, actions, seed, step):
        self.seen.append((float(scene.time[0]), actions[0].tolist(), int(step[0])))
        return frame if self.copies else composite(self.rasteriser(scene, previous))


@pytest.fixture(scope="module")
def recorded(fake, tmp_path_factory):
    """Shards of two flat-painted clips of the test split, and the clips."""
    world, rasteriser = fake.FakeWorld(), LayoutRasteriser()
    clips = []
    for seed in (0, 1):
        state = world.reset([seed], {"split": "test"})
        scenes, actions = [], []
        for step in range(STEPS):
            scenes.append(state.scene)
            actions.append(torch.tensor([[0.02, step / 100]]))
            state = world.step(state, actions[-1])
        frames = torch.cat([composite(rasteriser(scene, None)) for scene in scenes])
        clips.append(Clip(frames, torch.cat(actions), Track.of(scenes), {"split": "test"}))
    folder = tmp_path_factory.mktemp("logs")
    with ShardWriter(folder) as writer:
        for clip in clips:
            writer.add(clip)
    return folder, clips


@pytest.fixture(scope="module")
def mean(recorded):
    return module.mean_picture(str(recorded[0]))


def test_errors_by_hand():
    black, grey = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.full((2, 4, 4, 3), 51, dtype=torch.uint8)
    assert absolute_error(black, grey).tolist() == [51, 51]
    assert squared_error(black, grey).tolist() == [51**2, 51**2]
    assert decibels(squared_error(black, grey)).tolist() == pytest.approx([13.979, 13.979], abs=1e-3)  # 20 log10(5)


def test_a_model_that_paints_the_truth_has_no_error(recorded, mean):
    figures = module.short_figures(module.short_errors(Painter(), recorded[1], mean, seed=0))
    assert figures["copy_ratio_1s"].value == pytest.approx(0.0, abs=1e-6)
    assert figures["generated_db_1s"].value > 60
    assert figures["copied_mae_1s"].value > 0
    assert figures["copied_mae_1s"].n == 2


def test_a_model_that_copies_is_as_good_as_copying(recorded, mean):
    figures = module.short_figures(module.short_errors(Painter(copies=True), recorded[1], mean, seed=0))
    assert figures["copy_ratio_1s"].value == pytest.approx(1.0)
    assert figures["warp_ratio_1s"].value > 1.0  # the layout's motion explains most of a flat world


def test_a_rollout_is_fed_its_own_frames_the_true_scenes_and_the_true_actions(recorded, mean):
    painter = Painter()
    clip = recorded[1][0]
    module.short_errors(painter, [clip], mean, seed=0)
    assert [step for _, _, step in painter.seen] == list(range(1, 11))
    assert [time for time, _, _ in painter.seen] == pytest.approx([0.1 * k for k in range(1, 11)], abs=1e-4)
    assert [action for _, action, _ in painter.seen] == [clip.actions[k].tolist() for k in range(10)]


def test_the_command_writes_figures_table_and_strips(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_generator", lambda world, steps: Painter(copies=True))
    monkeypatch.setattr(module, "LONG", 20)
    path = module.fidelity("learned", str(recorded[0]), str(tmp_path), clips=2, steps=1, strips=1, seed=0)
    metrics = json.loads(path.read_text())["metrics"]
    assert metrics["rollout_db_20s"]["value"] == pytest.approx(metrics["copied_db_20s"]["value"])
    assert metrics["warp_ratio_1s"]["n"] == 2
    with open(tmp_path / "horizon.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["step"] for line in table] == [str(k) for k in range(1, 21)]
    assert all(line["generated_mae"] == line["copied_mae"] for line in table)
    with Image.open(tmp_path / "strip_0.png") as strip:
        assert strip.size[0] > 2 * 256
    assert "copying 1.00" in capsys.readouterr().out


def test_short_clips_say_nothing_of_long_rollouts(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_generator", lambda world, steps: Painter(copies=True))
    path = module.fidelity("learned", str(recorded[0]), str(tmp_path), clips=1, steps=1, strips=1, seed=0)
    assert "rollout_db_20s" not in json.loads(path.read_text())["metrics"]
    assert "nothing is said" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no video model"):
        module.load_generator("reference", 1)
    with pytest.raises(DataError, match="nowhere"):
        module._clips(str(tmp_path / "nowhere"), 1)
    with pytest.raises(ConfigError, match="clips=0"):
        module.fidelity("learned", str(tmp_path), str(tmp_path), clips=0, steps=1, strips=1, seed=0)
