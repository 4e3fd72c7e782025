"""Everything the rules know of a track beside its own fields: column-wise facts, to be read through `track.derived(fact)`.

The value of a fact in column t depends on column t alone, so that a stepping environment computes only its new column.
"""

from .agent_facts import STOPPED_SPEED, AgentRelations, agent_corners, agent_relations, relations_within
from .around_facts import Around, around, at_stop_sign, right_speed, side_speeds, signalled
from .lane_facts import RoadPosition, RoutePosition, edge_excess, ego_corners, road_edges, road_position, route_position
from .signal_facts import WayAhead, stop_regions_entered, way_ahead

__all__ = [
    "STOPPED_SPEED",
    "AgentRelations",
    "Around",
    "RoadPosition",
    "RoutePosition",
    "WayAhead",
    "agent_corners",
    "agent_relations",
    "around",
    "at_stop_sign",
    "edge_excess",
    "ego_corners",
    "relations_within",
    "right_speed",
    "road_edges",
    "road_position",
    "route_position",
    "side_speeds",
    "signalled",
    "stop_regions_entered",
    "way_ahead",
]
