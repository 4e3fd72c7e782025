"""A learned driving world that policies are trained and judged in."""

from importlib import import_module
from typing import Any

from .envs.registration import register_envs

__version__ = "0.1.0"

_PUBLIC = {
    "XPengWorldEnv": "envs",
    "XPengWorldVectorEnv": "envs",
    "Sb3VecEnv": "envs",
    "make_world": "envs",
    "draw_scenario": "scenario",
    "load_design": "rewards",
    "load_policy": "policies",
    "XPengWorldError": "errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


register_envs()
