"""Training of the probes on true pictures; every draw follows from (seed, step), so it resumes exactly."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...errors import CheckpointError
from ...training_state import load_state, read_meta, replace_folder, save_state
from .probes import BEFORE, OFFSETS, SPAN, Probes, pictures_of, scene_targets
from .store import FrameStore, open_store

STATE = ("probe-training", 1)
SCENES = 2  # one of so many windows teaches the scene reader, which costs five times as much
LIGHT_WEIGHT = 20.0  # of the pixels of lit signals, which are few
BETA = 0.05  # error in units of MOTION_SCALE from which the loss of the motion grows linearly: small turns are to be told apart too
BLUR = (1, 1, 1, 2, 4)  # pictures of a batch lose detail by one of these factors, so that reading does not hang on textures
SPEED_FLOOR = 2.0  # m/s below which steering cannot be seen and is not asked for


@dataclass
class TrainProbesConfig:
    """Everything a run of probe training depends on."""

    data: str | list[str] = "runs/logs"  # folder of shards, or several; the train split is used
    out: str = "runs/probes"
    init: str = "none"  # folder of trained probes to start from
    seed: int = 0
    steps: int = 2500  # optimiser steps of the whole schedule
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    noise: float = 0.01  # of the pictures, in [0, 1]
    minutes: float = 0.0  # stop (and keep the state) after this long; 0: no limit
    save_minutes: float = 5.0
    threads: int = 2
    resume: bool = True


def train_probes(config: TrainProbesConfig) -> Path:
    """Train both probes on the train split of recorded clips; returns the folder of their weights.

    Recordings without scenes teach the motion reader their steering commands and the scene reader nothing.

    Raises:
        DataError: no such clips.
        CheckpointError: a state in the folder that is damaged or of another run; no probes to start from.
    """
    torch.set_num_threads(config.threads)
    store = open_store(config.data, "train")
    torch.manual_seed(config.seed)
    probes = (Probes() if config.init == "none" else Probes.load(config.init)).train()
    optimiser = torch.optim.AdamW(probes.parameters(), lr=config.learning_rate, weight_decay=0.01)
    out = Path(config.out)
    step = _restore(config, probes, optimiser, out / "state") if config.resume else 0
    first, _ = store.windows(SPAN)
    began = saved = time.monotonic()
    losses = {"motion": math.nan, "scene": math.nan}
    with tqdm(total=config.steps, initial=step, unit="step", smoothing=0.05, disable=None) as bar:
        while step < config.steps:
            rng = np.random.default_rng([config.seed, step])
            for group in optimiser.param_groups:
                progress = step / config.steps
                group["lr"] = config.learning_rate * min(1.0, (step + 1) / 200) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * progress))
            optimiser.zero_grad(set_to_none=True)
            chosen = rng.choice(first, size=config.batch_size)
            parts = probe_losses(probes, store, chosen, rng, config.noise)
            torch.stack(list(parts.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(probes.parameters(), 1.0)
            optimiser.step()
            step += 1
            bar.update(1)
            for name, loss in parts.items():
                value = float(loss.detach())
                losses[name] = value if math.isnan(losses[name]) else 0.98 * losses[name] + 0.02 * value
            if step % 50 == 0:
                bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
            now = time.monotonic()
            if now - saved > 60 * config.save_minutes:
                save_state(out / "state", {"probes": probes}, optimiser, _meta(config, step))
                saved = now
            if config.minutes and now - began > 60 * config.minutes:
                break
    save_state(out / "state", {"probes": probes}, optimiser, _meta(config, step))
    aside = out / "weights.partial"
    shutil.rmtree(aside, ignore_errors=True)
    probes.save(aside, {"steps": step, "loss": losses})
    replace_folder(aside, out / "weights")
    print(f"probes after {step} steps in {out / 'weights'}")
    return out / "weights"


def probe_losses(probes: Probes, store: FrameStore, first: np.ndarray, rng: np.random.Generator, noise: float) -> dict[str, Tensor]:
    """Losses of both readers on the windows that begin at frames `first` [B]; half of the batches are mirrored."""
    moment = first + BEFORE
    frames = torch.stack([store.frames(moment + offset) for offset in OFFSETS], 1)
    ego, command, has_scene = store.motions(first, BEFORE)
    layout = torch.stack([torch.from_numpy(store.layout(int(index)).copy()) for index in moment[::SCENES]])
    steering = torch.where(has_scene, ego[:, 5], command)
    target = torch.stack((steering, ego[:, 3], ego[:, 6]), -1)
    if rng.random() < 0.5:
        frames, layout = frames.flip(-2), layout.flip(-1)
        target = target * torch.tensor([-1.0, 1.0, -1.0])
    pictures = _blurred(pictures_of(frames), int(rng.choice(BLUR)))
    pictures = pictures + noise * torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
    seen = torch.stack((~has_scene | (ego[:, 3] > SPEED_FLOOR), has_scene, has_scene), -1)
    error = (probes.motion(pictures) - target) / probes.motion.scale
    motion = (torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=BETA) * seen).sum()
    has_scene = has_scene[::SCENES]
    scene = motion.new_zeros(())
    if bool(has_scene.any()):
        wanted = scene_targets(layout)
        logits = probes.scene(pictures[::SCENES, OFFSETS.index(0)].contiguous(memory_format=torch.channels_last))
        weight = torch.cat((torch.ones_like(wanted[:, :1]), 1 + (LIGHT_WEIGHT - 1) * wanted[:, 1:]), 1)
        scene = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="none").mean((1, 2, 3))
        scene = (scene * has_scene).sum() / has_scene.sum()
    return {"motion": motion / seen.sum().clamp_min(1), "scene": 10 * scene}


def _blurred(pictures: Tensor, factor: int) -> Tensor:
    """Pictures [B, n, 3, H, W] as a camera of so many times fewer pixels saw them."""
    if factor == 1:
        return pictures
    coarse = torch.nn.functional.avg_pool2d(pictures.flatten(0, 1), factor)
    return torch.nn.functional.interpolate(coarse, scale_factor=factor, mode="bilinear").unflatten(0, pictures.shape[:2])


def _meta(config: TrainProbesConfig, step: int) -> dict:
    return {"format": STATE[0], "version": STATE[1], "step": step, "config": asdict(config)}


def _restore(config: TrainProbesConfig, probes: Probes, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    meta = read_meta(folder, *STATE)
    if meta is None:
        return 0
    for key in ("init", "seed", "batch_size", "steps"):
        was, now = meta["config"].get(key, "none"), getattr(config, key)
        if was != now:
            raise CheckpointError(f"'{folder}' was trained with {key}={was}, not {now}; choose another out= or set resume=false")
    load_state(folder, {"probes": probes}, optimiser)
    return int(meta["step"])
