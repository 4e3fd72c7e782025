from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.car import SIZES, CarNet
from xpeng_world.world_model.learned import SHIPPED
from xpeng_world.world_model.video.perceiver import Perceiver
from xpeng_world.world_model.video.store import build_store
from xpeng_world.world_model.video.train import WorldTrainer

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)


def test_only_equal_pictures_are_no_way_apart_and_pictures_learn_from_the_rest() -> None:
    perceiver = Perceiver.load(SHIPPED / "micro")
    true = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    painted = (0.9 * true).requires_grad_()
    assert float(perceiver(true, true)) == 0
    far = perceiver(painted, true)
    far.backward()
    assert float(far.detach()) > 0
    assert bool(painted.grad.abs().amax((1, 2, 3)).gt(0).all())
    assert all(weight.grad is None for weight in perceiver.parameters())
    nearer = painted.detach() - 0.1 * painted.grad / painted.grad.norm()
    assert float(perceiver(nearer, true)) < float(far.detach())


def test_pictures_of_other_sizes_are_seen_at_the_size_a_driver_sees() -> None:
    perceiver = Perceiver.load(SHIPPED / "micro")
    true, painted = torch.rand(2, 1, 3, 64, 128, generator=torch.Generator().manual_seed(1))
    larger = [picture.repeat_interleave(2, -1).repeat_interleave(2, -2) for picture in (painted, true)]
    assert float(perceiver(*larger)) == pytest.approx(float(perceiver(painted, true)), rel=1e-5)


def test_a_world_trained_with_a_perceiver_is_nearer_to_what_the_driver_sees(tmp_path: Path) -> None:
    store = build_store([drives.painted_clip()], tmp_path / "store")
    perceiver = Perceiver.load(SHIPPED / "micro")
    apart = {}
    for weight in (0.0, 1.0):
        told = {"perceiver": str(SHIPPED / "micro"), "perceiver_weight": weight}
        trainer = WorldTrainer(drives.short_training(tmp_path / "run", samples=10**6, learning_rate=3e-3, light_steps=0, **told), store)
        seen = []
        trainer.perceiver.forward = lambda painted, true, seen=seen: seen.append(Perceiver.forward(perceiver, painted, true)) or seen[-1]
        for _ in range(30):
            trainer.train_step()
        apart[weight] = sum(float(one.detach()) for one in seen[10:])
    assert apart[1.0] < 0.8 * apart[0.0], apart


def test_what_cannot_be_a_perceiver_is_refused(tmp_path: Path) -> None:
    store = build_store([drives.painted_clip()], tmp_path / "store")
    with pytest.raises(CheckpointError, match="no car network in"):
        WorldTrainer(drives.short_training(tmp_path / "run", perceiver=str(tmp_path)), store)
    CarNet(SIZES["small2"]).save(tmp_path / "two")
    with pytest.raises(ConfigError, match="sees two pictures"):
        WorldTrainer(drives.short_training(tmp_path / "run", perceiver=str(tmp_path / "two")), store)
    with pytest.raises(ConfigError, match="size=latent learns latents"):
        WorldTrainer(drives.short_training(tmp_path / "run", size="latent", perceiver=str(SHIPPED / "micro")), store)
