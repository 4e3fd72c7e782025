"""Windows of recorded traffic, and what simulated road users make of them beside the recorded ego."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ...data import Clip, read_clips
from ...errors import ConfigError, DataError
from ...scene import Agents, Ego, Scene, Track
from ...world_model.traffic import SLOTS, Traffic, make_traffic
from ...world_model.traffic.baselines import LogReplayTraffic, ReplayTraffic
from ...world_model.traffic.memory import clear, nearest_agents
from ...world_model.traffic.spawning import FAR
from .pictures import SECOND

KINDS = ("learned", "idm", "constant_velocity", "replay", "log_replay")
LOOKING = ("learned", "idm")  # those that may replace agents, which is turned off here
BEGIN = 11  # first simulated column: 1.1 s of history, as in the challenge
SHORTEST = 2 * SECOND  # simulated steps below which a window says too little
_FIELDS = tuple(field.name for field in dataclasses.fields(Agents))


@dataclass(frozen=True)
class Window:
    """Part of a recording: columns before BEGIN are history, those from it on are simulated."""

    log: Track  # [1, T], of the agents that are simulated and nobody else, SLOTS of them
    source: str  # see `source_of`
    clip: int  # number of its clip, the unit that figures are drawn anew from


def read_windows(folders: Sequence[str], clips: int, steps: int) -> list[Window]:
    """Windows of BEGIN + `steps` columns, one after the other, of the first `clips` clips of the test split of each folder.

    A clip that is shorter than that is one window if it holds SHORTEST simulated steps. Windows without a road user are left out.

    Raises:
        DataError: there is none.
    """
    found: list[Window] = []
    number = 0
    for folder in folders:
        for clip in islice(read_clips(folder, split="test", frames=False), clips):
            for log in _cut(clip, steps):
                found.append(Window(log, source_of(clip), number))
            number += 1
    if not found:
        least = BEGIN + SHORTEST
        raise DataError(f"no clip of the test split in {', '.join(folders)} has road users and {least} frames; record some first")
    return found


def source_of(clip: Clip) -> str:
    """Where a clip is from: "human" for recorded human traffic, "town" for the reference world's towns, "logs" for its other roads."""
    if clip.provenance.get("driver") == "human":
        return "human"
    return "town" if clip.provenance.get("family") == "town" else "logs"


def _cut(clip: Clip, steps: int) -> Iterator[Track]:
    if clip.track is None or clip.steps < BEGIN + SHORTEST:
        return
    length = min(clip.steps, BEGIN + steps)
    for start in range(0, clip.steps - length + 1, length):
        log = simulated_agents(clip.track.columns(slice(start, start + length)))
        if bool(log.agents.valid.any()) and bool(log.valid.all()):
            yield log


def simulated_agents(log: Track, column: int = BEGIN - 1, slots: int = SLOTS) -> Track:
    """The log [1, T] of nobody but the `slots` agents nearest to the ego in a column, each in one slot, as far as traffic reaches.

    Road users that come later are left out, as the challenge does: no simulator could know of them.
    """
    chosen = nearest_agents(log.agents.map(lambda value: value[:, column]), log.ego.map(lambda value: value[:, column]), slots)
    match = log.agents.valid.unsqueeze(2) & (log.agents.id.unsqueeze(2) == chosen.id.view(1, 1, -1, 1))  # [1, T, slots, N]
    match &= chosen.valid.view(1, 1, -1, 1)
    there, place = match.any(-1), match.int().argmax(-1)
    take = lambda value: value.gather(2, place.view(*place.shape, *([1] * (value.ndim - 3))).expand(*place.shape, *value.shape[3:]))
    agents = log.agents.map(take)
    away = (agents.position - log.ego.position.unsqueeze(2)).norm(dim=-1) > FAR
    return dataclasses.replace(log, agents=clear(dataclasses.replace(agents, valid=there), away))


def make_simulator(kind: str, world: str, log: Track) -> Traffic:
    """Traffic by name; those of LOOKING without arrivals.

    Raises:
        ConfigError: no such traffic.
        CheckpointError: weights that cannot be read.
    """
    if kind == "replay":
        return ReplayTraffic(log)
    if kind == "log_replay":
        return LogReplayTraffic(log)
    options = {"spawning": False} if kind in LOOKING else {}
    return make_traffic(kind, "" if world == "learned" else world, **options)


@torch.inference_mode()
def roll_out(traffic: Traffic, log: Track, seeds: Tensor, begin: int = BEGIN, ego: Tensor | None = None) -> Track:
    """Rollouts [R, T] of a log [1, T] from column `begin` on; the columns before are those of the log.

    Args:
        traffic: moves the agents.
        log: of SLOTS agents, from `simulated_agents`, or [R, T]; signals and route are its own.
        seeds: int64 [R].
        begin: first simulated column.
        ego: [R, T, 7] what the ego does instead of what it did in the log.
    """
    rows = len(seeds)
    wide = log if log.batch_size == rows else log.map(lambda value: value.expand(rows, *value.shape[1:]))
    if ego is not None:
        wide = dataclasses.replace(wide, ego=Ego(ego))
    scene: Scene = wide.scene(begin - 1)
    agents, memory = traffic.reset(scene, seeds)
    if agents.valid.shape[1] != log.agents.valid.shape[2]:
        raise ConfigError(f"traffic keeps {agents.valid.shape[1]} slots where the log has {log.agents.valid.shape[2]}")
    columns: list[Agents] = []
    for step, column in enumerate(range(begin, log.steps)):
        scene = dataclasses.replace(scene, agents=agents)
        following = wide.scene(column)
        agents, memory = traffic.step(scene, following.ego, memory, seeds, torch.full_like(seeds, step))
        columns.append(agents)
        scene = following
    before = wide.agents.map(lambda value: value[:, :begin])
    after: Agents = Agents.stack_time(columns)
    joined = Agents(*(torch.cat((getattr(before, name), getattr(after, name)), 1) for name in _FIELDS))
    return dataclasses.replace(wide, agents=joined)
