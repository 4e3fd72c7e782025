"""The compiled kernels say what PyTorch's operations say that they stand for."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit
from xpeng_world.camera import CAMERA
from xpeng_world.world_model.video import kernel_math, painter_kernels, winograd
from xpeng_world.world_model.video.denoiser import Block, Condition, FrameDenoiser, active
from xpeng_world.world_model.video.gaze import gaze
from xpeng_world.world_model.video.layout import LayoutRasteriser
from xpeng_world.world_model.video.sizes import SIZES

_spec = importlib.util.spec_from_file_location("drives_local", Path(__file__).parent / "drives_local.py")
drives = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drives)

POSES = torch.tensor([[30.0, -1.75, 0.0], [-250.0, 400.0, 3.1], [math.nan] * 3])


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads there are, kernels are used."""
    monkeypatch.setattr(kernel_math, "THREADS", torch.get_num_threads())


def lively(**changes: object) -> FrameDenoiser:
    """A tiny painter of random weights."""
    torch.manual_seed(1)
    painter = FrameDenoiser(**{**dataclasses.asdict(SIZES["tiny"]), **changes}).eval()
    for parameter in painter.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return painter


def condition(context: int) -> Condition:
    """What is told of a drive's pictures from three poses, of which the last one is unknown."""
    size, batch = (CAMERA.height, CAMERA.width), len(POSES)
    layout = torch.cat([LayoutRasteriser()(scene).channels for scene in drives.drive(batch)[:batch]])
    seen = torch.ones(batch, 1, *size)
    seen[:, :, :, :9] = 0
    warped = (2 * torch.rand(batch, 3 * context, *size) - 1) * seen
    zero = torch.zeros(batch)
    return Condition(warped, seen, layout, torch.rand(batch, 8), zero.long(), zero, gaze(POSES))


@pytest.mark.parametrize(
    "changes", [{}, {"light": False}, {"hold": False}, {"light": False, "hold": False}, {"context": 2}, {"sky": False, "ground": False}]
)
def test_a_painter_paints_the_same_with_kernels_and_without(monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
    painter, level = lively(**changes), torch.tensor([1.0, 0.6, 0.3])
    told = condition(painter.context)
    noise = torch.randn(len(POSES), 3, CAMERA.height, CAMERA.width)
    calls = []
    stem = painter_kernels.stem
    monkeypatch.setattr(painter_kernels, "stem", lambda *args: calls.append(1) or stem(*args))
    with torch.inference_mode():
        monkeypatch.setattr(kernel_math, "THREADS", 0)
        plain = painter(noise, level, told)
        assert not calls
        monkeypatch.setattr(kernel_math, "THREADS", torch.get_num_threads())
        assert torch.allclose(painter(noise, level, told), plain, atol=1e-3)
        assert calls
        whole = dataclasses.replace(told, layout=told.layout.float() / 255)
        assert torch.allclose(painter(noise, level, whole), plain, atol=1e-3)
    with torch.enable_grad():
        painter(noise, level, told).sum().backward()
    assert len(calls) == 1


def block(channels: int) -> Block:
    """A residual block of random weights."""
    made = Block(channels, 8).to(memory_format=torch.channels_last)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize(("channels", "batch", "height", "width"), [(32, 2, 48, 64), (64, 5, 4, 8), (96, 3, 12, 20), (32, 7, 4, 4)])
def test_convolutions_say_the_same_in_squares(monkeypatch: pytest.MonkeyPatch, channels: int, batch: int, height: int, width: int) -> None:
    many, told = block(channels), torch.randn(batch, 8)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last)
    wanted = many.double()(x.double(), told.double()).detach()
    calls, convolved = [], winograd.convolved
    monkeypatch.setattr(winograd, "convolved", lambda *args: calls.append(1) or convolved(*args))
    with torch.no_grad():
        out = many.float()(x.clone(memory_format=torch.preserve_format), told)
    assert calls
    assert (out - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_all_blocks_of_the_shipped_size_paint_in_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    painter, told = lively(**dataclasses.asdict(SIZES["small"])), condition(1)
    calls, convolved = [], winograd.convolved
    monkeypatch.setattr(winograd, "convolved", lambda *args: calls.append(1) or convolved(*args))
    with torch.inference_mode():
        painter(torch.randn(len(POSES), 3, CAMERA.height, CAMERA.width), torch.ones(len(POSES)), told)
    assert len(calls) == sum(isinstance(module, Block) for module in painter.modules())


LAST = torch.channels_last


@pytest.mark.parametrize(
    ("channels", "height", "width", "form"), [(48, 8, 8, LAST), (32, 6, 8, LAST), (32, 8, 10, LAST), (32, 8, 8, torch.contiguous_format)]
)
def test_what_does_not_come_in_squares_is_convolved_as_it_is(
    monkeypatch: pytest.MonkeyPatch, channels: int, height: int, width: int, form: torch.memory_format
) -> None:
    some, told, x = block(channels), torch.randn(2, 8), torch.randn(2, channels, height, width)
    wanted = some.double()(x.double(), told.double()).detach()
    monkeypatch.delattr(winograd, "convolved")
    with torch.no_grad():
        out = some.float()(x.contiguous(memory_format=form), told)
    assert torch.allclose(out, wanted.float(), atol=1e-3)


def test_weights_that_change_are_noticed() -> None:
    some, told = block(32), torch.randn(1, 8)
    x = torch.randn(1, 32, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    painted = lambda: some(x.clone(memory_format=torch.preserve_format), told)
    with torch.no_grad():
        before = painted()
    optimiser = torch.optim.AdamW(some.parameters(), lr=0.1)
    painted().square().mean().backward()  # with gradients, so without the matrices
    optimiser.step()
    with torch.no_grad():
        after = painted()
    assert torch.allclose(after, painted(), atol=1e-3)
    assert (after - before).abs().max() > 0.1
    some.load_state_dict(block(32).state_dict())
    with torch.no_grad():
        loaded = painted()
    assert torch.allclose(loaded, painted(), atol=1e-3)
    assert (loaded - after).abs().max() > 0.1


def test_weights_made_without_a_count_of_changes_are_convolved_as_they_are() -> None:
    x, told = torch.randn(1, 32, 8, 8).contiguous(memory_format=torch.channels_last), torch.randn(1, 8)
    with torch.inference_mode():
        some = block(32)
        out = some(x.clone(memory_format=torch.preserve_format), told)
        some.second.weight.zero_()
        some.second.bias.zero_()
        assert not torch.equal(out, x)
        assert torch.equal(some(x.clone(memory_format=torch.preserve_format), told), x)


def test_normalising_holds_far_from_zero_and_what_is_no_number_stays_none() -> None:
    norm = torch.nn.GroupNorm(2, 32)
    x = (torch.randn(2, 32, 8, 16) + 50).contiguous(memory_format=torch.channels_last)
    x[1, 3, 2, 2] = math.nan
    scale, shift = torch.rand(2, 32), torch.randn(2, 32)
    with torch.no_grad():
        out = active(norm, x, scale, shift)
        wanted = torch.nn.functional.silu(norm(x) * scale[:, :, None, None] + shift[:, :, None, None])
    assert torch.allclose(out[0], wanted[0], atol=2e-3)
    assert out[1, :16].isnan().all()
    assert torch.allclose(out[1, 16:], wanted[1, 16:], atol=2e-3)


def test_the_exponential_is_as_exact_as_float32_and_ends() -> None:
    values = np.linspace(-80, 80, 4001).astype(np.float32)
    found = np.empty_like(values)

    @njit
    def fill(values, out):
        for k in range(len(values)):
            out[k] = kernel_math.exponential(values[k])

    fill(values, found)
    assert np.allclose(found, np.exp(values.astype(np.float64)), rtol=4e-6)
    ends = np.array([-1e9, 1e9], np.float32)
    fill(ends, found[:2])
    assert found[0] < 1e-37
    assert 1e37 < found[1] < np.inf
