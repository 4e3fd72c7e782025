import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.data import ShardWriter
from xpeng_world.data.shards import load_clip
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.policies import load_policy
from xpeng_world.policies.vla import VlaModel
from xpeng_world.rl.imitation import ImitationConfig, VlaSettings, train_imitation
from xpeng_world.rl.imitation_vla import IGNORED, action_errors, runs, sequence, without_some
from xpeng_world.rl.vla_moments import moments_of_logs
from xpeng_world.world_model.video.tokenizer import FrameTokenizer


def _drive():
    path = Path(__file__).with_name("test_imitation.py")
    spec = importlib.util.spec_from_file_location("imitation_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.drive


@pytest.fixture(scope="module")
def logs(fake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    drive = _drive()
    with ShardWriter(folder) as writer:
        for seed in range(3):
            writer.add(drive(fake, seed, steps=12, swerve=0.3))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    torch.manual_seed(0)
    FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def moments(logs, tokenizer, tmp_path_factory):
    model = VlaModel.create("tiny", FrameTokenizer.load(tokenizer))
    return model, moments_of_logs(str(logs), "train", model, tmp_path_factory.mktemp("kept"))


def config(logs, tokenizer, out, **changes) -> ImitationConfig:
    settings = VlaSettings(size="tiny", tokenizer=str(tokenizer), run=2)
    base = {"data": str(logs), "out": str(out), "policy": "vla", "steps": 4, "batch_size": 8, "threads": 1, "vla": settings}
    return ImitationConfig(**{**base, **changes})


def test_a_sample_reads_what_was_done_and_learns_what_the_expert_would_do(moments):
    model, found = moments
    vocabulary = model.vocabulary
    assert found.clips == (11, 11, 11)
    row = int((found.taken != found.wanted).any(1).nonzero()[0])
    for slow, length in ((False, 58), (True, 76)):
        sample = sequence(vocabulary, found, [row, row + 1], slow)
        ids, labels = torch.tensor(sample["input_ids"]), torch.tensor(sample["labels"])
        assert len(ids) == len(labels) == 1 + 2 * length
        assert vocabulary.text(ids[:2]) == "<bos> <cam>"
        learned = labels != IGNORED
        assert int(learned.sum()) == 2 * (4 + slow * 18)
        differs = learned & (ids != labels)
        assert 1 <= int(differs[: length + 1].sum()) <= 2
        at = length - 2  # the first moment's steering token
        assert labels[at : at + 2].tolist() == found.wanted[row].tolist()
        assert ids[at : at + 2].tolist() == found.taken[row].tolist()
        assert vocabulary.text(ids[54:55]) == ("<slow>" if slow else "<fast>")
        if slow:
            assert "so" in vocabulary.text(labels[56:72]).split()


def test_runs_are_consecutive_stay_in_their_clip_and_do_not_overlap():
    found = runs([7, 2, 5], 3, seed=0)
    rows = [row for run in found for row in run]
    assert len(rows) == len(set(rows))
    clip_of = [0] * 7 + [1] * 2 + [2] * 5
    assert all(len({clip_of[row] for row in run}) == 1 for run in found)
    assert {clip_of[run[0]] for run in found} == {0, 2}
    assert runs([50], 3, 0) == runs([50], 3, 0)


def test_moments_are_made_once_and_again_when_the_tokenizer_changes(moments, logs, tmp_path, monkeypatch):
    model, found = moments
    kept = tmp_path / "kept"
    first = moments_of_logs(str(logs), "train", model, kept)
    assert torch.equal(first.prompt, found.prompt)
    monkeypatch.setattr("xpeng_world.rl.vla_moments.load_clip", lambda address: pytest.fail("read again"))
    again = moments_of_logs(str(logs), "train", model, kept)
    assert torch.equal(again.thought, first.thought)
    monkeypatch.undo()
    torch.manual_seed(5)
    other = VlaModel.create("tiny", FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1))
    read = []
    monkeypatch.setattr("xpeng_world.rl.vla_moments.load_clip", lambda address: read.append(address) or load_clip(address))
    moments_of_logs(str(logs), "train", other, kept)
    assert len(read) == 3
    with pytest.raises(DataError, match="nowhere"):
        moments_of_logs(str(tmp_path / "nowhere"), "train", model, kept)


@pytest.mark.filterwarnings("ignore")
def test_training_comes_near_the_expert_and_its_folder_drives(moments, logs, tokenizer, fake, tmp_path):
    model, found = moments
    samples = [sequence(model.vocabulary, found, [row, row + 1], False) for row in range(0, 10, 2)]
    ids, labels = (torch.tensor([sample[name] for sample in samples]) for name in ("input_ids", "labels"))

    def loss(decoder) -> float:
        with torch.no_grad():
            return float(decoder(input_ids=ids, labels=labels).loss)

    settings = config(logs, tokenizer, tmp_path / "run", steps=60, learning_rate=5e-3, batch_size=16)
    trained = load_policy(train_imitation(settings))
    assert loss(trained.model.decoder) < 0.6 * loss(model.decoder)
    errors = action_errors(trained.model, found, 2)
    assert errors["steering_error"] < action_errors(model, found, 2)["steering_error"]
    assert errors.keys() == {"steering_error", "acceleration_error", "acceleration_error_swapped"}
    assert trained.model.facts["trained_by"] == "imitation"
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_ends_the_same(logs, tokenizer, tmp_path, monkeypatch):
    train_imitation(config(logs, tokenizer, tmp_path / "whole"))
    # with a time limit that is always over, each call makes one step
    for _ in range(2):
        train_imitation(config(logs, tokenizer, tmp_path / "part", minutes=1e-9))
    train_imitation(config(logs, tokenizer, tmp_path / "part"))
    whole, part = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)
    with pytest.raises(CheckpointError, match="begun with steps=4, not 9"):
        train_imitation(config(logs, tokenizer, tmp_path / "part", steps=9))


def test_settings_that_do_not_fit_are_refused_before_any_work(logs, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size=7 must be a multiple of vla\.run=2"):
        train_imitation(config(logs, tokenizer, tmp_path, batch_size=7))
    with pytest.raises(ConfigError, match="unknown VLA size 'huge'"):
        train_imitation(config(logs, tokenizer, tmp_path, vla=VlaSettings(size="huge", tokenizer=str(tokenizer), run=2)))
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        train_imitation(config(logs, tokenizer, tmp_path, vla=VlaSettings(size="tiny", tokenizer=str(tmp_path), run=2)))


def test_a_share_of_the_visual_tokens_is_left_out(moments):
    model, found = moments
    vocabulary = model.vocabulary
    ids = torch.tensor([sequence(vocabulary, found, rows, True)["input_ids"] for rows in ((0, 1), (2, 3))])
    assert torch.equal(without_some(vocabulary, ids, 0.0, (0, 1)), ids)
    dropped = without_some(vocabulary, ids, 0.5, (0, 1))
    assert torch.equal(dropped, without_some(vocabulary, ids, 0.5, (0, 1)))
    assert not torch.equal(dropped, without_some(vocabulary, ids, 0.5, (0, 2)))
    visual = (ids >= vocabulary.first_visual) & (ids < vocabulary.first_visual + vocabulary.codebook)
    assert 0.3 < (ids != dropped)[visual].float().mean() < 0.7
    assert torch.equal(ids[~visual], dropped[~visual])
    assert (dropped[visual] >= vocabulary.first_visual).all()
    assert (dropped[visual] < vocabulary.first_visual + vocabulary.codebook).all()


def test_another_device_is_refused(logs, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="device=tpu"):
        train_imitation(config(logs, tokenizer, tmp_path / "a", device="tpu"))
    with pytest.raises(ConfigError, match="policy=vla"):
        train_imitation(config(logs, tokenizer, tmp_path / "a", device="cuda", policy="car"))
