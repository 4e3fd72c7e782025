"""First embeddings that know what tokens mean, so that a small model need not learn from data which bins are neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ...world_model.video.tokenizer import FrameTokenizer
from .bins import QUANTITIES
from .tokens import Vocabulary

DEVIATION = 0.02  # of an entry, as Qwen3 draws them


def structured(vocabulary: Vocabulary, frames: FrameTokenizer, width: int) -> Tensor:
    """Embeddings [V, width] float32, drawn from torch's global generator.

    A bin is a smooth random function of its place among its quantity's bins, a visual token one of its quantised values,
    each plus a token's own noise; words and control tokens are noise alone.
    """
    table = DEVIATION * torch.randn(len(vocabulary), width)
    for bins in QUANTITIES:
        place = torch.linspace(-1, 1, len(bins)).unsqueeze(1)
        table[vocabulary.group(bins)] = _smooth(place, width, waves=12)
    values = frames.quantiser.values(torch.arange(vocabulary.codebook)).cpu()
    table[vocabulary.first_visual :] = _smooth(values, width, waves=3)
    return table


def _smooth(points: Tensor, width: int, waves: int) -> Tensor:
    """A random function of points [N, D] in [-1, 1] with values [N, width] of standard deviation DEVIATION.

    Each dimension by its own sum of cosines of up to `waves` half periods, low ones stronger, its mean over it being a shared part.
    """
    order = torch.arange(1, waves + 1)
    features = torch.cos(0.5 * torch.pi * order * (points.unsqueeze(-1) + 1)) / order.sqrt()  # [N, D, waves]
    features = torch.cat((features.flatten(1), torch.ones(len(points), 1)), 1)
    out = features @ torch.randn(features.shape[1], width) + 0.3 * torch.randn(len(points), width)
    return DEVIATION * out / out.std()
