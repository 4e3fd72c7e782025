"""Buildings, trees and poles beside the road."""

from __future__ import annotations

from ..road import RoadMap


def furnish(road: RoadMap, seed: int) -> RoadMap:
    """Return the map with scenery drawn from a seed."""
    return road
