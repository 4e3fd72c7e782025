"""Policies: the privileged expert and the drivers around it, and the car network."""

from typing import Any

from .drivers import MIXTURE
from .expert import Expert, ExpertConfig
from .registry import POLICIES, load_policy

__all__ = ["MIXTURE", "POLICIES", "CarNet", "CarPolicy", "Expert", "ExpertConfig", "load_policy"]


def __getattr__(name: str) -> Any:
    if name in ("CarNet", "CarPolicy"):
        from . import car

        return getattr(car, name)
    raise AttributeError(name)
