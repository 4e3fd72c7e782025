"""Distillation: a car network learns from a teacher what to do in the states that the student itself drives into."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..data.shards import list_clips, load_clip
from ..data.split import check_trainable
from ..envs.build import build_loop
from ..envs.core import DrivingLoop
from ..errors import CheckpointError, ConfigError, nearest
from ..policies import load_policy
from ..policies.car import SIZES, CarNet, CarPolicy
from ..policies.vla.model import is_vla
from ..scene import DT
from ..training_state import load_state, read_meta, save_state
from ..world import Policy, World
from ..world_model.video.hints import HINTS, hint_loss, mirror_hints
from ..world_model.video.precision import resolve_precision
from .augment import augment
from .distil_buffer import Reservoir
from .distil_visit import Mixture, Visits, first_frames, label_clip, visit
from .imitation import Examples, gather, mirror_examples, pedal_error, steering_error

STATE_KIND, STATE_VERSION = "distillation", 2
JUDGE = "default"  # the reward design whose terminations end an episode
VLA = "vla-"  # before the size of a student that is a VLA
WARM_UP, LAST_RATE = 100, 0.05  # steps to the highest learning rate; the share of it that is left at the end
FREE = ("out", "minutes", "threads", "resume", "rounds", "half")  # keys that a run may go on with other values of


@dataclass
class DistilConfig:
    """Everything a run of distillation depends on."""

    teacher: str = "tutor"
    student: str = "small"  # a size, vla- and a VLA's size, or a folder to go on from
    out: str = "runs/distil"
    world: str = "learned"
    data: str | list[str] = "runs/logs"  # folder of shards, or several; "none" for none
    split: str = "train"  # road networks to drive on
    seed: int = 0
    rounds: int = 12
    num_envs: int = 16
    steps: int = 200  # of every episode in a round
    teacher_share: float = 0.8  # of the driving in the first round
    share_decay: float = 0.5  # times so much in every further round
    stretch_s: float = 1.0  # before the wheel is given away again
    log_frames: int = 12_000  # recorded frames that the teacher labels before the first round
    capacity: int = 60_000  # examples kept, 25 kB each, 50 kB for a student that sees two pictures
    log_steps: int = 1500  # optimiser steps on the recorded frames
    fit_steps: int = 600  # optimiser steps after every round
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    steering_weight: float = 4.0
    caution: float = 1.5  # too much pedal costs so many times as much as too little
    mirror: float = 0.3
    augment: float = 1.0  # strength of the changes to the pictures (car network)
    dropout: float = 0.2  # of the features before the action, in training only (car network)
    hint_weight: float = 1.0  # of the error in what the features must tell of the scene (car network)
    half: bool = False  # store the weights in float16 (car network)
    precision: str = "auto"  # of the learned world's painter: float32, bfloat16 or auto
    minutes: float = 0.0  # no round is begun that would end later; 0: no limit
    threads: int = 2
    resume: bool = True


def distil(config: DistilConfig, world: World | None = None) -> Path:
    """Train a student on a teacher's answers in the states that it visits; returns the folder of its weights.

    Rounds of DAgger (Ross, Gordon and Bagnell 2011): drive, label, add to all that was seen before, fit. The student is a car
    network, or a VLA (`distil_vla`).

    Args:
        config: the run.
        world: one of its own, in place of `config.world`.

    Raises:
        ConfigError: an unknown teacher, student or world, or numbers out of range.
        DataError: recorded frames were asked for and there are none.
        CheckpointError: weights or a state to resume from that cannot be used.
    """
    _check(config)
    torch.set_num_threads(config.threads)
    if config.student.startswith(VLA) or is_vla(config.student):
        from .distil_vla import distil_vla

        return distil_vla(config, world)
    return Distillation(config, load_policy(config.teacher), make_student(config.student, config.seed), world).run()


def make_student(student: str, seed: int = 0) -> CarNet:
    """A new car network of a size by name, or the trained one of a folder.

    Raises:
        ConfigError: neither a size nor a folder.
        CheckpointError: a folder whose weights cannot be used.
    """
    if student in SIZES:
        torch.manual_seed(seed)
        return CarNet(SIZES[student])
    if not Path(student).is_dir():
        raise ConfigError(f"unknown student '{student}', and no such folder; {nearest(student, SIZES)}, or a folder with a car network")
    return CarNet.load(student)


def student_loop(config: DistilConfig, world: World | None = None) -> DrivingLoop:
    """The loop that a student drives in, of `world` or of the one that the settings name."""
    if world is not None:
        return build_loop(world, JUDGE, None, None, False, None)
    options = {} if config.world == "reference" else {"precision": resolve_precision(config.precision, "cpu")}
    return build_loop(config.world, JUDGE, None, None, False, options)


def mixture(config: DistilConfig, done: int) -> Mixture:
    """Who drives after `done` rounds."""
    return Mixture(config.teacher_share * config.share_decay**done, max(1, round(config.stretch_s / DT)))


class Distillation:
    """One run; goes on after the last whole round in its folder. All draws come from the seed and the round or step."""

    def __init__(self, config: DistilConfig, teacher: Policy, student: CarNet, world: World | None = None) -> None:
        self.config, self.teacher, self.net = config, teacher, student
        self.out = Path(config.out)
        self.loop = student_loop(config, world)
        self.hints = config.hint_weight > 0
        torch.manual_seed(config.seed)
        self.hint_head = nn.Linear(student.config.features, HINTS)  # not part of the weights that are kept
        parameters = [*student.parameters(), *(self.hint_head.parameters() if self.hints else ())]
        self.optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.buffer = Reservoir(config.capacity, self.out / "buffer", config.seed, student.config.lag, self.hints)
        self.round = self.step = 0  # done; the recorded frames are round 0

    def run(self) -> Path:
        """Train to the end of the rounds or of the time allowed; returns the folder of the weights."""
        from torch.utils.tensorboard import SummaryWriter

        config = self.config
        began = time.monotonic()
        if not (config.resume and self._restore()):
            self.buffer.clear()
            self._learn_from_logs()
            self._save()
        longest = 0.0
        with SummaryWriter(str(self.out / "tensorboard")) as scalars, self._bar() as bar:
            while self.round < config.rounds:
                start = time.monotonic()
                if config.minutes and start - began + longest > 60 * config.minutes:
                    break
                visits = self._visit(bar)
                self.buffer.add(visits.examples)
                loss = self._fit(config.fit_steps, bar)
                self.round += 1
                self._save()
                self._report(scalars, visits, loss)
                bar.set_postfix(
                    round=self.round,
                    loss=f"{loss:.4f}",
                    steering_gap=f"{visits.disagreement[0]:.3f}",
                    pedal_gap=f"{visits.disagreement[1]:.3f}",
                    failures=visits.failures,
                )
                longest = max(longest, time.monotonic() - start)
        return self.out / "weights"

    def _visit(self, bar: Any) -> Visits:
        config = self.config
        return visit(
            self.loop,
            self.teacher,
            CarPolicy(self.net),
            mixture(config, self.round),
            episodes=config.num_envs,
            steps=config.steps,
            seed=(config.seed, self.round),
            scenario={"split": config.split},
            progress=bar.update,
            lag=self.net.config.lag,
            hints=self.hints,
        )

    def _learn_from_logs(self) -> None:
        config = self.config
        folders = [config.data] if isinstance(config.data, str) else list(config.data)
        if folders == ["none"] or not config.log_frames:
            return
        addresses = [address for folder in folders for address in list_clips(folder, "train")]
        order = np.random.default_rng([config.seed, 37]).permutation(len(addresses))

        def labelled() -> Iterator[Examples]:
            for index in order:
                clip = load_clip(addresses[index])
                check_trainable(clip)
                if clip.track is not None:
                    yield label_clip(clip, self.teacher, seed=int(index), lag=self.net.config.lag, hints=self.hints)

        with tqdm(total=config.log_frames, desc="labelling", unit="frame", disable=None) as bar:
            parts = []
            for part in first_frames(labelled(), config.log_frames):
                parts.append(part)
                bar.update(len(part))
        self.buffer.add(gather(parts))
        with tqdm(total=config.log_steps, desc="learning from logs", unit="step", disable=None) as bar:
            self._fit(config.log_steps, bar)

    def _fit(self, steps: int, bar: Any) -> float:
        """Optimiser steps on all that was seen; returns the mean loss."""
        total = 0.0
        self.net.train()
        for _ in range(steps):
            total += self.train_step()
            bar.update()
        self.net.eval()
        return total / max(1, steps)

    def train_step(self) -> float:
        """One optimiser step; returns the loss."""
        config, buffer = self.config, self.buffer
        rng = np.random.default_rng([config.seed, self.step, 43])
        rows = torch.from_numpy(rng.integers(len(buffer), size=config.batch_size))
        camera = buffer.camera[rows].permute(0, 3, 1, 2).float() / 255
        batch = (camera, buffer.ego[rows], buffer.route[rows], buffer.action[rows])
        hints = buffer.hints[rows]
        if rng.random() < config.mirror:
            batch, hints = mirror_examples(*batch), mirror_hints(hints)
        camera, ego, route, wanted = batch
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * self._rate()
        seen, *earlier = augment(camera, config.augment, rng).split(3, 1)
        features = self.net.features(seen, ego, route, *earlier)
        kept = torch.from_numpy(rng.random(features.shape)) >= config.dropout
        actions = self.net.action(features * kept / (1 - config.dropout))
        loss = config.steering_weight * steering_error(actions[:, 0], wanted[:, 0]).mean()
        loss = loss + pedal_error(actions[:, 1], wanted[:, 1], config.caution).mean()
        if self.hints:
            loss = loss + config.hint_weight * hint_loss(self.hint_head(features), hints, torch.ones(len(hints), dtype=torch.bool))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def _rate(self) -> float:
        """The learning rate's share of its highest value: a cosine over the schedule of all rounds."""
        config = self.config
        share = min(1.0, self.step / max(1, config.log_steps + config.rounds * config.fit_steps))
        return min(1.0, (self.step + 1) / WARM_UP) * max(LAST_RATE, 0.5 + 0.5 * math.cos(math.pi * share))

    def _bar(self) -> Any:
        each = self.config.num_envs * self.config.steps + self.config.fit_steps
        return tqdm(total=each * self.config.rounds, initial=each * self.round, desc="distilling", unit="step", disable=None)

    def _report(self, scalars: Any, visits: Visits, loss: float) -> None:
        scalars.add_scalar("distil/loss", loss, self.round)
        scalars.add_scalar("distil/steering_gap", float(visits.disagreement[0]), self.round)
        scalars.add_scalar("distil/pedal_gap", float(visits.disagreement[1]), self.round)
        scalars.add_scalar("distil/failures_per_1000_steps", 1000 * visits.failures / len(visits.examples), self.round)
        scalars.add_scalar("distil/examples", len(self.buffer), self.round)

    def _save(self) -> None:
        config = self.config
        facts: dict[str, Any] = {"trained_by": "distillation", "teacher": self.teacher.name, "world": Path(config.world).name}
        facts |= {"rounds": self.round, "examples": self.buffer.seen, "steps": self.step, "seed": config.seed}
        self.net.save(self.out / "weights", facts, self.config.half)
        meta = {"format": STATE_KIND, "version": STATE_VERSION, "config": asdict(config)}
        meta |= {"round": self.round, "step": self.step, "parts": self.buffer.parts}
        save_state(self.out / "state", self._parts(), self.optimiser, meta)

    def _parts(self) -> dict[str, nn.Module]:
        return {"net": self.net, "hint_head": self.hint_head}

    def _restore(self) -> bool:
        """Take over the run's state; False where there is none."""
        folder = self.out / "state"
        meta = read_meta(folder, STATE_KIND, STATE_VERSION)
        if meta is None:
            return False
        for key, value in asdict(self.config).items():
            if key not in FREE and meta["config"].get(key) != value:
                raise CheckpointError(f"'{folder}' is a run with {key}={meta['config'].get(key)}; choose another out= or set resume=false")
        load_state(folder, self._parts(), self.optimiser)
        self.buffer.restore(meta["parts"])
        self.round, self.step = meta["round"], meta["step"]
        return True


def _check(config: DistilConfig) -> None:
    for name in ("num_envs", "steps", "capacity", "batch_size"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name}={getattr(config, name)} must be at least 1")
    for name in ("rounds", "log_frames", "log_steps", "fit_steps"):
        if getattr(config, name) < 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be at least 0")
    for name in ("teacher_share", "share_decay", "mirror", "augment"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name}={getattr(config, name)} must be between 0 and 1")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout={config.dropout} must be at least 0 and below 1")
    if config.hint_weight < 0:
        raise ConfigError(f"hint_weight={config.hint_weight} must be at least 0")
    for name in ("learning_rate", "steering_weight", "caution"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be above 0")
