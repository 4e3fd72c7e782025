"""The learned world: traffic, the video model, and both as one world."""

from typing import Any

__all__ = ["LearnedWorld", "StartBank"]


def __getattr__(name: str) -> Any:
    if name == "LearnedWorld":
        from .learned import LearnedWorld

        return LearnedWorld
    if name == "StartBank":
        from .starts import StartBank

        return StartBank
    raise AttributeError(name)
