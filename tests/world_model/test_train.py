from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.errors import CheckpointError, ConfigError, DataError, TrainingError
from xpeng_world.world_model.video import train
from xpeng_world.world_model.video.corruption import CorruptionConfig
from xpeng_world.world_model.video.generator import FrameGenerator, to_model
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS
from xpeng_world.world_model.video.store import build_store
from xpeng_world.world_model.video.train import TrainWorldConfig, WorldTrainer, frame_loss, mirror

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)
config, drive, painted_clip = drives.short_training, drives.drive, drives.painted_clip


def test_mirrored_windows_are_windows_of_the_mirrored_drive(tmp_path: Path) -> None:
    store = build_store([painted_clip(6)], tmp_path / "store")
    samples = store.samples(store.windows(2)[0][:2], 2)
    again = mirror(mirror(samples))
    for field in ("frames", "layout", "flow", "actions", "ego", "motion", "gaze"):
        assert torch.equal(getattr(again, field), getattr(samples, field))
    assert torch.equal(mirror(samples).actions[..., 0], -samples.actions[..., 0])
    across, flipped = (one.layout[:, :, CHANNEL["across"]].int() for one in (samples, mirror(samples)))
    assert (across > 0).any()
    assert torch.equal(flipped.flip(-1)[across > 0], 256 - across[across > 0])


def test_training_lowers_the_error_on_clips_with_and_without_a_scene(tmp_path: Path) -> None:
    store = build_store([painted_clip(), painted_clip(with_track=False)], tmp_path / "store")
    trainer = WorldTrainer(config(tmp_path / "run", samples=10**6, learning_rate=3e-3), store)
    losses = [trainer.train_step()[0] for _ in range(60)]
    trainer.step = 0  # the same draws again
    again = [trainer.train_step()[0] for _ in range(8)]
    assert sum(again) < 0.7 * sum(losses[:8]), (again, losses[:8])


@pytest.mark.parametrize("learns", [True, False])
def test_light_learns_from_pictures_and_not_through_the_painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: bool) -> None:
    trainer = WorldTrainer(config(tmp_path / "run", light_steps=0), build_store([painted_clip()], tmp_path / "store"))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    if not learns:
        monkeypatch.setattr(train, "light_loss", lambda lit, *_: 0 * lit.sum())
    for _ in range(3):
        trainer.train_step()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert ("lighting.light" in moved, "lighting.rest" in moved) == (learns, learns)
    assert {"stem.weight", "out.weight"} <= moved


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    store = build_store([painted_clip()], tmp_path / "store")
    whole = WorldTrainer(config(tmp_path / "whole", samples=48), store)
    whole.run()
    first = WorldTrainer(config(tmp_path / "parts", samples=48), store)
    for _ in range(5):
        first.train_step()
    first.save()
    WorldTrainer(config(tmp_path / "parts", samples=48), store).run()
    for folder in ("state/state.safetensors", "weights/denoiser/diffusion_pytorch_model.safetensors"):
        a, b = (load_file(tmp_path / run / folder) for run in ("whole", "parts"))
        assert all(torch.equal(a[name], b[name]) for name in a), folder
    assert not list((tmp_path / "parts").glob("*.partial"))
    with pytest.raises(CheckpointError, match="seed"):
        WorldTrainer(config(tmp_path / "parts", seed=1), store).run()
    with pytest.raises(CheckpointError, match="light=True, not False"):
        WorldTrainer(config(tmp_path / "parts", light=False), store).run()
    with pytest.raises(CheckpointError, match="paints with light; leave light=false out"):
        WorldTrainer(config(tmp_path / "other", init=str(tmp_path / "parts" / "weights"), light=False), store)
    (tmp_path / "parts" / "state" / "state.safetensors").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="cannot be used"):
        WorldTrainer(config(tmp_path / "parts"), store).run()


@pytest.mark.parametrize(
    ("drop_layout", "rollout_clean", "with_track", "kept"),
    [(1.0, 0.0, True, True), (0.0, 0.0, True, False), (0.0, 1.0, True, True), (0.0, 0.0, False, True)],
)
def test_what_no_layout_tells_is_not_lost_on_the_way(tmp_path, monkeypatch, drop_layout, rollout_clean, with_track, kept) -> None:
    store = build_store([painted_clip(with_track=with_track)], tmp_path / "store")
    corruption = CorruptionConfig(drop_context=1.0, noise_context=1.0, drop_layout=drop_layout, drop_scenery=0.0)
    changes = {"rollout_from": 0.0, "rollout_share": 1.0, "pure_noise": 0.0, "rollout_clean": rollout_clean, "corruption": corruption}
    trainer = WorldTrainer(config(tmp_path / "run", **changes), store)
    told, forward = [], trainer.model.forward
    monkeypatch.setattr(trainer.model, "forward", lambda *given: told.append(given) or forward(*given))
    trainer.train_step()
    _, noise_level, condition, _ = told[0]
    assert bool((noise_level == 1).all()) == kept  # else something of the true frame is shown
    assert bool((condition.context_noise == 0).all()) == kept
    assert bool((condition.seen.amax((1, 2, 3)) > 0).all()) == kept


def test_road_users_far_away_can_weigh_more_than_near_ones() -> None:
    layout = torch.zeros(3, len(CHANNELS), 8, 8)
    layout[:2, CHANNEL["body"]] = 1.0
    layout[0, CHANNEL["inverse_depth"]] = (2.5 / 8.0) ** 0.5
    layout[1, CHANNEL["inverse_depth"]] = (2.5 / 60.0) ** 0.5
    right, wrong = torch.zeros(3, 3, 8, 8), torch.full((3, 3, 8, 8), 0.5)
    loss = lambda b, far: float(frame_loss(wrong[b : b + 1], right[b : b + 1], layout[b : b + 1], 3.0, far))
    near, far, empty = (loss(b, 4.0) for b in range(3))
    assert near == pytest.approx(4 * empty)
    assert far == pytest.approx(13 * empty)
    assert [loss(b, 1.0) for b in range(3)] == pytest.approx([near, near, empty])


def test_mirrored_lamps_weigh_as_much_as_road_users_and_shade_and_lit_windows_half_of_it() -> None:
    layout = torch.zeros(5, len(CHANNELS), 8, 8)
    layout[0, CHANNEL["body"]] = 1.0
    layout[:2, CHANNEL["colour_r"]] = 0.2  # a body's own colour, and a gleam on the road
    layout[2, CHANNEL["shade"]] = 0.3
    layout[3, [CHANNEL["building"], CHANNEL["lit"], CHANNEL["colour_g"]]] = 1.0
    right, wrong = torch.zeros(5, 3, 8, 8), torch.full((5, 3, 8, 8), 0.5)
    body, gleam, shade, window, plain = (float(frame_loss(wrong[b : b + 1], right[b : b + 1], layout[b : b + 1], 3.0)) for b in range(5))
    assert body == gleam == pytest.approx(4 * plain)
    assert shade == window == pytest.approx(2.5 * plain)


def test_training_can_start_from_a_trained_world_of_its_size(tmp_path: Path) -> None:
    generator = drives.random_world()
    store = build_store([painted_clip(4)], tmp_path / "store")
    generator.save(tmp_path / "world")
    trainer = WorldTrainer(config(tmp_path / "run", init=str(tmp_path / "world")), store)
    wanted = generator.pipeline.denoiser.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in trainer.average.state_dict().items())
    with pytest.raises(CheckpointError, match="not of size 'small'"):
        WorldTrainer(config(tmp_path / "run", init=str(tmp_path / "world"), size="small"), store)


def test_unknown_sizes_and_devices_are_named(tmp_path: Path) -> None:
    store = build_store([painted_clip(4)], tmp_path / "store")
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        WorldTrainer(config(tmp_path, size="smal"), store)
    with pytest.raises(ConfigError, match="device=warp cannot be used"):
        WorldTrainer(config(tmp_path, device="warp"), store)


def test_clips_that_cannot_be_learned_are_refused_with_the_numbers(tmp_path) -> None:
    clip = painted_clip(6)
    with pytest.raises(DataError, match=r"is 32x128.*64x128"):
        build_store([dataclasses.replace(clip, frames=clip.frames[:, :32])], tmp_path / "small")
    with pytest.raises(DataError, match="has 1 frame"):
        build_store([clip.window(0, 1)], tmp_path / "short")
    state = clip.track.ego.state.clone()
    state[0, 3:5, 0] = torch.nan
    track = dataclasses.replace(clip.track, ego=dataclasses.replace(clip.track.ego, state=state))
    with pytest.raises(DataError, match=r"ego of a clip of reference are not finite at frame 3 \(2 frames"):
        build_store([dataclasses.replace(clip, track=track)], tmp_path / "nan")


def test_a_loss_that_is_not_finite_stops_training_and_keeps_what_was_saved(tmp_path) -> None:
    store = build_store([painted_clip(12), painted_clip(12)], tmp_path / "store")
    config = TrainWorldConfig(out=str(tmp_path / "run"), size="tiny", samples=64, batch_size=4, warmup=2, streams=8)
    trainer = WorldTrainer(config, store)
    trainer.train_step()
    trainer.save()
    saved = load_file(tmp_path / "run" / "state" / "state.safetensors")
    with torch.no_grad():
        trainer.model.stem.weight[0, 0] = torch.nan
    trainer.config.resume = False
    with pytest.raises(TrainingError, match=r"loss is nan at step 1, in a batch of frames \[.*from clips \["):
        trainer.run()
    again = load_file(tmp_path / "run" / "state" / "state.safetensors")
    assert all(torch.equal(saved[name], again[name]) for name in saved)


@pytest.mark.parametrize("size", ["patches", "latent"])
def test_the_transformers_paint_learn_and_are_loaded_as_what_they_are(size, tmp_path, monkeypatch) -> None:
    from xpeng_world.world_model.video import sizes

    monkeypatch.setitem(sizes.SIZES, size, dataclasses.replace(sizes.SIZES[size], width=48, layers=2, heads=4))
    store = build_store([painted_clip(12), painted_clip(12)], tmp_path / "store")
    config = TrainWorldConfig(out=str(tmp_path / "run"), size=size, samples=480, batch_size=8, warmup=5, streams=8, learning_rate=3e-3)
    trainer = WorldTrainer(config, store)
    first = trainer.train_step()[0]
    trainer.run()
    assert trainer.train_step()[0] < 0.7 * first
    loaded = FrameGenerator.load(tmp_path / "run" / "weights")
    assert type(loaded.pipeline.denoiser) is type(trainer.model)
    before, now = drive(2)
    frame = loaded.next(before, now, loaded.first(before, torch.zeros(1)), torch.zeros(1, 2), torch.zeros(1), torch.ones(1))
    assert frame.shape == (1, 64, 128, 3)
    with pytest.raises(CheckpointError, match="not of size 'tiny'"):
        WorldTrainer(dataclasses.replace(config, size="tiny", init=str(tmp_path / "run" / "weights")), store)


def test_the_autoencoder_of_latents_is_learned_first_and_then_stays(tmp_path, monkeypatch) -> None:
    from xpeng_world.world_model.video import sizes

    monkeypatch.setitem(sizes.SIZES, "latent", dataclasses.replace(sizes.SIZES["latent"], width=48, layers=1, heads=4))
    store = build_store([painted_clip(12), painted_clip(12)], tmp_path / "store")
    config = TrainWorldConfig(
        out=str(tmp_path / "run"),
        size="latent",
        samples=640,
        batch_size=16,
        warmup=5,
        streams=32,
        learning_rate=3e-3,
        autoencoder_until=0.75,
    )
    trainer = WorldTrainer(config, store)
    true = to_model(store.frames(store.windows(1)[0][:4]))
    error = lambda: float((trainer.model.decode(trainer.model.encode(true)) - true).square().mean().detach())
    kept = lambda: [p.clone() for part in (trainer.model.encoder, trainer.model.decoder) for p in part.parameters()]
    begun = error()
    while trainer.progress < 0.75:
        trainer.train_step()
    assert error() < 0.5 * begun
    assert trainer.model.encode(true).abs().max() <= 1
    assert trainer.model.encode(true).shape[1:] == trainer.model.canvas(64, 128)
    learned, ahead = kept(), trainer.model.leave.weight.clone()
    trainer.train_step()
    assert all(torch.equal(a, b) for a, b in zip(learned, kept(), strict=True))
    assert not torch.equal(ahead, trainer.model.leave.weight)
