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
from ..policies.vla.tokens import FRAME_TOKENS, Vocabulary
from ..world_model.video.precision import resolve_precision
from ..world_model.video.tokenizer import FrameTokenizer
from .vla_moments import Moments, moments_of_logs

if TYPE_CHECKING:
    from .imitation import ImitationConfig, VlaSettings

IGNORED = -100  # label of tokens that are not learned
VALIDATION_RUNS = 1000
BEGINS = 0.1  # share of batches of moments that begin their episode


def windows(clips: Iterable[int], length: int) -> Tensor:
    """Rows [N, length] of all runs of `length` consecutive moments that stay in their clip, of clips with so many moments each."""
    found, begin = [torch.zeros(0, length, dtype=torch.int64)], 0
    for steps in clips:
        found.append(begin + torch.arange(max(0, steps - length + 1)).unsqueeze(1) + torch.arange(length))
        begin += steps
    return torch.cat(found)


def samples(
    vocabulary: Vocabulary,
    moments: Moments,
    rows: Tensor,
    slow: bool,
    *,
    slow_before: bool = False,
    others: Tensor | None = None,
    camera: bool = True,
) -> tuple[Tensor, Tensor]:
    """Token ids and labels [S, L] of runs of moments: the last of each is learned, those before it are read.

    Of the moments before, the model reads what the camera showed, what the driver did and, in slow ones, a thought. Where `others` are
    given these thoughts are those of other moments, and so are the actions of every second sample: what was thought and done a moment
    ago nearly always still holds, and a model that may copy it does not learn to look. A run of one moment begins an episode.

    Args:
        vocabulary: of the model.
        moments: recorded.
        rows: [S, R] of `moments`.
        slow: whether the last moment is thought about first.
        slow_before: whether the moments before it were.
        others: [S, R - 1] rows of other moments.
        camera: False hides all visual tokens.
    """
    prompt = moments.prompt[rows].long()
    if not camera:
        prompt = blind(vocabulary, prompt)
    parts = []
    for k in range(rows.shape[1] - 1):
        taken, thought = moments.taken[rows[:, k]].long(), moments.thought[rows[:, k]].long()
        if others is not None:
            taken[1::2], thought = moments.taken[others[1::2, k]].long(), moments.thought[others[:, k]].long()
        parts += [prompt[:, k], _completion(vocabulary, taken, thought if slow_before else None)]
    if rows.shape[1] == 1:
        parts.append(torch.full((len(rows), 1), vocabulary.ids["<bos>"]))
    last = rows[:, -1]
    completion = _completion(vocabulary, moments.wanted[last].long(), moments.thought[last].long() if slow else None)
    ids = torch.cat((*parts, prompt[:, -1], completion), 1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, 1 - completion.shape[1] :] = completion[:, 1:]  # the control token is told
    return ids, labels


def schedule(vocabulary: Vocabulary, moments: Moments, config: ImitationConfig) -> Any:
    """All samples of a training run in their order, `batch_size` after another of one kind, as a table of TRL's trainer.

    A kind is whether the learned moment is a slow one, and whether the ones before were, or whether the episode begins.
    """
    import pyarrow
    from datasets import Dataset

    rng = np.random.default_rng([config.seed, 41])
    settings, size = config.vla, config.batch_size
    whole = windows(moments.clips, settings.run)
    if not len(whole):
        raise ConfigError(f"no clip has {settings.run} moments; lower vla.run")
    narrow = np.int16 if len(vocabulary) < 2**15 else np.int32
    flat: dict[str, list[np.ndarray]] = {"input_ids": [], "labels": []}
    lengths: list[int] = []
    order: np.ndarray = np.zeros(0, dtype=np.int64)
    for _ in range(config.steps):
        while len(order) < size:
            order = np.concatenate((order, rng.permutation(len(whole))))
        rows, order = whole[torch.from_numpy(order[:size])], order[size:]
        slow, slow_before, begins = (bool(draw) for draw in rng.random(3) < (0.5, 0.5, BEGINS))
        others = torch.from_numpy(rng.integers(len(moments.prompt), size=(size, settings.run - 1)))
        rows = rows[:, -1:] if begins else rows
        ids, labels = samples(vocabulary, moments, rows, slow, slow_before=slow_before, others=others, camera=settings.camera)
        for name, values in (("input_ids", ids), ("labels", labels)):
            flat[name].append(values.numpy().astype(narrow).ravel())
        lengths += [ids.shape[1]] * size
    offsets = pyarrow.array(np.cumsum([0, *lengths]), pyarrow.int64())
    columns = {name: pyarrow.LargeListArray.from_arrays(offsets, np.concatenate(parts)) for name, parts in flat.items()}
    return Dataset(pyarrow.table(columns))


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


def train_vla(config: ImitationConfig, settings: VlaSettings) -> Path:
    """Train a VLA on recorded clips, half of the samples with thoughts; returns the folder of its weights.

    Stops after `minutes`, keeping a checkpoint, and goes on from it when called again.

    Raises:
        ConfigError: an unknown size, or settings that do not fit.
        DataError: no clip to learn from.
        CheckpointError: a frame tokenizer, a VLA or a checkpoint that cannot be used.
    """
    out = Path(config.out)
    if settings.run < 1:
        raise ConfigError(f"vla.run={settings.run} must be at least 1")
    model = _start(config)
    _check_checkpoint(config)
    moments = moments_of_logs(config.data, "train", model, out / "tokens", settings.clips or None)
    held_out = moments_of_logs(config.data, "validation", model, out / "tokens", min(settings.clips or 40, 40))
    _fit(config, model, schedule(model.vocabulary, moments, config))
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


def _fit(config: ImitationConfig, model: VlaModel, table: Any) -> None:
    """Run TRL's trainer to the end of the schedule or of the time allowed."""
    from datasets.utils.logging import disable_progress_bar
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig

    disable_progress_bar()
    out = Path(config.out)
    arguments = SFTConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, max(1, config.steps // 10)),
        max_grad_norm=1.0,
        seed=config.seed,
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",  # in the order of the schedule
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
            train_dataset=table,
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
    """Mean absolute errors of the fast mode's medians on held-out moments, read after those before them as they were driven.

    `steering_error` in the action's unit, `acceleration_error` in m/s2, `acceleration_error_swapped` with each run's visual tokens
    replaced by those of another run: what the camera is worth. Empty without a run to measure on.
    """
    rows = windows(moments.clips, run)
    rows = rows[:: max(1, len(rows) // VALIDATION_RUNS)]
    if not len(rows):
        return {}
    table, _ = samples(model.vocabulary, moments, rows, False, camera=camera)
    wanted = moments.wanted[rows[:, -1]].long()
    first = model.vocabulary.first_visual
    visual = (table >= first) & (table < first + model.vocabulary.codebook)
    swapped = torch.where(visual, table.roll(len(table) // 2, 0), table)
    found: dict[str, float] = {}
    for name, ids in (("", table), ("_swapped", swapped)):
        logits = torch.cat([model.decoder(input_ids=part, logits_to_keep=5).logits for part in ids.split(64)])
        for quantity, bins, at in (("steering", STEER, 1), ("acceleration", ACCELERATE, 2)):
            group = model.vocabulary.group(bins)
            below = torch.softmax(logits[:, at, group].float(), -1).cumsum(-1) < 0.5
            read = bins.decode(below.sum(-1).clamp_max(len(bins) - 1))
            target = bins.decode(wanted[:, at - 1] - group.start)
            found[f"{quantity}_error{name}"] = float((read - target).abs().mean())
    del found["steering_error_swapped"]
    return found
