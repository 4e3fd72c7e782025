"""From a recording's picture size to the project's: cut to 2:1 around the road, then scale."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..camera import CAMERA
from ..errors import DataError

CROP_TOP = 0.25  # share of the rows to spare that is cut off above; the rest goes below, where the bonnet or bare ground is


def crop_box(width: int, height: int, crop_top: float = CROP_TOP) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest part with the camera's aspect, in pixels.

    Pictures that are too wide lose the same at both sides; of the rows to spare, `crop_top` in [0, 1] are cut above.

    Raises:
        DataError: `crop_top` outside [0, 1].
    """
    if not 0 <= crop_top <= 1:
        raise DataError(f"crop_top is {crop_top}; it is a share of the rows to spare, from 0 (keep the sky) to 1 (keep the ground)")
    aspect = CAMERA.width / CAMERA.height
    if width >= aspect * height:
        wide = round(aspect * height)
        left = (width - wide) // 2
        return left, 0, left + wide, height
    high = round(width / aspect)
    top = round((height - high) * crop_top)
    return 0, top, width, top + high


def fit_picture(image: Image.Image, crop_top: float = CROP_TOP) -> np.ndarray:
    """The picture cut and scaled to the camera's size: uint8 [64, 128, 3] RGB, anti-aliased."""
    box = crop_box(*image.size, crop_top)
    return np.asarray(image.convert("RGB").resize((CAMERA.width, CAMERA.height), Image.Resampling.BICUBIC, box=box))
