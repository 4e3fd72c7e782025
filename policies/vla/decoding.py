"""Choosing the next token from logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .bins import ACCELERATE, STEER
from .tokens import Vocabulary

NUMBERS = {"steer": STEER, "accelerate": ACCELERATE}


def choose(
    logits: Tensor,
    vocabulary: Vocabulary,
    temperature: float,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    only: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Tokens [B] from logits [B, V], and their log-probabilities [B] under all V tokens.

    At temperature 0 the likeliest token is taken; where that is a bin of an action, the bin in which the distribution over that
    action's bins has its median, since bins near 0 are narrower and the likeliest one says little. With `only`, the name of
    an action quantity, all other tokens are out of reach.
    """
    scaled = logits / temperature if temperature > 0 else logits
    logprobs = torch.log_softmax(scaled, -1)
    if only is not None:
        logits, scaled = (torch.where(_allowed(vocabulary, only, t.device), t, -torch.inf) for t in (logits, scaled))
    if temperature > 0:
        cumulative = torch.softmax(scaled, -1).cumsum(-1)
        draw = _uniform(len(logits), generator, logits.device) * cumulative[:, -1]
        token = torch.searchsorted(cumulative, draw.unsqueeze(1), right=True).squeeze(1).clamp_max(logits.shape[1] - 1)
    else:
        token = logits.argmax(-1)
        for name in NUMBERS if only is None else (only,):
            group = vocabulary.group(NUMBERS[name])
            inside = (token >= group.start) & (token < group.stop)
            cumulative = torch.softmax(logits[:, group], -1).cumsum(-1)
            token = torch.where(inside, group.start + (cumulative < 0.5).sum(-1), token)
    return token, logprobs.gather(1, token.unsqueeze(1)).squeeze(1)


@lru_cache(maxsize=16)
def _allowed(vocabulary: Vocabulary, name: str, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        allowed = torch.zeros(len(vocabulary), dtype=torch.bool, device=device)
        allowed[vocabulary.group(NUMBERS[name])] = True
    return allowed


def _uniform(batch: int, generator: torch.Generator | Sequence[torch.Generator] | None, device: torch.device) -> Tensor:
    """Draws [B] in [0, 1), each row's from its own generator where there are several."""
    if isinstance(generator, Sequence):
        return torch.stack([torch.rand((), generator=one) for one in generator]).to(device)
    return torch.rand(batch, generator=generator).to(device)
