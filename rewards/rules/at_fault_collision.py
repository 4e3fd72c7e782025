"""NC: no collision that is the ego's fault."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import AgentKind, Track
from ..contacts import at_fault_contacts
from ..grading import worst_of_agents
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
    values = torch.where(at_fault_contacts(track), torch.where(track.agents.kind == int(AgentKind.STATIC), 0.5, 0.0), 1.0)
    return worst_of_agents(values)
