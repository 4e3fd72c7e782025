"""The road as the rules, the traffic and the layout know it: lanes, junctions, signals, scenery, and the route along it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from .batched import Batched

LANE_POINTS = 12  # vertices of a lane's polyline; longer lanes are cut into pieces of at most LANE_PIECE
LANE_PIECE = 60.0  # m
ROUTE_STEP = 2.0  # m between the points of a route
MAX_PHASES = 8  # phases of a signal programme


class LaneKind(IntEnum):
    """What a lane is for; 0 marks padding."""

    NONE = 0
    DRIVING = 1
    JUNCTION = 2  # inside a junction, links two driving lanes
    WALKING = 3
    SHOULDER = 4


class Border(IntEnum):
    """The marking along one side of a lane."""

    NONE = 0
    EDGE = 1  # solid white
    DASHED = 2
    CENTRE = 3  # solid yellow between opposite directions


class SignalState(IntEnum):
    """What a signal head shows; a stop sign is a signal that never shows anything else."""

    OFF = 0
    RED = 1
    YELLOW = 2
    GREEN = 3
    STOP_SIGN = 4


LIGHTS = (SignalState.RED, SignalState.YELLOW, SignalState.GREEN)  # of a traffic light that works


class SceneryKind(IntEnum):
    """A static thing beside the road; 0 marks padding. Facades and crowns are told apart as maps can (material, leaf type)."""

    NONE = 0
    BUILDING = 1  # a window to each bay and storey
    TREE = 2  # broad-leaved: a round crown
    POLE = 3
    RIBBON_BUILDING = 4  # the windows of a storey drawn together into a band
    GLASS_BUILDING = 5  # a curtain wall, glass but for its frame
    CONIFER = 6  # needle-leaved: a conical crown


BUILDINGS = (SceneryKind.BUILDING, SceneryKind.RIBBON_BUILDING, SceneryKind.GLASS_BUILDING)
TREES = (SceneryKind.TREE, SceneryKind.CONIFER)


@dataclass(frozen=True)
class RoadMap(Batched):
    """A flat road network with its signals and scenery; batch first, padded.

    L lanes, J junctions, S signals, K scenery boxes. A lane index is a position in L; -1 means none.
    """

    centreline: Tensor  # [B, L, LANE_POINTS, 2] m, in the direction of travel
    width: Tensor  # [B, L] m
    speed_limit: Tensor  # [B, L] m/s
    kind: Tensor  # [B, L] LaneKind, int64
    successors: Tensor = field(metadata={"pad": -1})  # [B, L, 4] int64
    left: Tensor = field(metadata={"pad": -1})  # [B, L] neighbour in the same direction, int64
    right: Tensor = field(metadata={"pad": -1})  # [B, L] int64
    left_border: Tensor = field(metadata={"pad": 0})  # [B, L] Border, int64
    right_border: Tensor = field(metadata={"pad": 0})  # [B, L] Border, int64
    junctions: Tensor = field(metadata={"pad": "last"})  # [B, J, V, 2] polygons; the last vertex repeated as padding; all zero: none
    stop_line: Tensor = field(metadata={"pad": 0})  # [B, S, 2, 2] left and right end of each signal's stop line
    signal_head: Tensor = field(metadata={"pad": 0})  # [B, S, 4] x, y, z of the head and the heading of the traffic it serves
    signal_lane: Tensor = field(metadata={"pad": -1})  # [B, S] the incoming lane (its last piece), -1: padding
    phase_end: Tensor = field(metadata={"pad": 0})  # [B, S, MAX_PHASES] s, cumulative; the last repeated as padding
    phase_state: Tensor = field(metadata={"pad": 0})  # [B, S, MAX_PHASES] SignalState, int64
    phase_offset: Tensor = field(metadata={"pad": 0})  # [B, S] s added to the time before the programme is looked up
    scenery: Tensor = field(metadata={"pad": 0})  # [B, K, 6] x, y, heading, length, width, height (standing on the ground)
    scenery_colour: Tensor = field(metadata={"pad": 0})  # [B, K, 3] base colour in [0, 1]
    scenery_kind: Tensor = field(metadata={"pad": 0})  # [B, K] SceneryKind, int64
    traffic_side: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.int64))  # [B] 1: right, -1: left

    def signals_at(self, time: Tensor) -> Tensor:
        """Signal states [B, S] (SignalState, int64) by the programmes at times [B] in s; OFF for padding."""
        cycle = self.phase_end[..., -1].clamp_min(1e-3)
        moment = torch.remainder(time.unsqueeze(-1) + self.phase_offset, cycle)
        phase = (moment.unsqueeze(-1) >= self.phase_end).sum(-1).clamp_max(MAX_PHASES - 1)
        state = self.phase_state.gather(-1, phase.unsqueeze(-1)).squeeze(-1)
        return torch.where(self.signal_lane >= 0, state, torch.zeros_like(state))

    def nearest_lanes(self, position: Tensor, count: int, kinds: tuple[LaneKind, ...] = (LaneKind.DRIVING, LaneKind.JUNCTION)) -> Tensor:
        """Indices of the lanes whose vertices come nearest to points.

        Args:
            position: [B, Q, 2].
            count: lanes per point; fewer than L lanes are padded with -1, as are lanes of other kinds.
            kinds: the kinds of lane that count.

        Returns:
            [B, Q, count] lane indices, nearest first.
        """
        batch, lanes = self.width.shape
        vertices = self.centreline.reshape(batch, lanes * LANE_POINTS, 2)
        # cdist's matrix product loses decimetres at coordinates of kilometres, and is slower for a few points
        offset = [vertices[:, None, :, axis] - position[:, :, None, axis] for axis in (0, 1)]
        gap = offset[0].square_().add_(offset[1].square_()).view(batch, position.shape[1], lanes, LANE_POINTS).amin(-1)
        usable = torch.zeros_like(self.kind, dtype=torch.bool)
        for kind in kinds:
            usable |= self.kind == int(kind)
        gap = torch.where(usable.unsqueeze(1), gap, torch.full_like(gap, torch.inf))
        value, index = gap.topk(min(count, lanes), dim=-1, largest=False)
        index = torch.where(torch.isfinite(value), index, torch.full_like(index, -1))
        if lanes < count:
            index = torch.nn.functional.pad(index, (0, count - lanes), value=-1)
        return index

    def lane_values(self, values: Tensor, index: Tensor) -> Tensor:
        """Gather a per-lane field [B, L, ...] at lane indices [B, ...Q]; indices of -1 read lane 0 (mask them)."""
        batch = torch.arange(values.shape[0], device=values.device).view(-1, *([1] * (index.ndim - 1)))
        return values[batch, index.clamp_min(0)]

    def trimmed(self) -> RoadMap:
        """Drop padding that no batch element needs."""
        lanes = int((self.kind > 0).sum(-1).max())
        signals = max(1, int((self.signal_lane >= 0).sum(-1).max()))
        scenery = max(1, int((self.scenery_kind > 0).sum(-1).max()))
        cut = {"L": lanes, "S": signals, "K": scenery}
        by_lane = ("centreline", "width", "speed_limit", "kind", "successors", "left", "right", "left_border", "right_border")
        by_signal = ("stop_line", "signal_head", "signal_lane", "phase_end", "phase_state", "phase_offset")
        by_scenery = ("scenery", "scenery_colour", "scenery_kind")
        changes = {}
        for size, names in (("L", by_lane), ("S", by_signal), ("K", by_scenery)):
            for name in names:
                changes[name] = getattr(self, name)[:, : cut[size]]
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Route(Batched):
    """The way the ego is asked to go: a polyline with ROUTE_STEP between its points, and the lanes it may use."""

    points: Tensor = field(metadata={"pad": "last"})  # [B, R, 2]; the last point repeated as padding
    length: Tensor  # [B] m
    lanes: Tensor = field(metadata={"pad": -1})  # [B, Q] all lanes of the route's edges and junctions, parallel ones included; -1: padding

    def lane_mask(self, lane_count: int) -> Tensor:
        """Which lanes belong to the route: bool [B, lane_count]."""
        mask = torch.zeros(self.lanes.shape[0], lane_count + 1, dtype=torch.bool, device=self.lanes.device)
        index = torch.where(self.lanes >= 0, self.lanes, torch.full_like(self.lanes, lane_count))
        return mask.scatter(1, index, True)[:, :lane_count]

    def ahead(self, arc: Tensor, count: int, spacing: float) -> Tensor:
        """Points [B, count, 2] on the route, from `spacing` metres past arc length [B] on, held at its end.

        Points are ROUTE_STEP apart on the stored polyline, so a look-up by index suffices and padding is never reached.
        """
        wanted = arc.unsqueeze(-1) + spacing * torch.arange(1, count + 1, device=arc.device)
        wanted = torch.minimum(wanted, self.length.unsqueeze(-1)).clamp_min(0) / ROUTE_STEP
        last = torch.ceil(self.length / ROUTE_STEP).long().unsqueeze(-1).clamp_max(self.points.shape[1] - 1)
        low = torch.minimum(wanted.floor().long(), last)
        high = torch.minimum(low + 1, last)
        fraction = (wanted - low).clamp(0, 1).unsqueeze(-1)
        index = torch.stack((low, high), -1)
        batch = torch.arange(arc.shape[0], device=arc.device).view(-1, 1, 1)
        ends = self.points[batch, index]
        return ends[:, :, 0] * (1 - fraction) + ends[:, :, 1] * fraction
