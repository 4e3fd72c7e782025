"""A frozen driver's camera branch in the loss: pictures are near each other when a driver makes the same of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...policies.car import CarNet

SEEN = (64, 128)  # rows and columns that car networks see
LEAST_SPREAD = 1e-6  # below which a layer that says nothing is not scaled up


class Perceiver(nn.Module):
    """How far apart pictures are in the layers of a car network's camera branch (J. Johnson and others, "Perceptual Losses", ECCV 2016).

    Errors count by what a driver makes of them: a lamp that is a little too dim more than a lawn that is a little too green.
    """

    def __init__(self, net: CarNet) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        layers: list[nn.Module] = []
        for layer in net.features.camera:
            layers.append(layer)
            if isinstance(layer, nn.ReLU):
                self.stages.append(nn.Sequential(*layers))
                layers = []
        self.requires_grad_(False)

    @classmethod
    def load(cls, folder: str | Path) -> Perceiver:
        """The camera branch of the car network in a folder.

        Raises:
            CheckpointError: no car network there, or one that cannot be read.
            ConfigError: a car network that sees two pictures.
        """
        net = CarNet.load(folder)
        if net.config.lag:
            raise ConfigError(f"the car network in '{folder}' sees two pictures (lag={net.config.lag}); a perceiver sees one")
        return cls(net)

    def forward(self, painted: Tensor, true: Tensor) -> Tensor:
        """Mean over layers of the squared difference, over the spread of the true pictures in that layer: scalar, 0 for equal pictures.

        Args:
            painted: [B, 3, H, W] in [-1, 1]; gradients go through.
            true: likewise.
        """
        both = torch.cat((painted, true)) / 2
        if both.shape[-2:] != SEEN:
            both = F.interpolate(both, SEEN, mode="area")
        apart = []
        for stage in self.stages:
            both = stage(both)
            mine, wanted = both.chunk(2)
            apart.append((mine - wanted).square().mean() / wanted.var().clamp_min(LEAST_SPREAD))
        return torch.stack(apart).mean()
