"""How true the learned world is: its pictures, whether actions are obeyed, what it says of crashes, and how it ranks policies."""

from .command import PARTS, FidelityConfig, fidelity

__all__ = ["PARTS", "FidelityConfig", "fidelity"]
