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
from xpeng_world.rl.imitation_vla import IGNORED, action_errors, samples, schedule, windows, without_some
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
    rows = torch.tensor([[row, row + 1]])
    for slow, length in ((False, 58), (True, 76)):
        ids, labels = (found[0] for found in samples(vocabulary, found, rows, slow, slow_before=slow))
        assert len(ids) == len(labels) == 2 * length
        assert vocabulary.text(ids[:1]) == "<cam>"
        assert (labels[: length + 54] == IGNORED).all()
        learned = labels != IGNORED
        assert int(learned.sum()) == 4 + slow * 18
        assert torch.equal(ids[learned], labels[learned])
        assert ids[length - 3 : length - 1].tolist() == found.taken[row].tolist()
        assert labels[-3:-1].tolist() == found.wanted[row + 1].tolist()
        assert vocabulary.text(ids[length + 53 : length + 54]) == ("<slow>" if slow else "<fast>")
        if slow:
            assert ids[55:71].tolist() == found.thought[row].tolist()
            assert "so" in vocabulary.text(labels[learned]).split()
    ids, labels = samples(vocabulary, found, rows[:, 1:], False)
    assert vocabulary.text(ids[0, :2]) == "<bos> <cam>"
    assert int((labels != IGNORED).sum()) == 4


def test_what_was_thought_and_done_before_can_be_that_of_others(moments):
    model, found = moments
    rows, others = torch.tensor([[0, 1], [3, 4]]), torch.tensor([[20], [25]])
    ids, labels = samples(model.vocabulary, found, rows, True, slow_before=True, others=others)
    assert ids[:, 55:71].tolist() == found.thought[others[:, 0]].tolist()
    assert ids[0, 73:75].tolist() == found.taken[0].tolist()
    assert ids[1, 73:75].tolist() == found.taken[25].tolist()
    assert labels[:, -3:-1].tolist() == found.wanted[rows[:, 1]].tolist()


def test_windows_are_consecutive_and_stay_in_their_clip():
    found = windows([7, 2, 5], 3)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4, 9, 10, 11]
    assert (found.diff(dim=1) == 1).all()
    assert windows([2], 3).shape == (0, 3)


def test_a_schedule_has_batches_of_one_kind_and_sees_every_moment(moments, logs, tokenizer, tmp_path):
    model, found = moments
    settings = config(logs, tokenizer, tmp_path, steps=12, batch_size=10)
    table = schedule(model.vocabulary, found, settings)
    assert len(table) == 120
    lengths = torch.tensor([len(ids) for ids in table["input_ids"]]).view(12, 10)
    assert (lengths == lengths[:, :1]).all()
    assert len(set(lengths[:, 0].tolist())) >= 3
    assert schedule(model.vocabulary, found, settings)[7] == table[7]
    with pytest.raises(ConfigError, match="no clip has 12 moments"):
        schedule(model.vocabulary, found, config(logs, tokenizer, tmp_path, vla=VlaSettings(run=12)))


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
    ids, labels = samples(model.vocabulary, found, windows(found.clips, 2)[::3], False)

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
    with pytest.raises(ConfigError, match=r"vla\.run=0 must be at least 1"):
        train_imitation(config(logs, tokenizer, tmp_path, vla=VlaSettings(size="tiny", tokenizer=str(tokenizer), run=0)))
    with pytest.raises(ConfigError, match="unknown VLA size 'huge'"):
        train_imitation(config(logs, tokenizer, tmp_path, vla=VlaSettings(size="huge", tokenizer=str(tokenizer), run=2)))
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        train_imitation(config(logs, tokenizer, tmp_path, vla=VlaSettings(size="tiny", tokenizer=str(tmp_path), run=2)))


def test_a_share_of_the_visual_tokens_is_left_out(moments):
    model, found = moments
    vocabulary = model.vocabulary
    ids, _ = samples(vocabulary, found, torch.tensor([[0, 1], [2, 3]]), True)
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
