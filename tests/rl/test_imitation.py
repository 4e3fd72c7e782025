from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.data.clip import Clip
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.policies import Expert, load_policy
from xpeng_world.policies.car import SIZES, CarNetConfig
from xpeng_world.policies.tutor import Tutor
from xpeng_world.rl.imitation import (
    Examples,
    Imitation,
    ImitationConfig,
    gather,
    label,
    mirror_examples,
    pedal_error,
    steering_error,
    train_imitation,
)
from xpeng_world.scene import Track
from xpeng_world.world import observe


def drive(fake, seed: int, steps: int = 24, swerve: float = 0.0) -> Clip:
    """A clip of the expert with a swerve added to its steering."""
    world, expert = fake.FakeWorld(), Expert()
    state = world.reset([seed])
    scenes, frames, actions = [], [], []
    for t in range(steps):
        action, _ = expert.act(observe(state), None, state.scene)
        action = (action + torch.tensor([swerve * (-1) ** (t // 4), 0.0])).clamp(-1, 1)
        scenes.append(state.scene)
        frames.append(state.frame)
        actions.append(action)
        state = world.step(state, action)
    taken = torch.cat(actions)
    taken[-1] = 0
    return Clip(torch.cat(frames), taken, Track.of(scenes), {"source": "reference", "split": "train", "family": "city", "network_seed": 0})


@pytest.fixture(scope="module")
def examples(fake):
    return gather(label(drive(fake, seed, swerve=0.3)) for seed in range(4))


def test_labels_are_the_tutors_actions_whoever_drove(fake) -> None:
    clip = drive(fake, 3, swerve=0.4)
    found = label(clip)
    tutor = Tutor()
    for t in (0, 7, 23):
        wanted, _ = tutor.act(None, None, clip.track.scene(t))
        assert torch.allclose(found.action[t], wanted[0], atol=1e-5)
    assert (found.action[:-1] - clip.actions[:-1]).abs().max() > 0.1
    assert torch.equal(found.camera, clip.frames)


def test_clips_without_a_scene_cannot_be_labelled(fake) -> None:
    clip = drive(fake, 1, 6)
    with pytest.raises(DataError, match="without a scene"):
        label(Clip(clip.frames, clip.actions, None, clip.provenance))
    with pytest.raises(DataError, match="no clip"):
        gather([])


def test_mirroring_twice_changes_nothing_and_once_turns_the_wheel(examples) -> None:
    batch = (examples.camera[:5].permute(0, 3, 1, 2).float(), examples.ego[:5], examples.route[:5], examples.action[:5])
    once = mirror_examples(*batch)
    assert all(torch.equal(a, b) for a, b in zip(mirror_examples(*once), batch, strict=True))
    assert torch.equal(once[3][:, 0], -batch[3][:, 0])
    assert torch.equal(once[2][..., 1], -batch[2][..., 1])


def test_training_comes_near_the_expert(examples, tmp_path) -> None:
    run = Imitation(ImitationConfig(out=str(tmp_path), steps=120, batch_size=32, learning_rate=2e-3, caution=1.0, threads=1), examples)
    first = sum(run.train_step() for _ in range(5)) / 5
    for _ in range(90):
        run.train_step()
    last = sum(run.train_step() for _ in range(20)) / 20  # a batch's loss is far from the next one's
    assert last < 0.5 * first


def test_a_resumed_run_equals_an_unbroken_one(examples, tmp_path) -> None:
    config = lambda name, steps=12: ImitationConfig(out=str(tmp_path / name), steps=steps, batch_size=8, threads=1)
    Imitation(config("whole"), examples).run()
    part = Imitation(config("parts"), examples)
    for _ in range(5):
        part.train_step()
    part.save()
    Imitation(config("parts"), examples).run()
    a, b = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert load_policy(tmp_path / "whole" / "weights").name == "weights"
    with pytest.raises(CheckpointError, match="seed 0"):
        Imitation(ImitationConfig(out=str(tmp_path / "whole"), seed=4), examples).run()


def test_an_unknown_policy_names_the_known_ones(tmp_path) -> None:
    with pytest.raises(ConfigError, match="known: car, vla"):
        train_imitation(ImitationConfig(policy="bus", out=str(tmp_path)))
    with pytest.raises(ConfigError, match="did you mean 'small2'"):
        train_imitation(ImitationConfig(size="smal2", out=str(tmp_path)))
    with pytest.raises(ConfigError, match="caution=0 must be above 0"):
        train_imitation(ImitationConfig(caution=0, out=str(tmp_path)))
    with pytest.raises(ConfigError, match="dropout=1 must be"):
        train_imitation(ImitationConfig(dropout=1, out=str(tmp_path)))


def test_too_much_pedal_costs_more_than_too_little() -> None:
    wanted, pedal = torch.zeros(2), torch.tensor([0.6, -0.6])
    much, little = pedal_error(pedal, wanted, 6.0)
    assert float(much / little) == pytest.approx(6.0)
    assert float(much * little) == pytest.approx(float(pedal_error(pedal, wanted).prod()))
    each = pedal_error(pedal[:1].expand(3), wanted[:1], torch.tensor([1.0, 4.0, 9.0]))
    assert torch.allclose(each / each[0], torch.tensor([1.0, 2.0, 3.0]))
    assert steering_error(pedal, wanted)[0] == steering_error(pedal, wanted)[1]


def test_with_caution_a_picture_that_leaves_braking_open_is_braked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", CarNetConfig(widths=(8, 8, 8, 8), camera_features=16, state_features=8, features=16))
    pedal = torch.tensor([0.5, 0.5, -0.8]).repeat(11)  # two of three say go
    action = torch.stack((torch.zeros(33), pedal), -1)
    examples = Examples(torch.full((33, 64, 128, 3), 90, dtype=torch.uint8), torch.zeros(33, 5), torch.zeros(33, 20, 2), action)
    found = []
    for caution in (1.0, 6.0):
        settings = {"steps": 80, "batch_size": 33, "learning_rate": 1e-2, "augment": 0.0, "dropout": 0.0, "threads": 1}
        run = Imitation(ImitationConfig(out=str(tmp_path / str(caution)), size="tiny", caution=caution, **settings), examples)
        for _ in range(80):
            run.train_step()
        seen = (torch.full((1, 3, 64, 128), 90 / 255), torch.zeros(1, 5), torch.zeros(1, 20, 2))
        found.append(float(run.net(*seen)[0, 1].detach()))
    assert found[0] > 0.1
    assert found[1] < -0.3


def test_the_earlier_picture_never_leaves_its_clip(fake) -> None:
    parts = [label(drive(fake, seed, steps), lag=4) for seed, steps in ((0, 7), (1, 6))]
    both = gather(parts)
    assert both.earlier.tolist() == [0, 0, 0, 0, 0, 1, 2, 7, 7, 7, 7, 7, 8]
    seen = both.pictures(torch.tensor([6, 8, 12]), 4)
    assert torch.equal(seen[..., :3], both.camera[[6, 8, 12]])
    assert torch.equal(seen[..., 3:], both.camera[[2, 7, 8]])
    assert label(drive(fake, 0, 7)).earlier is None
    assert torch.equal(both.pictures(torch.tensor([3]), 0), both.camera[3:4])
    with pytest.raises(DataError, match="no earlier pictures"):
        gather([parts[0], label(drive(fake, 0, 7))]).pictures(torch.tensor([3]), 4)


def test_two_pictures_teach_what_one_cannot_tell(tmp_path, monkeypatch) -> None:
    """The pedal depends on whether the present picture is brighter than the earlier one, whose own brightness tells nothing."""
    monkeypatch.setitem(SIZES, "tiny2", CarNetConfig(widths=(8, 8, 8, 8), camera_features=16, state_features=8, features=16, lag=2))
    rng = torch.Generator().manual_seed(0)
    grey = torch.randint(80, 170, (64,), generator=rng)
    brighter = torch.rand(64, generator=rng) < 0.5
    grey = torch.cat((grey, grey + torch.where(brighter, 60, -60))).to(torch.uint8)
    camera = grey.view(-1, 1, 1, 1).expand(-1, 64, 128, 3)
    earlier = torch.cat((torch.arange(64), torch.arange(64)))
    pedal = torch.cat((torch.zeros(64), torch.where(brighter, 0.8, -0.8)))
    action = torch.stack((torch.zeros(128), pedal), -1)
    examples = Examples(camera, torch.zeros(128, 5), torch.zeros(128, 20, 2), action, earlier)
    settings = {"steps": 100, "batch_size": 16, "learning_rate": 1e-2, "augment": 0.0, "dropout": 0.0, "threads": 1}
    run = Imitation(ImitationConfig(out=str(tmp_path), size="tiny2", caution=1.0, **settings), examples)
    for _ in range(80):
        run.train_step()
    rows = torch.arange(64, 128)
    now, before = (examples.pictures(rows, 2).permute(0, 3, 1, 2).float() / 255).split(3, 1)
    found = run.net.eval()(now, examples.ego[rows], examples.route[rows], before)[:, 1]
    assert (found.sign() == pedal[rows].sign()).float().mean() > 0.95
    run.save()
    assert load_policy(tmp_path / "weights").net.config.lag == 2
    with pytest.raises(CheckpointError, match="size=tiny2"):
        Imitation(ImitationConfig(out=str(tmp_path), threads=1), examples).run()
