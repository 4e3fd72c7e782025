import json

import numpy as np
import pytest
import torch
from xpeng_world.data import read_clips
from xpeng_world.evaluation.fidelity import fidelity, frechet, pictures
from xpeng_world.evaluation.fidelity.command import FidelityConfig
from xpeng_world.evaluation.fidelity.frechet import Moments, frechet_distance, frechet_figures, paint_windows

DIMENSIONS = 16


class Fading:
    """Paints its last picture again, darker by so much."""

    layout_level = "full"

    def __init__(self, factor=0.8):
        self.factor = factor

    def next(self, previous, scene, frame, actions, seed, step):
        return (frame.float() * self.factor).round().to(torch.uint8)


@pytest.fixture
def short(monkeypatch):
    """Windows of 10 frames."""
    monkeypatch.setattr(frechet, "WINDOW", 10)


def paint(folder, painter, count=2, steps=20, start=0):
    return paint_windows(painter, pictures.held_out_addresses(str(folder), count, steps, start), steps, start, seed=0)


def test_distance_by_hand():
    mean, cov = np.array([1.0, 2.0]), np.diag([4.0, 9.0])
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0)
    assert frechet_distance(mean, cov, mean + np.array([3.0, 4.0]), cov) == pytest.approx(25)
    assert frechet_distance(mean, cov, mean, np.diag([1.0, 1.0])) == pytest.approx((2 - 1) ** 2 + (3 - 1) ** 2)


def test_windows_are_those_at_the_beginning_at_the_end_and_begun_anew(recorded, short, monkeypatch):
    folder = recorded[0]
    windows = paint(folder, Fading(0.9))
    true, fade = torch.stack([clip.frames for clip in read_clips(folder)]), Fading(0.9)

    def expected(column, number):
        frame, found = true[:, column], []
        for _ in range(number):
            frame = fade.next(None, None, frame, None, None, None)
            found.append(frame)
        return Moments.of(torch.stack(found, 1)[:, -10:])

    for name, column, number, first in (("first", 0, 10, 1), ("last", 0, 20, 11), ("fresh", 10, 10, 11)):
        truth, made = windows[name]
        for found, wanted in ((truth, Moments.of(true[:, first : first + 10])), (made, expected(column, number))):
            np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-6)
            np.testing.assert_allclose(found.outer, wanted.outer, rtol=1e-6)
    monkeypatch.setattr(frechet, "TOGETHER", 1)
    np.testing.assert_allclose(paint(folder, Fading(0.9))["last"][1].outer, windows["last"][1].outer, rtol=1e-5, atol=1e-7)
    later = paint(folder, Fading(0.9), start=4)
    np.testing.assert_allclose(later["first"][0].mean, Moments.of(true[:, 5:15]).mean, rtol=1e-6)


def test_a_rollout_that_decays_is_further_apart_at_its_end(recorded, short):
    windows = paint(recorded[0], Fading())
    figures = frechet_figures(windows, 2)
    assert figures["frechet_ratio_2s"].value > 1.5
    assert figures["frechet_ratio_2s"].value == pytest.approx(figures["frechet_last_10s_of_2s"].value / figures["frechet_first_10s"].value)
    assert figures["frechet_drift_2s"].value > 1.5
    assert frechet_figures(windows | {"fresh": windows["last"]}, 2)["frechet_drift_2s"].value == 1
    assert not any(key.endswith("_extrapolated") for key in figures)  # two drives tell nothing of many


def drawn(rng, drives, error):
    """Moments of drives, true and generated: what differs is the same all along a drive; and how far apart infinitely many are."""
    spread = np.linspace(1, 0.2, DIMENSIONS)
    true = rng.normal(size=(drives, DIMENSIONS)) * spread
    made = 0.8 * true + rng.normal(size=true.shape) * error
    moments = [Moments(part, part[:, :, None] * part[:, None]) for part in (true, made)]
    mean, cov = np.zeros(DIMENSIONS), np.diag(spread**2)
    return tuple(moments), frechet_distance(mean, cov, mean, 0.8**2 * cov + error**2 * np.eye(DIMENSIONS))


def test_what_few_drives_add_to_a_distance_is_taken_off():
    rng = np.random.default_rng(0)
    plain, extrapolated, covered = [], [], []
    for _ in range(20):
        last, truth = drawn(rng, 64, 0.5)
        first, before = drawn(rng, 64, 0.3)
        figures = frechet_figures({"first": first, "last": last, "fresh": last}, 60)
        plain.append(figures["frechet_last_10s_of_60s"].value / truth - 1)
        extrapolated.append(figures["frechet_last_10s_of_60s_extrapolated"].value / truth - 1)
        ratio = figures["frechet_ratio_60s_extrapolated"]
        covered.append(ratio.low < truth / before < ratio.high)
        assert figures["frechet_drift_60s"].value == 1
        assert figures["frechet_ratio_60s"].n == 64
    assert np.mean(plain) > 0.8
    assert abs(np.mean(extrapolated)) < 0.15
    assert np.mean(covered) >= 0.8


def test_one_drive_has_no_interval():
    window, _ = drawn(np.random.default_rng(1), 1, 0.1)
    found = frechet_figures({name: window for name in ("first", "last", "fresh")}, 60)["frechet_ratio_60s"]
    assert (found.value, found.low, found.high) == (1, None, None)


def test_the_part_writes_its_figures_or_says_why_not(recorded, short, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "load_generator", lambda world, steps, layout="full", shortcut=False: Fading())
    settings = {"data": str(recorded[0]), "out": str(tmp_path), "part": "frechet", "clips": 2}
    found = lambda **more: json.loads(fidelity(FidelityConfig(**settings, **more)).read_text())
    record = found(seconds=2)
    assert {"frechet_first_10s", "frechet_last_10s_of_2s", "frechet_ratio_2s", "frechet_drift_2s"} <= set(record["metrics"])
    assert "part=frechet" in record["command"]
    assert "clips=2 seconds=2" in record["command"]
    assert not found(seconds=1)["metrics"]
    assert "rollouts of 1 s are too short" in capsys.readouterr().out
    assert not found(seconds=2, start=1)["metrics"]
    assert "no clip has more than 20 frames after the first 10" in capsys.readouterr().out
