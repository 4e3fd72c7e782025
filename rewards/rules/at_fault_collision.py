"""NC: no collision that is the ego's fault."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import AgentKind, Track
from ..facts import STOPPED_SPEED, agent_relations, road_position
from ..history import seen_before
from ..rule import rule


@rule(
    kind="gate",
    unit="1",
    low=0.0,
    high=1.0,
    neutral=1.0,
    source="NAVSIM pdm_scorer.py `_calculate_no_at_fault_collision` and pdm_scorer_utils.py `get_collision_type`",
)
def at_fault_collision(track: Track) -> Tensor:
    """0 in the step in which the ego first touches an agent by its own fault, 1/2 for a static object, else 1: [B, T].

    At fault: the other one stands, or is met by the ego's front bumper; or it is met from the side (not from behind)
    while the ego is in several lanes or off the drivable area. A standing ego is never at fault. Each agent counts at its first
    contact in the track alone, and whoever overlaps the ego in the first column is ignored. So a running window equals the whole
    track but for this: an agent whose first contact has left the window counts anew when the ego, having parted from it, meets it again.
    """
    ego, agents = track.ego, track.agents
    near, place = track.derived(agent_relations), track.derived(road_position)
    first_contact = near.overlap & ~seen_before(near.overlap, agents.id)
    first_contact[:, 0] = False
    stands = (agents.speed <= STOPPED_SPEED) | (agents.kind == int(AgentKind.STATIC))
    exposed = (place.multiple_lanes | ~place.corners_on_road).unsqueeze(-1)
    front = near.front & ~near.behind
    side = ~near.front & ~near.behind
    moving = (ego.speed > STOPPED_SPEED).unsqueeze(-1)
    at_fault = first_contact & moving & (stands | front | (side & exposed))
    values = torch.where(at_fault, torch.where(agents.kind == int(AgentKind.STATIC), 0.5, 0.0), 1.0)
    return torch.nn.functional.pad(values, (0, 1), value=1.0).amin(-1)
