"""A transformer over patches that paints frames as the U-Net does: the other architecture to compare at equal compute.

Patches of 8x8 pixels go through a linear layer into tokens and back, which is a linear autoencoder learned with the rest; attention is
over all tokens of the frame. It predicts the clean frame in pixels (T. Li and K. He, "Back to Basics: Let Denoising Generative Models
Denoise", 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ...camera import CAMERA
from ...scene import Appearance
from .denoiser import NUMBERS, Condition, PixelSpace, blended, gathered, vectors
from .layout import CHANNELS
from .sky import FEATURES, SkyMap

PATCH = 8


@dataclass
class PatchConfig:
    """Size of a patch transformer."""

    width: int = 160
    layers: int = 4
    heads: int = 5
    layout_channels: int = len(CHANNELS)
    warp: bool = True
    sky: bool = True
    spans: bool = False
    context: int = 1
    hold: bool = True


class PatchBlock(nn.Module):
    """Attention and two layers, each normalised, modulated by the condition and gated; starts as the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.first, self.second = nn.LayerNorm(width, elementwise_affine=False), nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map tokens [B, N, width] under conditions [B, width]."""
        scale, shift, gate, scale2, shift2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, -1)
        y = self.first(x) * (1 + scale) + shift
        x = x + gate * self.attention(y, y, y, need_weights=False)[0]
        return x + gate2 * self.layers(self.second(x) * (1 + scale2) + shift2)


class TokenMixer:
    """The part that transformers over patches share: tokens in their places, mixed under the condition."""

    def add_mixer(self, width: int, layers: int, heads: int, spans: bool) -> None:
        """Give a module its layers."""
        self.spans = spans
        rows, columns = CAMERA.height // PATCH, CAMERA.width // PATCH
        self.place = nn.Parameter(0.02 * torch.randn(1, width, rows, columns))
        self.embed_numbers = nn.Linear(len(NUMBERS) + (3 if spans else 2) * 8, width)
        self.embed_appearance = nn.Embedding(len(Appearance) + 1, width)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(PatchBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def mix(self, x: Tensor, level: Tensor, condition: Condition, span: Tensor | None) -> Tensor:
        """Tokens [B, width, h, w] as [B, h * w, width], normalised; a crop is taken to begin at the left of the camera's picture."""
        x = (x + self.place[..., : x.shape[2], : x.shape[3]]).flatten(2).transpose(1, 2)
        vector = vectors(level, condition, span, self.spans).to(x.dtype)
        vector = self.condition(self.embed_numbers(vector) + self.embed_appearance(condition.appearance))
        for block in self.blocks:
            x = block(x, vector)
        return self.norm(x)


class PatchTransformer(TokenMixer, PixelSpace, ModelMixin, ConfigMixin):
    """Predicts x0 [B, 3, H, W] in [-1, 1]; arguments and blending with the warped frame as of `FrameDenoiser`."""

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        width: int = 160,
        layers: int = 4,
        heads: int = 5,
        layout_channels: int = len(CHANNELS),
        warp: bool = True,
        sky: bool = False,
        spans: bool = False,
        context: int = 1,
        hold: bool = False,
    ) -> None:
        super().__init__()
        self.warp, self.context, self.hold = warp, context, hold
        self.layout_channels = layout_channels
        self.sky_map = SkyMap() if sky else None
        inputs = 3 + 3 + 1 + layout_channels + (FEATURES if sky else 0) + 3 * (context - 1)
        self.add_mixer(width, layers, heads, spans)
        self.enter = nn.Conv2d(inputs, width, PATCH, stride=PATCH)
        self.leave = nn.Linear(width, 4 * PATCH * PATCH)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        last = nn.Conv2d(16, 4, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.smooth = nn.Sequential(nn.Conv2d(4 + inputs, 16, 3, padding=1), nn.SiLU(), last)  # across the patches' edges

    def forward(self, noisy: Tensor, level: Tensor, condition: Condition, span: Tensor | None = None) -> Tensor:
        """Predict the clean frame; a crop is taken to begin at the left of the camera's picture."""
        images = gathered(noisy, condition, self.layout_channels, self.sky_map, self.context)
        x = self.enter(images)
        x = self.leave(self.mix(x, level, condition, span)).transpose(1, 2).unflatten(2, x.shape[2:])
        x = nn.functional.pixel_shuffle(x, PATCH)
        x = x + self.smooth(torch.cat((x, images), 1))
        return blended(x, condition, self.hold)
