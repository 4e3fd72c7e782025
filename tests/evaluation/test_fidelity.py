import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.evaluation.fidelity import command, fidelity, pictures, ranking, reading, rollouts
from xpeng_world.evaluation.fidelity.command import FidelityConfig
from xpeng_world.evaluation.fidelity.regions import REGIONS, difference, region_db, region_errors, region_mae, region_masks
from xpeng_world.evaluation.pictures import absolute_error, decibels, squared_error
from xpeng_world.scene import Agents, Ego
from xpeng_world.world_model.video.layout import LayoutRasteriser, composite
from xpeng_world.world_model.video.probes import AFTER, BEFORE, Probes, scene_targets

STEPS = 25  # of the recorded clips


class Painter:
    """Paints the flat picture of the layout, or holds on to the first frame."""

    layout_level = "full"

    def __init__(self, copies=False, level="full"):
        self.copies, self.rasteriser, self.seen, self.layout_level = copies, LayoutRasteriser(), [], level

    def next(self, previous, scene, frame, actions, seed, step):
        self.seen.append((float(scene.time[0]), actions[0].tolist(), int(step[0])))
        return frame if self.copies else composite(self.rasteriser(scene, previous))


@pytest.fixture(scope="module")
def mean(recorded):
    return pictures.mean_picture(str(recorded[0]))


@pytest.fixture(scope="module")
def rolled(recorded, mean):
    return rollouts.roll_out(Painter(), recorded[1], mean, seed=0, steps=20, strips=1)


def run(folder, out, **changes):
    values = {"data": str(folder), "out": str(out), "clips": 2, "seconds": 2, "strips": 1, "suite": "smoke", "workers": 1}
    return fidelity(FidelityConfig(**(values | changes)))


def test_errors_by_hand():
    black, grey = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.full((2, 4, 4, 3), 51, dtype=torch.uint8)
    assert absolute_error(black, grey).tolist() == [51, 51]
    assert squared_error(black, grey).tolist() == [51**2, 51**2]
    assert decibels(squared_error(black, grey)).tolist() == pytest.approx([13.979, 13.979], abs=1e-3)  # 20 log10(5)


def test_errors_of_a_region_by_hand():
    black, grey = torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    grey[:, 0] = 51  # a row is wrong
    masks = torch.zeros(1, len(REGIONS), 4, 4, dtype=torch.bool)
    masks[:, 0] = True
    masks[:, 1, 0, :2] = True
    sums = region_errors(grey, black, masks)
    assert sums[0, 0].tolist() == [4 * 51, 4 * 51**2, 16]
    assert float(region_db(sums, "agents")) == pytest.approx(13.979, abs=1e-3)
    assert float(region_mae(sums)) == 51 / 4
    assert region_db(sums, "signals").isnan().all()
    assert difference({"generated": sums, "warped": sums}, "warped", "signals") is None


def test_regions_are_where_the_layout_says(recorded):
    scene = recorded[1][0].track.scene(0)
    layout = LayoutRasteriser()(scene)
    masks = region_masks(layout)
    assert masks[:, 0].all()
    assert masks[:, REGIONS.index("important")].eq(masks[:, 1:4].any(1)).float().mean() > 0.99
    assert masks[:, REGIONS.index("markings")].any()
    sky = masks[:, REGIONS.index("sky")]
    assert sky[:, 0].any()
    assert not (sky & masks[:, 1 : REGIONS.index("sky")].any(1)).any()


def test_a_model_that_paints_the_truth_has_no_error(recorded, mean):
    figures = pictures.short_figures(pictures.errors_ahead(Painter(), recorded[1], mean, seed=0))
    assert figures["copy_ratio_1s"].value == pytest.approx(0.0, abs=1e-6)
    assert figures["generated_db_1s"].value > 60
    assert figures["copied_mae_1s"].value > 0
    assert figures["copied_mae_1s"].n == 2
    assert figures["region_gain_db_1s"].value > 10


def test_a_model_that_copies_is_as_good_as_copying(recorded, mean):
    figures = pictures.short_figures(pictures.errors_ahead(Painter(copies=True), recorded[1], mean, seed=0))
    assert figures["copy_ratio_1s"].value == pytest.approx(1.0)
    assert figures["warp_ratio_1s"].value > 1.0  # the layout's motion explains most of a flat world
    assert figures["region_gain_db_1s"].value < 0


def test_a_rollout_is_fed_its_own_frames_the_true_scenes_and_the_true_actions(recorded, mean):
    painter = Painter()
    clip = recorded[1][0]
    pictures.errors_ahead(painter, [clip], mean, seed=0)
    assert [step for _, _, step in painter.seen] == list(range(1, 11))
    assert [time for time, _, _ in painter.seen] == pytest.approx([0.1 * k for k in range(1, 11)], abs=1e-4)
    assert [action for _, action, _ in painter.seen] == [clip.actions[k].tolist() for k in range(10)]


def test_the_warp_beside_a_bare_model_knows_no_more_than_the_model(recorded, mean):
    full = pictures.errors_ahead(Painter(copies=True), recorded[1], mean, seed=0, ahead=10, every=10)
    bare = pictures.errors_ahead(Painter(copies=True, level="none"), recorded[1], mean, seed=0, ahead=10, every=10)
    assert torch.equal(full["generated"], bare["generated"])
    assert not torch.equal(full["warped"], bare["warped"])
    figures = pictures.bare_figures(bare, "no_layout")
    assert figures["no_layout_gain_db_5s"].value == pytest.approx(
        figures["no_layout_db_5s"].value - figures["no_layout_warped_db_5s"].value, abs=1e-4
    )


def test_the_command_writes_figures_table_and_strips(recorded, tmp_path, monkeypatch, capsys):
    levels = []

    def load(world, steps, layout="full", shortcut=False):
        levels.append(layout)
        return Painter(copies=True, level=layout)

    monkeypatch.setattr(pictures, "load_generator", load)
    monkeypatch.setattr(command, "BARE_AHEAD", 10)
    path = run(recorded[0], tmp_path)
    record = json.loads(path.read_text())
    metrics = record["metrics"]
    assert levels == ["full", "no_scenery", "none"]
    assert metrics["rollout_mean_db_2s"]["n"] == 2
    assert metrics["warp_ratio_1s"]["n"] == 2
    assert "no_scenery_gain_db_5s" in metrics
    assert record["command"].startswith("xpeng-world fidelity part=pictures world=learned data=")
    with open(tmp_path / "horizon.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["step"] for line in table] == [str(k) for k in range(1, 21)]
    assert all(line["generated_mae"] == line["copied_mae"] for line in table)
    with open(tmp_path / "regions.csv", newline="") as file:
        shares = {line["region"]: (float(line["pixels"]), float(line["error"])) for line in csv.DictReader(file)}
    assert shares["frame"] == (1.0, 1.0)
    parts = [shares[name] for name in shares if name not in ("frame", "important")]
    for column in range(2):
        assert 0.9 < sum(part[column] for part in parts) < 1.05  # a few pixels are half one thing and half another
    with Image.open(tmp_path / "strip_0.png") as strip:
        assert strip.size[0] > 2 * 256
    assert "copy ratio 1s" in capsys.readouterr().out


def test_long_figures_are_of_the_last_second_and_beside_the_baselines(rolled, monkeypatch):
    assert rolled.generated.shape == rolled.true.shape == (2, 21, 64, 128, 3)
    monkeypatch.setattr(rollouts, "SECOND", 1)  # so that 20 steps are 20 s
    figures = rollouts.long_figures(rolled)
    assert figures["rollout_db_20s"].value > 60
    assert figures["mean_margin_db_20s"].value == pytest.approx(figures["rollout_db_20s"].value - figures["mean_db_20s"].value, abs=1e-3)
    assert "rollout_db_60s" not in figures


def test_large_vehicles_are_those_over_a_twentieth_of_the_picture(fake):
    scene = fake.FakeWorld().reset([0], None).scene
    x, y, heading = scene.ego.state[0, :3].tolist()
    agents = Agents.empty(1, 2)
    for slot, ahead in enumerate((8.0, 60.0)):
        agents.state[0, slot] = torch.tensor(
            [x + ahead * np.cos(heading), y + ahead * np.sin(heading), heading, 0, 0, 4.5, 1.9, 1.5], dtype=torch.float32
        )
        agents.valid[0, slot] = True
        agents.id[0, slot] = slot
    import dataclasses

    scene = dataclasses.replace(scene, agents=agents)
    rasteriser = LayoutRasteriser()
    owner = rasteriser.instances(scene)
    large = rollouts.large_vehicles(scene, rasteriser)
    assert (owner == 0).sum() > 0.05 * 64 * 128 > (owner == 1).sum()
    assert torch.equal(large, owner == 0)


def test_short_clips_say_nothing_of_long_rollouts(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "load_generator", lambda world, steps, layout="full", shortcut=False: Painter(copies=True, level=layout))
    path = run(recorded[0], tmp_path, clips=1, seconds=20)
    assert "rollout_db_20s" not in json.loads(path.read_text())["metrics"]
    assert "nothing is said" in capsys.readouterr().out


def test_rollouts_begin_in_the_midst_of_a_drive(recorded, tmp_path, monkeypatch):
    folder = recorded[0]
    whole = pictures.held_out_clips(folder, 2, 10)
    later = pictures.held_out_clips(folder, 2, 10, start=4)
    assert [clip.steps for clip in later] == [clip.steps - 4 for clip in whole]
    assert torch.equal(later[0].frames, whole[0].frames[4:])
    assert torch.equal(later[0].actions, whole[0].actions[4:])
    assert torch.equal(later[0].track.ego.state, whole[0].track.ego.state[:, 4:])
    with pytest.raises(DataError, match=f"more than 10 frames after the first {STEPS}"):
        pictures.held_out_clips(folder, 2, 10, start=STEPS)
    monkeypatch.setattr(pictures, "load_generator", lambda world, steps, layout="full", shortcut=False: Painter(copies=True, level=layout))
    path = run(folder, tmp_path, clips=1, seconds=1, start=1)
    found = json.loads(path.read_text())["metrics"]
    assert found
    assert all(key.endswith("_after_1s") for key in found)
    path = run(folder, tmp_path, clips=1, seconds=1, start=1, label="no_warp")
    page = json.loads(path.read_text())
    assert set(page["metrics"]) == {key.replace("_after_1s", "_no_warp_after_1s") for key in found}
    assert page["command"].endswith(" label=no_warp")


def test_a_rollout_that_is_not_judged_has_the_same_pictures(recorded, rolled):
    bare = rollouts.roll_out(Painter(), recorded[1], None, seed=0, steps=20, strips=1)
    assert torch.equal(bare.generated, rolled.generated)
    assert torch.equal(bare.true, rolled.true)
    assert (bare.sums, bare.near, bare.strips) == ({}, {}, [])
    assert rollouts.roll_out(Painter(), recorded[1], None, seed=0, steps=10**4, strips=1) is None


class TrueReader:
    """Says what is so, or what is not."""

    def __init__(self, rolled, factor=1.0):
        ego = rolled.track.ego
        self.motion = torch.stack((ego.steering, ego.speed, ego.yaw_rate), -1)[:, BEFORE:-AFTER] * factor

    def read_motion(self, frames):
        return self.motion


def test_obedience_is_the_rank_correlation_with_what_was_commanded(rolled):
    turning = torch.linspace(-0.2, 0.2, 21).expand(2, 21)
    state = rolled.track.ego.state.clone()
    state[..., 3], state[..., 5], state[..., 6] = 5 + turning, turning, turning
    moved = rollouts.Rollouts(
        rolled.track._with(Ego(state), rolled.track.agents, rolled.track.signals, rolled.track.time, rolled.track.valid),
        rolled.true, rolled.generated, rolled.sums, rolled.near, [],
    )  # fmt: skip
    assert reading.trajectory_errors(TrueReader(moved).motion, TrueReader(moved).motion, seconds=1).tolist() == [0, 0]
    slower = reading.trajectory_errors(TrueReader(moved).motion * torch.tensor([1.0, 0.5, 1.0]), TrueReader(moved).motion, seconds=1)
    assert slower.tolist() == pytest.approx([2.5, 2.5], abs=0.15)  # 5 m/s for 1 s, half of it missing
    wheelbase = float(moved.track.profile.wheelbase[0])
    state[..., 6] = torch.tan(state[..., 5]) * state[..., 3] / wheelbase  # as the vehicle model turns
    figures = reading.obedience_figures(moved, TrueReader(moved, torch.tensor([0.0, 1.0, 1.0])))
    assert figures["steering_spearman"].value == pytest.approx(1)
    assert figures["speed_spearman"].value == pytest.approx(1)
    steering = TrueReader(moved).motion[..., 0]
    everything = torch.ones_like(steering, dtype=torch.bool)
    assert reading.spearman(steering, steering, everything).value == pytest.approx(1)
    assert reading.spearman(-steering, steering, everything).value == pytest.approx(-1)


def test_agreement_counts_what_is_found(recorded):
    scene = recorded[1][0].track.scene(0)
    rasteriser = LayoutRasteriser()
    owner, layout = rasteriser.instances(scene), rasteriser(scene)
    targets = scene_targets(layout.channels)
    lit = layout.channels[:, reading._lights()].int().sum(1) >= 128
    perfect = reading.agreement(targets, scene, owner, lit).counts[0].tolist()
    blind = reading.agreement(torch.zeros_like(targets), scene, owner, lit).counts[0].tolist()
    assert perfect[0] == perfect[1] == blind[1]
    assert blind[0] == blind[2] == 0
    assert perfect[4] == perfect[5] == blind[5]
    if perfect[3]:
        assert perfect[2] / perfect[3] > 0.6  # the edges are shared pixels


def test_ranking_by_hand():
    truth = np.array([[10.0, 12.0], [50.0, 52.0], [90.0, 88.0]])
    same = ranking.ranking_figures(ranking.Ranking(["a", "b", "c"], truth, truth))
    assert same["ranking_spearman"].value == same["ranking_pearson"].value == pytest.approx(1)
    turned = ranking.ranking_figures(ranking.Ranking(["a", "b", "c"], truth, 100 - truth))
    assert turned["ranking_spearman"].value == pytest.approx(-1)
    assert same["ranking_policies"].value == 3


def test_probes_are_kept_and_damage_is_named(tmp_path):
    torch.manual_seed(0)
    probes = Probes().eval()
    probes.save(tmp_path)
    loaded = Probes.load(tmp_path)
    frames = torch.randint(0, 256, (1, 10, 64, 128, 3), dtype=torch.uint8)
    assert loaded.read_motion(frames).shape == (1, 2, 3)
    assert torch.allclose(loaded.read_motion(frames), probes.read_motion(frames), atol=0.02)
    assert loaded.read_scene(frames[0]).shape == (10, 4, 64, 128)
    (tmp_path / "probes.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Probes.load(tmp_path)
    with pytest.raises(CheckpointError, match="train-probes"):
        Probes.load(tmp_path / "nowhere")


def test_mistakes_are_named(recorded, tmp_path):
    with pytest.raises(ConfigError, match="no video model"):
        pictures.load_generator("reference", 1)
    with pytest.raises(ConfigError, match="no world 'nowhere'"):
        pictures.load_generator("nowhere", 1)
    with pytest.raises(ConfigError, match=r"no shortcuts.*train-world shortcut="):
        pictures.load_generator("learned", 1, shortcut=True)
    with pytest.raises(DataError, match="nowhere"):
        pictures.held_out_clips(str(tmp_path / "nowhere"), 1, 10)
    with pytest.raises(ConfigError, match="clips=0"):
        run(tmp_path, tmp_path, clips=0)
    with pytest.raises(ConfigError, match="label='no warp' must be of letters"):
        run(tmp_path, tmp_path, label="no warp")
    with pytest.raises(ConfigError, match="start=-1"):
        run(tmp_path, tmp_path, start=-1)
    with pytest.raises(ConfigError, match=r"unknown part 'picture'.*pictures"):
        run(tmp_path, tmp_path, part="picture")
    with pytest.raises(ConfigError, match="data is missing"):
        run(tmp_path, tmp_path, data=None)
    with pytest.raises(ConfigError, match="three policies or more"):
        ranking.rank_policies("learned", ["expert"], "smoke", None, 0, 1)
