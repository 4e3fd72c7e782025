"""How far pictures are from the true ones, and strips that let the eye judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LEAST_ERROR = 1e-3  # of the squared error on the 0..255 scale, so that equal pictures have a finite PSNR (about 78 dB)


def absolute_error(found: Tensor, true: Tensor) -> Tensor:
    """Mean absolute error [...] of pictures [..., H, W, 3] on the 0..255 scale."""
    return (found.float() - true.float()).abs().mean((-3, -2, -1))


def squared_error(found: Tensor, true: Tensor) -> Tensor:
    """Mean squared error [...] of pictures [..., H, W, 3] on the 0..255 scale."""
    return (found.float() - true.float()).square().mean((-3, -2, -1))


def decibels(squared: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of mean squared errors on the 0..255 scale."""
    return 10 * torch.log10(255.0**2 / squared.clamp_min(LEAST_ERROR))


def write_strip(path: Path | str, rows: Mapping[str, Sequence[Tensor]], columns: Sequence[str], enlarge: int = 2) -> Path:
    """Write rows of pictures [H, W, 3] uint8 as one PNG, rows and columns named at the edge."""
    from PIL import Image, ImageDraw

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = next(iter(rows.values()))[0].shape
    height, width, gap, margin, head = height * enlarge, width * enlarge, 4, 76, 18
    sheet = Image.new("RGB", (margin + len(columns) * (width + gap), head + len(rows) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        draw.text((margin + column * (width + gap) + 4, 3), title, fill="black")
    for row, (name, pictures) in enumerate(rows.items()):
        top = head + row * (height + gap)
        draw.text((4, top + height // 2 - 5), name, fill="black")
        for column, picture in enumerate(pictures):
            image = Image.fromarray(np.ascontiguousarray(picture.numpy())).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(image, (margin + column * (width + gap), top))
    partial = path.with_name(f".{path.stem}.partial.png")
    sheet.save(partial)
    partial.replace(path)
    return path
