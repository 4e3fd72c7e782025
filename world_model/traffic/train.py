"""Training of the learned agents: recorded motion tokens first, then the tokens that lead back from where their own draws lead."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ...batched import Batched
from ...data import read_clips
from ...errors import CheckpointError, ConfigError, DataError
from ...scene import Agents, Scene, Track
from ...training_state import load_state, read_meta, replace_folder, save_state
from .learned import PERIOD, LearnedMemory, carry_out
from .network import TrafficNetwork, TrafficSize
from .recorded import project_on_way, recorded_moments
from .views import STYLE, Views, find_ways, look_around
from .vocabulary import HORIZON, Vocabulary, group_of

STATE = ("traffic-training", 1)
STRIDE = 3  # steps between the moments that are read of a recording
FIRST = PERIOD  # first of them, so that there is a past
AGENTS = 24  # nearest to the ego that are read; those around them are seen by them
FORGET_STYLE = 0.5  # share of agents that are not told their style
CATCH_UP = 0.4  # 1/s, how fast a position that was lost is won back
RETURN = 0.7  # share of an offset to the side that a token takes back
LOST = 8.0  # m from where it was recorded at which an agent teaches no more


@dataclass
class TrainTrafficConfig:
    """Everything a run of traffic training depends on."""

    data: str | list[str] = "runs/logs"  # folder of shards, or several; the train split is used
    out: str = "runs/traffic"
    init: str = ""  # folder of weights to begin from; their vocabulary stays, and grows by kinds of road users that they had never seen
    seed: int = 0
    steps: int = 6000  # optimiser steps on recorded moments
    batch_size: int = 512  # agents of such a step
    closed_steps: int = 800  # optimiser steps on the agents' own futures, after them
    closed_batch: int = 6  # recorded moments unrolled side by side, all their agents at once
    unroll: int = 8  # decisions of half a second
    candidates: int = 6  # likeliest tokens from which the one nearest to the recording is carried out
    learning_rate: float = 1e-3
    minutes: float = 0.0  # stop (and keep the state) after this long; 0: no limit
    save_minutes: float = 5.0
    threads: int = 2
    resume: bool = True


@dataclass(frozen=True)
class Decisions(Batched):
    """D decisions of recorded agents."""

    views: Views  # [D, 1, ...]
    group: Tensor  # [D]
    token: Tensor  # [D]


def train_traffic(config: TrainTrafficConfig) -> Path:
    """Train the agents' network on the train split of recorded scenes; returns the folder of its weights.

    Every draw follows from (seed, step), so a run resumes exactly.

    Raises:
        ConfigError: numbers out of range.
        DataError: no recording with a scene.
        CheckpointError: a state in the folder that is damaged or of another run, or an `init` that cannot be read.
    """
    if config.steps < 0 or config.closed_steps < 0 or min(config.batch_size, config.closed_batch, config.unroll, config.candidates) < 1:
        raise ConfigError("steps and closed_steps must be 0 or more; batch_size, closed_batch, unroll and candidates 1 or more")
    torch.set_num_threads(config.threads)
    tracks = read_tracks(config.data, "train")
    views, group, motion = read_decisions(tracks)
    torch.manual_seed(config.seed)
    if config.init:
        network = TrafficNetwork.load(config.init)
        network = network.grown(network.vocabulary.grown(motion, group, config.seed))
    else:
        network = TrafficNetwork(Vocabulary.cover(motion, group, config.seed), TrafficSize())
    decisions = Decisions(views, group, network.vocabulary.nearest(motion, group))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    out = Path(config.out)
    step = _restore(config, network, optimiser, out / "state") if config.resume else 0
    total = config.steps + config.closed_steps
    began = saved = time.monotonic()
    smooth = {"loss": math.nan, "right": math.nan}
    print(f"{len(tracks)} recordings, {len(group)} decisions, {len(network.vocabulary)} tokens", flush=True)
    with tqdm(total=total, initial=step, unit="step", smoothing=0.05, disable=None) as bar:
        while step < total:
            rng = np.random.default_rng([config.seed, step])
            _schedule(optimiser, config, step)
            optimiser.zero_grad(set_to_none=True)
            network.train()
            chosen = torch.from_numpy(rng.choice(len(group), size=config.batch_size))
            loss, right = open_loss(network, decisions[chosen], rng)
            if step >= config.steps:
                loss = loss + closed_loss(network, tracks, config, rng)
            if not bool(torch.isfinite(loss)):
                raise DataError(f"the loss is {float(loss)} in step {step}; the last good weights are kept in {out / 'state'}")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            bar.update(1)
            for name, value in (("loss", float(loss.detach())), ("right", right)):
                smooth[name] = value if math.isnan(smooth[name]) else 0.98 * smooth[name] + 0.02 * value
            if step % 50 == 0:
                bar.set_postfix({name: f"{value:.4f}" for name, value in smooth.items()})
            now = time.monotonic()
            if now - saved > 60 * config.save_minutes:
                save_state(out / "state", {"network": network}, optimiser, _meta(config, step, network))
                saved = now
            if config.minutes and now - began > 60 * config.minutes:
                break
    save_state(out / "state", {"network": network}, optimiser, _meta(config, step, network))
    aside = out / "weights.partial"
    shutil.rmtree(aside, ignore_errors=True)
    network.save(aside, {"steps": step, "decisions": len(group), **smooth})
    replace_folder(aside, out / "weights")
    print(f"traffic after {step} steps, loss {smooth['loss']:.3f}, {smooth['right']:.0%} of tokens named first, in {out / 'weights'}")
    return out / "weights"


def read_tracks(data: str | Sequence[str], split: str) -> list[Track]:
    """The tracks [1, T] of recorded clips that know their scene and last long enough.

    Raises:
        DataError: there is none.
    """
    folders = [data] if isinstance(data, str) else list(data)
    tracks = []
    for folder in folders:
        for clip in read_clips(folder, split=split, frames=False):
            if clip.track is not None and clip.steps > FIRST + 2 * PERIOD:
                tracks.append(dataclasses.replace(clip.track, road=clip.track.road.trimmed()))
    if not tracks:
        raise DataError(f"no recording with a scene in {', '.join(folders)} (split '{split}'); record or import some")
    return tracks


def read_decisions(tracks: Sequence[Track]) -> tuple[Views, Tensor, Tensor]:
    """What recorded agents saw and did: views [D, 1, ...], groups [D] and motions [D, 2]."""
    views, groups, motions = [], [], []
    for track in tqdm(tracks, desc="reading", unit="clip", disable=None):
        moments = recorded_moments(track, torch.arange(FIRST, track.steps - PERIOD, STRIDE))
        slots = torch.arange(moments.known.shape[1]).expand_as(moments.known)
        scene = moments.scene
        seen, _ = look_around(scene, scene.ego, moments.memory, find_ways(scene.road, scene.agents, moments.memory), slots)
        known = moments.known & near(scene)
        views.append(Views(*(value[known].unsqueeze(1) for value in (seen.own, seen.way, seen.others, seen.seen))))
        groups.append(group_of(scene.agents.kind)[known])
        motions.append(moments.motion[known])
    return Views.cat(views), torch.cat(groups), torch.cat(motions)


def near(scene: Scene) -> Tensor:
    """Whether agents [B, N] are among the AGENTS nearest to the ego."""
    gap = (scene.agents.position - scene.ego.position.unsqueeze(1)).norm(dim=-1)
    gap = torch.where(scene.agents.valid, gap, torch.full_like(gap, torch.inf))
    return gap.argsort(-1).argsort(-1) < AGENTS


def open_loss(network: TrafficNetwork, decisions: Decisions, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Cross entropy of recorded tokens, and the share that is named first."""
    views = forget_styles(decisions.views, rng)
    logits = network(views, decisions.group.unsqueeze(-1)).squeeze(1)
    loss = functional.cross_entropy(logits, decisions.token)
    return loss, float((logits.argmax(-1) == decisions.token).float().mean())


def forget_styles(views: Views, rng: np.random.Generator) -> Views:
    """Views in which some agents are not told how they drive."""
    told = torch.from_numpy(rng.random((*views.own.shape[:-1], 1)) >= FORGET_STYLE)
    own = views.own.clone()
    own[..., STYLE] = own[..., STYLE] * told
    return dataclasses.replace(views, own=own)


def closed_loss(network: TrafficNetwork, tracks: Sequence[Track], config: TrainTrafficConfig, rng: np.random.Generator) -> Tensor:
    """Cross entropy of the tokens that lead back to the recording, along futures that the network's likeliest tokens made.

    Of the likeliest `candidates` tokens the one is carried out that comes nearest to the recording (Zhang et al., CAT-K, 2025); the ego
    moves as recorded.
    """
    scene, memory, columns, chosen = _unroll_start(tracks, config, rng)
    losses, counts = [], []
    for turn in range(config.unroll):
        later, there = _recorded_at(chosen, columns + (turn + 1) * PERIOD, scene.agents)
        ways = find_ways(scene.road, scene.agents, memory)
        slots = torch.arange(scene.agents.valid.shape[1]).expand_as(scene.agents.valid)
        with torch.no_grad():
            views = forget_styles(look_around(scene, scene.ego, memory, ways, slots)[0], rng)
        group = group_of(scene.agents.kind)
        wanted, lost = motion_back(scene, memory, later)
        known = there & ~lost & scene.agents.valid
        token = network.vocabulary.nearest(wanted, group)
        if bool(known.any()):
            picked = Views(*(value[known].unsqueeze(1) for value in (views.own, views.way, views.others, views.seen)))
            logits = network(picked, group[known].unsqueeze(-1)).squeeze(1)
            losses.append(functional.cross_entropy(logits, token[known], reduction="sum"))
            counts.append(int(known.sum()))
        with torch.no_grad():
            done = _carry_out_nearest(network, views, group, wanted, config.candidates)
            scene, memory = _leap(scene, memory, ways, done, chosen, columns + (turn + 1) * PERIOD)
    return torch.stack(losses).sum() / max(1, sum(counts)) if losses else torch.zeros(())


def motion_back(scene: Scene, memory: LearnedMemory, later: Agents) -> tuple[Tensor, Tensor]:
    """The motions [B, N, 2] that lead agents to where they were recorded HORIZON later, and who is too far off for one."""
    road, agents = scene.road, scene.agents
    arc, aside = project_on_way(road, memory.chain, agents, later.position)
    here, own_aside = project_on_way(road, memory.chain, agents, agents.position)
    behind = (arc - here) - 0.5 * (agents.speed + later.speed) * HORIZON
    change = later.speed - agents.speed + CATCH_UP * behind
    side = road.traffic_side.view(-1, 1)
    sideways = RETURN * (aside - own_aside) * side
    lost = ((later.position - agents.position).norm(dim=-1) - agents.speed * HORIZON).abs() > LOST
    return torch.stack((change, sideways.clamp(-1.0, 1.0)), -1), lost | (behind.abs() > LOST)


def _unroll_start(
    tracks: Sequence[Track], config: TrainTrafficConfig, rng: np.random.Generator
) -> tuple[Scene, LearnedMemory, Tensor, list[Track]]:
    chosen = [tracks[int(i)] for i in rng.integers(len(tracks), size=config.closed_batch)]
    scenes, memories, columns = [], [], []
    for track in chosen:
        last = max(FIRST + 1, track.steps - config.unroll * PERIOD)
        column = int(rng.integers(FIRST, last))
        moments = recorded_moments(track, torch.tensor([column]))
        scenes.append(moments.scene)
        memories.append(moments.memory)
        columns.append(column)
    return Scene.cat(scenes), LearnedMemory.cat(memories), torch.tensor(columns), chosen


def _recorded_at(tracks: Sequence[Track], columns: Tensor, agents: Agents) -> tuple[Agents, Tensor]:
    """The recorded agents of every track at its column, in the slots of `agents`, and who is there."""
    later = Agents.cat([_agents_at(track, int(column)) for track, column in zip(tracks, columns, strict=True)])
    inside = torch.tensor([int(c) < track.steps for track, c in zip(tracks, columns, strict=True)]).unsqueeze(-1)
    return later, later.valid & (later.id == agents.id) & inside


def _agents_at(track: Track, column: int) -> Agents:
    return track.agents.map(lambda value: value[:, min(column, track.steps - 1)])


def _carry_out_nearest(network: TrafficNetwork, views: Views, group: Tensor, wanted: Tensor, candidates: int) -> Tensor:
    logits = network(views, group)
    top = logits.topk(min(candidates, logits.shape[-1]), -1)
    motions = network.vocabulary.motions[top.indices]
    apart = (motions - wanted.unsqueeze(-2)).square() @ motions.new_tensor((0.0625, 1.0))  # m2 within HORIZON
    apart = torch.where(torch.isfinite(top.values), apart, torch.full_like(apart, torch.inf))
    best = apart.argmin(-1, keepdim=True)
    picked: Tensor = motions.gather(-2, best.unsqueeze(-1).expand(*best.shape, 2)).squeeze(-2)
    return picked


def _leap(
    scene: Scene, memory: LearnedMemory, ways: object, motion: Tensor, tracks: Sequence[Track], columns: Tensor
) -> tuple[Scene, LearnedMemory]:
    """Carry motions [B, N, 2] out, in steps of DT, with ego and signals as recorded at `columns`."""
    road, agents = scene.road, scene.agents
    side = road.traffic_side.view(-1, 1)
    memory = dataclasses.replace(memory, push=motion[..., 0] / HORIZON, slide=motion[..., 1] * side / HORIZON)
    agents, memory = carry_out(road, agents, memory, ways, torch.zeros_like(columns), HORIZON)  # type: ignore[arg-type]
    at = lambda field: torch.cat(
        [field(track)[:, min(int(column), track.steps - 1)] for track, column in zip(tracks, columns, strict=True)]
    )
    ego = dataclasses.replace(scene.ego, state=at(lambda track: track.ego.state))
    signals = [track.signals[:, min(int(c), track.steps - 1)] for track, c in zip(tracks, columns, strict=True)]
    widest = scene.signals.shape[1]
    signals = [functional.pad(s, (0, widest - s.shape[1])) for s in signals]
    return dataclasses.replace(scene, agents=agents, ego=ego, signals=torch.cat(signals), time=scene.time + HORIZON), memory


def _schedule(optimiser: torch.optim.Optimizer, config: TrainTrafficConfig, step: int) -> None:
    """Warm up, fall along a cosine; the second part begins at a third of the rate."""
    if step < config.steps:
        share, rate = step / config.steps, config.learning_rate
    else:
        share, rate = (step - config.steps) / max(1, config.closed_steps), config.learning_rate / 3
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / 200) * max(0.03, 0.5 + 0.5 * math.cos(math.pi * share))


def _meta(config: TrainTrafficConfig, step: int, network: TrafficNetwork) -> dict[str, object]:
    return {"format": STATE[0], "version": STATE[1], "step": step, "config": asdict(config), "tokens": len(network.vocabulary)}


def _restore(config: TrainTrafficConfig, network: TrafficNetwork, optimiser: torch.optim.Optimizer, folder: Path) -> int:
    meta = read_meta(folder, *STATE)
    if meta is None:
        return 0
    for key in ("seed", "batch_size", "steps", "closed_steps", "unroll"):
        was, now = meta["config"][key], getattr(config, key)
        if was != now:
            raise CheckpointError(f"'{folder}' was trained with {key}={was}, not {now}; choose another out= or set resume=false")
    if meta["tokens"] != len(network.vocabulary):
        raise CheckpointError(
            f"'{folder}' was trained on other recordings ({meta['tokens']} tokens); choose another out= or set resume=false"
        )
    load_state(folder, {"network": network}, optimiser)
    return int(meta["step"])
