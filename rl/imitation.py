"""Imitation: the car network learns what the privileged expert wants to do in every recorded scene."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.clip import Clip
from ..data.shards import list_clips, load_clip
from ..data.split import check_trainable
from ..errors import CheckpointError, ConfigError, DataError
from ..policies.car import SIZES, CarNet
from ..policies.expert import Expert
from ..policies.tutor import Tutor
from ..scenario import nearest
from ..scene import Scene
from ..training_state import load_state, read_meta, save_state
from ..world import WorldState, observe
from ..world_model.video.hints import HINTS, hint_loss, mirror_hints, scene_hints
from ..world_model.video.precision import resolve_precision
from .augment import augment

POLICIES = ("car", "vla")
STATE_KIND, STATE_VERSION = "imitation", 3
BOLDER = (0.0, 1 / 3, 2 / 3)  # powers of the caution at which the pedal is also learned, by a head that is not kept
PEDALS = 2.0  # weight of all pedals' mean error


@dataclass(frozen=True)
class Examples:
    """What the car saw and what the expert would have done, M frames."""

    camera: Tensor  # [M, H, W, 3] uint8
    ego: Tensor  # [M, 5]
    route: Tensor  # [M, 20, 2]
    action: Tensor  # [M, 2]
    earlier: Tensor | None = None  # [M] int64, which of the M pictures is the one `lag` frames before; None: not asked for
    hints: Tensor | None = None  # [M, HINTS], what a frame should tell, see `scene_hints`; None: not asked for

    def __len__(self) -> int:
        """Number of examples M."""
        return len(self.action)

    def pictures(self, rows: Tensor, lag: int) -> Tensor:
        """The pictures of `rows` [B] as [B, H, W, 3] uint8, with the earlier ones behind them as [B, H, W, 6] where there is a lag.

        Raises:
            DataError: a lag, and examples that know no earlier pictures.
        """
        if not lag:
            return self.camera[rows]
        if self.earlier is None:
            raise DataError(f"these examples know no earlier pictures; label the clips with lag={lag}")
        return torch.cat((self.camera[rows], self.camera[self.earlier[rows]]), -1)


@torch.no_grad()
def label(clip: Clip, expert: Expert | None = None, lag: int = 0) -> Examples:
    """Observations of a clip with the action that the expert wants in each scene (`Tutor` unless told), whoever drove it.

    With a `lag` in frames each also knows the picture that lies so far back in the clip, its first one near its start.

    Raises:
        DataError: a clip without a scene, of which the expert knows nothing.
    """
    track = clip.track
    if track is None:
        raise DataError("a clip without a scene cannot be labelled by the expert; imitate clips of the reference world")
    expert = expert or Tutor()
    steps = track.steps
    repeat = lambda value: value.map(lambda t: t.expand(steps, *t.shape[1:]))
    scene = Scene(
        ego=track.ego.map(lambda t: t[0]),
        agents=track.agents.map(lambda t: t[0]),
        signals=track.signals[0],
        time=track.time[0],
        appearance=track.appearance.expand(steps),
        road=repeat(track.road),
        route=repeat(track.route),
        profile=repeat(track.profile),
    )
    number = torch.zeros(steps, dtype=torch.int64)
    observation = observe(WorldState(scene, clip.frames, number, number))
    action, _ = expert.act(observation, None, scene)
    earlier = (torch.arange(steps) - lag).clamp(min=0) if lag else None
    return Examples(clip.frames, observation.ego, observation.route, action, earlier)


def gather(parts: Iterable[Examples]) -> Examples:
    """Examples of several clips as one."""
    parts = list(parts)
    if not parts:
        raise DataError("no clip with a scene to imitate; record some with `xpeng-world record`")
    columns = [torch.cat([getattr(p, name) for p in parts]) for name in ("camera", "ego", "route", "action")]
    hints = [p.hints for p in parts if p.hints is not None]
    first = np.cumsum([0, *(len(p) for p in parts)]).tolist()
    earlier = [p.earlier + begin for p, begin in zip(parts, first, strict=False) if p.earlier is not None]
    camera, ego, route, action = columns
    joined = lambda found: torch.cat(found) if len(found) == len(parts) else None
    return Examples(camera, ego, route, action, joined(earlier), joined(hints))


def steering_error(steering: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 of steering [...] from what was wanted [...]."""
    return nn.functional.smooth_l1_loss(steering, wanted, beta=0.1, reduction="none")


def pedal_error(pedal: Tensor, wanted: Tensor, caution: Tensor | float = 1.0) -> Tensor:
    """Smooth L1 of pedals [...] from what was wanted [...]; too much counts `caution` times as much as too little.

    Where a picture leaves open whether to brake, caution brakes; the wide quadratic part makes even doubt of less than half brake a
    little. The product of the two weights is 1.
    """
    caution = torch.as_tensor(caution, dtype=pedal.dtype)
    error = nn.functional.smooth_l1_loss(pedal, wanted.expand_as(pedal), beta=0.4, reduction="none")
    return error * torch.where(pedal > wanted, caution, 1 / caution).sqrt()


def mirror_examples(camera: Tensor, ego: Tensor, route: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mirror image of examples; camera [B, 3 or 6, H, W]."""
    return camera.flip(-1), ego * torch.tensor([1.0, 1, -1, -1, 1]), route * torch.tensor([1.0, -1]), action * torch.tensor([-1.0, 1])


@dataclass
class VlaSettings:
    """What only a VLA's imitation depends on."""

    size: str = "nano"
    tokenizer: str = "runs/tokenizer/weights"  # folder of the frame tokenizer
    init: str | None = None  # folder of a VLA to start from; its frame tokenizer is then the one used
    run: int = 2  # frames of a sample, one after another; the last is a decision to learn, those before are read
    clips: int = 0  # use the first so many clips only; 0: all
    drop: float = 0.1  # share of the visual tokens that training replaces by drawn ones
    camera: bool = True  # False hides the camera: all visual tokens are 0
    half: bool = True  # store the weights in float16


@dataclass
class ImitationConfig:
    """Everything a run of imitation depends on."""

    data: str | list[str] = "runs/logs"  # folder of shards, or several
    out: str = "runs/imitation"
    policy: str = "car"
    size: str = "small"  # of the car network, see `policies.car.SIZES`
    seed: int = 0
    steps: int = 6000  # optimiser steps in the whole schedule
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    steering_weight: float = 4.0  # steering errors count this many times as much as pedal errors
    caution: float = 8.0  # too much pedal counts this many times as much as too little
    mirror: float = 0.3  # chance that a batch is mirrored
    augment: float = 1.0  # strength of the changes to the pictures, see `rl.augment`
    dropout: float = 0.2  # of the features before the action, in training only
    hint_weight: float = 1.0  # of the error in what the features must tell: the vehicle and the light ahead, and who is where
    half: bool = False  # store the weights in float16; of a VLA `vla.half` says so
    precision: str = "auto"  # of the products in training: float32, bfloat16 or auto
    save_minutes: float = 3.0
    minutes: float = 0.0  # stop and keep the state after this long; 0: no limit
    threads: int = 2
    device: str = "cpu"  # cpu or cuda; policy=vla only
    resume: bool = True
    vla: VlaSettings = field(default_factory=VlaSettings)  # policy=vla only


def train_imitation(config: ImitationConfig) -> Path:
    """Train a car network or a VLA on recorded clips; returns the folder of its weights.

    Raises:
        ConfigError: an unknown policy or size, or numbers out of range.
        DataError: no clip to learn from.
        CheckpointError: a state to resume from that cannot be used.
    """
    if config.policy not in POLICIES:
        raise ConfigError(f"cannot train policy '{config.policy}'; {nearest(config.policy, POLICIES)}")
    if config.device not in ("cpu", "cuda") or (config.device == "cuda" and config.policy != "vla"):
        raise ConfigError(f"device={config.device}: use cpu; policy=vla also trains on cuda")
    torch.set_num_threads(config.threads)
    if config.policy == "vla":
        from .imitation_vla import train_vla

        return train_vla(config, config.vla)
    if not config.caution > 0:
        raise ConfigError(f"caution={config.caution} must be above 0")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout={config.dropout} must be at least 0 and below 1")
    if config.size not in SIZES:
        raise ConfigError(f"unknown size '{config.size}' of a car network; {nearest(config.size, SIZES)}")
    folders = [config.data] if isinstance(config.data, str) else config.data
    addresses = [address for folder in folders for address in list_clips(folder, "train")]

    parts: list[Examples] = []
    hints: list[Tensor] = []
    for address in tqdm(addresses, desc="labelling", unit="clip"):
        clip = load_clip(address)
        check_trainable(clip)
        if clip.track is not None:
            parts.append(label(clip, lag=SIZES[config.size].lag))
            hints.append(scene_hints(clip.track)[0])
    return Imitation(config, gather(parts), torch.cat(hints) if hints else None).run()


class Imitation:
    """One run; goes on from whatever state its folder holds. All draws come from (seed, step)."""

    def __init__(self, config: ImitationConfig, examples: Examples, hints: Tensor | None = None) -> None:
        """`hints` [M, HINTS] of the examples, see `scene_hints`; without them the action alone is learnt."""
        self.config, self.examples, self.hints = config, examples, hints
        self.out = Path(config.out)
        torch.manual_seed(config.seed)
        self.net = CarNet(SIZES[config.size])
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = resolve_precision(config.precision, "cpu")
        features = self.net.config.features  # the two heads are not part of the weights that are kept
        self.hint_head = nn.Linear(features, HINTS)
        self.bolder = nn.Linear(features, len(BOLDER))
        nn.init.normal_(self.bolder.weight, std=0.01)
        nn.init.zeros_(self.bolder.bias)
        parameters = [*self.net.parameters(), *self.hint_head.parameters(), *self.bolder.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.step = 0

    def run(self) -> Path:
        """Train to the end of the schedule or of the time allowed; returns the folder of the weights."""
        from torch.utils.tensorboard import SummaryWriter

        config = self.config
        if config.resume:
            self._restore()
        self.out.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        with SummaryWriter(str(self.out / "tensorboard")) as scalars, tqdm(total=config.steps, initial=self.step, desc="imitating") as bar:
            while self.step < config.steps:
                loss = self.train_step()
                bar.update()
                if self.step % 50 == 0:
                    scalars.add_scalar("imitation/loss", loss, self.step)
                    bar.set_postfix(loss=f"{loss:.4f}")
                now = time.monotonic()
                if now - saved > 60 * config.save_minutes:
                    self.save()
                    saved = now
                if config.minutes and now - started > 60 * config.minutes:
                    break
        self.save()
        return self.out / "weights"

    def train_step(self) -> float:
        """One optimiser step; returns the loss."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step, 17])
        rows = torch.from_numpy(rng.integers(len(self.examples), size=config.batch_size))
        camera = self.examples.pictures(rows, self.net.config.lag).permute(0, 3, 1, 2).float() / 255
        batch = (camera, self.examples.ego[rows], self.examples.route[rows], self.examples.action[rows])
        hints = None if self.hints is None else self.hints[rows]
        if rng.random() < config.mirror:
            batch = mirror_examples(*batch)
            hints = None if hints is None else mirror_hints(hints)
        camera, ego, route, wanted = batch
        camera, *earlier = augment(camera, config.augment, rng).split(3, 1)
        self.net.train()
        for group in self.optimiser.param_groups:
            share = self.step / config.steps
            group["lr"] = config.learning_rate * min(1.0, (self.step + 1) / 200) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * share))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            features = self.net.features(camera.contiguous(memory_format=torch.channels_last), ego, route, *earlier).float()
        dropped = features * (torch.from_numpy(rng.random(features.shape)) >= config.dropout).float() / (1 - config.dropout)
        steering, pedal = self.net.action(dropped).unbind(-1)
        pedals = torch.cat((self.bolder(dropped), pedal.unsqueeze(-1)), -1)
        caution = config.caution ** pedals.new_tensor([*BOLDER, 1.0])
        error = steering_error(steering, wanted[:, 0]), pedal_error(pedals, wanted[:, 1:], caution)
        loss = config.steering_weight * error[0].mean() + PEDALS * error[1].mean()
        if hints is not None:
            known = torch.ones(len(hints), dtype=torch.bool)
            loss = loss + config.hint_weight * hint_loss(self.hint_head(features), hints, known)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def save(self) -> None:
        """Write the weights and the state to resume from."""
        facts = {"trained_by": "imitation", "steps": self.step, "seed": self.config.seed}
        self.net.save(self.out / "weights", facts, self.config.half)
        meta = {"format": STATE_KIND, "version": STATE_VERSION, "step": self.step, "config": asdict(self.config)}
        save_state(self.out / "state", self._parts(), self.optimiser, meta)

    def _parts(self) -> dict[str, nn.Module]:
        return {"net": self.net, "hint_head": self.hint_head, "bolder": self.bolder}

    def _restore(self) -> None:
        folder = self.out / "state"
        meta = read_meta(folder, STATE_KIND, STATE_VERSION)
        if meta is None:
            return
        if meta["config"]["seed"] != self.config.seed:
            raise CheckpointError(f"'{folder}' is a state of seed {meta['config']['seed']}; choose another out= or set resume=false")
        if meta["config"].get("size", "small") != self.config.size:
            raise CheckpointError(f"'{folder}' is a state of size={meta['config']['size']}; choose another out= or set resume=false")
        load_state(folder, self._parts(), self.optimiser)
        self.step = meta["step"]
