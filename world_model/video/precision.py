"""Where the video model computes, and in which number format."""

from __future__ import annotations

import torch

from ...errors import ConfigError, nearest


def resolve_precision(precision: str, device: str) -> str:
    """The precision "auto" stands for: bfloat16 where the processor computes in it, else float32."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"unknown precision '{precision}'; {nearest(precision, ('auto', 'float32', 'bfloat16'))}")
    if precision != "auto":
        return precision
    native = device.startswith("cuda") or bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return "bfloat16" if native else "float32"


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        ConfigError: an unknown or missing device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={device} cannot be used: {str(error).splitlines()[0]}") from None
