"""Scripted road users among those that any traffic moves: they take the last slots, and the others see them as anybody else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batched import Batched
from ..scenarios import IDENTITY, Script, advance, in_the_way, put_on_road
from ..scene import DT, Agents, Ego, Scene
from .traffic import SLOTS, Traffic
from .traffic.memory import clear, nearest_agents


@dataclass(frozen=True)
class ScriptedMemory(Batched):
    """What the traffic remembers, and where the script is."""

    inner: Any
    script: Script  # [B, A]


def begin_scripted(traffic: Traffic, scene: Scene, script: Script, seed: Tensor) -> tuple[Agents, ScriptedMemory]:
    """Take over a scene [B] with the actors of a script [B] in it; whoever is in their way or between them and the ego is removed."""
    actors = put_on_road(script)
    others = clear(scene.agents, in_the_way(scene, actors, script))
    others = nearest_agents(others, scene.ego, SLOTS - script.count)
    scene = dataclasses.replace(scene, agents=_join(others, actors))
    agents, inner = traffic.reset(scene, seed)
    slots = agents.valid.shape[1]
    agents = _overwrite(agents, actors, script.there, script.there)
    inner = _off_lane(inner, script.there, slots)
    if hasattr(inner, "next_id"):  # who arrives later is numbered after the others, not after the actors
        numbers = torch.where(agents.id < IDENTITY, agents.id, torch.zeros_like(agents.id))
        inner = dataclasses.replace(inner, next_id=numbers.amax(-1) + 1)
    return agents, ScriptedMemory(inner, script)


def step_scripted(
    traffic: Traffic, scene: Scene, ego_next: Ego, memory: ScriptedMemory, seed: Tensor, step: Tensor
) -> tuple[Agents, ScriptedMemory]:
    """Advance everybody by DT."""
    agents, inner = traffic.step(scene, ego_next, memory.inner, seed, step)
    script = advance(memory.script, ego_next, scene.time + DT)
    agents = _overwrite(agents, put_on_road(script, memory.script), script.there, memory.script.there)
    return agents, ScriptedMemory(_off_lane(inner, memory.script.there, agents.valid.shape[1]), script)


def _join(others: Agents, actors: Agents) -> Agents:
    names = [field.name for field in dataclasses.fields(Agents)]
    return Agents(*(torch.cat((getattr(others, name), getattr(actors, name)), 1) for name in names))


def _overwrite(agents: Agents, actors: Agents, there: Tensor, was: Tensor) -> Agents:
    """Put the actors [B, A] into the last slots, and nobody there in the step in which one is gone."""
    count, width = agents.valid.shape[1], there.shape[1]
    mine = torch.nn.functional.pad(there | was, (count - width, 0))
    spread = lambda value: torch.cat((value.new_zeros(value.shape[0], count - width, *value.shape[2:]), value), 1)
    pick = lambda a, b: torch.where(mine.view(*mine.shape, *([1] * (a.ndim - 2))), spread(b).to(a.dtype), a)
    names = [field.name for field in dataclasses.fields(Agents)]
    return Agents(*(pick(getattr(agents, name), getattr(actors, name)) for name in names))


def _off_lane(inner: Any, there: Tensor, slots: int) -> Any:
    """The traffic's memory with the actors on no lane, so that it neither steers them nor hands their slots on."""
    if inner is None or not hasattr(inner, "chain"):
        return inner
    mine = torch.nn.functional.pad(there, (slots - there.shape[1], 0))
    return dataclasses.replace(inner, chain=torch.where(mine.unsqueeze(-1), torch.full_like(inner.chain, -1), inner.chain))
