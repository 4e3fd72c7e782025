"""Imitation of the VLA by TRL's SFTTrainer: runs of consecutive moments as token sequences, the expert's words and actions as labels."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..policies.vla.bins import ACCELERATE, STEER
from ..policies.vla.model import VlaModel
from ..policies.vla.tokens import FRAME_TOKENS, PROMPT_LENGTH, Vocabulary
from ..world_model.video.precision import resolve_precision
from ..world_model.video.tokenizer import FrameTokenizer
from .vla_moments import Moments, moments_of_logs

if TYPE_CHECKING:
    from .imitation import ImitationConfig, VlaSettings

IGNORED = -100  # label of tokens that are not learned
VALIDATION_RUNS = 200


def sequence(vocabulary: Vocabulary, moments: Moments, rows: Sequence[int], slow: bool, camera: bool = True) -> dict[str, list[int]]:
    """One sample: <bos>, then prompt and completion of each of consecutive moments.

    The actions that are read are those that were taken, the labels are the expert's, so that a disturbed driver's recording
    teaches what to do and not what it did. Prompts and the control token carry no label.
    """
    rows = list(rows)
    prompt, thought = moments.prompt[rows].long(), moments.thought[rows].long()
    if not camera:
        prompt = blind(vocabulary, prompt)
    inputs = _completion(vocabulary, moments.taken[rows].long(), thought if slow else None)
    labels = _completion(vocabulary, moments.wanted[rows].long(), thought if slow else None)
    labels[:, 0] = IGNORED
    bos = torch.tensor([vocabulary.ids["<bos>"]])
    ids = torch.cat((bos, torch.cat((prompt, inputs), 1).flatten()))
    wanted = torch.cat((torch.full_like(bos, IGNORED), torch.cat((torch.full_like(prompt, IGNORED), labels), 1).flatten()))
    return {"input_ids": ids.tolist(), "labels": wanted.tolist()}


def blind(vocabulary: Vocabulary, prompt: Tensor) -> Tensor:
    """Prompts [..., PROMPT_LENGTH] with every visual token replaced by the first."""
    hidden = prompt.clone()
    hidden[..., 1 : 1 + FRAME_TOKENS] = vocabulary.first_visual
    return hidden


def _completion(vocabulary: Vocabulary, action_ids: Tensor, thought: Tensor | None) -> Tensor:
    tag = lambda name: torch.full((len(action_ids), 1), vocabulary.ids[name])
    act = (tag("<act>"), action_ids, tag("</act>"))
    if thought is None:
        return torch.cat((tag("<fast>"), *act), 1)
    return torch.cat((tag("<slow>"), tag("<think>"), thought, tag("</think>"), *act), 1)


def runs(clips: Iterable[int], length: int, seed: int) -> list[range]:
    """Rows of runs of `length` consecutive moments, cut from clips of the given numbers of moments from a drawn offset on."""
    rng = np.random.default_rng([seed, 41])
    found, begin = [], 0
    for steps in clips:
        first = begin + int(rng.integers(min(length, max(1, steps - length + 1))))
        found += [range(start, start + length) for start in range(first, begin + steps - length + 1, length)]
        begin += steps
    return found


def train_vla(config: ImitationConfig, settings: VlaSettings) -> Path:
    """Train a VLA on recorded clips, half of the samples with thoughts; returns the folder of its weights.

    Stops after `minutes`, keeping a checkpoint, and goes on from it when called again.

    Raises:
        ConfigError: an unknown size, or settings that do not fit.
        DataError: no clip to learn from.
        CheckpointError: a frame tokenizer, a VLA or a checkpoint that cannot be used.
    """
    out = Path(config.out)
    if settings.run < 1 or config.batch_size % settings.run:
        raise ConfigError(f"batch_size={config.batch_size} must be a multiple of vla.run={settings.run}, the moments of a sample")
    model = _start(config)
    _check_checkpoint(config)
    moments = moments_of_logs(config.data, "train", model, out / "tokens", settings.clips or None)
    held_out = moments_of_logs(config.data, "validation", model, out / "tokens", min(settings.clips or 40, 40))
    from tqdm import tqdm

    samples = runs(moments.clips, settings.run, config.seed)
    if not samples:
        raise ConfigError(f"no clip has {settings.run} moments; lower vla.run")
    rows = [
        sequence(model.vocabulary, moments, rows, slow, settings.camera)
        for rows in tqdm(samples, desc="samples", leave=False)
        for slow in (False, True)
    ]
    _fit(config, model, rows)
    errors = action_errors(model, held_out, settings.run, settings.camera)
    model.facts = {"trained_by": "imitation", **_settings(config), **{name: round(value, 5) for name, value in errors.items()}}
    print(", ".join(f"{name} {value:.4g}" for name, value in errors.items()))
    return model.save(out / "weights", torch.float16 if settings.half else torch.float32)


def _start(config: ImitationConfig) -> VlaModel:
    if config.vla.init is not None:
        model = VlaModel.load(config.vla.init)
        if model.size != config.vla.size:
            raise ConfigError(f"the VLA in '{config.vla.init}' is of size {model.size}; set vla.size={model.size}")
        return model
    return VlaModel.create(config.vla.size, FrameTokenizer.load(config.vla.tokenizer), config.seed)


def _settings(config: ImitationConfig) -> dict[str, Any]:
    """What a checkpoint depends on and must not change on the way."""
    names = ("seed", "steps", "batch_size", "learning_rate", "weight_decay")
    return {**{name: getattr(config, name) for name in names}, "vla": asdict(config.vla)}


def _check_checkpoint(config: ImitationConfig) -> None:
    """Note this run's settings, or refuse a folder that was begun with others."""
    page = Path(config.out) / "settings.json"
    if config.resume and page.is_file():
        try:
            begun = json.loads(page.read_text())
        except ValueError as error:
            raise CheckpointError(f"'{page}' is damaged ({error}); choose another out= or set resume=false") from None
        for name, value in _settings(config).items():
            if begun.get(name) != value:
                raise CheckpointError(
                    f"'{config.out}' was begun with {name}={begun.get(name)}, not {value}; choose another out= or set resume=false"
                )
    page.parent.mkdir(parents=True, exist_ok=True)
    aside = page.with_suffix(".partial")
    aside.write_text(json.dumps(_settings(config), indent=1) + "\n")
    aside.replace(page)


def _fit(config: ImitationConfig, model: VlaModel, rows: list[dict[str, list[int]]]) -> None:
    """Run TRL's trainer to the end of the schedule or of the time allowed."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig

    disable_progress_bar()
    out = Path(config.out)
    arguments = SFTConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size // config.vla.run,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, max(1, config.steps // 10)),
        max_grad_norm=1.0,
        seed=config.seed,
        max_length=None,
        packing=False,
        train_sampling_strategy="group_by_length",  # those with thoughts apart from those without
        logging_steps=10,
        save_strategy="no",
        save_total_limit=1,
        report_to=["tensorboard"],
        use_cpu=config.device == "cpu",
        bf16=resolve_precision(config.precision, config.device) == "bfloat16",
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        disable_tqdm=False,
    )
    model.decoder.train()
    if config.device == "cpu":
        model.decoder.set_attn_implementation("eager")  # a fifth faster there, forwards and backwards together
    checkpoints = out / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if config.resume and checkpoints.is_dir() else None
    with _scalars_in(out / "tensorboard"):
        trainer = _trainer(
            config,
            model.vocabulary,
            model=model.decoder,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=model.tokenizer,
            callbacks=[_clock(config.minutes, config.save_minutes)],
        )
        trainer.train(resume_from_checkpoint=last)
    model.decoder.eval().to("cpu")
    model.decoder.set_attn_implementation("sdpa")


def without_some(vocabulary: Vocabulary, ids: Tensor, share: float, seed: Sequence[int]) -> Tensor:
    """Ids [B, L] with a share of the visual tokens replaced by drawn ones, so that no clip can be known by a few of its tokens."""
    rng = np.random.default_rng(seed)
    visual = (ids >= vocabulary.first_visual) & (ids < vocabulary.first_visual + vocabulary.codebook)
    replaced = torch.from_numpy(rng.random(ids.shape) < share).to(ids.device)
    drawn = torch.from_numpy(vocabulary.first_visual + rng.integers(vocabulary.codebook, size=ids.shape)).to(ids.device)
    return torch.where(visual & replaced, drawn, ids)


def _trainer(config: ImitationConfig, vocabulary: Vocabulary, **arguments: Any) -> Any:
    """TRL's trainer, which leaves out visual tokens by draws that follow from (seed, step), and reads off only what is learned.

    Nine tenths of a sample are told, not learned: off a GPU, where TRL's own loss reads every token off, most of a step went there.
    """
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
        ) -> Any:
            seed = (config.seed, 43, self.state.global_step)
            ids = without_some(vocabulary, inputs["input_ids"], config.vla.drop, seed)
            labels = inputs["labels"][:, 1:]
            columns = (labels != IGNORED).any(0).nonzero().flatten()
            outputs = model(input_ids=ids, attention_mask=inputs["attention_mask"], logits_to_keep=columns, use_cache=False)
            told = labels[:, columns]
            total = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1).float(), told.flatten(), reduction="sum")
            loss = total / ((told != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    return Trainer(**arguments)


@contextmanager
def _scalars_in(folder: Path) -> Iterator[None]:
    """Let the trainer write its TensorBoard scalars to `folder`; transformers reads the environment when a trainer is made."""
    name = "TENSORBOARD_LOGGING_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _clock(minutes: float, save_minutes: float) -> Any:
    """A callback that saves every `save_minutes` and at the end, and stops after `minutes` (0: never)."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began = self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            now = time.monotonic()
            over = bool(minutes) and now - self.began > 60 * minutes
            if over or now - self.saved > 60 * save_minutes or state.global_step >= state.max_steps:
                control.should_save, self.saved = True, now
            control.should_training_stop = control.should_training_stop or over
            return control

    return Clock()


@torch.no_grad()
def action_errors(model: VlaModel, moments: Moments, run: int, camera: bool = True) -> dict[str, float]:
    """Mean absolute errors of the fast mode's medians on held-out runs, read as in training.

    `steering_error` in the action's unit, `acceleration_error` in m/s2, `acceleration_error_swapped` with each run's visual tokens
    replaced by those of another run: what the camera is worth. Empty without a run to measure on.
    """
    samples = runs(moments.clips, run, 0)
    samples = samples[:: max(1, len(samples) // VALIDATION_RUNS)]
    if not samples:
        return {}
    table = torch.tensor([sequence(model.vocabulary, moments, rows, False, camera)["input_ids"] for rows in samples])
    rows = torch.tensor([list(rows) for rows in samples])
    wanted = moments.wanted[rows].long()
    frame = PROMPT_LENGTH + 5
    visual = torch.cat([torch.arange(1 + k * frame + 1, 1 + k * frame + 1 + FRAME_TOKENS) for k in range(run)])
    swapped = table.clone()
    swapped[:, visual] = table.roll(len(table) // 2, 0)[:, visual]
    found: dict[str, float] = {}
    for name, ids in (("", table), ("_swapped", swapped)):
        logits = torch.cat([model.decoder(input_ids=part).logits[:, :-1] for part in ids.split(16)])
        for quantity, bins, offset in (("steering", STEER, 2), ("acceleration", ACCELERATE, 3)):
            at = torch.tensor([1 + k * frame + PROMPT_LENGTH + offset - 1 for k in range(run)])
            group = model.vocabulary.group(bins)
            below = torch.softmax(logits[:, at, group].float(), -1).cumsum(-1) < 0.5
            read = bins.decode(below.sum(-1).clamp_max(len(bins) - 1))
            target = bins.decode(wanted[..., offset - 2] - group.start)
            found[f"{quantity}_error{name}"] = float((read - target).abs().mean())
    del found["steering_error_swapped"]
    return found
