"""Scenes and roads as small integers: lengths to a millimetre, polylines as steps, colours as bytes."""

from __future__ import annotations

import torch
from torch import Tensor

MILLIMETRES = 1000.0
BYTE = 255.0

# How each field is kept: "steps" (a first point and steps of it, mm), a (dtype, scale) pair, or as it is where it is not named.
_FIELDS: dict[str, dict[str, str | tuple[torch.dtype, float]]] = {
    "road": {
        "centreline": "steps",
        "width": (torch.int16, MILLIMETRES),
        "speed_limit": (torch.int32, MILLIMETRES),
        "kind": (torch.uint8, 1),
        "successors": (torch.int16, 1),
        "left": (torch.int16, 1),
        "right": (torch.int16, 1),
        "left_border": (torch.uint8, 1),
        "right_border": (torch.uint8, 1),
        "junctions": (torch.int32, MILLIMETRES),
        "stop_line": (torch.int32, MILLIMETRES),
        "signal_lane": (torch.int16, 1),
        "phase_state": (torch.uint8, 1),
        "scenery": (torch.int32, MILLIMETRES),
        "scenery_colour": (torch.uint8, BYTE),
        "scenery_kind": (torch.uint8, 1),
        "traffic_side": (torch.int16, 1),
    },
    "ego": {},
    "agents": {
        "kind": (torch.uint8, 1),
        "id": (torch.int32, 1),
        "colour": (torch.uint8, BYTE),
    },
    "route": {"points": "steps", "lanes": (torch.int16, 1)},
}
_COUNTS = ("kind", "successors", "left", "right", "left_border", "right_border", "signal_lane", "phase_state", "scenery_kind",
           "traffic_side", "id", "lanes")  # fmt: skip


def pack(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make the tensors of a "road", "ego", "agents" or "route" small.

    Raises:
        ValueError: a value that its small type cannot hold.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        code = _FIELDS[part].get(name)
        if code is None:
            out[name] = tensor
        elif isinstance(code, str):
            whole = (tensor.double() * MILLIMETRES).round().long()
            out[f"{name}.first"] = whole[..., :1, :].to(torch.int32)
            out[f"{name}.steps"] = _narrow(name, whole.diff(dim=-2), torch.int16)
        else:
            dtype, scale = code
            out[name] = _narrow(name, (tensor.double() * scale).round().long(), dtype)
    return out


def unpack(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`.

    Raises:
        KeyError: a tensor is missing.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        field, _, half = name.partition(".")
        code = _FIELDS[part].get(field)
        if half == "steps":
            whole = torch.cat((tensors[f"{field}.first"].long(), tensor.long()), -2).cumsum(-2)
            out[field] = (whole.double() / MILLIMETRES).float()
        elif half == "first":
            continue
        elif code is None or isinstance(code, str):
            out[field] = tensor
        else:
            out[field] = tensor.long() if field in _COUNTS else (tensor.double() / code[1]).float()
    return out


def _narrow(name: str, whole: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    if whole.numel() and (int(whole.min()) < limits.min or int(whole.max()) > limits.max):
        raise ValueError(f"{name} holds {int(whole.min())} to {int(whole.max())}, more than {dtype} can")
    return whole.to(dtype)
