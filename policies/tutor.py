"""The expert as a teacher: what it wants, rather than what a smooth ride lets it do within a tenth of a second."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene import Scene
from .corridor import corridor
from .expert import Expert, ExpertConfig, pursue


class Tutor(Expert):
    """The expert without its limit on jerk: its pedal is the acceleration that the scene calls for, whatever acceleration the car has.

    The expert's own pedal stays close to the acceleration that the car has already, so whoever imitates it learns to go on as before:
    the need to brake is a small change of the label until it is an emergency, and by then a learner that goes on has hit what is ahead.
    The tutor's label is the need itself, early and in proportion. It drives less smoothly than the expert.
    """

    def __init__(self, config: ExpertConfig | None = None, name: str = "tutor") -> None:
        super().__init__(config, name)

    def drive(self, scene: Scene) -> Tensor:
        """Actions [B, 2] for scenes [B]."""
        path = corridor(scene)
        wanted, danger = self._acceleration(scene, path)
        wanted = torch.where(danger, wanted, wanted.clamp_min(-self.config.firm_braking))
        profile = scene.profile
        pedal = torch.where(wanted >= 0, wanted / profile.max_acceleration, wanted / profile.max_braking).clamp(-1, 1)
        return torch.stack((pursue(scene.ego, profile, path), pedal), -1)
