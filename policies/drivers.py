"""Drivers for recordings and rankings: the expert disturbed, wild, careless, lost, standing or slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batched import Batched
from ..errors import ConfigError
from ..geometry import to_frame
from ..scene import DT, Scene
from ..world import Observation
from .expert import Expert, ExpertConfig, pedal_for, steer_to

WAVES = 12  # sinusoids that make up one channel of noise

# Share of episodes, chosen so that the frames come to about 40 / 30 / 15 / 8 / 7 %: the wild drivers' episodes end early.
MIXTURE: dict[str, float] = {"expert": 0.33, "noisy_expert": 0.26, "random": 0.24, "reckless": 0.09, "offroad": 0.08}


@dataclass(frozen=True)
class Plan(Batched):
    """What a driver drew for its episode, and how far it is in it: its whole memory."""

    step: Tensor  # [B] int64
    amplitude: Tensor  # [B, 2, WAVES]
    frequency: Tensor  # [B, 2, WAVES] rad/s
    phase: Tensor  # [B, 2, WAVES]
    onset_s: Tensor  # [B] s, when the misbehaviour begins
    side: Tensor  # [B] -1 or 1
    strength: Tensor  # [B] in [0, 1]

    @classmethod
    def draw(cls, seeds: Sequence[int], salt: int, correlation_s: float) -> Plan:
        """Draw plans for episodes, one per seed.

        The noise of each channel is stationary with unit variance and about the spectrum of an Ornstein-Uhlenbeck process of
        that correlation time, as a sum of sinusoids, so that any step of it is known from the plan.
        """
        rows = []
        for seed in seeds:
            rng = np.random.default_rng([int(seed), salt])
            # Cauchy frequencies: the spectrum of an exponential autocorrelation; cut where it is no longer smooth.
            rates = np.clip(np.abs(rng.standard_cauchy((2, WAVES))), 0.05, 8.0) / correlation_s
            phase = rng.uniform(0, 2 * np.pi, (2, WAVES))
            rows.append((rates, phase, rng.uniform(1.5, 12.0), rng.choice([-1.0, 1.0]), rng.uniform(0, 1)))
        column = lambda k: torch.as_tensor(np.array([row[k] for row in rows]), dtype=torch.float32)
        frequency = column(0)
        amplitude = torch.full_like(frequency, (2.0 / WAVES) ** 0.5)
        step = torch.zeros(len(rows), dtype=torch.int64)
        return cls(step, amplitude, frequency, column(1), column(2), column(3), column(4))

    @property
    def time(self) -> Tensor:
        """Seconds [B] since the episode began."""
        return self.step * DT

    def noise(self) -> Tensor:
        """The noise [B, 2] of this step, about unit variance."""
        return (self.amplitude * torch.sin(self.frequency * self.time.view(-1, 1, 1) + self.phase)).sum(-1)

    def next(self) -> Plan:
        """The plan one step on."""
        return Plan(self.step + 1, self.amplitude, self.frequency, self.phase, self.onset_s, self.side, self.strength)


class Driver:
    """A driver with a plan; subclasses say how it acts."""

    name = "driver"
    privileged = True
    looks = False  # at pictures
    salt = 0
    correlation_s = 1.0

    def __init__(self) -> None:
        self._expert = Expert()

    def initial_memory(self, seeds: Sequence[int]) -> Plan:
        """One plan per seed."""
        return Plan.draw(seeds, self.salt, self.correlation_s)

    @torch.no_grad()
    def act(self, observation: Observation | None, memory: Plan, scene: Scene | None = None) -> tuple[Tensor, Plan]:
        """Actions [B, 2] and the next memory.

        Raises:
            ConfigError: no scene was given to a driver that reads it.
        """
        if scene is None and self.privileged:
            raise ConfigError(f"policy '{self.name}' reads the scene; drive it in a world that has one")
        return self.drive(scene, memory).clamp(-1, 1), memory.next()

    def drive(self, scene: Any, plan: Plan) -> Tensor:
        """Actions [B, 2], clamped by the caller."""
        raise NotImplementedError


class NoisyExpert(Driver):
    """The expert with smooth noise on its actions that comes and goes, so that its recoveries are seen."""

    name, salt = "noisy_expert", 101

    def drive(self, scene: Scene, plan: Plan) -> Tensor:
        """The expert's actions and noise of up to 0.1 to 0.5 (steering) and 0.15 to 0.6 (pedal) standard deviation."""
        pulse = torch.sin(2 * torch.pi * plan.time / 7.0 + plan.phase[:, 0, 0]).clamp_min(0).unsqueeze(-1)
        scale = torch.stack((0.1 + 0.4 * plan.strength, 0.15 + 0.45 * plan.strength), -1)
        return self._expert.drive(scene) + pulse * scale * plan.noise()


class RandomDriver(Driver):
    """Smooth random actions, blind to everything; half of the drivers steer mildly and so last longer."""

    name, salt, privileged, correlation_s = "random", 102, False, 1.5

    def drive(self, scene: Any, plan: Plan) -> Tensor:
        """Noise, around a pedal that keeps the car rolling."""
        scale = torch.stack((0.05 + 0.45 * plan.strength.square(), 0.25 + 0.35 * plan.strength), -1)
        return plan.noise() * scale + torch.tensor([0.0, 0.12])


class Reckless(Driver):
    """After some normal seconds: speeds, ignores lights and leaders, and drives at the nearest road user ahead."""

    name, salt = "reckless", 103

    def drive(self, scene: Scene, plan: Plan) -> Tensor:
        """The expert until the onset, then a chase of the nearest agent ahead, or of the route where nobody is."""
        ego, agents = scene.ego, scene.agents
        normal = self._expert.drive(scene)
        local = to_frame(agents.position, ego.position.unsqueeze(1), ego.heading.unsqueeze(1))
        gap = local.norm(dim=-1)
        lead = 0.5 * gap / (ego.speed.unsqueeze(1) + 3.0)  # s, aims where the target will be
        velocity = agents.speed.unsqueeze(-1) * torch.stack((torch.cos(agents.heading), torch.sin(agents.heading)), -1)
        aim = to_frame(agents.position + lead.unsqueeze(-1) * velocity, ego.position.unsqueeze(1), ego.heading.unsqueeze(1))
        prey = agents.valid & (local[..., 0] > 2.0) & (local[..., 1].abs() < 0.7 * local[..., 0]) & (gap < 60.0)
        ranked = torch.where(prey, gap, torch.full_like(gap, torch.inf))
        nearest, index = ranked.min(-1)
        target = aim.gather(1, index.view(-1, 1, 1).expand(-1, 1, 2)).squeeze(1)
        hunting = torch.isfinite(nearest)
        steering = torch.where(hunting, steer_to(target, ego, scene.profile), normal[:, 0])
        pedal = pedal_for(torch.where(ego.speed < 8.0 + 14.0 * plan.strength, 2.5, 0.0), ego, scene.profile, 100.0)
        wild = torch.stack((steering, pedal), -1)
        return torch.where((plan.time >= plan.onset_s).unsqueeze(-1), wild, normal)


class Offroad(Driver):
    """Leaves the road on one side after some normal seconds."""

    name, salt = "offroad", 104

    def drive(self, scene: Scene, plan: Plan) -> Tensor:
        """The expert until the onset, then a drift or a turn to the side at constant speed."""
        normal = self._expert.drive(scene)
        steering = plan.side * (0.15 + 0.7 * plan.strength)
        pedal = pedal_for(torch.where(scene.ego.speed < 6.0, 1.5, 0.0), scene.ego, scene.profile, 3.0)
        return torch.where((plan.time >= plan.onset_s).unsqueeze(-1), torch.stack((steering, pedal), -1), normal)


class Idle(Driver):
    """Brakes gently to a stand and stays there, wheels straight: what a score must not reward."""

    name, salt, privileged = "idle", 105, False

    def drive(self, scene: Any, plan: Plan) -> Tensor:
        """A constant gentle brake."""
        return torch.tensor([0.0, -0.25]).expand(plan.step.shape[0], 2)


class Circle(Driver):
    """Full lock at walking pace, round and round: moves all the time and gets nowhere."""

    name, salt = "circle", 106

    def drive(self, scene: Scene, plan: Plan) -> Tensor:
        """Full steering to the plan's side; 3 m/s."""
        pedal = pedal_for((3.0 - scene.ego.speed).clamp(-2.0, 2.0), scene.ego, scene.profile, 5.0)
        return torch.stack((plan.side, pedal), -1)


def crawl() -> Expert:
    """The expert at a tenth of the speed limit: breaks no rule and holds everybody up."""
    return Expert(ExpertConfig(speed_factor=0.1), name="crawl")


def lazy() -> Expert:
    """The expert at a third of the speed limit: safe and slow."""
    return Expert(ExpertConfig(speed_factor=0.33), name="lazy")
