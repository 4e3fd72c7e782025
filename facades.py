"""Windows of buildings, as whoever draws one knows them: how a wall is divided, and which windows are lit.

The windows of a facade repeat every CELLS bays and storeys. A building begins somewhere in that pattern, by its place in the map's scenery.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from .road import BUILDINGS, SceneryKind
from .scene import Appearance

BAY, STOREY = 3.2, 3.2  # m, about what a wall has for a window, along and up
CELLS = 4
_SEED = 3
_LIT = {Appearance.DUSK: 0.30, Appearance.RAIN: 0.16}  # share of windows


@dataclass(frozen=True)
class Panes:
    """The windows of one pattern [CELLS, CELLS], storeys upward and bays along the wall, counter-clockwise about the building."""

    shade: npt.NDArray[np.float64]  # brightness of the glass, about 1
    lit: npt.NDArray[np.bool_]
    glow: npt.NDArray[np.float64]  # brightness of the light, 0 where there is none


@cache
def panes(kind: SceneryKind, appearance: Appearance) -> Panes:
    """Windows of a kind of building in some light."""
    rng = np.random.default_rng(_SEED + BUILDINGS.index(kind))
    share = _LIT.get(appearance)
    shade, glow = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for i in range(CELLS):
        for j in range(CELLS):
            shade[i, j] = rng.uniform(0.8, 1.25)
            if share is not None and rng.random() < share:
                glow[i, j] = rng.uniform(0.8, 1.0)
    return Panes(shade, glow > 0, glow)


def phase(index: int) -> tuple[int, int]:
    """Bays and storeys of the pattern that a building begins at, by its index in `RoadMap.scenery`."""
    return index * 7 % CELLS, index * 3 % CELLS


def lit_windows(appearance: int) -> npt.NDArray[np.float32]:
    """Which windows are lit, 1 or 0 by kind of building (in the order of BUILDINGS), storey and bay; none in a light nobody knows."""
    if appearance not in list(Appearance):
        return np.zeros((len(BUILDINGS), CELLS, CELLS), np.float32)
    return np.stack([panes(kind, Appearance(appearance)).lit for kind in BUILDINGS]).astype(np.float32)
