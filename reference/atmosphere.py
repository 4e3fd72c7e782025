"""Light, haze and sky colours: what each appearance does to the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..light import HAZE_FROM, RAIN_HAZE, SHADOW, SUNLIGHT, Colour, towards_sun
from ..scene import Appearance

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
    shadow: float  # factor on the ground in the shade
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


def _sun(appearance: Appearance) -> dict[str, Any]:
    return {"sunlight": SUNLIGHT[appearance], "sun": towards_sun(appearance), "shadow": SHADOW[appearance]}


LOOKS: dict[Appearance, Look] = {
    Appearance.DAYLIGHT: Look(
        ambient=(0.66, 0.68, 0.72), **_sun(Appearance.DAYLIGHT), haze=900.0,
        zenith=(0.30, 0.52, 0.86), horizon=(0.78, 0.87, 0.95),
    ),
    Appearance.OVERCAST: Look(
        ambient=(0.80, 0.81, 0.83), **_sun(Appearance.OVERCAST), haze=420.0,
        zenith=(0.58, 0.61, 0.65), horizon=(0.78, 0.79, 0.80), cloud=(0.68, 0.70, 0.72), clear=0.40,
    ),
    Appearance.DUSK: Look(
        ambient=(0.34, 0.33, 0.42), **_sun(Appearance.DUSK), haze=520.0,
        zenith=(0.13, 0.15, 0.30), horizon=(0.90, 0.50, 0.27), lamps=True,
        cloud=(0.42, 0.26, 0.30), clear=0.50, glow=0.9,
    ),
    Appearance.RAIN: Look(
        ambient=(0.58, 0.60, 0.63), **_sun(Appearance.RAIN), haze=RAIN_HAZE,
        zenith=(0.50, 0.52, 0.55), horizon=(0.66, 0.68, 0.70), wet=0.70, lamps=True, rain=True,
        cloud=(0.46, 0.48, 0.51), clear=0.40,
    ),
}  # fmt: skip


def haze_ramp(look: Look, texels: int = 256) -> npt.NDArray[np.float32]:
    """The share of an object's own colour [texels] left at depths from 0 to FADE_RANGE."""
    depth = (np.arange(texels) + 0.5) * FADE_RANGE / texels
    return np.exp(-np.maximum(depth - HAZE_FROM, 0.0) / look.haze).astype(np.float32)
