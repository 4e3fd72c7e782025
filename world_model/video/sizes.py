"""The painters that can be trained, by the name of their size."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .denoiser import DenoiserConfig, FrameDenoiser
from .patches import PatchConfig, PatchTransformer

Painter = Any  # FrameDenoiser or PatchTransformer; diffusers' own types for `to` and `load` do not hold

SIZES: dict[str, DenoiserConfig | PatchConfig] = {
    "tiny": DenoiserConfig(widths=[16, 32, 48], depths=[1, 1, 1], condition_width=64),
    "small": DenoiserConfig(widths=[32, 64, 128], depths=[2, 2, 3]),
    "medium": DenoiserConfig(widths=[64, 128, 256], depths=[2, 3, 4], condition_width=256),
    "base": DenoiserConfig(widths=[96, 192, 384], depths=[2, 4, 6], condition_width=384),
    "patches": PatchConfig(),
}


def new_painter(size: str, warp: bool = True) -> Painter:
    """A painter with fresh weights."""
    config = replace(SIZES[size], warp=warp)
    return PatchTransformer(**asdict(config)) if isinstance(config, PatchConfig) else FrameDenoiser(**asdict(config))


def load_painter(folder: Path) -> Painter:
    """A trained painter, of the class that its page names."""
    kind = json.loads((folder / "config.json").read_text()).get("_class_name")
    painter = PatchTransformer if kind == "PatchTransformer" else FrameDenoiser
    return painter.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
