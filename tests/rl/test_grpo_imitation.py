"""Imitation beside GRPO: recordings go on being learned, braking ones half of the time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from grpo_runs import config, loop
from xpeng_world.data import ShardWriter
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.policies.vla.bins import ACCELERATE
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.rl.grpo import Grpo, train_grpo
from xpeng_world.rl.grpo_imitation import BRAKING, Imitation

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def logs(fake, tmp_path_factory) -> str:
    path = Path(__file__).with_name("test_imitation.py")
    spec = importlib.util.spec_from_file_location("imitation_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("logs")
    with ShardWriter(folder) as writer:
        for seed in range(2):
            writer.add(module.drive(fake, seed, steps=12, swerve=0.3))
    return str(folder)


def test_recordings_are_learned_beside_the_rewards(fake, start, logs, tmp_path) -> None:
    changes = {"rounds": 3, "imitate": 3.0, "imitate_data": logs, "imitate_batch": 8}
    before = VlaModel.load(start)
    imitation = Imitation(before, logs, tmp_path / "tokens", 16, seed=5)
    models = [before]
    for name, more in (("without", {}), ("with", changes)):
        models.append(VlaModel.load(train_grpo(config(start, tmp_path / name, **{"rounds": 3, **more}), loop(fake))))
    with torch.no_grad():
        losses = [float(imitation.loss(model.decoder, 0)) for model in models]
    assert losses[2] < losses[0] - 0.1
    assert losses[2] < losses[1] - 0.1


def test_draws_follow_from_their_number_and_half_of_them_brake(start, logs, tmp_path) -> None:
    model = VlaModel.load(start)
    imitation = Imitation(model, logs, tmp_path, 8, seed=0)
    with torch.no_grad():
        a, b, c = (float(imitation.loss(model.decoder, number)) for number in (3, 3, 4))
    assert a == b != c
    wanted = lambda rows: ACCELERATE.decode(imitation.moments.wanted[rows[:, -1], 1].long() - model.vocabulary.group(ACCELERATE).start)
    assert (wanted(imitation.others) >= BRAKING).all()
    if len(imitation.braking):
        assert (wanted(imitation.braking) < BRAKING).all()


def test_what_is_missing_is_named(fake, start, tmp_path) -> None:
    with pytest.raises(ConfigError, match="imitate_data"):
        train_grpo(config(start, tmp_path, imitate=0.5), loop(fake))
    with pytest.raises(DataError, match="nowhere"):
        Grpo(config(start, tmp_path, imitate=0.5, imitate_data=str(tmp_path / "nowhere")), VlaModel.load(start), loop(fake))._imitation()
