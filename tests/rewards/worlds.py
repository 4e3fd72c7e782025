"""Small synthetic roads and tracks for the tests of the rules."""

from __future__ import annotations

import dataclasses
import math

import torch
from xpeng_world.geometry import rotate, wrap_angle
from xpeng_world.rewards.cases import LANE, LIMIT, PIECE, drive, straight_road, with_junction
from xpeng_world.road import LaneKind, SignalState
from xpeng_world.scene import DT, Appearance, Ego, Track


def moved_world(track: Track, angle: float, shift: tuple[float, float]) -> Track:
    """The same track in a world frame that is rotated and shifted."""
    turn = torch.tensor(angle)
    at = torch.tensor(shift)
    place = lambda points: rotate(points, turn) + at
    road = dataclasses.replace(
        track.road,
        centreline=place(track.road.centreline),
        junctions=torch.where(track.road.junctions.abs().sum((-1, -2), keepdim=True) > 0, place(track.road.junctions), 0.0),
        stop_line=place(track.road.stop_line),
        signal_head=torch.cat(
            (place(track.road.signal_head[..., :2]), track.road.signal_head[..., 2:3], wrap_angle(track.road.signal_head[..., 3:] + turn)),
            -1,
        ),
    )
    return dataclasses.replace(
        track,
        road=road,
        route=dataclasses.replace(track.route, points=place(track.route.points)),
        ego=Ego(_moved_state(track.ego.state, place, turn)),
        agents=dataclasses.replace(track.agents, state=_moved_state(track.agents.state, place, turn)),
    )


def _moved_state(state, place, turn):
    return torch.cat((place(state[..., :2]), wrap_angle(state[..., 2:3] + turn), state[..., 3:]), -1)


def mirrored(track: Track) -> Track:
    """The same track with left and right exchanged."""
    flip = lambda points: points * torch.tensor([1.0, -1.0])
    road = dataclasses.replace(
        track.road,
        centreline=flip(track.road.centreline),
        junctions=flip(track.road.junctions),
        stop_line=flip(track.road.stop_line).flip(-2),
        signal_head=track.road.signal_head * torch.tensor([1.0, -1.0, 1.0, -1.0]),
        traffic_side=-track.road.traffic_side,
    )
    state = track.ego.state * torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    others = track.agents.state * torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    route = dataclasses.replace(track.route, points=flip(track.route.points))
    return dataclasses.replace(track, road=road, route=route, ego=Ego(state), agents=dataclasses.replace(track.agents, state=others))


def lively_track(steps: int = 80, seed: int = 0) -> Track:
    """A wild drive over a road with signals, agents and a junction: every rule has something to say somewhere."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda scale: (scale * (torch.rand(steps, generator=generator) - 0.5)).cumsum(0)
    road, route = straight_road(pieces=6, lanes=2, stop_at=120.0)
    road = with_junction(road, 120.0, 140.0)
    route = dataclasses.replace(route, lanes=route.lanes[:, :6])  # the right lane alone
    acceleration = noise(2.0).clamp(-4, 3)
    speed = (12.0 + noise(0.6)).clamp(3, 16)
    along = DT * speed.cumsum(0)
    x = 40.0 + along
    y = 1.0 + 2.5 * torch.sin(0.06 * along)
    heading = torch.atan(0.15 * torch.cos(0.06 * along))
    yaw_rate = torch.nn.functional.pad((heading[1:] - heading[:-1]) / DT, (1, 0))
    time = DT * torch.arange(steps)
    agents = [
        {"x": (70.0 + 4.0 * time).tolist(), "y": 0.3, "speed": 4.0},
        {"x": (60.0 + 9.0 * time).tolist(), "y": LANE + 0.2, "speed": 9.0},
        {"x": (180.0 - 8.0 * time).tolist(), "y": 2 * LANE, "heading": math.pi - 0.01, "speed": 8.0},
        {"x": 110.0, "y": -1.0, "kind": 5, "length": 1.0, "width": 1.0},
        {"x": 130.0, "y": (-8.0 + 1.5 * time).tolist(), "heading": math.pi / 2, "speed": 1.5, "kind": 4, "length": 0.6, "width": 0.6},
    ]
    states = [int(SignalState.RED) if t % 60 < 50 else int(SignalState.GREEN) for t in range(steps)]
    return drive(
        road, route, x=x.tolist(), y=y.tolist(), heading=heading.tolist(), speed=speed.tolist(), acceleration=acceleration.tolist(),
        yaw_rate=yaw_rate.tolist(), agents=agents, signals=states,
    )  # fmt: skip


def lawless_track(steps: int = 100, seed: int = 0) -> Track:
    """A drive that does what the lively one does not: over the shoulder, against the traffic, past others on the wrong side, past
    a stop sign.

    Row 0 is a shoulder, rows 1 and 2 are the route's, row 3 is oncoming; the limit is 20 m/s and it rains.
    """
    generator = torch.Generator().manual_seed(seed)
    road, route = straight_road(pieces=5, lanes=3, stop_at=120.0)
    road = dataclasses.replace(
        road,
        kind=torch.where(torch.arange(road.kind.shape[1]) < 5, int(LaneKind.SHOULDER), road.kind),
        speed_limit=torch.full_like(road.speed_limit, 20.0),
    )
    route = dataclasses.replace(route, points=route.points + torch.tensor([0.0, LANE]), lanes=route.lanes[:, 5:])
    knots = torch.tensor([0, 10, 20, 28, 36, 44, 63, 69, 82, steps])
    places = LANE * torch.tensor([1.0, 1.0, 2.0, 2.0, 0.0, 0.0, 3.0, 3.0, 1.0, 1.0])
    at = torch.arange(steps)
    piece = (torch.searchsorted(knots, at, right=True) - 1).clamp(0, len(knots) - 2)
    share = (at - knots[piece]) / (knots[piece + 1] - knots[piece])
    y = places[piece] + (places[piece + 1] - places[piece]) * (0.5 - 0.5 * torch.cos(math.pi * share))
    speed = torch.where(at < 60, torch.tensor(18.0), (18.0 - 0.55 * (at - 60)).clamp_min(1.0))
    speed = speed + 0.05 * torch.rand(steps, generator=generator)
    x = 20.0 + DT * speed.cumsum(0)
    heading = torch.atan2(torch.gradient(y)[0], torch.gradient(x)[0])
    agents = [
        {"x": (x[0] + 3.0 + 0.8 * at).tolist(), "y": 2 * LANE, "speed": 8.0},  # passed on its right
        {"x": (x - 12.0 + 0.4 * at).tolist(), "y": 2 * LANE, "speed": 22.0},  # cut off
        {"x": (x - 10.0).tolist(), "y": torch.where(at < 75, 40.0, LANE).tolist(), "speed": speed.tolist()},  # held up
        {"x": (260.0 - 9.0 * DT * at).tolist(), "y": 3 * LANE, "heading": math.pi - 0.01, "speed": 9.0},
        {"x": 110.0, "y": (-24.0 + 4.0 * DT * at).tolist(), "heading": math.pi / 2, "speed": 4.0},
        {"x": 75.0, "y": (2.8 + 1.2 * DT * at).tolist(), "heading": math.pi / 2, "speed": 1.2, "kind": 4, "length": 0.6, "width": 0.6},
    ]
    yaw_rate = torch.gradient(heading)[0] / DT
    track = drive(
        road, route, x=x.tolist(), y=y.tolist(), heading=heading.tolist(), speed=speed.tolist(), agents=agents,
        acceleration=(torch.gradient(speed)[0] / DT).tolist(), yaw_rate=yaw_rate.tolist(),
        steering=torch.atan(2.8 * yaw_rate / speed).tolist(), signals=[int(SignalState.STOP_SIGN)] * steps,
    )  # fmt: skip
    return dataclasses.replace(track, appearance=torch.full_like(track.appearance, int(Appearance.RAIN)))


__all__ = [
    "DT",
    "LANE",
    "LIMIT",
    "PIECE",
    "drive",
    "lawless_track",
    "lively_track",
    "mirrored",
    "moved_world",
    "straight_road",
    "with_junction",
]
