"""The ego's way: a Route along a chain of SUMO's edges, through the lanes that lead on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import DataError
from ..road import ROUTE_STEP, Route
from .roadmap import LaneIndex, Points, polyline_length, resample

LANE_CHANGE = 45.0  # m that a route takes to cross into the next lane


def plan_lanes(index: LaneIndex, edges: Sequence[str]) -> list[tuple[int, int]]:
    """Entry and exit lane on each edge of a route with the fewest lane changes, none on the first edge.

    Raises:
        DataError: two consecutive edges are not linked.
    """
    cost: dict[int, tuple[float, int, tuple[int, int] | None]] = {lane: (0.0, lane, None) for lane in range(len(index.edges[edges[-1]]))}
    table = [cost]
    for here, following in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True):
        links = index.links.get((here, following))
        if not links:
            raise DataError(f"the edges {here} and {following} are not linked; a route must be connected")
        change = 1000.0 if here == edges[0] else 1.0
        fresh: dict[int, tuple[float, int, tuple[int, int] | None]] = {}
        for entry in range(len(index.edges[here])):
            options = [(change * abs(entry - a) + cost[b][0] + 0.01 * a, a, (a, b)) for a, b, _ in links]
            fresh[entry] = min(options)
        cost = fresh
        table.append(cost)
    table.reverse()
    lane = min(table[0], key=lambda k: table[0][k][0])
    plan = []
    for step in table:
        _, leave, link = step[lane]
        plan.append((lane, leave))
        lane = link[1] if link is not None else lane
    return plan


def route_along(index: LaneIndex, edges: Sequence[str]) -> Route:
    """The route [1] along linked edges: through the lanes that lead on, lane changes blended.

    Raises:
        DataError: no edge at all, or two consecutive edges are not linked.
    """
    if not edges:
        raise DataError("a route needs at least one edge")
    plan = plan_lanes(index, edges)
    parts: list[Points] = []
    pieces: list[int] = []
    for k, (edge, (entry, leave)) in enumerate(zip(edges, plan, strict=True)):
        parts.append(_along_edge(index, edge, entry, leave))
        pieces += index.edge_pieces(edge)
        if k + 1 < len(edges):
            links = index.links[edge, edges[k + 1]]
            inside = next(names for a, b, names in links if (a, b) == (leave, plan[k + 1][0]))
            parts += [index.lanes[name].shape for name in inside]
            pieces += [piece for _, _, names in links for name in names for piece in index.pieces.get(name, [])]
    line = np.concatenate(parts)
    line = line[np.concatenate(([True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3))]
    steps = int(polyline_length(line) / ROUTE_STEP)
    points = resample(line, np.arange(steps + 1) * ROUTE_STEP / polyline_length(line))
    return Route(
        points=torch.as_tensor(points).float().unsqueeze(0),
        length=torch.tensor([steps * ROUTE_STEP]),
        lanes=torch.tensor([sorted(set(pieces))], dtype=torch.int64),
    )


def _along_edge(index: LaneIndex, edge: str, entry: int, leave: int) -> Points:
    names = index.edges[edge]
    if entry == leave:
        return index.lanes[names[entry]].shape
    length = index.edge_length(edge)
    fractions = np.linspace(0, 1, max(8, round(length / 3)))
    wanted = min(0.8, LANE_CHANGE * abs(entry - leave) / length)
    start = min(0.15, (1 - wanted) / 2)
    t = np.clip((fractions - start) / wanted, 0, 1)[:, None]
    blend = t * t * (3 - 2 * t)
    return (1 - blend) * resample(index.lanes[names[entry]].shape, fractions) + blend * resample(index.lanes[names[leave]].shape, fractions)
