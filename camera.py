"""The ego's camera: one pinhole that the reference's renderer, the layout and the warp share."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Camera:
    """A forward pinhole camera fixed to the ego; image x to the right, y down, depth along the optical axis."""

    height: int = 64  # pixels
    width: int = 128  # pixels
    horizontal_fov: float = math.radians(80.0)
    above_ground: float = 1.5  # m
    forward: float = 0.8  # m ahead of the centre of the ego's box
    pitch: float = math.radians(-2.0)  # negative looks down

    @property
    def focal(self) -> float:
        """Focal length in pixels; pixels are square."""
        return 0.5 * self.width / math.tan(0.5 * self.horizontal_fov)

    def scaled(self, factor: float) -> Camera:
        """The same camera with `factor` times the pixels in each direction."""
        return Camera(
            round(self.height * factor), round(self.width * factor), self.horizontal_fov, self.above_ground, self.forward, self.pitch
        )


CAMERA = Camera()
