"""GRPO of a VLA in a world: groups of whole episodes from one start state each, with TRL's GRPOTrainer."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..envs.build import build_loop
from ..envs.core import DrivingLoop
from ..errors import CheckpointError, ConfigError, nearest
from ..policies.vla import windowed
from ..policies.vla.model import MODES, VlaModel
from ..scenario import draw_scenario
from ..training_state import read_meta
from ..world_model.video.precision import resolve_precision
from .grpo_credit import CREDITS, LEAST_SPREAD, group_credits, token_advantages
from .grpo_driving import Driving
from .grpo_rollout import DrivenEpisode, draw_parts, drive_groups, sample_of
from .grpo_starts import FIRST_MARK, LEAD

STATE_KIND, STATE_VERSION = "grpo", 1
SCALES = ("batch", "group", "none")
ANY = "any"
FREE = ("out", "rounds", "minutes", "threads", "resume", "save_minutes")  # keys that a run may go on with other values of
AT_LEAST_ONE = (
    "rounds",
    "starts",
    "group",
    "episode_steps",
    "hold",
    "parts",
    "part",
    "iterations",
    "updates",
    "batch_size",
    "imitate_batch",
)


@dataclass
class GrpoConfig:
    """Everything a run of GRPO depends on."""

    init: str = "runs/vla/weights"  # folder of the imitated VLA
    out: str = "runs/grpo"
    world: str = "learned"
    reward: str = "default"
    split: str = "train"  # road networks to drive on
    family: str = ANY  # of road networks
    density: str = "dense"  # of traffic; groups whose episodes all end alike teach nothing
    seed: int = 0
    rounds: int = 60  # of driving and learning in the whole run
    starts: int = 4  # start states a round
    group: int = 8  # episodes from each
    episode_steps: int = 100  # longest episode
    warmup: int = 0  # most frames that the policy drives a start on before its groups begin
    critical: float = 0.0  # share of the starts that go back to before the hardest braking of the drive that led there
    mode: str = "fast"
    temperature: float = 1.0
    hold: int = 2  # frames that a drawn action is kept for
    explore: int = 0  # decisions that are drawn before the policy drives on as it does when it is scored; 0: all are drawn
    parts: int = 2  # of every episode are learned
    part: int = 6  # decisions in each
    iterations: int = 2  # passes over a round
    updates: int = 2  # optimiser steps a pass
    batch_size: int = 8  # parts that go through the model at once
    learning_rate: float = 3e-5
    clip: float = 0.2  # of a token's probability ratio
    kl: float = 0.0  # weight of the divergence from the start
    credit: str = "later"  # what a decision is learned by: later rewards against the group's at that time, or the whole episode's
    discount: float = 0.97  # of later rewards, a frame
    foresight: int = 25  # frames that must have followed a learned decision, unless its episode was over before
    scale: str = "batch"  # what advantages are divided by the standard deviation of
    least_spread: float = LEAST_SPREAD  # added to it, in the reward's unit
    gradient_clip: float = 0.5
    imitate: float = 0.0  # weight of imitation of recorded drives beside GRPO's own loss
    imitate_data: str | list[str] | None = None  # folder of shards to imitate, or several
    imitate_batch: int = 16  # recorded moments that are imitated beside each batch of parts
    format_weight: float = 1.0  # reward of an episode whose actions can all be read
    half: bool = True  # store the weights in float16
    precision: str = "auto"  # of the learned world's painter: float32, bfloat16 or auto
    save_minutes: float = 5.0
    minutes: float = 0.0  # begin no round that would end later; 0: no limit
    threads: int = 2
    resume: bool = True


def train_grpo(config: GrpoConfig, loop: DrivingLoop | None = None) -> Path:
    """Train a VLA by group-relative policy optimisation (Shao et al. 2024); returns its folder.

    Args:
        config: the run.
        loop: one of its own, in place of `config.world` and `config.reward`.

    Raises:
        ConfigError: numbers that do not fit together, or an unknown world, reward, split, family or density.
        CheckpointError: a start or a checkpoint that cannot be used.
    """
    _check(config)
    torch.set_num_threads(config.threads)
    return Grpo(config, VlaModel.load(config.init), loop).run()


class Grpo:
    """One run; goes on after the last whole round in its folder. All draws come from the seed, the round and the start."""

    def __init__(self, config: GrpoConfig, model: VlaModel, loop: DrivingLoop | None = None) -> None:
        self.config, self.model, self.out = config, model, Path(config.out)
        wanted = {"split": config.split, "family": config.family, "density": config.density}
        scenario = {key: value for key, value in wanted.items() if value != ANY}
        draw_scenario(0, scenario)
        how: dict[str, Any] = {name: getattr(config, name) for name in ("hold", "mode", "temperature", "explore", "warmup", "critical")}
        self.driving = Driving(config.episode_steps, scenario=scenario, **how)
        options = {} if config.world == "reference" else {"precision": resolve_precision(config.precision, "cpu")}
        self.loop = loop or build_loop(config.world, config.reward, None, None, False, options)
        self.cycle = config.iterations * config.updates  # optimiser steps of a round
        self.rows = config.starts * config.group * config.parts  # samples of a round
        self.driven: list[DrivenEpisode] = []  # of the last round
        self.advantages: Tensor | None = None  # of its samples' tokens [rows, L]; None leaves them to TRL

    def run(self) -> Path:
        """Train to the end of the rounds or of the time allowed; returns the folder of the weights."""
        last = self._last_checkpoint()
        done = 0 if last is None else _rounds_done(last, self.cycle)
        if done < self.config.rounds:
            self._fit(last)
        elif not (self.out / "weights").is_dir() and last is not None:
            self._take_weights(last)
            self.save(done)
        return self.out / "weights"

    def _fit(self, last: Path | None) -> None:
        from datasets import Dataset
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback
        from transformers.trainer_callback import PrinterCallback

        from .grpo_clock import Clock
        from .grpo_trainer import trainer_class

        config = self.config
        rewards: list[Any] = [driving_reward, format_reward]
        seeds = np.random.default_rng([config.seed, 61]).integers(2**31 - 1, size=config.rounds * config.starts)
        with SummaryWriter(str(self.out / "tensorboard")) as scalars, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            self.model.decoder.train()
            self.model.decoder.set_attn_implementation(windowed.register())
            trainer = trainer_class(self.model.vocabulary, self.driving.mode, lambda: self.advantages, self._imitation())(
                model=self.model.decoder,
                reward_funcs=rewards,
                args=self._arguments(),
                train_dataset=Dataset.from_dict({"prompt": [str(seed) for seed in seeds]}),
                processing_class=self.model.tokenizer,
                rollout_func=self.rollout,
                callbacks=[
                    TensorBoardCallback(tb_writer=scalars),
                    Clock(self.cycle, config.rounds, config.minutes, config.save_minutes, self.save),
                ],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        self.model.decoder.eval().set_attn_implementation("sdpa")

    def _imitation(self) -> Callable[[Any, int], Tensor] | None:
        """The loss of imitation by the number of the batch, or None without it."""
        config = self.config
        if not config.imitate:
            return None
        from .grpo_imitation import Imitation

        assert config.imitate_data is not None
        imitation = Imitation(self.model, config.imitate_data, self.out / "tokens", config.imitate_batch, config.seed)
        return lambda model, number: config.imitate * imitation.loss(model, number)

    def _arguments(self) -> Any:
        from trl import GRPOConfig

        config = self.config
        steps = config.rounds * self.cycle
        return GRPOConfig(
            output_dir=str(self.out / "checkpoints"),
            max_steps=steps,
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=self.rows // (config.batch_size * config.updates),
            generation_batch_size=self.rows,
            num_generations=config.group * config.parts,
            num_iterations=config.iterations,
            shuffle_dataset=False,
            temperature=config.temperature,
            beta=config.kl,
            epsilon=config.clip,
            scale_rewards=config.scale,
            reward_weights=[1.0, config.format_weight],
            loss_type="dapo",
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=self.cycle,
            weight_decay=0.0,
            max_grad_norm=config.gradient_clip,
            seed=config.seed,
            logging_steps=self.cycle,
            save_strategy="no",
            save_total_limit=2,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_num_workers=0,
            disable_tqdm=True,
        )

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        """TRL's `rollout_func`: drive the starts that the prompts name, and return `parts` samples of every episode.

        TRL sees each start `group * parts` times: the episodes of its group, each as often as it has parts, all with the whole
        episode's reward. Their mean is thus the mean over the group's episodes. With `credit=later` that is only logged, and every decision
        has an advantage of its own.
        """
        config = self.config
        number = trainer.state.global_step // self.cycle
        seeds = [int(prompt) for prompt in prompts[:: config.group * config.parts]]
        with tqdm(
            total=len(seeds) * (config.group * config.episode_steps + config.warmup),
            desc="driving",
            unit="frame",
            leave=False,
            disable=None,
        ) as bar:
            self.driven = drive_groups(
                self.loop, self.model, self.driving, seeds, config.group, (config.seed, 67, number), progress=bar.update
            )
        rng = np.random.default_rng([config.seed, 71, number])
        samples, told = [], []
        for number_of, episode in enumerate(self.driven):
            for begin, end in draw_parts(rng, self._judged(episode), config.parts, config.part, whole=config.explore > 0):
                samples.append(sample_of(self.model, episode, begin, end, config.hold))
                told.append(number_of)
        if config.credit == "later":
            credits = self._credits()
            drew = [sample.decisions for sample in samples]
            self.advantages = token_advantages([credits[row] for row in told], drew, len(seeds), config.scale, config.least_spread)
        torch.manual_seed((config.seed * 1_000_003 + number) % 2**62)  # the order in which the trainer learns the samples
        return {
            "prompt_ids": [sample.prompt for sample in samples],
            "completion_ids": [sample.completion for sample in samples],
            "logprobs": [sample.logprobs for sample in samples],
            "env_mask": [sample.mask for sample in samples],
            "earned": [self.driven[row].total(config.episode_steps) for row in told],
            "formatted": [self.driven[row].formatted for row in told],
            "failed": [self.driven[row].failed for row in told],
            "frames": [len(self.driven[row].rewards) for row in told],
        }

    def _judged(self, episode: DrivenEpisode) -> int:
        """How many of an episode's decisions can be judged: the last ones' consequences lie beyond where the drive was cut."""
        blind = self.config.foresight if self.config.credit == "later" and episode.ended == "time_limit" else 0
        return max(1, min(episode.decisions, (len(episode.rewards) - blind) // self.config.hold))

    def _credits(self) -> list[np.ndarray]:
        """What each decision of each driven episode is learned by."""
        config, found = self.config, []
        for begin in range(0, len(self.driven), config.group):
            group = self.driven[begin : begin + config.group]
            found += group_credits(group, config.episode_steps, config.hold, config.discount, config.format_weight)
        return found

    def save(self, rounds: int) -> Path:
        """Write the weights with what made them."""
        config = self.config
        facts = {"trained_by": "grpo", "world": Path(config.world).name, "reward": config.reward, "rounds": rounds, "seed": config.seed}
        self.model.facts = {**self.model.facts, **facts}
        return self.model.save(self.out / "weights", torch.float16 if config.half else torch.float32)

    def _take_weights(self, checkpoint: Path) -> None:
        from safetensors.torch import load_file

        self.model.decoder.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)

    def _last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint of this run, and the page of its settings written; None to begin.

        Raises:
            CheckpointError: the folder was begun with other settings.
        """
        state, checkpoints = self.out / "state", self.out / "checkpoints"
        meta = read_meta(state, STATE_KIND, STATE_VERSION) if self.config.resume else None
        if meta is not None:
            for key, value in _settings(self.config).items():
                if meta["config"].get(key) != value:
                    raise CheckpointError(
                        f"'{self.out}' was begun with {key}={meta['config'].get(key)}, not {value}; choose another out= or set resume=false"
                    )
            found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
            return next((path for path in reversed(found) if _is_whole(path)), None)
        for folder in (checkpoints, self.out / "weights", self.out / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)
        state.mkdir(parents=True, exist_ok=True)
        aside = state / "state.json.partial"
        aside.write_text(json.dumps({"format": STATE_KIND, "version": STATE_VERSION, "config": _settings(self.config)}, indent=1) + "\n")
        os.replace(aside, state / "state.json")
        return None


def driving_reward(earned: Sequence[float], failed: Sequence[bool], frames: Sequence[int], log_metric: Any, **others: Any) -> list[float]:
    """What each sample's whole episode earned by the reward design."""
    log_metric("failures", sum(failed) / len(failed))
    log_metric("frames", sum(frames) / len(frames))
    return list(earned)


def format_reward(formatted: Sequence[float], log_metric: Any, **others: Any) -> list[float]:
    """Share of each sample's episode's actions that could be read."""
    log_metric("unparsable", 1 - sum(formatted) / len(formatted))
    return list(formatted)


def _settings(config: GrpoConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in FREE}


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: the trainer writes its own page last."""
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_text()))
    except (OSError, ValueError):
        return False


def _rounds_done(checkpoint: Path, cycle: int) -> int:
    return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]) // cycle


def _check(config: GrpoConfig) -> None:
    for name in AT_LEAST_ONE:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name}={getattr(config, name)} must be at least 1")
    for name in ("temperature", "learning_rate", "clip", "gradient_clip"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be above 0")
    if config.imitate and not config.imitate_data:
        raise ConfigError(f"imitate={config.imitate} needs recorded drives; give imitate_data=runs/logs say")
    for name in ("kl", "imitate", "format_weight", "minutes", "save_minutes", "seed", "warmup", "foresight", "explore", "least_spread"):
        if not getattr(config, name) >= 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be at least 0")
    for name, known in (("mode", MODES), ("scale", SCALES), ("credit", CREDITS)):
        if getattr(config, name) not in known:
            raise ConfigError(f"unknown {name} '{getattr(config, name)}'; {nearest(getattr(config, name), known)}")
    if not 0 <= config.critical <= 1:
        raise ConfigError(f"critical={config.critical} is a share: give 0 to 1")
    least = FIRST_MARK + LEAD
    if config.critical and config.warmup < least:
        raise ConfigError(f"warmup={config.warmup}: with critical={config.critical} starts lie in drives of at least {least} frames")
    if not 0 < config.discount <= 1:
        raise ConfigError(f"discount={config.discount} must be above 0 and at most 1")
    if config.group < 2:
        raise ConfigError(f"group={config.group}: an episode is judged by the others of its group; give at least 2")
    if config.mode == "slow" and config.hold != 1:
        raise ConfigError(f"hold={config.hold}: a VLA that thinks does so in every frame; set hold=1 with mode=slow")
    if config.explore and config.parts != 1:
        raise ConfigError(f"parts={config.parts}: what was drawn while exploring is one part; set parts=1 with explore={config.explore}")
    if config.explore * config.hold >= config.episode_steps:
        raise ConfigError(f"explore * hold = {config.explore * config.hold} frames must be below episode_steps={config.episode_steps}")
    rows = config.starts * config.group * config.parts
    if rows % (config.batch_size * config.updates):
        raise ConfigError(f"batch_size * updates = {config.batch_size * config.updates} must divide starts * group * parts = {rows}")
    if config.world == "reference":
        raise ConfigError(
            "GRPO drives its groups side by side, which world=reference cannot; choose learned or the folder of a learned world"
        )
