"""The keys and values of the tokens a VLA last read: the part of its memory that makes a decision cost only the new frame's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...batched import Batched

if TYPE_CHECKING:
    from transformers import DynamicCache, Qwen3Config

PENDING = 2  # tokens at most that were written but not read yet


@dataclass(frozen=True)
class Context(Batched):
    """What each of B episodes has read, at most W - 1 tokens; older ones are out of the model's sight. The newest are on the right."""

    keys: Tensor  # [B, layers, heads, W - 1, D]
    values: Tensor  # [B, layers, heads, W - 1, D]
    length: Tensor  # [B] int64, tokens held
    position: Tensor  # [B] int64, tokens read since the episode began
    pending: Tensor  # [B, PENDING] int64, written last and not read yet, on the right; -1: none

    @classmethod
    def begin(cls, config: Qwen3Config, batch: int, first: int, dtype: torch.dtype = torch.float32) -> Context:
        """Nothing read yet; token `first` is the first to be read."""
        window = int(config.sliding_window or config.max_position_embeddings) - 1
        shape = (batch, config.num_hidden_layers, config.num_key_value_heads or config.num_attention_heads, window, config.head_dim)
        pending = torch.full((batch, PENDING), -1, dtype=torch.int64)
        pending[:, -1] = first
        none = torch.zeros(batch, dtype=torch.int64)
        return cls(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype), none, none.clone(), pending)

    @property
    def room(self) -> int:
        """Tokens that can be held, W - 1."""
        return int(self.keys.shape[3])


class Reading:
    """One decision's reading and writing, on top of a context.

    Keys and values are handed to the model as a plain cache, with positions and an attention mask that know which entries
    exist and how far the model sees, so rows of a batch may have read different numbers of tokens.
    """

    def __init__(self, context: Context) -> None:
        from transformers import DynamicCache

        self.context = context
        self.cache: DynamicCache = DynamicCache()
        used = int(context.length.max()) if len(context.length) else 0
        for layer in range(context.keys.shape[1]):
            keep = slice(context.room - used, None)
            self.cache.update(context.keys[:, layer, :, keep], context.values[:, layer, :, keep], layer)
        column = torch.arange(used, device=context.length.device)
        self.exists = column >= used - context.length.unsqueeze(1)  # [B, tokens so far]
        self.places = context.position.unsqueeze(1) - used + column  # [B, tokens so far]
        self.next = context.position.clone()

    def add(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Make room for tokens [B, T]; `real` says which are any.

        Returns:
            Their positions [B, T] and the attention mask [B, 1, T, tokens so far], True where a token may look.
        """
        count = real.long().cumsum(1)
        places = (self.next.unsqueeze(1) + count - 1).clamp_min(0)
        self.next = self.next + count[:, -1]
        before = self.exists.shape[1]
        self.exists = torch.cat((self.exists, real), 1)
        self.places = torch.cat((self.places, places), 1)
        column = torch.arange(self.exists.shape[1], device=real.device)
        row = before + torch.arange(real.shape[1], device=real.device)
        causal = column <= row.unsqueeze(1)
        near = places.unsqueeze(2) - self.places.unsqueeze(1) <= self.context.room
        itself = column == row.unsqueeze(1)  # a token that is none still needs something to look at
        return places, ((self.exists.unsqueeze(1) & near & causal) | itself).unsqueeze(1)

    def finish(self, pending: Tensor) -> Context:
        """The context after it: the newest W - 1 tokens that exist, with `pending` [B, PENDING] to be read next."""
        layers: list[Any] = list(self.cache.layers)
        room, total = self.context.room, self.exists.shape[1]
        order = torch.argsort(self.exists.int(), dim=1, stable=True)  # those that exist come last, in their order
        index = order[:, max(0, total - room) :].view(-1, 1, min(total, room), 1)
        take = lambda tensor: torch.nn.functional.pad(
            tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3])), (0, 0, max(0, room - total), 0)
        )
        return Context(
            torch.stack([take(layer.keys) for layer in layers], 1),
            torch.stack([take(layer.values) for layer in layers], 1),
            self.exists.sum(1).clamp_max(room),
            self.next,
            pending,
        )
