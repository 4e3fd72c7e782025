"""Lamps as whoever draws them knows: their colours when they are on, and how a wet road mirrors them."""

from __future__ import annotations

import numpy as np

from .bodies import Array

HEADLIGHT_ON: Array = np.array((1.0, 0.98, 0.86), np.float32)
TAIL_ON: Array = np.array((0.78, 0.05, 0.05), np.float32)
BRAKING: Array = np.array((1.0, 0.10, 0.06), np.float32)
GLEAM = 0.17  # brightness of a lamp's reflection on a wet road, over the lamp's
SIGNAL_GLEAM = 0.6 * GLEAM
LENS_FACE = 1  # the face of a signal's lens that is mirrored, of `roadside.LENSES`
LENS_LIT = 0.9  # a lens whose brightest colour exceeds this is mirrored


def mirrored(corners: Array) -> Array:
    """Faces [Q, 4, 3] as a wet road shows them: below the ground and drawn out."""
    out = corners.copy()
    height = corners[..., 2]
    low, high = height.min(-1, keepdims=True), height.max(-1, keepdims=True)
    out[..., 2] = -np.where(height > 0.5 * (low + high), 1.3 * high + 0.3, 0.25 * low)
    return out
