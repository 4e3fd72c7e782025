"""Light, haze, sky and rain: what each appearance does to colours, and the finishing of a rendered frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..camera import Camera
from ..scene import Appearance

Colour = tuple[float, float, float]
FADE_RANGE = 1024.0  # m covered by the haze ramp; the far plane lies within it


@dataclass(frozen=True)
class Look:
    """How one appearance lights the world. Colours are display values in [0, 1]."""

    ambient: Colour
    sunlight: Colour  # added where a face looks at the sun
    sun: Colour  # unit vector towards the sun, ENU
    haze: float  # m at which an object has faded to 37 %
    zenith: Colour
    horizon: Colour
    shadow: float  # factor on the ground in a vehicle's shadow
    wet: float = 1.0  # factor on asphalt
    lamps: bool = False  # headlights and lit windows
    rain: bool = False

    def shade(self, normals: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Light [..., 3] on surfaces with unit normals [..., 3]."""
        facing = np.maximum(normals @ np.array(self.sun, np.float32), 0)[..., None]
        upward = 0.82 + 0.18 * normals[..., 2:]
        return (np.array(self.ambient, np.float32) * upward + np.array(self.sunlight, np.float32) * facing).astype(np.float32)

    @property
    def ground(self) -> npt.NDArray[np.float32]:
        """Light [3] on level ground."""
        return self.shade(np.array([0, 0, 1], np.float32))


def _towards(azimuth_deg: float, elevation_deg: float) -> Colour:
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    return (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation))


LOOKS: dict[Appearance, Look] = {
    Appearance.DAYLIGHT: Look(
        ambient=(0.66, 0.68, 0.72), sunlight=(0.46, 0.44, 0.38), sun=_towards(-55, 48), haze=900.0,
        zenith=(0.30, 0.52, 0.86), horizon=(0.78, 0.87, 0.95), shadow=0.55,
    ),
    Appearance.OVERCAST: Look(
        ambient=(0.80, 0.81, 0.83), sunlight=(0.08, 0.08, 0.08), sun=_towards(-55, 80), haze=420.0,
        zenith=(0.58, 0.61, 0.65), horizon=(0.78, 0.79, 0.80), shadow=0.72,
    ),
    Appearance.DUSK: Look(
        ambient=(0.34, 0.33, 0.42), sunlight=(0.34, 0.19, 0.08), sun=_towards(-150, 12), haze=520.0,
        zenith=(0.13, 0.15, 0.30), horizon=(0.90, 0.50, 0.27), shadow=0.70, lamps=True,
    ),
    Appearance.RAIN: Look(
        ambient=(0.58, 0.60, 0.63), sunlight=(0.0, 0.0, 0.0), sun=_towards(0, 90), haze=130.0,
        zenith=(0.50, 0.52, 0.55), horizon=(0.66, 0.68, 0.70), shadow=0.80, wet=0.70, lamps=True, rain=True,
    ),
}  # fmt: skip


def haze_ramp(look: Look, texels: int = 256) -> npt.NDArray[np.float32]:
    """The share of an object's own colour [texels] left at depths from 0 to FADE_RANGE."""
    depth = (np.arange(texels) + 0.5) * FADE_RANGE / texels
    return np.exp(-np.maximum(depth - 8.0, 0.0) / look.haze).astype(np.float32)


def facade_texels(look: Look, cells: int = 4, texels: int = 16) -> npt.NDArray[np.float32]:
    """Windows in a wall [cells x texels, the same, 4], `cells` to a side, rows upward; lit here and there after dark."""
    rng = np.random.default_rng(3)
    dark = look.lamps and not look.rain
    wall = np.array(look.ambient) * 0.95 if dark else np.ones(3)
    out = np.empty((cells * texels, cells * texels, 4), np.float32)
    out[..., :3], out[..., 3] = wall, 1.0
    for i in range(cells):
        for j in range(cells):
            glass = np.array((0.42, 0.47, 0.54)) * rng.uniform(0.8, 1.2) * (np.array(look.ambient) if dark else 1.0)
            if look.lamps and rng.random() < 0.32:
                glass = np.array((1.0, 0.86, 0.58))
            y, x = i * texels, j * texels
            out[y + 4 : y + 13, x + 3 : x + 13, :3] = glass
            out[y : y + 1, x : x + texels, :3] = 0.88 * wall
    return out


class Finish:
    """Turns premultiplied renderer output into camera frames: sky and haze behind, headlights, rain."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._sky: dict[Appearance, npt.NDArray[np.float32]] = {}
        v = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal
        u = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
        self._elevation = camera.pitch - np.arctan(v)
        down = np.tan(np.maximum(-self._elevation, 1e-3))
        distance = camera.above_ground / down[:, None]
        lateral = u[None] * distance
        beam = np.exp(-(((distance - 9.0) / 9.0) ** 2) - (lateral / 3.2) ** 2) * (self._elevation < -0.01)[:, None]
        self._beam = (beam[..., None] * np.array([34.0, 31.0, 24.0])).astype(np.float32)

    def sky(self, appearance: Appearance) -> npt.NDArray[np.float32]:
        """What lies behind everything [H, W, 3] in 0 to 255."""
        if appearance not in self._sky:
            look = LOOKS[appearance]
            height = np.clip(self._elevation / math.radians(26.0), 0, 1)[:, None] ** 0.7
            rows = np.array(look.horizon) * (1 - height) + np.array(look.zenith) * height
            sky = np.broadcast_to(rows[:, None, :], (self.camera.height, self.camera.width, 3))
            self._sky[appearance] = np.ascontiguousarray(sky * 255.0, np.float32)
        return self._sky[appearance]

    def __call__(self, rendered: npt.NDArray[np.uint8], appearance: Appearance, time_s: float) -> npt.NDArray[np.uint8]:
        """A frame [H, W, 3] from renderer output [kH, kW, 4] (blue, green, red and the share that is not sky), rows upward."""
        look = LOOKS[appearance]
        size = (self.camera.width, self.camera.height)
        small = cv2.resize(rendered, size, interpolation=cv2.INTER_AREA)[::-1].astype(np.float32)
        cover = small[..., 3:] * (1 / 255)
        frame = small[..., 2::-1] + (1 - cover) * self.sky(appearance)
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
