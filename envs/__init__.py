"""Gymnasium environments over any world: single, vector and Stable-Baselines3; rendering; registration."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "DrivingLoop": "core",
    "Episodes": "core",
    "Outcome": "core",
    "XPengWorldEnv": "env",
    "XPengWorldVectorEnv": "vector",
    "Sb3VecEnv": "sb3",
    "make_world": "worlds",
    "render_episode": "render",
    "render_birds_eye": "render",
    "register_envs": "registration",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
