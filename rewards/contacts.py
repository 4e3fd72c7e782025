"""Contacts with other road users, each counted once, and whose fault they are."""

from __future__ import annotations

from torch import Tensor

from ..scene import AgentKind, Track
from .facts import STOPPED_SPEED, agent_relations, road_position
from .history import seen_before


def first_contacts(track: Track) -> Tensor:
    """Bool [B, T, N]: the ego first touches the agent in this column; whoever overlaps it in the track's first column is ignored."""
    overlap = track.derived(agent_relations).overlap
    first = overlap & ~seen_before(overlap, track.agents.id)
    first[:, 0] = False
    return first


def at_fault_contacts(track: Track) -> Tensor:
    """Those of `first_contacts` that are the ego's fault, bool [B, T, N].

    At fault: the other one stands, or is met by the ego's front bumper; or it is met from the side (not from behind) while the ego is in
    several lanes or off the drivable area. A standing ego is never at fault.
    """
    agents = track.agents
    near, place = track.derived(agent_relations), track.derived(road_position)
    stands = (agents.speed <= STOPPED_SPEED) | (agents.kind == int(AgentKind.STATIC))
    exposed = (place.multiple_lanes | ~place.corners_on_road).unsqueeze(-1)
    front = near.front & ~near.behind
    side = ~near.front & ~near.behind
    moving = (track.ego.speed > STOPPED_SPEED).unsqueeze(-1)
    return first_contacts(track) & moving & (stands | front | (side & exposed))
