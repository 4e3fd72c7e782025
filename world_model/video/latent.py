"""A latent diffusion transformer: the sampler paints in the latents of an autoencoder, and a decoder makes frames of them.

The usual way of large video models, to compare with painting in pixels at equal compute. The autoencoder is learned in the first part of
the same run. Source: R. Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022; blocks as of
W. Peebles and S. Xie, "Scalable Diffusion Models with Transformers", ICCV 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .denoiser import Condition
from .layout import CHANNELS, unit
from .patches import PATCH, TokenMixer
from .sky import FEATURES, SkyMap
from .tokenizer import Residual

LATENT_NOISE = 0.05  # standard deviation that the decoder learns to bear


@dataclass
class LatentConfig:
    """Size of a latent transformer and its autoencoder."""

    width: int = 160
    layers: int = 4
    heads: int = 5
    latents: int = 16  # numbers a patch of 8x8 pixels
    fine: int = 32  # channels of the autoencoder at a quarter of the resolution
    coarse: int = 64  # at an eighth
    layout_channels: int = len(CHANNELS)
    warp: bool = True
    sky: bool = True
    spans: bool = False
    context: int = 1


class LatentTransformer(TokenMixer, ModelMixin, ConfigMixin):
    """Predicts clean latents [B, latents, H / 8, W / 8] in [-1, 1] from noisy ones; conditions are those of `FrameDenoiser`."""

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        width: int = 160,
        layers: int = 4,
        heads: int = 5,
        latents: int = 16,
        fine: int = 32,
        coarse: int = 64,
        layout_channels: int = len(CHANNELS),
        warp: bool = True,
        sky: bool = False,
        spans: bool = False,
        context: int = 1,
    ) -> None:
        super().__init__()
        self.warp, self.context, self.latents = warp, context, latents
        self.layout_channels = layout_channels
        self.sky_map = SkyMap() if sky else None
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, fine, 3, padding=1),
            Residual(fine),
            nn.Conv2d(fine, coarse, 2, stride=2),
            Residual(coarse),
            nn.Conv2d(coarse, latents, 1),
            nn.Tanh(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latents, coarse, 1),
            Residual(coarse),
            Residual(coarse),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            Residual(fine),
            nn.Conv2d(fine, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        images = 1 + layout_channels + (FEATURES if sky else 0)
        self.add_mixer(width, layers, heads, spans)
        self.enter_images = nn.Conv2d(images, width, PATCH, stride=PATCH)
        self.enter_latents = nn.Conv2d((1 + context) * latents, width, 1)
        self.leave = nn.Linear(width, latents)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def canvas(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of what is sampled for a frame of this size in pixels."""
        return self.latents, height // PATCH, width // PATCH

    def encode(self, frames: Tensor) -> Tensor:
        """Latents [B, latents, H / 8, W / 8] in [-1, 1] of frames [B, 3, H, W] in [-1, 1]."""
        return self.encoder(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, H, W], about -1 to 1, of latents."""
        return self.decoder(latents)

    def forward(self, noisy: Tensor, level: Tensor, condition: Condition, span: Tensor | None = None) -> Tensor:
        """Predict the clean latents; a crop is taken to begin at the left of the camera's picture."""
        images = [condition.seen, unit(condition.layout[:, : self.layout_channels])]
        if self.sky_map is not None:
            images.append(self.sky_map(condition.gaze, images[1]))
        with torch.no_grad():
            past = [self.encode(frame) for frame in condition.warped[:, : 3 * self.context].split(3, 1)]
        x = self.enter_images(torch.cat(images, 1)) + self.enter_latents(torch.cat((noisy, *past), 1))
        return self.leave(self.mix(x, level, condition, span)).transpose(1, 2).unflatten(2, x.shape[2:])

    def autoencoded(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Frames [B, 3, H, W] after the way through slightly noisy latents, for training; `generator` is on the CPU."""
        latents = self.encode(frames)
        return self.decode(latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator).to(latents))
