"""Attention over a sliding window in time that grows with the window, not with the length of the sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "xpeng_windowed"


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, window: int, scaling: float, real: Tensor | None = None) -> Tensor:
    """Causal attention in which token i looks at tokens i - window + 1 to i, without a cache.

    Blocks of queries meet the keys of their own block and of the window before it, and no others: at 1,000 tokens and a window of 96 a
    seventh of all pairs. A token that is padding looks at itself, so that no row is empty; nobody else looks at it.

    Args:
        query: [B, H, T, D].
        key: [B, G, T, D], where G divides H: a key serves H / G heads.
        value: [B, G, T, D].
        window: tokens that a token sees, itself included.
        scaling: of the products.
        real: [B, T] bool, False for padding; None for none.

    Returns:
        [B, H, T, D].
    """
    batch, heads, length, size = query.shape
    block = max(1, window // 2)
    blocks = -(-length // block)
    pad = blocks * block - length
    grouped = torch.nn.functional.pad(query, (0, 0, 0, pad)).view(batch, key.shape[1], -1, blocks, block, size)
    # [B, G, 1, blocks, D, window + block]
    near = lambda tensor: torch.nn.functional.pad(tensor, (0, 0, window, pad)).unfold(2, window + block, block).unsqueeze(2)
    scores = grouped @ near(key) * scaling
    row, column = torch.arange(block, device=query.device).unsqueeze(1), torch.arange(window + block, device=query.device)
    ahead = column - window - row  # of the query; 0: itself
    band = (ahead <= 0) & (ahead > -window)
    exists = torch.ones(1, length, dtype=torch.bool, device=query.device) if real is None else real.bool()
    exists = torch.nn.functional.pad(exists, (window, pad)).unfold(1, window + block, block)  # [B, blocks, window + block]
    seen = (band & exists.unsqueeze(2)) | (ahead == 0)
    weights = torch.softmax(scores.masked_fill(~seen[:, None, None], -torch.inf), -1).to(value.dtype)
    out = weights @ near(value).transpose(-1, -2)
    return out.reshape(batch, heads, blocks * block, size)[:, :, :length]


def register() -> str:
    """Make it known to `transformers`; returns the name for `set_attn_implementation`. It may be called again.

    Masks of four dimensions, as the VLA's reading with a cache gives, go to the usual attention.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, _padding)
    return NAME


def _forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    if attention_mask is not None and attention_mask.dim() == 4:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    if key.shape[2] != query.shape[2] or sliding_window is None:
        raise ValueError(f"{NAME} reads whole sequences of a model with a sliding window, without a cache")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return windowed_attention(query, key, value, sliding_window, scaling, attention_mask).transpose(1, 2), None


def _padding(batch_size: int, q_length: int, kv_length: int, attention_mask: Tensor | None = None, **others: Any) -> Tensor | None:
    """The padding [B, T] is all the mask that is needed."""
    return attention_mask
