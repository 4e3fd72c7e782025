from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.scene import Scene
from xpeng_world.world_model.video.corruption import CorruptionConfig, corrupted_condition
from xpeng_world.world_model.video.denoiser import NUMBERS, Condition, FrameDenoiser
from xpeng_world.world_model.video.generator import FrameGenerator, to_frame, to_model
from xpeng_world.world_model.video.layout import CHANNELS, LayoutRasteriser
from xpeng_world.world_model.video.pipeline import episode_noise
from xpeng_world.world_model.video.sizes import SIZES

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)
roads, drive, random_world = drives.roads, drives.drive, drives.random_world
TINY = dataclasses.asdict(SIZES["tiny"])


@pytest.fixture(scope="module")
def generator() -> FrameGenerator:
    return random_world()


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
        black, actions = torch.zeros(1, 3, 64, 128), torch.zeros(1, 2)
        numbers = [painter.condition(LayoutRasteriser()(one), one, None, black, actions).numbers for one in (scene, bare)]
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
