"""Worlds by name: the learned one, the reference, or trained weights in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..scenario import nearest
from ..world import World

NAMES = ("learned", "reference", "reference:left")

_made: dict[tuple[Any, ...], World] = {}


def make_world(world: str | Path | World = "learned", **options: Any) -> World:
    """Return a world by name, or the given one.

    States are values, so one instance serves all environments of a process: equal names and options give the same one.

    Args:
        world: "learned" (the weights that ship), "reference" (or "reference:left", where traffic keeps left), a folder of trained
            weights, or a `World`.
        options: further arguments of `ReferenceWorld`, `LearnedWorld.load` or, for weights trained without scenes, `VideoWorld.load`.

    Raises:
        ConfigError: no world or folder of that name.
        CheckpointError: the folder's weights cannot be read.
    """
    if not isinstance(world, str | Path):
        return world
    key = (str(world), *sorted((name, repr(value)) for name, value in options.items()))
    if key not in _made:
        _made[key] = _load(world, options)
    return _made[key]


def is_reference(world: str | Path | World) -> bool:
    """Whether a world's name means the reference world, on either side of the road."""
    return isinstance(world, str) and world in NAMES[1:]


def _load(world: str | Path, options: dict[str, Any]) -> World:
    if is_reference(world):
        from ..reference.world import ReferenceWorld

        side: dict[str, Any] = {"traffic_side": "left"} if world == "reference:left" else {}
        return ReferenceWorld(**side, **options)
    from ..world_model.learned import LearnedWorld

    if world == "learned":
        return LearnedWorld.load(**options)
    if not Path(world).is_dir():
        raise ConfigError(f"no world '{world}', and no folder of that name; {nearest(str(world), NAMES)}")
    from ..world_model.video_world import VideoWorld, is_video_world

    if is_video_world(Path(world)):
        return VideoWorld.load(world, **options)
    return LearnedWorld.load(world, **options)
