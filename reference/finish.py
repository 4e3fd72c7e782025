"""The finishing of a rendered frame: sky and haze behind it, headlights before it, rain over it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from ..camera import Camera
from ..scene import Appearance
from .atmosphere import LOOKS
from .textures import panorama


class Finish:
    """Turns premultiplied renderer output into camera frames: sky and haze behind, headlights, rain."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._sky: dict[Appearance, npt.NDArray[np.float32]] = {}
        v = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal
        u = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
        self._elevation = camera.pitch - np.arctan(v)
        self._azimuth = -np.arctan(u)
        down = np.tan(np.maximum(-self._elevation, 1e-3))
        distance = camera.above_ground / down[:, None]
        lateral = u[None] * distance
        beam = np.exp(-(((distance - 9.0) / 9.0) ** 2) - (lateral / 3.2) ** 2) * (self._elevation < -0.01)[:, None]
        self._beam = (beam[..., None] * np.array([34.0, 31.0, 24.0])).astype(np.float32)

    def sky(self, appearance: Appearance, heading: float) -> npt.NDArray[np.float32]:
        """What lies behind everything [H, W, 3] in 0 to 255, seen along a heading in rad."""
        if appearance not in self._sky:
            self._sky[appearance] = panorama(LOOKS[appearance], self._elevation) * 255
        around = self._sky[appearance]
        columns = around.shape[1]
        at = (heading + self._azimuth) * (columns / (2 * math.pi))
        low = np.floor(at).astype(int)
        share = (at - low).astype(np.float32)[None, :, None]
        return around[:, low % columns] * (1 - share) + around[:, (low + 1) % columns] * share

    def __call__(self, rendered: npt.NDArray[np.uint8], appearance: Appearance, heading: float, time_s: float) -> npt.NDArray[np.uint8]:
        """A frame [H, W, 3].

        Args:
            rendered: [kH, kW, 4] blue, green, red times cover, and cover (what is left of things after haze), rows upward.
            appearance: weather and light.
            heading: where the camera looks, rad.
            time_s: the scene's time.
        """
        look = LOOKS[appearance]
        size = (self.camera.width, self.camera.height)
        small = cv2.resize(rendered, size, interpolation=cv2.INTER_AREA)[::-1].astype(np.float32)
        frame = small[..., 2::-1] + (1 - small[..., 3:] * (1 / 255)) * self.sky(appearance, heading)
        if look.lamps:
            frame += self._beam * (0.5 if look.rain else 1.0)
        if look.rain:
            frame += self._streaks(time_s)
        return np.clip(frame + 0.5, 0, 255).astype(np.uint8)

    def _streaks(self, time_s: float) -> npt.NDArray[np.float32]:
        """Falling drops [H, W, 1], drawn from the scene's time alone."""
        rng = np.random.default_rng(round(time_s * 1000) & 0x7FFFFFFF)
        height, width = self.camera.height, self.camera.width
        drops = np.zeros((height, width), np.float32)
        count = height * width // 90
        x, y, size = rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(2, 6, count)
        strength = rng.uniform(4.0, 13.0, count).astype(np.float32)
        for k in range(5):
            np.maximum.at(drops, (np.minimum(y + k, height - 1), x), np.where(k < size, strength, 0))
        return drops[..., None]
