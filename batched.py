"""A mix-in for frozen dataclasses of tensors: move, index, concatenate and stack them as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

BatchedT = TypeVar("BatchedT", bound="Batched")


class Batched:
    """A frozen dataclass whose fields are tensors or further `Batched` values, all with the batch first.

    Fields of any other type (None, strings, numbers) are context that all batch elements share. Trailing sizes that
    differ between two values (a map with more lanes, say) are padded by `field(metadata={"pad": value})`, zero when unsaid;
    "last" repeats the last entry.
    """

    def _fields(self) -> list[tuple[dataclasses.Field[Any], Any]]:
        return [(f, getattr(self, f.name)) for f in dataclasses.fields(self)]  # type: ignore[arg-type]

    def map(self: BatchedT, function: Callable[[Tensor], Tensor]) -> BatchedT:
        """Return a copy with `function` applied to every tensor."""
        changes: dict[str, Any] = {}
        for field, value in self._fields():
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, Batched):
                changes[field.name] = value.map(function)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to(self: BatchedT, device: torch.device | str) -> BatchedT:
        """Return a copy on `device`."""
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self: BatchedT, index: Any) -> BatchedT:
        """Index every tensor along the batch; an integer keeps the batch dimension, with size 1."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return self.map(lambda tensor: tensor[index])

    @property
    def batch_size(self) -> int:
        """Number of batch elements B."""
        for _, value in self._fields():
            if isinstance(value, Tensor):
                return int(value.shape[0])
            if isinstance(value, Batched):
                return value.batch_size
        raise ValueError(f"{type(self).__name__} holds no tensor")

    @classmethod
    def cat(cls: type[BatchedT], values: Sequence[BatchedT]) -> BatchedT:
        """Concatenate along the batch, padding trailing sizes that differ."""
        return _combine(values, lambda tensors: torch.cat(tensors, dim=0), keep=1)

    @classmethod
    def stack_time(cls: type[BatchedT], values: Sequence[BatchedT]) -> BatchedT:
        """Stack B-batched values along a new second dimension: [B, ...] each becomes [B, T, ...]."""
        return _combine(values, lambda tensors: torch.stack(tensors, dim=1), keep=1)

    def put(self: BatchedT, index: Sequence[int], other: BatchedT) -> BatchedT:
        """Return a copy whose batch elements `index` are those of `other`, padding either where sizes differ."""
        rows = torch.as_tensor(list(index), dtype=torch.long)

        def scatter(tensors: list[Tensor]) -> Tensor:
            mine = tensors[0].clone()
            mine[rows.to(mine.device)] = tensors[1].to(mine.dtype)
            return mine

        return _combine([self, other], scatter, keep=1)


def _pad_to(tensor: Tensor, shape: Sequence[int], value: float | str) -> Tensor:
    """Pad at the ends with a number, or with "last": the last entry of each dimension that grows."""
    if list(tensor.shape) == list(shape):
        return tensor
    if isinstance(value, str):
        for dim, size in enumerate(shape):
            last = torch.arange(size, device=tensor.device).clamp_max(tensor.shape[dim] - 1)
            tensor = tensor if tensor.shape[dim] == size else tensor.index_select(dim, last)
        return tensor
    out = tensor.new_full(tuple(shape), value)
    out[tuple(slice(0, n) for n in tensor.shape)] = tensor
    return out


def _combine(values: Sequence[BatchedT], join: Callable[[list[Tensor]], Tensor], keep: int) -> BatchedT:
    """Join the tensors of several values field by field; the first `keep` dimensions are not padded."""
    first = values[0]
    changes: dict[str, Any] = {}
    for field, value in first._fields():
        column = [getattr(v, field.name) for v in values]
        if isinstance(value, Tensor):
            rest = [tuple(t.shape[keep:]) for t in column]
            if len(set(rest)) > 1:
                widest = [max(sizes) for sizes in zip(*rest, strict=True)]
                pad = field.metadata.get("pad", 0)
                column = [_pad_to(t, [*t.shape[:keep], *widest], pad) for t in column]
            changes[field.name] = join(column)
        elif isinstance(value, Batched):
            changes[field.name] = _combine(column, join, keep)
    return dataclasses.replace(first, **changes)  # type: ignore[type-var]


def flatten(value: Batched, prefix: str = "") -> dict[str, Tensor]:
    """All tensors of a nested value by dotted names, as safetensors stores them."""
    out: dict[str, Tensor] = {}
    for field, item in value._fields():
        if isinstance(item, Tensor):
            out[prefix + field.name] = item.contiguous()
        elif isinstance(item, Batched):
            out.update(flatten(item, f"{prefix}{field.name}."))
    return out


def unflatten(kind: type[BatchedT], tensors: dict[str, Tensor], prefix: str = "", **nested: type[Batched]) -> BatchedT:
    """Rebuild a `kind` from `flatten`'s tensors; `nested` names the classes of its fields that are values themselves.

    Raises:
        KeyError: a tensor is missing; the message is its dotted name.
    """
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = prefix + field.name
        fields[field.name] = unflatten(nested[field.name], tensors, f"{name}.") if field.name in nested else tensors[name]
    return kind(**fields)
