"""Light, haze and sky colours: what each appearance does to the world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    cloud: Colour = (1.0, 1.0, 1.0)
    clear: float = 0.55  # clouds stand where noise in [0, 1] exceeds this
    glow: float = 0.0  # brightness of the horizon below the sun
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
        zenith=(0.58, 0.61, 0.65), horizon=(0.78, 0.79, 0.80), shadow=0.72, cloud=(0.68, 0.70, 0.72), clear=0.40,
    ),
    Appearance.DUSK: Look(
        ambient=(0.34, 0.33, 0.42), sunlight=(0.34, 0.19, 0.08), sun=_towards(-150, 12), haze=520.0,
        zenith=(0.13, 0.15, 0.30), horizon=(0.90, 0.50, 0.27), shadow=0.70, lamps=True,
        cloud=(0.42, 0.26, 0.30), clear=0.50, glow=0.9,
    ),
    Appearance.RAIN: Look(
        ambient=(0.58, 0.60, 0.63), sunlight=(0.0, 0.0, 0.0), sun=_towards(0, 90), haze=90.0,
        zenith=(0.50, 0.52, 0.55), horizon=(0.66, 0.68, 0.70), shadow=0.80, wet=0.70, lamps=True, rain=True,
        cloud=(0.46, 0.48, 0.51), clear=0.40,
    ),
}  # fmt: skip


def haze_ramp(look: Look, texels: int = 256) -> npt.NDArray[np.float32]:
    """The share of an object's own colour [texels] left at depths from 0 to FADE_RANGE."""
    depth = (np.arange(texels) + 0.5) * FADE_RANGE / texels
    return np.exp(-np.maximum(depth - 8.0, 0.0) / look.haze).astype(np.float32)
