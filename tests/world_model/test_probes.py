"""Probes learn to read what a few pictures show, and their training goes on where it was stopped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.data import ShardWriter
from xpeng_world.errors import CheckpointError
from xpeng_world.world_model.video.layout import LayoutRasteriser
from xpeng_world.world_model.video.local_flow import CELLS, FEATURES, SCALES, local_flow
from xpeng_world.world_model.video.probes import BEFORE, SPAN, Probes, scene_targets
from xpeng_world.world_model.video.store import open_store
from xpeng_world.world_model.video.train_probes import TrainProbesConfig, train_probes

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    with ShardWriter(folder) as shards:
        shards.add(drives.painted_clip(30))
        shards.add(drives.painted_clip(30, with_track=False))
    return folder


def config(logs: Path, out: Path, steps: int, **changes) -> TrainProbesConfig:
    return TrainProbesConfig(str(logs), str(out), steps=steps, batch_size=4, threads=torch.get_num_threads(), **changes)


def test_the_scene_reader_finds_the_car_after_some_steps(logs, tmp_path) -> None:
    probes = Probes.load(train_probes(config(logs, tmp_path / "run", 200)))
    clip = drives.painted_clip(8)
    targets = scene_targets(LayoutRasteriser()(clip.track.scene(5)).channels)
    car = targets[0, 0] > 0.5
    said = probes.read_scene(clip.frames[5:6])[0, 0]
    assert car.sum() > 20
    assert said[car].mean() > 3 * said[~car].mean()
    assert probes.read_motion(drives.painted_clip(12).frames.unsqueeze(0)).shape == (1, 12 - SPAN, 3)


@pytest.mark.parametrize(("scale", "right", "down"), [(0, 0.6, -0.3), (2, 3.0, 2.0)])
def test_local_flow_finds_how_far_texture_moved(scale: int, right: float, down: float) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = (
        torch.rand(2, 3, *((12, 22) if scale == 0 else (8, 14)), generator=generator) > 0.5
    ).float()  # no finer than the scale can tell
    big = torch.nn.functional.interpolate(coarse, size=(96, 176), mode="bicubic").clamp(0, 1)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(128.0), indexing="ij")

    def view(x: float, y: float) -> torch.Tensor:
        grid = torch.stack(((columns + 24.5 - x) * 2 / 176 - 1, (rows + 16.5 - y) * 2 / 96 - 1), -1).expand(2, -1, -1, -1)
        return torch.nn.functional.grid_sample(big, grid, align_corners=False)

    found = local_flow(torch.stack((view(0, 0), view(right, down)), 1), [(0, 1)])
    assert found.shape == (2, FEATURES, *CELLS)
    ways = found[:, 3 * scale : 3 * scale + 3, 1:-1, 1:-1]
    sure = ways[:, 2]
    assert (sure > 0.8).float().mean() > 0.3
    for way, true in zip(ways.unbind(1), (right, down), strict=False):
        assert way[sure > 0.8].median() == pytest.approx(true / SCALES[scale], rel=0.35)  # shrunk, as it doubts
    still = local_flow(torch.stack((view(0, 0),) * 2, 1), [(0, 1)]).unflatten(1, (-1, 3))[:, :, :2]
    assert still.abs().max() == 0
    plain = local_flow(torch.full((1, 2, 3, 64, 128), 0.5), [(0, 1)])
    assert plain.abs().max() == 0  # nothing to see, nothing believed


def test_motions_are_of_the_moment_and_commands_of_the_way_there(logs) -> None:
    store = open_store(logs, "train")
    first, _ = store.windows(SPAN)
    ego, command, known = store.motions(first, BEFORE)
    assert known.any()
    assert not known.all()
    assert ego[known][:, 3].mean() > 5
    assert torch.allclose(command, torch.full_like(command, 0.1))


def test_several_folders_are_one_store(logs, tmp_path) -> None:
    with ShardWriter(tmp_path / "more") as shards:
        shards.add(drives.painted_clip(9))
    assert open_store([logs, tmp_path / "more"], "train").clip_steps.tolist() == [30, 30, 9]


def test_motion_is_fitted_where_any_clip_lacks_its_scene(logs, tmp_path, monkeypatch) -> None:
    from xpeng_world.world_model.video import store as module

    monkeypatch.setattr(module, "FIT_CLIPS", 1)  # the first clip has a scene, the second has none
    assert module.open_store(logs, "train", cache=tmp_path / "mixed").plain_motion is not None
    with ShardWriter(tmp_path / "known") as shards:
        shards.add(drives.painted_clip(9))
    assert module.open_store(tmp_path / "known", "train").plain_motion is None


def test_training_that_is_stopped_goes_on_exactly(logs, tmp_path) -> None:
    whole = train_probes(config(logs, tmp_path / "whole", 6))
    train_probes(config(logs, tmp_path / "parts", 6, minutes=1e-9))  # stops after one step
    assert '"step": 1' in (tmp_path / "parts" / "state" / "state.json").read_text()
    parts = train_probes(config(logs, tmp_path / "parts", 6))
    a, b = (load_file(folder / "probes.safetensors") for folder in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(CheckpointError, match="batch_size=4"):
        train_probes(TrainProbesConfig(str(logs), str(tmp_path / "parts"), steps=6, batch_size=8, threads=torch.get_num_threads()))


def test_training_begins_with_the_probes_that_it_is_given(logs, tmp_path) -> None:
    first = train_probes(config(logs, tmp_path / "first", 2))
    again = train_probes(config(logs, tmp_path / "again", 1, init=str(first), learning_rate=0.0, seed=5))
    a, b = (load_file(folder / "probes.safetensors") for folder in (first, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(CheckpointError, match="init="):
        train_probes(config(logs, tmp_path / "again", 1, seed=5))
    with pytest.raises(CheckpointError, match="no probes in"):
        train_probes(config(logs, tmp_path / "third", 1, init=str(tmp_path)))
