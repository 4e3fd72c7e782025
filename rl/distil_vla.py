"""Distillation of a VLA into a smaller one by TRL's DistillationTrainer, in the states that the smaller one drives into."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..batched import Batched
from ..data.shards import list_clips, load_clip
from ..data.split import check_trainable
from ..errors import CheckpointError, ConfigError, nearest
from ..policies.vla.model import SIZES, VlaModel, is_vla
from ..policies.vla.policy import VlaMemory, VlaPolicy
from ..policies.vla.tokens import PROMPT_LENGTH
from ..scene import Scene
from ..training_state import read_meta, replace_folder
from ..world import Observation, World
from .distil import FREE, VLA, mixture, student_loop
from .distil_visit import visit
from .vla_moments import moments_of

if TYPE_CHECKING:
    from .distil import DistilConfig

STATE_KIND, STATE_VERSION = "vla distillation", 1
DECISION = PROMPT_LENGTH + 5  # tokens of a moment that was decided fast
BEFORE = DECISION  # tokens of the moment before, which a model still sees a part of
WRITTEN = 3  # tokens that the student writes and the teacher judges: steering, acceleration, </act>


@dataclass(frozen=True)
class NotedMemory(Batched):
    """What a `Noting` remembers of its episodes."""

    inner: VlaMemory  # [B]
    before: Tensor  # [B, BEFORE] int64, the tokens of the last moment on the right, -1 for none


class Noting:
    """A VLA that drives and keeps what it had read at every decision: `read`, a list of [B, BEFORE + PROMPT_LENGTH + 2] int64."""

    privileged = False

    def __init__(self, policy: VlaPolicy) -> None:
        self.policy, self.name = policy, policy.name
        self.read: list[Tensor] = []

    def initial_memory(self, seeds: Sequence[int]) -> NotedMemory:
        """Nothing read but <bos>."""
        return NotedMemory(self.policy.initial_memory(seeds), nothing_before(self.policy.model, len(seeds)))

    @torch.no_grad()
    def act(self, observation: Observation, memory: NotedMemory, scene: Scene | None = None) -> tuple[Tensor, NotedMemory]:
        """The VLA's own actions [B, 2]."""
        model = self.policy.model
        prompt = model.vocabulary.prompt(observation, model.frames.encode(observation.camera))
        action, inner = self.policy.act(observation, memory.inner)
        assert self.policy.last is not None
        self.read.append(asked(model, memory.before, prompt))
        return action, NotedMemory(inner, torch.cat((prompt, self.policy.last.ids), 1))


def nothing_before(model: VlaModel, batch: int) -> Tensor:
    """What is read before the first moment [batch, BEFORE]: <bos> alone."""
    before = torch.full((batch, BEFORE), -1, dtype=torch.int64)
    before[:, -1] = model.vocabulary.ids["<bos>"]
    return before


def asked(model: VlaModel, before: Tensor, prompt: Tensor) -> Tensor:
    """All tokens [B, BEFORE + PROMPT_LENGTH + 2] read up to the place where the action is written; -1 for none."""
    tag = lambda name: torch.full((len(prompt), 1), model.vocabulary.ids[name])
    return torch.cat((before, prompt, tag("<fast>"), tag("<act>")), 1)


def make_vla_student(student: str, teacher: VlaModel, seed: int) -> VlaModel:
    """A new VLA of a size that reads the teacher's frame tokens, or the trained one of a folder.

    Raises:
        ConfigError: an unknown size, or a folder whose frame tokens are not the teacher's.
    """
    if not is_vla(student):
        size = student.removeprefix(VLA)
        if size not in SIZES:
            raise ConfigError(f"unknown student '{student}'; {nearest(student, [VLA + name for name in SIZES])}")
        return VlaModel.create(size, teacher.frames, seed)
    model = VlaModel.load(student)
    own, others = model.frames.state_dict(), teacher.frames.state_dict()
    if own.keys() != others.keys() or any(not torch.equal(own[name], others[name]) for name in own):
        raise ConfigError(f"the VLA in '{student}' reads other frame tokens than its teacher; choose one with the teacher's tokenizer")
    return model


def distil_vla(config: DistilConfig, world: World | None = None) -> Path:
    """Train a VLA on a larger one's next-token distribution; returns the folder of its weights.

    The rounds are those of the car network. In place of actions the student learns the teacher's whole distribution over
    the tokens that it writes itself (Agarwal et al. 2024, forward KL), with the same tokens read before. Fast mode only.

    Raises:
        ConfigError: a teacher that is no VLA, an unknown student or world.
        CheckpointError: weights or a state to resume from that cannot be used.
    """
    if not is_vla(config.teacher):
        raise ConfigError(f"a VLA learns from a VLA, and '{config.teacher}' holds none; give the folder of one, or student=small")
    teacher = VlaModel.load(config.teacher)
    return VlaDistillation(config, teacher, make_vla_student(config.student, teacher, config.seed), world).run()


class VlaDistillation:
    """One run; goes on after the last whole round in its folder."""

    def __init__(self, config: DistilConfig, teacher: VlaModel, student: VlaModel, world: World | None = None) -> None:
        self.config, self.teacher, self.student = config, teacher, student
        self.out = Path(config.out)
        self.loop = student_loop(config, world)
        self.read = torch.zeros(0, BEFORE + PROMPT_LENGTH + 2, dtype=torch.int32)
        self.round = 0  # done; the recorded frames are learnt before the first

    def run(self) -> Path:
        """Train to the end of the rounds or of the time allowed; returns the folder of the weights."""
        from torch.utils.tensorboard import SummaryWriter

        config, began = self.config, time.monotonic()
        if not (config.resume and self._restore()):
            self._read_logs()
            if len(self.read) and config.log_steps:
                self.fit(config.log_steps)
            self._save()
        longest = 0.0
        with (
            SummaryWriter(str(self.out / "tensorboard")) as scalars,
            tqdm(total=config.rounds, initial=self.round, desc="distilling", unit="round", disable=None) as bar,
        ):
            while self.round < config.rounds:
                start = time.monotonic()
                if config.minutes and start - began + longest > 60 * config.minutes:
                    break
                gap = self._visit()
                loss = self.fit(config.fit_steps) if config.fit_steps else 0.0
                self.round += 1
                self._save()
                bar.update()
                bar.set_postfix(loss=f"{loss:.4f}", steering_gap=f"{gap[0]:.3f}", pedal_gap=f"{gap[1]:.3f}")
                for name, value in (("loss", loss), ("steering_gap", gap[0]), ("pedal_gap", gap[1])):
                    scalars.add_scalar(f"distil/{name}", float(value), self.round)
                longest = max(longest, time.monotonic() - start)
        return self.out / "weights"

    def _visit(self) -> Tensor:
        """Drive a round; returns the mean absolute difference [2] of the student's actions from the teacher's."""
        config = self.config
        student = Noting(VlaPolicy(self.student))
        visits = visit(
            self.loop,
            VlaPolicy(self.teacher),
            student,
            mixture(config, self.round),
            episodes=config.num_envs,
            steps=config.steps,
            seed=(config.seed, self.round),
            scenario={"split": config.split},
        )
        self._keep(torch.cat(student.read))
        return visits.disagreement

    def _read_logs(self) -> None:
        config = self.config
        folders = [config.data] if isinstance(config.data, str) else list(config.data)
        if folders == ["none"] or not config.log_frames:
            return
        addresses = [address for folder in folders for address in list_clips(folder, "train")]
        order = np.random.default_rng([config.seed, 37]).permutation(len(addresses))

        def parts() -> Iterator[Tensor]:
            left = config.log_frames
            for index in order:
                clip = load_clip(addresses[index])
                check_trainable(clip)
                if left <= 0:
                    return
                if clip.track is None or clip.track.steps < 2:
                    continue
                moments = {name: value.long() for name, value in moments_of(clip, self.student).items()}
                written = self.student.vocabulary.completion(self.student.vocabulary.action(moments["taken"]))
                past = torch.cat((moments["prompt"], written), 1)[:-1]
                before = torch.cat((nothing_before(self.student, 1), past))
                part = asked(self.student, before, moments["prompt"])[:left]
                left -= len(part)
                yield part

        self._keep(torch.cat([self.read.long(), *parts()]))

    def _keep(self, read: Tensor) -> None:
        """Add what was read; beyond the capacity some are drawn at random to stay."""
        self.read = torch.cat((self.read, read.to(torch.int32)))
        if len(self.read) > self.config.capacity:
            rng = np.random.default_rng([self.config.seed, self.round, 47])
            kept = np.sort(rng.choice(len(self.read), self.config.capacity, replace=False))
            self.read = self.read[torch.from_numpy(kept)]

    def fit(self, steps: int) -> float:
        """So many steps of TRL's trainer on all that was read, with an optimiser of their own; returns the mean loss."""
        from datasets import Dataset
        from trl import DistillationConfig, DistillationTrainer

        config, student = self.config, self.student
        rng = np.random.default_rng([config.seed, self.round, 53])
        rows = rng.integers(len(self.read), size=steps * config.batch_size)
        names = np.array(student.vocabulary.names, dtype=object)
        prompts = [" ".join(names[row[row >= 0]]) for row in self.read[torch.from_numpy(rows)].numpy()]
        student.tokenizer.padding_side = "left"
        arguments = DistillationConfig(
            output_dir=str(self.out / "trainer"),
            max_steps=steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=min(20, steps // 5),
            max_grad_norm=1.0,
            max_completion_length=WRITTEN,
            temperature=1.0,
            beta=0.0,
            shuffle_dataset=False,
            seed=config.seed + 1000 * self.round,
            logging_steps=max(1, steps),
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_num_workers=0,
            disable_tqdm=True,
        )
        student.decoder.train()
        trainer = DistillationTrainer(
            model=student.decoder,
            teacher_model=self.teacher.decoder,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=student.tokenizer,
        )
        done = trainer.train()
        student.decoder.eval()
        self.teacher.decoder.eval()
        return float(done.training_loss)

    def _save(self) -> None:
        config = self.config
        self.student.facts = {
            "trained_by": "distillation",
            "teacher": self.teacher.size,
            "world": Path(config.world).name,
            "rounds": self.round,
            "seed": config.seed,
        }
        state = self.out / "state"
        aside = state.with_name("state.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        self.student.save(aside / "model")
        save_file({"read": self.read.contiguous()}, aside / "read.safetensors")
        meta = {"format": STATE_KIND, "version": STATE_VERSION, "round": self.round, "config": asdict(config)}
        (aside / "state.json").write_text(json.dumps(meta, indent=1) + "\n")
        replace_folder(aside, state)
        self.student.save(self.out / "weights")

    def _restore(self) -> bool:
        """Take over the run's state; False where there is none."""
        folder = self.out / "state"
        meta = read_meta(folder, STATE_KIND, STATE_VERSION)
        if meta is None:
            return False
        for key, value in asdict(self.config).items():
            if key not in FREE and meta["config"].get(key) != value:
                raise CheckpointError(f"'{folder}' is a run with {key}={meta['config'].get(key)}; choose another out= or set resume=false")
        self.student = VlaModel.load(folder / "model")
        try:
            self.read = load_file(folder / "read.safetensors")["read"]
        except (OSError, KeyError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"the training state '{folder}' cannot be used ({reason}); delete it or set resume=false") from None
        self.round = meta["round"]
        return True
