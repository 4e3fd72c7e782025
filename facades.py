"""Buildings as whoever draws one knows them: their roofs, how a wall is divided, how bright its windows are and which are lit.

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
TEXELS = 16  # a bay and a storey are divided into
WINDOWS = {  # texels of a bay from and to which a window reaches, along and up
    SceneryKind.BUILDING: (3, 13, 4, 13),
    SceneryKind.RIBBON_BUILDING: (0, 16, 5, 13),
    SceneryKind.GLASS_BUILDING: (1, 16, 1, 15),
}
SEAM = 0.86  # brightness of the lowest texels of a storey over the wall's
MULLION = 0.8  # brightness of the first texels of a window that fills its bay over its glass
WALL_BELOW = 1.5  # m; buildings less deep are plain walls
PITCHED_BELOW = 7.5  # m; lower buildings have a pitched roof
EAVES = 0.62  # of the height of a building with a pitched roof
FOOT = 0.80  # brightness of a facade at its foot over that at its top
OVERHANG = 0.3  # m of a pitched roof beyond the walls
GLASS = (0.40, 0.46, 0.54)  # what glass of brightness 1 makes of the colour of its wall
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


def roof_colours(colour: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Colours [..., 3] of a flat roof, of the slopes of a pitched one and of its gables, above walls of some colour."""
    return 0.55 * colour + 0.12, np.array([0.345, 0.1875, 0.1425]) + 0.18 * colour, 0.9 * colour


def phase(index: int) -> tuple[int, int]:
    """Bays and storeys of the pattern that a building begins at, by its index in `RoadMap.scenery`."""
    return index * 7 % CELLS, index * 3 % CELLS


@cache
def window_patterns(appearance: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """By kind of building (in the order of BUILDINGS), storey and bay: brightness of the glass, about 1, and of light behind it.

    In a light that nobody knows no window is lit.
    """
    known = [panes(kind, Appearance(appearance if appearance in list(Appearance) else 0)) for kind in BUILDINGS]
    glow = np.stack([each.glow for each in known]) * (appearance in list(Appearance))
    return np.stack([each.shade for each in known]).astype(np.float32), glow.astype(np.float32)
