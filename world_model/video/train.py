"""Training of the video model: samples from prepared clips, flow matching on x0, self-rollout, checkpoints that resume exactly."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...errors import CheckpointError, ConfigError, TrainingError
from ...scenario import nearest
from ...training_state import load_state, read_meta, replace_folder, save_state
from .corruption import CorruptionConfig, corrupted_condition, draw_levels, shown_parts
from .fit_light import BATCH, fit_light, light_loss
from .generator import FrameGenerator, to_model
from .latent import LatentTransformer
from .layout import AGENT_CHANNELS, CHANNEL, COLOUR, MARKING_CHANNELS, NEAREST, SCENERY_CHANNELS, SIGNAL_CHANNELS
from .pipeline import FramePipeline, new_scheduler
from .precision import check_device, resolve_precision
from .shortcut import draw_spans, shortcut_targets
from .sizes import SIZES, new_painter, take_over
from .store import FrameStore, Samples, open_store
from .streams import RolloutStreams
from .warp import carry

STATE_KIND, STATE_VERSION = "world-training", 1
MIRRORED_GAIN, SHADE_GAIN = 8.0, 4.0  # times brightness or darkness, where 1 is reached
NEAR = 10.0  # m, up to where agents and signals have no extra weight for being far
LIGHT_PACE = 0.3  # learning rate of light, beside that of the rest: what is rare should not wander


@dataclass
class TrainWorldConfig:
    """Everything a run of world-model training depends on."""

    data: str | list[str] = "runs/logs"  # folder of shards, or several
    out: str = "runs/world"
    size: str = "small"
    init: str = "none"  # folder of a trained world to start from; its size must be the same
    seed: int = 0
    samples: int = 400_000  # predicted frames in the whole schedule
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 300  # optimiser steps
    ema: float = 0.999
    pure_noise: float = 0.6  # share of samples at noise level 1
    shortcut: float = 0.0  # share of samples that teach long sampler steps to agree with two shorter ones; 0 builds a model without
    crop_until: float = 0.25  # share of the schedule trained on half-width crops
    rollout_from: float = 0.3  # share of the schedule after which batches come from drives on the model's own frames
    rollout_share: float = 0.75  # of the batches from then on
    rollout_length: int = 60  # steps such a drive lasts on average
    rollout_clean: float = 0.5  # share of them whose pictures are never spoilt on the way; nor are those without a whole layout
    streams: int = 192  # such drives under way
    warp: bool = True  # move the previous frame by the known motion before the model sees it; without, an ablation
    sky: bool = True  # a learned panorama of the sky; without, an ablation
    ground: bool = True  # learned maps of the ground; without, an ablation
    light: bool = True  # the layout in learned light beside it; without, an ablation
    light_steps: int = 1200  # in which that light is fitted alone, before anything else, where nothing trained it
    context: int = 1  # previous frames that the model sees
    region_weight: float = 3.0  # extra weight of agents and signals, half of it on markings
    autoencoder_until: float = 0.3  # share of the schedule in which the autoencoder of size=latent is trained; from then on it stays
    far_weight: float = 1.0  # how much of it, in times, agents and signals have that are far away; 1: as near ones
    minutes: float = 0.0  # stop (and keep the state) after this long; 0: no limit
    save_minutes: float = 5.0
    strip_steps: int = 2000  # optimiser steps between sample strips
    threads: int = 2
    precision: str = "auto"  # float32, bfloat16 or auto
    device: str = "cpu"
    resume: bool = True
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)


def frame_loss(predicted: Tensor, target: Tensor, layout: Tensor, region_weight: float, far_weight: float = 1.0) -> Tensor:
    """Weighted MSE + L1 + gradient loss of frames [B, 3, H, W] in [-1, 1]; layout [B, C, H, W] in [0, 1] names the regions.

    With `far_weight` the extra weight of agents and signals grows with their distance from NEAR on, to that many times at NEAR times it:
    those far away have few pixels, and a policy must see them all the same. Lamps that the road mirrors weigh as much as these, and so do
    kerbs, which have a base colour as well; markings, shade and lit windows weigh half of it.
    """
    cover = lambda *names: layout[:, list(names)].sum(1, keepdim=True)
    moving = cover(*AGENT_CHANNELS, *SIGNAL_CHANNELS).clamp(0, 1)
    standing = (moving + cover(*SCENERY_CHANNELS)).clamp(0, 1)
    mirrored = (MIRRORED_GAIN * layout[:, COLOUR].amax(1, keepdim=True) * (1 - standing)).clamp(0, 1)
    painted = (cover(*MARKING_CHANNELS, CHANNEL["lit"]) + SHADE_GAIN * cover(CHANNEL["shade"])).clamp(0, 1)
    if far_weight > 1:
        depth = NEAREST / layout[:, CHANNEL["inverse_depth"]].square().clamp_min(1e-6).unsqueeze(1)
        moving = moving * (depth / NEAR).clamp(1, far_weight)
    weight = 1 + region_weight * (moving + mirrored + 0.5 * painted)
    error = predicted - target
    main = (weight * (error.square() + 0.25 * error.abs())).mean()
    gradient = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return main + 0.1 * gradient


class WorldTrainer:
    """One training run; `run` goes on from whatever state its folder holds."""

    def __init__(self, config: TrainWorldConfig, store: FrameStore, validation: FrameStore | None = None) -> None:
        if config.size not in SIZES:
            raise ConfigError(f"unknown size '{config.size}'; {nearest(config.size, SIZES)}")
        self.config = config
        self.store = store
        self.validation = validation
        self.out = Path(config.out)
        self.precision = resolve_precision(config.precision, config.device)
        check_device(config.device)
        torch.manual_seed(config.seed)
        shown = (config.warp, config.shortcut > 0, config.sky, config.context, config.ground, config.light)
        make = lambda: new_painter(config.size, *shown).to(config.device)
        self.model = make()
        self._maps_are_new = config.init == "none"
        self._light_is_new = self._has_light = getattr(self.model, "lighting", None) is not None
        if config.init != "none":
            self._start_from(config.init)
        self.average = make()
        self.average.load_state_dict(self.model.state_dict())
        lights = {name: value for name, value in self.model.named_parameters() if name.startswith("lighting.")}
        self._painting = [value for name, value in self.model.named_parameters() if name not in lights]
        groups = [{"params": self._painting, "pace": 1.0, "weight_decay": config.weight_decay}]
        groups += [{"params": list(lights.values()), "pace": LIGHT_PACE, "weight_decay": 0.0}] if lights else []
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
        self._first, self._chance = store.windows(1)
        self.streams = RolloutStreams(store, config.streams, config.rollout_length, config.corruption, config.seed, config.context)
        self.step = 0
        self.samples_seen = 0
        self.seconds = 0.0

    def _start_from(self, folder: str) -> None:
        """Take over the weights of a trained world.

        Raises:
            CheckpointError: no world there, one of another size, or one with light where that is left out.
        """
        trained = FrameGenerator.load(folder).pipeline.denoiser
        lit = getattr(trained, "lighting", None) is not None
        if type(trained) is type(self.model) and lit and not self._has_light:
            raise CheckpointError(f"the world in '{folder}' paints with light; leave light=false out, or start from another")
        try:
            take_over(self.model, trained)
        except ValueError as error:
            raise CheckpointError(f"the world in '{folder}' is not of size '{self.config.size}' ({error}); give the size it has") from None
        self._light_is_new &= not lit

    def _fit_light(self) -> None:
        """Fit a light that nothing has trained, in no more pictures than the schedule has."""
        steps = min(self.config.light_steps, self.config.samples // BATCH)
        is_new, self._light_is_new = self._light_is_new, False
        if steps > 0 and is_new and self.store.has_scenes:
            fit_light(self.model, self.store, self.config.seed, steps, self.config.device, self._maps_are_new)
            self.average.load_state_dict(self.model.state_dict())

    @property
    def progress(self) -> float:
        """Share of the schedule done, in [0, 1]."""
        return min(1.0, self.samples_seen / self.config.samples)

    def run(self) -> None:
        """Train to the end of the schedule or of the time allowed, writing state, weights, scalars and strips."""
        from torch.utils.tensorboard import SummaryWriter

        if self.config.resume:
            self.restore()
        self.out.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        before = self.seconds
        with SummaryWriter(str(self.out / "tensorboard")) as scalars, tqdm(total=self.config.samples, unit="frame", smoothing=0.05) as bar:
            bar.update(self.samples_seen)
            while self.samples_seen < self.config.samples:
                loss, count = self.train_step()
                bar.update(count)
                now = time.monotonic()
                self.seconds = before + now - started
                if self.step % 50 == 0:
                    scalars.add_scalar("train/loss", loss, self.step)
                    scalars.add_scalar("train/learning_rate", self.optimiser.param_groups[0]["lr"], self.step)
                    bar.set_postfix(loss=f"{loss:.4f}")
                if self.step % self.config.strip_steps == 0:
                    self._report(scalars)
                if now - saved > 60 * self.config.save_minutes:
                    self.save()
                    saved = now
                if self.config.minutes and now - started > 60 * self.config.minutes:
                    break
            self._report(scalars)
        self.save()

    def train_step(self) -> tuple[float, int]:
        """One optimiser step; returns the loss and the number of frames predicted. All draws come from (seed, step).

        Raises:
            TrainingError: the loss is not finite; the weights are as they were before the step.
        """
        config = self.config
        if self.step == 0:
            self._fit_light()
        rng = np.random.default_rng([config.seed, self.step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = config.batch_size
        rolled = self.progress >= config.rollout_from and rng.random() < config.rollout_share
        if rolled:
            rows, samples, before, level = self.streams.draw(rng, batch)
            index = self.streams.index[rows].numpy()
        else:
            index = rng.choice(self._first, size=batch, p=self._chance)
            samples = self.store.samples(index, 1)
            before, level = to_model(self.store.history(index, config.context)), draw_levels(batch, config.corruption, generator)
        past = self._carried(samples, before, level) if rolled and config.context > 1 else None
        mirrored = rng.random() < 0.5
        if mirrored:
            samples, before = mirror(samples), before.flip(-1)
        if self.progress < config.crop_until and not rolled:
            samples = _crop(samples, int(rng.integers(0, samples.frames.shape[3] // 16 + 1)) * 8)
            before = before[..., samples.column : samples.column + samples.frames.shape[3]]
        for group in self.optimiser.param_groups:
            warm = min(1.0, (self.step + 1) / config.warmup)
            group["lr"] = config.learning_rate * group["pace"] * warm * max(0.02, 0.5 + 0.5 * math.cos(math.pi * self.progress))
        self.optimiser.zero_grad(set_to_none=True)
        alone = torch.zeros(batch, dtype=torch.bool)
        if rolled:
            alone = (rows < config.rollout_clean * config.streams) | (level > 0) | ~samples.has_scene
        loss, painted = self._loss(samples, before, level, alone, generator)
        if not bool(torch.isfinite(loss)):
            clips = sorted(set(self.store.clip_of(index).tolist()))
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.step}, in a batch of frames {index.tolist()} from clips {clips}; "
                f"'{self.out}' keeps what was saved before: look at those clips, or go on with a lower learning_rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._painting, 1.0)
        self.optimiser.step()
        self.step += 1
        self.samples_seen += batch
        if rolled:
            painted = painted.detach().cpu().float()
            painted = painted.flip(-1) if mirrored else painted
            self.streams.advance(rows, painted if past is None else torch.cat((painted, past), 1), rng, generator)
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return float(loss.detach()), batch

    def _carried(self, samples: Samples, before: Tensor, level: Tensor) -> Tensor:
        """The frames before the next [B, 3 * (context - 1), H, W], moved to where things will be in it as the model is shown them."""
        bare, none = (level == 1) & samples.has_scene, (level == 2) & samples.has_scene
        _, flow = shown_parts(samples.layout[:, 0], samples.flow[:, 0], samples.motion[:, 0], bare, none)
        moved, seen = carry(before[:, :-3], flow, self.config.warp)
        return moved * seen

    def _loss(self, samples: Samples, before: Tensor, level: Tensor, alone: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Loss of one step, that of its light included, and the frames it painted [B, 3, H, W].

        The steps of drives that are `alone` [B] are those of a rollout: nothing of the true frame is shown, and the frames before are not
        spoilt. What the layout does not tell is only known from the drive's own pictures, and would be lost for the rest of it.
        """
        config, device = self.config, self.config.device
        true = to_model(samples.frames[:, 1]).to(device)
        layout = samples.layout[:, 0].to(device)
        condition = corrupted_condition(
            before.to(device), layout, samples.flow[:, 0].to(device), samples.actions[:, 0].to(device), samples.ego[:, 0].to(device),
            samples.motion[:, 0].to(device), samples.appearance.to(device), samples.has_scene.to(device),
            config.corruption, generator, level.to(device), samples.gaze[:, 0].to(device), samples.column, config.warp,
            alone.to(device),
        )  # fmt: skip
        batch = len(true)
        noise_level = torch.rand(batch, generator=generator)
        noise_level[(torch.rand(batch, generator=generator) < config.pure_noise) | alone] = 1.0
        span = draw_spans(noise_level, config.shortcut, generator).to(device)
        noise_level = noise_level.to(device)
        t = noise_level.view(-1, 1, 1, 1)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            with torch.no_grad():
                clean = self.model.encode(true).float()
            noisy = (1 - t) * clean + t * torch.randn(clean.shape, generator=generator).to(device)
            target = shortcut_targets(self.average, clean, noisy, noise_level, span, condition)
            predicted = self.model(noisy, noise_level, condition, span).float()
            loss = lambda painted, wanted: frame_loss(painted, wanted, layout.float() / 255, config.region_weight, config.far_weight)
            if isinstance(self.model, LatentTransformer):
                return self._latent_loss(predicted, target, true, loss, generator)
        total = loss(predicted, target)
        if self._has_light:  # apart from what is painted with it
            light = self.model.lit(layout, condition.gaze, condition.appearance, self._maps_are_new, samples.column)
            total = total + light_loss(light, samples.frames[:, 1].to(device), layout.float() / 255, samples.has_scene.to(device))
        return total, predicted.clamp(-1, 1)

    def _latent_loss(
        self, predicted: Tensor, target: Tensor, true: Tensor, loss: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The squared error of latents, while the autoencoder is trained its `loss` too, and the frames that were painted."""
        total = (predicted - target).square().mean()
        learned = self.progress < self.config.autoencoder_until
        for part in (self.model.encoder, self.model.decoder):
            part.requires_grad_(learned)
        if learned:
            total = total + loss(self.model.autoencoded(true, generator).float(), true)
        with torch.no_grad():
            painted = self.model.decode(predicted.clamp(-1, 1)).float()
        return total, painted.clamp(-1, 1)

    def generator(self) -> FrameGenerator:
        """The averaged weights as a generator."""
        return FrameGenerator(FramePipeline(self.average, new_scheduler()))

    def _report(self, scalars: object) -> None:
        from .strips import rollout_strip

        store = self.validation or self.store
        strip, error_db = rollout_strip(self.average, store, seed=self.config.seed)
        self.average.train()
        scalars.add_scalar("validation/rollout_db", error_db, self.step)  # type: ignore[attr-defined]
        scalars.add_image("validation/rollout", strip, self.step, dataformats="HWC")  # type: ignore[attr-defined]

    def _parts(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model, "average": self.average, "streams": self.streams}

    def save(self) -> None:
        """Write weights and the state to resume from, aside first and then under their names."""
        meta = {"format": STATE_KIND, "version": STATE_VERSION, "step": self.step, "samples": self.samples_seen, "seconds": self.seconds}
        meta["config"] = asdict(self.config)
        save_state(self.out / "state", self._parts(), self.optimiser, meta)
        weights = self.out / "weights.partial"
        shutil.rmtree(weights, ignore_errors=True)
        self.generator().save(weights, scene=self.store.has_scenes)
        if not self.store.has_scenes:
            from ..video_world import MOST_OPENINGS, save_openings

            chosen = np.unique(np.linspace(0, len(self._first) - 1, MOST_OPENINGS).round().astype(np.int64))
            save_openings(weights, self.store.frames(self._first[chosen]), self.store.plain_motion)
        for kept in (self.out / "weights").glob("starts.*"):
            shutil.copy2(kept, weights / kept.name)
        replace_folder(weights, self.out / "weights")

    def restore(self) -> None:
        """Go on from the state in the run's folder, if there is one.

        Raises:
            CheckpointError: a state that is damaged, of another version, or of another size, seed or batch, or of other parts.
        """
        folder = self.out / "state"
        meta = read_meta(folder, STATE_KIND, STATE_VERSION)
        if meta is None:
            return
        for key, unsaid in {"size": 0, "seed": 0, "batch_size": 0, "context": 1, "sky": True, "ground": True, "light": False}.items():
            was, now = meta["config"].get(key, unsaid), getattr(self.config, key)
            if was != now:
                raise CheckpointError(f"'{folder}' was trained with {key}={was}, not {now}; choose another out= or set resume=false")
        load_state(folder, self._parts(), self.optimiser)
        self.step, self.samples_seen, self.seconds = meta["step"], meta["samples"], meta["seconds"]


def _crop(samples: Samples, offset: int) -> Samples:
    """Half the width of windows, from column `offset` on; pixel motion is kept relative to the crop."""
    width = samples.frames.shape[3] // 2
    columns = slice(offset, offset + width)
    flow = samples.flow[..., columns].clone()
    flow[:, :, 0] -= offset
    return Samples(
        samples.frames[:, :, :, columns], samples.layout[..., columns], flow,
        samples.actions, samples.ego, samples.motion, samples.appearance, samples.has_scene, samples.gaze[..., columns], column=offset,
    )  # fmt: skip


def mirror(samples: Samples) -> Samples:
    """The mirror image of windows: pictures, layouts and motion reflected, steering and yaw negated.

    Normals and where pixels look are left as they are: they say how a face is lit and which clouds and stains are there, and a mirrored
    picture has those of the original.
    """
    layout = samples.layout.flip(-1).clone()
    across = layout[:, :, CHANNEL["across"]]
    across[across > 0] = (256 - across[across > 0].int()).to(torch.uint8)  # type: ignore[index]
    flow = samples.flow.flip(-1).clone()
    flow[:, :, 0] = samples.frames.shape[3] - flow[:, :, 0]
    return Samples(
        samples.frames.flip(3), layout, flow,
        samples.actions * torch.tensor([-1.0, 1.0]), samples.ego * torch.tensor([1.0, -1, -1, 1, 1, -1, -1]),
        samples.motion * torch.tensor([1.0, -1, -1]), samples.appearance, samples.has_scene, samples.gaze.flip(-1),
    )  # fmt: skip


def train_world(config: TrainWorldConfig) -> Path:
    """Train a world model on a folder of clips; returns the folder of its weights."""
    torch.set_num_threads(config.threads)
    store = open_store(config.data, "train")
    try:
        validation = open_store(config.data, "validation")
    except Exception:
        validation = None
    trainer = WorldTrainer(config, store, validation)
    trainer.run()
    return trainer.out / "weights"
