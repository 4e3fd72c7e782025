"""Training of the frame tokenizer on recorded clips; every draw follows from (seed, step), so it resumes exactly."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...data.shards import ClipAddress, list_clips, load_clip
from ...data.split import check_trainable
from ...errors import CheckpointError, DataError
from ...training_state import load_state, read_meta, replace_folder, save_state
from .hints import HINTS, HintHead, hint_loss, mirror_hints, scene_hints
from .precision import resolve_precision
from .tokenizer import FrameTokenizer, frames_of, pictures_of, spread_loss, tokenizer_loss

STATE = ("tokenizer-training", 3)


@dataclass
class TrainTokenizerConfig:
    """Everything a run of tokenizer training depends on."""

    data: str | list[str] = "runs/logs"  # folder of shards, or several
    out: str = "runs/tokenizer"  # weights go to OUT/weights
    seed: int = 0
    steps: int = 20_000  # optimiser steps of the whole schedule
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup: int = 200  # optimiser steps
    ema: float = 0.999
    hint_weight: float = 2.0  # of reading the lead vehicle, the red light and the nearest road users off the tokens; 0: looks alone
    spread_weight: float = 0.1  # of using all codes in every place, see `spread_loss`
    max_frames: int = 60_000  # frames kept in memory, evenly taken from all clips (25 KB each)
    minutes: float = 0.0  # stop (and keep the state) after this long; 0: no limit
    save_minutes: float = 5.0
    report_steps: int = 1000  # optimiser steps between validations
    precision: str = "auto"  # float32, bfloat16 or auto
    threads: int = 2
    device: str = "cpu"
    resume: bool = True


def load_frames(addresses: list[ClipAddress], most: int, trainable: bool, with_hints: bool = True) -> tuple[Tensor, Tensor]:
    """Frames [N, H, W, 3] uint8, at most `most`, evenly taken from clips, and their hints [N, HINTS], NaN where no scene is known.

    Raises:
        DataError: a clip that cannot be read, or must not be trained on.
    """
    total = sum(address.steps for address in addresses)
    every = max(1, math.ceil(total / most))
    parts, hints = [], []
    for address in tqdm(addresses, desc="reading clips", unit="clip", leave=False):
        clip = load_clip(address, track=with_hints)
        if trainable:
            check_trainable(clip, address.shard)
        parts.append(clip.frames[::every])
        found = torch.full((clip.steps, HINTS), torch.nan) if clip.track is None else scene_hints(clip.track)[0]
        hints.append(found[::every])
    return torch.cat(parts)[:most], torch.cat(hints)[:most]


class TokenizerTrainer:
    """One training run; `run` goes on from whatever state its folder holds."""

    def __init__(
        self,
        config: TrainTokenizerConfig,
        frames: Tensor,
        validation: Tensor,
        hints: Tensor | None = None,
        validation_hints: Tensor | None = None,
        **sizes: list[int] | int,
    ) -> None:
        self.config, self.frames, self.validation = config, frames, validation
        unknown = lambda pictures: torch.full((len(pictures), HINTS), torch.nan)
        self.hints = unknown(frames) if hints is None else hints
        self.validation_hints = unknown(validation) if validation_hints is None else validation_hints
        self.out = Path(config.out)
        self.precision = resolve_precision(config.precision, config.device)
        torch.manual_seed(config.seed)
        self.model = FrameTokenizer(**sizes).to(config.device)
        with torch.no_grad():
            some = frames[:: max(1, len(frames) // 2000)]
            self.model.mean.copy_(pictures_of(some).mean(0))
        self.average = FrameTokenizer(**sizes).to(config.device).eval()
        self.average.load_state_dict(self.model.state_dict())
        digits = len(self.model.quantiser.levels)
        self.head = HintHead(digits).to(config.device)
        self.average_head = HintHead(digits).to(config.device).eval()
        self.average_head.load_state_dict(self.head.state_dict())
        self._trained = [*self.model.parameters(), *self.head.parameters()]
        self._averaged = [*self.average.parameters(), *self.average_head.parameters()]
        self.optimiser = torch.optim.AdamW(self._trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
        self.step = 0

    def run(self) -> dict[str, float]:
        """Train to the end of the schedule or of the time allowed; returns the last validation's numbers."""
        from torch.utils.tensorboard import SummaryWriter

        if self.config.resume:
            self.restore()
        self.out.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        with SummaryWriter(str(self.out / "tensorboard")) as scalars, tqdm(total=self.config.steps, unit="step", smoothing=0.05) as bar:
            bar.update(self.step)
            while self.step < self.config.steps:
                loss = self.train_step()
                bar.update(1)
                if self.step % 50 == 0:
                    scalars.add_scalar("train/loss", loss, self.step)
                    bar.set_postfix(loss=f"{loss:.4f}")
                if self.step % self.config.report_steps == 0:
                    self._write(scalars, self.validate())
                now = time.monotonic()
                if now - saved > 60 * self.config.save_minutes:
                    self.save()
                    saved = now
                if self.config.minutes and now - started > 60 * self.config.minutes:
                    break
            numbers = self.validate()
            self._write(scalars, numbers)
        self.save(numbers)
        return numbers

    def train_step(self) -> float:
        """One optimiser step; returns its loss."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        rows = torch.from_numpy(rng.integers(len(self.frames), size=config.batch_size))
        batch, hints = self.frames[rows], self.hints[rows]
        mirrored = torch.from_numpy(rng.random(config.batch_size) < 0.5)
        batch = torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(2), batch)
        hints = torch.where(mirrored.unsqueeze(-1), mirror_hints(hints), hints).to(config.device)
        progress = min(1.0, self.step / config.steps)
        rate = config.learning_rate * min(1.0, (self.step + 1) / config.warmup) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        pictures = pictures_of(batch.to(config.device))
        with torch.autocast(pictures.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            z = self.model.look(pictures).float()
            quantised = self.model.quantiser(z)
            shown = self.model.paint(quantised)
        known = hints[:, 0].isfinite()
        read = self.head(quantised)
        loss = tokenizer_loss(shown.float(), pictures) + config.hint_weight * hint_loss(read, hints.nan_to_num(), known)
        if len(z) > 1:
            loss = loss + config.spread_weight * spread_loss(z)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._trained, 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of validation frames and of the mean picture, share of the codebook in use, its perplexity, and how well hints are read.

        `lead_r2` and `red_r2` are the explained shares of variance of the closeness of the vehicle and of the red light ahead.
        """
        squared, squared_mean, read, counts = [], [], [], torch.zeros(self.average.codebook_size)
        for frames in self.validation.split(64):
            pictures = pictures_of(frames.to(self.config.device))
            tokens = self.average.encode(frames.to(self.config.device))
            read.append(torch.sigmoid(self.average_head(self.average.quantiser.values(tokens))).cpu())
            shown = pictures_of(self.average.decode(tokens))
            squared.append((shown - pictures).square().mean((1, 2, 3)))
            squared_mean.append((self.average.mean - pictures).square().mean((1, 2, 3)))
            counts += torch.bincount(tokens.flatten().cpu(), minlength=len(counts))
        share = counts / counts.sum()
        entropy = -(share * share.clamp_min(1e-12).log()).sum()
        return {
            "psnr_db": _decibel(torch.cat(squared)),
            "mean_picture_psnr_db": _decibel(torch.cat(squared_mean)),
            "codes_used": float((counts > 0).float().mean()),
            "perplexity": float(entropy.exp()),
            **_explained(torch.cat(read), self.validation_hints),
        }

    def save(self, numbers: dict[str, float] | None = None) -> None:
        """Write the weights and the state to resume from, aside first and then under their names."""
        meta = {"format": STATE[0], "version": STATE[1], "step": self.step, "config": asdict(self.config)}
        save_state(self.out / "state", self._modules(), self.optimiser, meta)
        aside = self.out / "weights.partial"
        self.average.save_pretrained(aside)
        if numbers is not None:
            report = {"steps": self.step, **{name: round(value, 4) for name, value in numbers.items()}}
            (aside / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
        replace_folder(aside, self.out / "weights")

    def restore(self) -> None:
        """Go on from the state in the run's folder, if there is one.

        Raises:
            CheckpointError: a state that is damaged, or of other settings.
        """
        folder = self.out / "state"
        meta = read_meta(folder, *STATE)
        if meta is None:
            return
        for key in ("seed", "batch_size", "steps", "hint_weight", "spread_weight"):
            if meta["config"][key] != getattr(self.config, key):
                was, now = meta["config"][key], getattr(self.config, key)
                raise CheckpointError(f"'{folder}' was trained with {key}={was}, not {now}; choose another out= or set resume=false")
        load_state(folder, self._modules(), self.optimiser)
        self.step = int(meta["step"])

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "average": self.average, "head": self.head, "average_head": self.average_head}

    def _write(self, scalars: object, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            scalars.add_scalar(f"validation/{name}", value, self.step)  # type: ignore[attr-defined]
        some = self.validation[:: max(1, len(self.validation) // 6)][:6].to(self.config.device)
        with torch.no_grad():
            shown = frames_of(self.average(pictures_of(some))[0])
        strip = torch.cat((torch.cat(list(some), 1), torch.cat(list(shown), 1)), 0)
        scalars.add_image("validation/pictures", strip.cpu().numpy(), self.step, dataformats="HWC")  # type: ignore[attr-defined]


def _explained(read: Tensor, hints: Tensor) -> dict[str, float]:
    """Explained variance of the first two hints [N, HINTS] where they are known and vary."""
    known = hints[:, 0].isfinite()
    found = {}
    for column, name in enumerate(("lead_r2", "red_r2")):
        wanted = hints[known, column]
        spread = (wanted - wanted.mean()).square().sum() if len(wanted) else torch.zeros(())
        if float(spread) > 0:
            found[name] = float(1 - (read[known, column] - wanted).square().sum() / spread)
    return found


def _decibel(squared: Tensor) -> float:
    """Mean PSNR of pictures in [-1, 1] from their mean squared errors [N]."""
    return float((10 * torch.log10(4 / squared.clamp_min(1e-9))).mean())


def train_tokenizer(config: TrainTokenizerConfig) -> Path:
    """Train a tokenizer on a folder of clips; returns the folder of its weights.

    Validation frames come from the validation split where the data has one, else from the last clips of the train split,
    which are then not trained on.

    Raises:
        DataError: no clip to train on.
    """
    torch.set_num_threads(config.threads)
    folders = [config.data] if isinstance(config.data, str) else config.data
    clips = [address for folder in folders for address in list_clips(folder, "train")]
    held_out: list[ClipAddress] = []
    for folder in folders:
        with contextlib.suppress(DataError):
            held_out += list_clips(folder, "validation")
    if not held_out:
        kept = max(1, len(clips) // 10)
        if len(clips) < 2:
            raise DataError(f"'{config.data}' holds one clip; training needs two or more, one of them to validate on")
        clips, held_out = clips[:-kept], clips[-kept:]
    with_hints = config.hint_weight > 0
    frames, hints = load_frames(clips, config.max_frames, trainable=True, with_hints=with_hints)
    validation, validation_hints = load_frames(held_out, 1024, trainable=False, with_hints=with_hints)
    trainer = TokenizerTrainer(config, frames, validation, hints, validation_hints)
    numbers = trainer.run()
    print(f"{trainer.out / 'weights'}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    return trainer.out / "weights"
