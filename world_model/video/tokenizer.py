"""The frame tokenizer: a picture as 32 discrete tokens, for policies that read pictures as a language."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ...camera import CAMERA
from ...errors import CheckpointError, DataError

PATCH = 16  # pixels of a token's side
GRID = (CAMERA.height // PATCH, CAMERA.width // PATCH)  # rows and columns of tokens
TOKENS = GRID[0] * GRID[1]


class FiniteScalarQuantiser(nn.Module):
    """Rounds each of D bounded numbers to one of its levels; the code is the mixed-radix number of the D digits.

    Source: F. Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2023, appendix A.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, z: Tensor) -> Tensor:
        """Quantise z [..., D] to values in [-1, 1]; gradients pass straight through the rounding."""
        levels = torch.tensor(self.levels, device=z.device)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (levels % 2 == 0)
        bounded = torch.tanh(z + torch.atanh(offset / half)) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (levels // 2)

    def codes(self, quantised: Tensor) -> Tensor:
        """Codes [...] int64 of quantised values [..., D]."""
        half = torch.tensor(self.levels, device=quantised.device) // 2
        digits = (quantised * half).round().long() + half
        return (digits * self._radix(quantised.device)).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """Quantised values [..., D] float32 of codes [...]."""
        levels = torch.tensor(self.levels, device=codes.device)
        digits = (codes.unsqueeze(-1) // self._radix(codes.device)) % levels
        return (digits - levels // 2).float() / (levels // 2)

    def _radix(self, device: torch.device) -> Tensor:
        return torch.tensor([math.prod(self.levels[:i]) for i in range(len(self.levels))], device=device)


class Residual(nn.Module):
    """Two convolutions around a skip; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(1, channels // 16), channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, h, w] to the same shape."""
        return x + self.second(nn.functional.silu(self.first(nn.functional.silu(self.norm(x)))))


class FrameTokenizer(ModelMixin, ConfigMixin):
    """A convolutional autoencoder with 32 finite-scalar-quantised tokens a frame, in a 4 x 8 grid of 16 x 16 pixels.

    Token i belongs to row i // 8 and column i % 8 of the grid. The mean picture of the training data is part of the weights.
    """

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(self, levels: list[int] | None = None, widths: list[int] | None = None, blocks: int = 2) -> None:
        super().__init__()
        levels = levels or [8, 8, 8, 5]
        fine, middle, coarse = widths or [32, 64, 96]
        self.codebook_size = math.prod(levels)
        self.quantiser = FiniteScalarQuantiser(levels)
        self.mean = nn.Parameter(torch.zeros(3, CAMERA.height, CAMERA.width))
        self.place = nn.Parameter(torch.zeros(coarse, *GRID))
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, fine, 3, padding=1),
            Residual(fine),
            nn.Conv2d(fine, middle, 2, stride=2),
            Residual(middle),
            nn.Conv2d(middle, coarse, 2, stride=2),
            *(Residual(coarse) for _ in range(blocks)),
            nn.Conv2d(coarse, len(levels), 1),
        )
        self.enter = nn.Conv2d(len(levels), coarse, 1)
        self.decoder = nn.Sequential(
            *(Residual(coarse) for _ in range(blocks + 1)),
            nn.Conv2d(coarse, 4 * middle, 1),
            nn.PixelShuffle(2),
            Residual(middle),
            nn.Conv2d(middle, 4 * fine, 1),
            nn.PixelShuffle(2),
            Residual(fine),
            nn.Conv2d(fine, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, H, W] in [-1, 1] as the tokens show them, and the quantised values [B, 32, D]."""
        quantised = self.quantiser(self.look(pictures))
        return self.paint(quantised), quantised

    def look(self, pictures: Tensor) -> Tensor:
        """Numbers [B, 32, D] to be quantised, of pictures [B, 3, H, W] in [-1, 1]."""
        return self.encoder(pictures - self.mean).flatten(2).transpose(1, 2)

    def paint(self, quantised: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], about -1 to 1, of quantised values [B, 32, D]."""
        grid = quantised.transpose(1, 2).unflatten(2, GRID)
        return self.mean + self.decoder(self.enter(grid) + self.place)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Tokens [B, 32] int64 in [0, codebook_size) of frames [B, 64, 128, 3] uint8.

        Raises:
            DataError: frames of another type or size.
        """
        if frames.dtype != torch.uint8 or tuple(frames.shape[1:]) != (CAMERA.height, CAMERA.width, 3):
            wanted = f"[B, {CAMERA.height}, {CAMERA.width}, 3]"
            raise DataError(f"the tokenizer reads uint8 frames {wanted}, not {frames.dtype} {list(frames.shape)}; resize them")
        return self.quantiser.codes(self.quantiser(self.look(pictures_of(frames))))

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Frames [B, 64, 128, 3] uint8 of tokens [B, 32].

        Raises:
            DataError: another number of tokens, or tokens outside the codebook.
        """
        if tokens.ndim != 2 or tokens.shape[1] != TOKENS:
            raise DataError(f"a frame is {TOKENS} tokens; got {list(tokens.shape)}")
        if tokens.numel() and not (int(tokens.min()) >= 0 and int(tokens.max()) < self.codebook_size):
            raise DataError(f"tokens run from 0 to {self.codebook_size - 1}; got {int(tokens.min())} to {int(tokens.max())}")
        return frames_of(self.paint(self.quantiser.values(tokens)))

    @classmethod
    def load(cls, path: str | Path) -> FrameTokenizer:
        """Read a tokenizer that `save_pretrained` wrote, ready to use.

        Raises:
            CheckpointError: missing or damaged.
        """
        try:
            return cls.from_pretrained(str(path), use_safetensors=True, local_files_only=True, torch_dtype=torch.float32).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"no usable tokenizer in '{path}' ({reason}); train one with `xpeng-world train-tokenizer`") from None


def pictures_of(frames: Tensor) -> Tensor:
    """Frames [B, H, W, 3] uint8 as pictures [B, 3, H, W] in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def frames_of(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] as frames [B, H, W, 3] uint8."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def tokenizer_loss(shown: Tensor, pictures: Tensor) -> Tensor:
    """MSE, a quarter of L1 and a tenth of the gradients' L1 between pictures [B, 3, H, W] in [-1, 1]."""
    error = shown - pictures
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.square().mean() + 0.25 * error.abs().mean() + 0.1 * edges


def spread_loss(z: Tensor) -> Tensor:
    """How far the numbers to be quantised [B, 32, D] are from mean 0 and deviation 1 over a batch, in each place of the grid.

    Without it an encoder settles on few of the codes and tells its pictures apart by them alone.
    """
    return z.mean(0).square().mean() + (z.std(0) - 1).square().mean()


def __getattr__(name: str) -> object:
    if name == "train_tokenizer":
        from .train_tokenizer import train_tokenizer

        return train_tokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
