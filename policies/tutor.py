"""The expert as a teacher: what it wants, rather than what a smooth ride lets it do within a tenth of a second."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..scene import Scene
from .corridor import corridor
from .expert import Expert, ExpertConfig, pursue

STOP_SHORT = 1.5  # m before a stop line
URGENT = 1.5  # m/s2; a stop that needs more is braked for with a reserve
RESERVE = 1.4  # of the braking that is needed


class Tutor(Expert):
    """The expert without its limit on jerk: its pedal is the acceleration that the scene calls for, whatever acceleration the car has.

    The expert's own pedal stays close to the acceleration that the car has already, so whoever imitates it learns to go on as before:
    the need to brake is a small change of the label until it is an emergency, and by then a learner that goes on has hit what is ahead.
    The tutor's label is the need itself, early and in proportion. It drives less smoothly than the expert.

    The expert brakes for a red light in good time, never has to brake for one firmly, and passes a line that it cannot stop at any more. A
    learner that brakes too little comes into states that the expert never sees, and needs other labels there: the more the later it is,
    and none that tells it to go on.
    """

    def __init__(self, config: ExpertConfig | None = None, name: str = "tutor") -> None:
        super().__init__(config or ExpertConfig(red_braking=math.inf), name)

    def drive(self, scene: Scene) -> Tensor:
        """Actions [B, 2] for scenes [B]."""
        path = corridor(scene)
        wanted, danger = self._acceleration(scene, path)
        wanted = torch.where(danger, wanted, wanted.clamp_min(-self.config.firm_braking))
        room = (self._stop_line(scene, path) - STOP_SHORT).clamp_min(0.3)
        needed = scene.ego.speed.square() / (2 * room)
        wanted = torch.where(needed > URGENT, torch.minimum(wanted, -RESERVE * needed), wanted)
        profile = scene.profile
        pedal = torch.where(wanted >= 0, wanted / profile.max_acceleration, wanted / profile.max_braking).clamp(-1, 1)
        return torch.stack((pursue(scene.ego, profile, path), pedal), -1)
