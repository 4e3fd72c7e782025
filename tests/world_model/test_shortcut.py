from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.world_model.video.generator import FrameGenerator
from xpeng_world.world_model.video.pipeline import FramePipeline, new_scheduler
from xpeng_world.world_model.video.shortcut import draw_spans, shortcut_targets
from xpeng_world.world_model.video.sizes import new_painter
from xpeng_world.world_model.video.store import build_store
from xpeng_world.world_model.video.train import WorldTrainer

_here = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("drives_local", _here / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)
_spec = importlib.util.spec_from_file_location("test_sky", _here / "test_sky.py")
sky = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sky)


def test_spans_begin_where_the_samplers_steps_do_and_leave_the_rest_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(4000, generator=generator)
    level = before.clone()
    span = draw_spans(level, 0.25, generator)
    assert float((span > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(level[span == 0], before[span == 0])
    for length, starts in ((1.0, {1.0}), (0.5, {0.5, 1.0})):
        assert set(level[span == length].tolist()) == starts
    assert (draw_spans(before, 0.0, generator) == 0).all()


def test_a_long_step_should_land_where_two_half_steps_do() -> None:
    asked, calls = sky.condition(batch=3), []

    def painter(noisy, level, condition, span):
        calls.append((level.tolist(), span.tolist()))
        return (0.8 * level).view(-1, 1, 1, 1).expand_as(noisy)

    true, noisy = torch.full((3, 3, 64, 128), 0.1), torch.full((3, 3, 64, 128), -0.5)
    level, span = torch.tensor([0.3, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.5])
    wanted = shortcut_targets(painter, true, noisy, level, span, asked)
    assert calls == [([1.0, 1.0], [0.5, 0.0]), ([0.5, 0.75], [0.5, 0.0])]
    assert torch.equal(wanted[0], true[0])
    assert wanted[1].mean() == pytest.approx(0.4)  # the second half step goes all the way to what is painted at 0.5
    middle = -0.5 + (0.8 + 0.5) * 0.25
    end = middle + (0.6 - middle) * 0.25 / 0.75
    assert wanted[2].mean() == pytest.approx(-0.5 + (end + 0.5) / 0.5)


def test_the_sampler_says_how_far_its_steps_go_when_it_is_asked_to() -> None:
    painter, spans = new_painter("tiny", spans=True), []
    forward = painter.forward
    painter.forward = lambda noisy, level, condition, span=None: (spans.append(span), forward(noisy, level, condition, span))[1]
    pipeline = FramePipeline(painter, new_scheduler())
    noise = torch.randn(2, 3, 64, 128)
    for steps in (1, 2):
        pipeline(sky.condition(), noise, steps, shortcut=True)
        assert torch.allclose(torch.stack(spans), torch.full((steps, 2), 1 / steps), atol=1e-3)
        spans.clear()
    pipeline(sky.condition(), noise, 2)
    assert spans == [None, None]


def test_weights_that_know_no_shortcut_refuse_it_and_learn_it_from_where_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = FramePipeline(new_painter("tiny"), new_scheduler())
    with pytest.raises(ConfigError, match="know no shortcuts"):
        FrameGenerator(plain, shortcut=True)
    FrameGenerator(plain).save(tmp_path / "plain")
    store = build_store([drives.painted_clip(8)], tmp_path / "store")
    config = drives.short_training(tmp_path / "run", init=str(tmp_path / "plain"), shortcut=0.5, samples=96)
    trainer = WorldTrainer(config, store)
    asked, noisy, level = sky.condition(), torch.randn(2, 3, 64, 128), torch.ones(2)
    with torch.no_grad():
        assert torch.equal(trainer.model(noisy, level, asked, level), plain.denoiser(noisy, level, asked))
    trainer.run()
    loaded = FrameGenerator.load(tmp_path / "run" / "weights", steps=2, shortcut=True)
    before, now = drives.drive(2)
    frame = loaded.next(before, now, loaded.first(before, torch.zeros(1)), torch.zeros(1, 2), torch.zeros(1), torch.ones(1))
    assert frame.shape == (1, 64, 128, 3)
    with torch.no_grad():
        painter = loaded.pipeline.denoiser
        assert not torch.allclose(painter(noisy, level, asked, level), painter(noisy, level, asked), atol=1e-6)
