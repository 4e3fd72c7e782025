"""The reference world: SUMO traffic seen through a small camera; it makes the logs and it is the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera import ReferenceCamera as ReferenceCamera
    from .networks import Network as Network
    from .networks import build_network as build_network
    from .roadmap import LaneIndex as LaneIndex
    from .roadmap import read_road_map as read_road_map
    from .scenery import furnish as furnish
    from .world import ReferenceWorld as ReferenceWorld

_HOMES = {
    "ReferenceCamera": "camera",
    "Network": "networks",
    "build_network": "networks",
    "LaneIndex": "roadmap",
    "read_road_map": "roadmap",
    "furnish": "scenery",
    "ReferenceWorld": "world",
}
__all__ = ["LaneIndex", "Network", "ReferenceCamera", "ReferenceWorld", "build_network", "furnish", "read_road_map"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing the package stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
