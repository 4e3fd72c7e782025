"""Road users that do not look: straight on, a recording again, or another's recorded motion."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ...batched import Batched
from ...errors import ConfigError
from ...geometry import from_frame, to_frame, wrap_angle
from ...scene import DT, AgentKind, Agents, Ego, Scene, Track
from .draws import uniform
from .interface import SLOTS
from .memory import nearest_agents

SALT = 61  # of the draw of a donor


class ConstantVelocityTraffic:
    """Agents that go straight on at the speed and heading they have.

    Args:
        slots: agents kept around the ego.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self.slots = slots

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, None]:
        """Take over the agents nearest to the ego of a scene [B]."""
        return nearest_agents(scene.agents, scene.ego, self.slots), None

    def step(self, scene: Scene, ego_next: Ego, memory: None, seed: Tensor, step: Tensor) -> tuple[Agents, None]:
        """Advance all agents by DT; see `Traffic.step`."""
        agents = scene.agents
        ahead = torch.stack((agents.speed * DT, torch.zeros_like(agents.speed)), -1)
        return _put(agents, from_frame(ahead, agents.position, agents.heading), agents.heading, agents.speed), None


class LogReplayTraffic:
    """Agents that do what a recording says; where it has ended they are gone.

    Args:
        log: [1, T] whose moments the scenes are, told by their time.
    """

    def __init__(self, log: Track) -> None:
        self.log = _one(log)

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, Tensor]:
        """The recorded agents at the time of a scene [B]; the memory is the column [B] of the recording."""
        column = _column(self.log, scene)
        return self._at(column), column

    def step(self, scene: Scene, ego_next: Ego, memory: Tensor, seed: Tensor, step: Tensor) -> tuple[Agents, Tensor]:
        """The recorded agents DT later; see `Traffic.step`."""
        return self._at(memory + 1), memory + 1

    def _at(self, column: Tensor) -> Agents:
        log = self.log.to(column.device)
        agents = log.agents.map(lambda value: value[0, column.clamp_max(log.steps - 1)])
        ended = (column >= log.steps).unsqueeze(-1)
        empty = Agents.empty(*agents.valid.shape).to(column.device)
        pick = lambda name: _where(ended, getattr(empty, name), getattr(agents, name))
        return Agents(*(pick(field.name) for field in dataclasses.fields(Agents)))


@dataclass(frozen=True)
class ReplayMemory(Batched):
    """Whose motion agents repeat."""

    donor: Tensor  # int64 [B, N], slot of the recording; -1: nobody's, straight on
    column: Tensor  # int64 [B], of the recording


class ReplayTraffic:
    """Agents that repeat the recorded motion of another agent of the same kind, in their own frame, from the same moment on.

    The donor is drawn by the seed among those that are recorded longest; an agent goes straight on where there is none of its kind, and
    where the donor's recording ends it goes on with the donor's last step.

    Args:
        log: [1, T] whose moments the scenes are, told by their time.
        slots: agents kept around the ego.
    """

    def __init__(self, log: Track, slots: int = SLOTS) -> None:
        self.log, self.slots = _one(log), slots
        agents = log.agents
        before, after = agents.map(lambda value: value[0, :-1]), agents.map(lambda value: value[0, 1:])
        shift = to_frame(after.position, before.position, before.heading)
        turn = wrap_angle(after.heading - before.heading)
        motion = torch.cat((shift, turn.unsqueeze(-1), after.speed.unsqueeze(-1)), -1)
        known = before.valid & after.valid & (before.id == after.id)
        motion = torch.where(known.unsqueeze(-1), motion, torch.zeros_like(motion))
        for column in range(1, len(motion)):
            motion[column] = torch.where(known[column].unsqueeze(-1), motion[column], motion[column - 1])
        self._motion = motion  # [T - 1, N, 4] m ahead, m to the left, rad, and the speed in m/s after it
        self._known = known

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, ReplayMemory]:
        """Take over the agents nearest to the ego of a scene [B] and draw their donors."""
        agents = nearest_agents(scene.agents, scene.ego, self.slots)
        column = _column(self.log, scene)
        first = column.clamp_max(len(self._known) - 1)
        lives = torch.stack([self._lives(int(c)) for c in first.tolist()]).to(seed.device)  # [B, D]
        log = self.log.to(seed.device)
        kind, identity = (value[0, first] for value in (log.agents.kind, log.agents.id))
        fits = (kind.unsqueeze(1) == agents.kind.unsqueeze(2)) & (identity.unsqueeze(1) != agents.id.unsqueeze(2))
        fits &= (lives > 0).unsqueeze(1) & (agents.valid & (agents.kind != int(AgentKind.STATIC))).unsqueeze(-1)  # [B, N, D]
        life = torch.where(fits, lives.unsqueeze(1), 0)
        fits &= life == life.amax(-1, keepdim=True)
        draw = uniform(seed.view(-1, 1, 1), agents.id.unsqueeze(-1), torch.arange(fits.shape[-1], device=seed.device), SALT)
        best, donor = torch.where(fits, draw, -1.0).max(-1)
        return agents, ReplayMemory(torch.where(best >= 0, donor, -1), column)

    def _lives(self, column: int) -> Tensor:
        """Steps [D] that each slot's agent is recorded from a column on."""
        return self._known[column:].int().cumprod(0).sum(0)

    def step(self, scene: Scene, ego_next: Ego, memory: ReplayMemory, seed: Tensor, step: Tensor) -> tuple[Agents, ReplayMemory]:
        """Advance all agents by DT; see `Traffic.step`."""
        agents = scene.agents
        motion = self._motion.to(agents.state.device)[memory.column.clamp_max(len(self._motion) - 1)]  # [B, D, 4]
        motion = motion.gather(1, memory.donor.clamp_min(0).unsqueeze(-1).expand(-1, -1, 4))
        straight = torch.zeros_like(motion)
        straight[..., 0], straight[..., 3] = agents.speed * DT, agents.speed
        motion = torch.where((memory.donor >= 0).unsqueeze(-1), motion, straight)
        place = from_frame(motion[..., :2], agents.position, agents.heading)
        moved = _put(agents, place, wrap_angle(agents.heading + motion[..., 2]), motion[..., 3])
        return moved, dataclasses.replace(memory, column=memory.column + 1)


def _put(agents: Agents, position: Tensor, heading: Tensor, speed: Tensor) -> Agents:
    """Agents [B, N] at other places, with the acceleration that their speeds make."""
    push = (speed - agents.speed) / DT
    state = torch.cat((position, torch.stack((heading, speed, push), -1), agents.state[..., 5:]), -1)
    state = torch.where(agents.valid.unsqueeze(-1), state, torch.zeros_like(state))
    return dataclasses.replace(agents, state=state, brake=agents.valid & (push < -0.5))


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.view(*mask.shape, *([1] * (no.ndim - mask.ndim))), yes, no)


def _column(log: Track, scene: Scene) -> Tensor:
    """The column [B] of the log at the time of each scene."""
    return (log.time[0].to(scene.time.device) - scene.time.unsqueeze(-1)).abs().argmin(-1)


def _one(log: Track) -> Track:
    if log.batch_size != 1 or log.steps < 2:
        raise ConfigError(f"a recording to repeat must be a track [1, T] of 2 steps or more, not [{log.batch_size}, {log.steps}]")
    return log
