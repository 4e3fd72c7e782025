"""Worlds by name: the learned one, the reference, or trained weights in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..scenario import nearest
from ..world import World

NAMES = ("learned", "reference")

_made: dict[tuple[Any, ...], World] = {}


def make_world(world: str | Path | World = "learned", **options: Any) -> World:
    """Return a world by name, or the given one.

    States are values, so one instance serves all environments of a process: equal names and options give the same one.

    Args:
        world: "learned" (the weights that ship), "reference", a folder of trained weights, or a `World`.
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


def _load(world: str | Path, options: dict[str, Any]) -> World:
    if world == "reference":
        from ..reference.world import ReferenceWorld

        return ReferenceWorld(**options)
    from ..world_model.learned import LearnedWorld

    if world == "learned":
        return LearnedWorld.load(**options)
    if not Path(world).is_dir():
        raise ConfigError(f"no world '{world}', and no folder of that name; {nearest(str(world), NAMES)}")
    from ..world_model.video_world import VideoWorld, is_video_world

    if is_video_world(Path(world)):
        return VideoWorld.load(world, **options)
    return LearnedWorld.load(world, **options)
