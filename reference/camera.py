"""The ego's view of the reference world, drawn by Panda3D's software renderer with the pinhole of `camera.Camera`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import CAMERA, Camera
from ..scene import Appearance, Scene
from .finish import Finish


class ReferenceCamera:
    """Draws scenes as the ego's camera sees them.

    Every picture depends on its scene alone. Maps are turned into meshes once and kept while they are among the last few.

    Raises:
        SimulatorError: Panda3D is not installed.
    """

    def __init__(self, camera: Camera = CAMERA, supersample: int = 3) -> None:
        from .stage import stage_of

        self.camera = camera
        self._stage = stage_of(camera, supersample)
        self._finish = Finish(camera)

    def render(self, scene: Scene) -> Tensor:
        """Frames [B, H, W, 3] uint8 of scenes [B]."""
        scene = scene.to("cpu")
        return torch.stack([self._render_one(scene[b]) for b in range(scene.batch_size)])

    def _render_one(self, scene: Scene) -> Tensor:
        appearance = Appearance(int(scene.appearance[0]))
        rendered = self._stage.draw(scene, appearance)
        return torch.from_numpy(self._finish(rendered, appearance, float(scene.ego.heading[0]), float(scene.time[0])))
