"""The painters that can be trained, by the name of their size."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .denoiser import DenoiserConfig, FrameDenoiser
from .latent import LatentConfig, LatentTransformer
from .patches import PatchConfig, PatchTransformer
from .sky import FEATURES
from .terrain import FEATURES as GROUND_FEATURES

Painter = Any  # one of PAINTERS; diffusers' own types for `to` and `load` do not hold
PAINTERS: dict[type, type] = {DenoiserConfig: FrameDenoiser, PatchConfig: PatchTransformer, LatentConfig: LatentTransformer}

SIZES: dict[str, DenoiserConfig | PatchConfig | LatentConfig] = {
    "tiny": DenoiserConfig(widths=[16, 32, 48], depths=[1, 1, 1], condition_width=64),
    "small": DenoiserConfig(widths=[32, 64, 128], depths=[2, 2, 3]),
    "medium": DenoiserConfig(widths=[64, 128, 256], depths=[2, 3, 4], condition_width=256),
    "base": DenoiserConfig(widths=[96, 192, 384], depths=[2, 4, 6], condition_width=384),
    "patches": PatchConfig(),
    "latent": LatentConfig(),
}


def new_painter(
    size: str, warp: bool = True, spans: bool = False, sky: bool = True, context: int = 1, ground: bool = True, light: bool = True
) -> Painter:
    """A painter with fresh weights; transformers have no maps of the ground and no light."""
    config = replace(SIZES[size], warp=warp, spans=spans, sky=sky, context=context)
    if isinstance(config, DenoiserConfig):
        config = replace(config, ground=ground, light=light)
    return PAINTERS[type(config)](**asdict(config))


def load_painter(folder: Path) -> Painter:
    """A trained painter, of the class that its page names."""
    kind = json.loads((folder / "config.json").read_text()).get("_class_name")
    painter: Any = next((one for one in PAINTERS.values() if one.__name__ == kind), FrameDenoiser)
    return painter.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False).to(memory_format=torch.channels_last)


_FIXED = 3 + 3 + 1  # images before the layout
_INPUTS = {  # columns before the images, columns an image, images before the layout
    "stem.weight": (0, 4, _FIXED),
    "enter.weight": (0, 1, _FIXED),
    "smooth.0.weight": (4, 1, _FIXED),
    "enter_images.weight": (0, 1, 1),
}
_NUMBERS = "embed_numbers.weight"


def take_over(painter: Painter, trained: Painter) -> None:
    """Copy the weights of a trained painter into a fresh one of the same size, which may be given images that the other was not.

    It paints as the other does until it is trained: layout channels and earlier frames that are new to it and the span of a step have
    weights of 0, as has light that is new, and new maps of the sky and of the ground are 0 themselves.

    Raises:
        ValueError: a painter of another kind or size.
    """
    if type(painter) is not type(trained):
        raise ValueError(f"a {type(trained).__name__}")
    wanted, known = ({name: value.cpu() for name, value in one.state_dict().items()} for one in (painter, trained))
    for name, places in _INPUTS.items():
        if name in known and known[name].shape[0] == wanted[name].shape[0]:
            known[name] = _widened(known[name], wanted[name], painter, trained, *places)
    if known[_NUMBERS].shape[0] == wanted[_NUMBERS].shape[0]:
        columns = min(known[_NUMBERS].shape[1], wanted[_NUMBERS].shape[1])
        known[_NUMBERS] = torch.cat((known[_NUMBERS][:, :columns], torch.zeros_like(wanted[_NUMBERS][:, columns:])), 1)
    if trained.sky_map is None and painter.sky_map is not None:
        known["sky_map.panorama"] = torch.zeros_like(wanted["sky_map.panorama"])
    if _has(painter, "lighting"):
        if _has(trained, "lighting"):
            rest = "lighting.rest"
            columns = _widened(known[rest].flatten(0, 1), wanted[rest].flatten(0, 1), painter, trained, 0, 1, 0)
            known[rest] = columns.unflatten(0, wanted[rest].shape[:2])
            above = torch.zeros_like(wanted["lighting.above"])
            shared = min(above.shape[2], known["lighting.above"].shape[2])  # features of a panorama come last, and one may have none
            above[..., :shared] = known["lighting.above"][..., :shared]
            known["lighting.above"] = above
        else:
            known |= {name: value for name, value in wanted.items() if name.startswith("lighting.")}
            for name in ("out.weight", "out.bias"):
                missing = torch.zeros_like(wanted[name][len(known[name]) :])
                known[name] = torch.cat((known[name], missing))
    if not _has(trained, "ground_maps"):
        known |= {name: torch.zeros_like(value) for name, value in wanted.items() if name.startswith("ground_maps.")}
    for name, value in wanted.items():
        if name not in known or known[name].shape != value.shape:
            raise ValueError(f"'{name}' of shape {list(known[name].shape) if name in known else 'none'} instead of {list(value.shape)}")
    painter.load_state_dict({name: known[name] for name in wanted})


def _has(painter: Painter, part: str) -> bool:
    return getattr(painter, part, None) is not None


def _widened(
    known: torch.Tensor, wanted: torch.Tensor, painter: Painter, trained: Painter, before: int, columns: int, fixed: int
) -> torch.Tensor:
    """Weights of the layer that the images enter by, spread over the images that the painter is given."""
    shared = before + columns * (fixed + min(trained.layout_channels, painter.layout_channels))
    old_sky, new_sky = (before + columns * (fixed + one.layout_channels) for one in (trained, painter))
    old_past, new_past = (start + columns * FEATURES * (one.sky_map is not None) for start, one in ((old_sky, trained), (new_sky, painter)))
    out = wanted.clone()
    out[:, shared:new_sky] = 0
    out[:, :shared] = known[:, :shared]
    if trained.sky_map is not None and painter.sky_map is not None:
        out[:, new_sky:new_past] = known[:, old_sky:old_past]
    old_ground, new_ground = (past + columns * 3 * (one.context - 1) for one, past in ((trained, old_past), (painter, new_past)))
    out[:, new_past:] = 0
    ground = columns * 2 * GROUND_FEATURES
    if _has(trained, "ground_maps") and _has(painter, "ground_maps"):
        out[:, new_ground : new_ground + ground] = known[:, old_ground : old_ground + ground]
    old_light, new_light = (past + ground * _has(one, "ground_maps") for one, past in ((trained, old_ground), (painter, new_ground)))
    if _has(trained, "lighting") and _has(painter, "lighting"):
        out[:, new_light:] = known[:, old_light:]
    frames = columns * 3 * (min(trained.context, painter.context) - 1)
    out[:, new_past : new_past + frames] = known[:, old_past : old_past + frames]
    return out
