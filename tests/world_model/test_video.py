from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.data.clip import Clip
from xpeng_world.errors import CheckpointError, ConfigError, DataError, TrainingError
from xpeng_world.scene import AgentKind, Scene, Track
from xpeng_world.vehicles import bicycle_step
from xpeng_world.world_model.video import train
from xpeng_world.world_model.video.corruption import CorruptionConfig, corrupted_condition
from xpeng_world.world_model.video.denoiser import NUMBERS, Condition, FrameDenoiser
from xpeng_world.world_model.video.generator import FrameGenerator, to_frame, to_model, untrained
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS, LayoutRasteriser, composite
from xpeng_world.world_model.video.pipeline import episode_noise
from xpeng_world.world_model.video.sizes import SIZES
from xpeng_world.world_model.video.store import build_store
from xpeng_world.world_model.video.train import TrainWorldConfig, WorldTrainer, frame_loss, mirror

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)

TINY = dataclasses.asdict(SIZES["tiny"])


def drive(steps: int, speed: float = 9.0) -> list[Scene]:
    road = roads.straight_road(scenery=True)
    scene = roads.scene_on(road, ego=(20.0, -1.75, 0.0), speed=speed, agents=[roads.agent_row(AgentKind.CAR, 38.0, -1.75, speed=6.0)])
    scenes = [scene]
    for _ in range(steps - 1):
        ego = bicycle_step(scene.ego, torch.tensor([[0.1, 0.0]]), scene.profile, 0.1)
        scene = dataclasses.replace(scene, ego=ego, time=scene.time + 0.1)
        scenes.append(scene)
    return scenes


def painted_clip(steps: int = 14, with_track: bool = True) -> Clip:
    """A clip whose pictures are the flat composite of its layout: something a few steps of training can learn."""
    scenes, rasterise = drive(steps), LayoutRasteriser()
    frames = torch.cat([composite(rasterise(scene)) for scene in scenes])
    actions = torch.tensor([[0.1, 0.0]]).repeat(steps, 1)
    actions[-1] = 0
    provenance = {"source": "reference", "split": "train", "family": "city", "network_seed": 0}
    return Clip(frames, actions, Track.of(scenes) if with_track else None, provenance)


@pytest.fixture(scope="module")
def generator() -> FrameGenerator:
    torch.manual_seed(0)
    generator = untrained(TINY)
    for parameter in generator.pipeline.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return generator


def test_a_frame_depends_on_its_own_episode_alone(generator: FrameGenerator) -> None:
    before, now = (Scene.cat([a, b]) for a, b in zip(drive(2), drive(2, speed=4.0), strict=True))
    seed, step = torch.tensor([3, 8]), torch.tensor([1, 1])
    frame = generator.first(before, seed)
    both = generator.next(before, now, frame, torch.zeros(2, 2), seed, step)
    for b in range(2):
        alone = generator.next(before[b], now[b], frame[b : b + 1], torch.zeros(1, 2), seed[b : b + 1], step[b : b + 1])
        assert (both[b].int() - alone[0].int()).abs().max() <= 1
    other = generator.next(before, now, frame, torch.zeros(2, 2), seed + 1, step)
    assert not torch.equal(other, both)


def test_half_as_many_bits_paint_nearly_the_same(generator: FrameGenerator) -> None:
    scene, seed = drive(1)[0], torch.tensor([1])
    whole, half, either = (
        FrameGenerator(generator.pipeline, precision=name).first(scene, seed).int() for name in ("float32", "bfloat16", "auto")
    )
    assert 0 < (whole - half).abs().float().mean() < 2
    assert torch.equal(either, whole) or torch.equal(either, half)
    with pytest.raises(ConfigError, match="float32"):
        FrameGenerator(generator.pipeline, precision="float31")


@pytest.mark.parametrize("level", ["full", "no_scenery", "none"])
def test_more_steps_and_less_layout_still_paint_frames(generator: FrameGenerator, level: str) -> None:
    scenes = drive(2)
    painter = FrameGenerator(generator.pipeline, steps=3, layout=level)
    frame = painter.first(scenes[0], torch.tensor([1]))
    after = painter.next(scenes[0], scenes[1], frame, torch.zeros(1, 2), torch.tensor([1]), torch.tensor([1]))
    assert after.shape == (1, 64, 128, 3)
    assert after.dtype == torch.uint8


def test_the_model_is_told_how_much_of_the_layout_it_is_shown(generator: FrameGenerator) -> None:
    scene = drive(1)[0]
    bare = dataclasses.replace(scene, road=roads.straight_road(scenery=False))
    column = NUMBERS.index("layout_known")
    for level, known in (("full", [1.0, 0.5]), ("no_scenery", [0.5, 0.5]), ("none", [0.0, 0.0])):
        painter = FrameGenerator(generator.pipeline, layout=level)  # type: ignore[arg-type]
        numbers = [painter.condition(one, None, torch.zeros(1, 3, 64, 128), torch.zeros(1, 2)).numbers for one in (scene, bare)]
        assert [float(row[0, column]) for row in numbers] == known
    store_like = torch.zeros(4, 3, 64, 128)
    has_scene = torch.tensor([True, True, True, False])
    never = CorruptionConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
    told = corrupted_condition(
        store_like, torch.zeros(4, len(CHANNELS), 64, 128, dtype=torch.uint8), torch.zeros(4, 2, 64, 128), torch.zeros(4, 2),
        torch.zeros(4, 7), torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), has_scene, never, torch.Generator(),
        torch.tensor([0, 1, 2, 1]), torch.zeros(4, 2, 64, 128),
    )  # fmt: skip
    assert told.numbers[:, column].tolist() == [1.0, 0.5, 0.0, 0.0]


def test_false_patches_are_pasted_only_where_the_layout_can_tell() -> None:
    count = 48
    before = torch.rand(count, 3, 64, 128, generator=torch.Generator().manual_seed(5)) - 0.5
    has_scene, level = torch.arange(count) % 4 > 0, torch.arange(count) % 3  # a quarter without a scene, a third of each level
    still = torch.stack(torch.meshgrid(torch.arange(128) + 0.5, torch.arange(64) + 0.5, indexing="xy")).expand(count, 2, 64, 128)
    always = CorruptionConfig(0, 0, 0, 0, 1.0, 0, 0, 0, 0)
    told = corrupted_condition(
        before, torch.zeros(count, len(CHANNELS), 64, 128, dtype=torch.uint8), still, torch.zeros(count, 2), torch.zeros(count, 7),
        torch.zeros(count, 3), torch.zeros(count, dtype=torch.int64), has_scene, always, torch.Generator().manual_seed(0), level,
        torch.zeros(count, 2, 64, 128),
    )  # fmt: skip
    changed = ((told.warped - before).abs() > 1e-3).any(1)
    whole = has_scene & (level == 0)
    share = changed[whole].float().mean((1, 2))
    assert ((share > 0) & (share < 0.3)).float().mean() > 0.8  # some lie beside the picture
    assert share.mean() > 0.01
    known = ~whole & ~(has_scene & (level > 0))  # of hidden layouts the warp itself differs
    assert not changed[known].any()


@pytest.mark.parametrize("hold", [True, False])
def test_what_is_kept_for_the_most_part_is_left_as_it_is(hold: bool) -> None:
    denoiser = FrameDenoiser(**{**TINY, "hold": hold})
    with torch.no_grad():
        denoiser.out.bias.view(-1, 4)[3] = torch.tensor([3.0, 3.0, 0.0, -9.0])  # of the four pixels of a square
        denoiser.out.bias.view(-1, 4)[:3] = 0.25
    before = torch.rand(1, 3, 64, 128) - 0.5
    zeros = torch.zeros(1, 4, 64, 128)
    condition = Condition(
        before, torch.ones(1, 1, 64, 128), torch.zeros(1, len(CHANNELS), 64, 128), torch.zeros(1, len(NUMBERS)),
        torch.zeros(1, dtype=torch.int64), torch.zeros(1), zeros,
    )  # fmt: skip
    painted = denoiser(torch.randn(1, 3, 64, 128), torch.ones(1), condition)
    assert torch.equal(painted[:, :, ::2], before[:, :, ::2]) == hold
    assert torch.allclose(painted[:, :, 1::2, ::2], 0.25 + 0.5 * before[:, :, 1::2, ::2])
    assert torch.allclose(painted[:, :, 1::2, 1::2], torch.tensor(0.25), atol=1e-3)
    told = FrameDenoiser.from_config({**denoiser.config})
    assert told.hold == hold
    assert not FrameDenoiser.from_config({k: v for k, v in denoiser.config.items() if k != "hold"}).hold  # as weights from before it


def test_unknown_level_and_zero_steps_are_refused(generator: FrameGenerator) -> None:
    with pytest.raises(ConfigError, match="layout level"):
        FrameGenerator(generator.pipeline, layout="half")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        FrameGenerator(generator.pipeline, steps=0)


def test_noise_is_the_episodes_own() -> None:
    both = episode_noise([1, 2], [5, 6], (3, 4, 4))
    assert torch.equal(both[1:], episode_noise([2], [6], (3, 4, 4)))
    assert not torch.equal(both[0], both[1])
    many = episode_noise(range(40), [7] * 40, (3, 64, 128))
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1, abs=0.01)
    flat = many.flatten(1)
    alike = flat @ flat.T / flat.shape[1] - torch.eye(40)
    assert alike.abs().max() < 0.05  # no two are the same, nor are those of other steps and salts
    for other in (episode_noise(range(40), [8] * 40, (3, 64, 128)), episode_noise(range(40), [7] * 40, (3, 64, 128), salt=9)):
        assert (flat @ other.flatten(1).T / flat.shape[1]).abs().max() < 0.05


def test_frames_survive_the_models_range() -> None:
    frame = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_frame(to_model(frame)), frame)


def test_saved_weights_paint_the_same_and_damaged_ones_are_refused(generator: FrameGenerator, tmp_path: Path) -> None:
    generator.save(tmp_path / "world")
    loaded = FrameGenerator.load(tmp_path / "world")
    scene, seed = drive(1)[0], torch.tensor([4])
    assert torch.equal(loaded.first(scene, seed), generator.first(scene, seed))
    with pytest.raises(CheckpointError, match="no world model"):
        FrameGenerator.load(tmp_path / "nothing")
    meta = tmp_path / "world" / "world.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(CheckpointError, match="format 99"):
        FrameGenerator.load(tmp_path / "world")


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


def config(out: Path, **changes: object) -> TrainWorldConfig:
    base = {
        "out": str(out),
        "size": "tiny",
        "samples": 400,
        "batch_size": 4,
        "warmup": 2,
        "threads": 1,
        "precision": "float32",
        "light_steps": 5,
    }
    return TrainWorldConfig(**{**base, "strip_steps": 10**6, "streams": 8, "rollout_length": 5, **changes})  # type: ignore[arg-type]


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


def test_training_can_start_from_a_trained_world_of_its_size(generator: FrameGenerator, tmp_path: Path) -> None:
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
