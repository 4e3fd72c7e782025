"""The VLA: one causal language model that reads the car's camera, motion and route as tokens, may think, and writes an action."""

from typing import Any

__all__ = ["SIZES", "VlaModel", "VlaPolicy", "Vocabulary", "parse_action"]

_HOMES = {"SIZES": "model", "VlaModel": "model", "VlaPolicy": "policy", "Vocabulary": "tokens", "parse_action": "tokens"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
