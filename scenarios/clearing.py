"""Who has to go so that a scripted scenario can begin."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import project_polyline
from ..scene import Agents, Scene
from .script import Script

CLEARANCE = 12.0  # m around an actor that is free of others at the start
CORRIDOR = 3.0  # m beside the route that are free as far as the farthest actor on it
FARTHEST = 180.0  # m


def in_the_way(scene: Scene, actors: Agents, script: Script) -> Tensor:
    """Which agents [B, N] stand where the actors begin, or on the route before them."""
    position = scene.agents.position
    near = (position.unsqueeze(2) - actors.position.unsqueeze(1)).norm(dim=-1) < CLEARANCE
    near = (near & actors.valid.unsqueeze(1)).any(-1)
    here, _, _ = project_polyline(scene.ego.position, scene.route.points)
    routes = scene.route.points.unsqueeze(1)
    at, aside, _ = project_polyline(position, routes.expand(-1, position.shape[1], -1, -1))
    marks = torch.cat((actors.position, script.mark), 1)
    of_marks, marks_aside, _ = project_polyline(marks, routes.expand(-1, marks.shape[1], -1, -1))
    known = actors.valid.repeat(1, 2) & (marks_aside.abs() < 5.0)
    farthest = torch.where(known, of_marks - here.unsqueeze(-1), torch.zeros_like(of_marks)).clamp(0, FARTHEST).amax(-1, keepdim=True)
    ahead = at - here.unsqueeze(-1)
    return near | ((aside.abs() < CORRIDOR) & (ahead > -2.0) & (ahead < farthest + CLEARANCE))
