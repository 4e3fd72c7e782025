"""Where the actors of each scenario family stand in an opening scene, and what they are going to do."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry import project_polyline
from ..road import SignalState
from ..scene import AgentKind, Scene
from .actors import LORRY, WALKER, Actor, Ahead, Misfit, Phase, script_of, straight_through
from .catalogue import FAMILIES, Incident
from .script import Script, When

TOWARD = 4.0  # m, how near two ways come that meet
ACROSS = math.radians(50.0)  # a turn of at least so much crosses the oncoming lane
PULL_AWAY = 4.0  # m/s2
ENTERING = 2.2  # s before the meeting point at which an ego is sure to go, and not to stop at its light
GREY, WHITE, YELLOW = (0.55, 0.56, 0.58), (0.9, 0.9, 0.9), (0.85, 0.65, 0.15)

__all__ = ["Misfit", "place"]


def place(scene: Scene, incident: Incident) -> Script:
    """The script [1] of a scenario in an opening scene [1].

    Raises:
        Misfit: the road has not what the scenario needs.
    """
    return script_of(_PLACES[incident.name](Ahead(scene), **incident.parameters))


def _cut_in(ahead: Ahead, gap_m: float, after_s: float, duration_s: float, speed_share: float) -> list[Actor]:
    ahead.moving()
    offset = ahead.beside(150.0)
    start = ahead.here + ahead.half + gap_m + 2.3
    slower = Phase(When.TIME, after_s, max(2.0, speed_share * ahead.speed), 2.0, 0.0, abs(offset) / duration_s)
    return [Actor(ahead.route, start, ahead.speed, offset, phases=[slower])]


def _hard_braking_lead(ahead: Ahead, gap_m: float, after_s: float, braking_mps2: float) -> list[Actor]:
    ahead.need(100.0)
    ahead.moving()
    return [Actor(ahead.route, ahead.here + ahead.half + gap_m + 2.3, ahead.speed, phases=[Phase(When.TIME, after_s, 0.0, braking_mps2)])]


def _cut_out(ahead: Ahead, gap_m: float, stopped_m: float, reveal_s: float) -> list[Actor]:
    ahead.moving()
    offset = ahead.beside(180.0)
    stands = ahead.point(stopped_m)[0]
    leaves = Phase(When.ACTOR_ARRIVES, reveal_s, ahead.speed, 1.0, offset, abs(offset) / 1.6)
    lead = Actor(ahead.route, ahead.here + ahead.half + gap_m + 2.3, ahead.speed, mark=stands, phases=[leaves])
    return [lead, Actor(ahead.route, ahead.here + stopped_m, 0.0, colour=GREY)]


def _jaywalker(ahead: Ahead, ahead_m: float, walking_mps: float, braking_mps2: float) -> list[Actor]:
    ahead.need(100.0)
    ahead.moving()
    seconds = 0.5 * ahead.speed / braking_mps2 + 0.7
    distance = max(ahead_m, ahead.speed * seconds + 8.0)
    point, heading = ahead.point(distance)
    outward = -ahead.side * torch.tensor((-math.sin(heading), math.cos(heading)))
    path = torch.stack((point + 4.2 * outward, point - 9.0 * outward))
    step = Phase(When.EGO_ARRIVES, seconds, walking_mps, 6.0)
    return [Actor(path, 0.0, 0.0, size=WALKER, kind=AgentKind.PEDESTRIAN, colour=YELLOW, mark=point, phases=[step])]


def _red_light_runner(ahead: Ahead, speed_mps: float, late_s: float) -> list[Actor]:
    road, scene = ahead.road, ahead.scene
    ahead.moving()
    line, arrives, heading = _own_signal(ahead)
    shown = road.signals_at(scene.time + arrives)[0]
    if int(shown[line]) != int(SignalState.GREEN):
        raise Misfit("the light ahead will not be green when the ego comes to it")
    for other in range(road.signal_lane.shape[1]):
        lane = int(road.signal_lane[0, other])
        across = abs(math.sin(float(road.signal_head[0, other, 3]) - heading))
        near = float((road.stop_line[0, other].mean(0) - road.stop_line[0, line].mean(0)).norm()) < 45.0
        if lane < 0 or other == line or not near or across < 0.8 or int(shown[other]) != int(SignalState.RED):
            continue
        path = straight_through(road, lane, 60.0, 60.0)
        meeting = _meeting(ahead, path, arrives * ahead.speed)
        if meeting is None:
            continue
        mark, at = meeting
        before = min(at, 40.0)
        needs = before / speed_mps + 0.5 * speed_mps / PULL_AWAY
        go = Phase(When.EGO_ARRIVES, max(0.3, needs + late_s), speed_mps, PULL_AWAY)
        return [Actor(path, at - before, 0.0, colour=WHITE, mark=mark, phases=[go])]
    raise Misfit("nobody waits at red across the ego's way at the next lights")


def _own_signal(ahead: Ahead) -> tuple[int, float, float]:
    """The first traffic light on the route within 150 m: its index, when the ego comes to it in s, and the heading there."""
    road = ahead.road
    found = []
    for signal in range(road.signal_lane.shape[1]):
        lane = int(road.signal_lane[0, signal])
        if lane < 0 or int(road.phase_state[0, signal, 0]) == int(SignalState.STOP_SIGN):
            continue
        middle = road.stop_line[0, signal].mean(0)
        along, lateral, heading = project_polyline(middle.unsqueeze(0), ahead.route.unsqueeze(0))
        distance = float(along) - ahead.here
        faces = math.cos(float(road.signal_head[0, signal, 3]) - float(heading)) > 0.8
        if abs(float(lateral)) < 1.5 and 25.0 < distance < 150.0 and faces:
            found.append((distance, signal, float(heading)))
    if not found:
        raise Misfit("there is no traffic light on the route within 150 m")
    nearest_one, chosen, course = min(found)
    return chosen, nearest_one / ahead.speed, course


def _meeting(ahead: Ahead, path: Tensor, beyond: float) -> tuple[Tensor, float] | None:
    """Where a way [P, 2] meets the route more than `beyond` m ahead: the point, and its arc on the way."""
    first = int((ahead.here + beyond) / 2.0)
    part = ahead.route[first : first + 40]
    if len(part) < 2:
        return None
    arc, lateral, _ = project_polyline(part, path.unsqueeze(0).expand(len(part), -1, 2))
    best = int(lateral.abs().argmin())
    inside = (part[best] - path).norm(dim=-1).amin()
    return (part[best], float(arc[best])) if float(lateral[best].abs()) < TOWARD and float(inside) < 12.0 else None


def _short_merge(ahead: Ahead, gap_s: float, closed_m: float) -> list[Actor]:
    ahead.moving()
    offset = ahead.beside(max(200.0, closed_m + 60.0))
    room = 0.5 * gap_s * ahead.speed
    first = max(ahead.here + room + 2.3, 1.0)
    second = max(ahead.here - room - 2.3, 0.5)
    barrier = Actor(ahead.route, ahead.here + closed_m, 0.0, size=LORRY, kind=AgentKind.TRUCK, colour=YELLOW)
    return [
        barrier,
        Actor(ahead.route, first, ahead.speed, offset, colour=WHITE),
        Actor(ahead.route, second, ahead.speed, offset, colour=GREY),
    ]


def _unprotected_turn(ahead: Ahead, cars: float, gap_s: float, speed_mps: float) -> list[Actor]:
    road = ahead.road
    ahead.moving(2.0)
    turn_at = next((a for a in range(20, 120, 4) if _turned(ahead, a) * ahead.side > ACROSS), None)
    if turn_at is None or ahead.left_over < turn_at + 40:
        raise Misfit("the route does not turn across the oncoming lane within 120 m")
    entry, heading = ahead.point(turn_at - 12.0)
    for lane in range(road.width.shape[1]):
        line = road.centreline[0, lane]
        way = math.atan2(float(line[-1, 1] - line[-2, 1]), float(line[-1, 0] - line[-2, 0]))
        onward = int(road.successors[0, lane, 0])
        opposite = math.cos(way - heading) < -0.85
        if (
            int(road.kind[0, lane]) != 1
            or onward < 0
            or int(road.kind[0, onward]) != 2
            or not opposite
            or float((line[-1] - entry).norm()) > 50.0
        ):
            continue
        path = straight_through(road, lane, 200.0, 80.0)
        meeting = _meeting(ahead, path, turn_at - 16.0)
        if meeting is None:
            continue
        mark, at = meeting
        first = at - 0.5 * PULL_AWAY * ENTERING**2
        starts = [first - k * gap_s * speed_mps for k in range(round(cars))]
        starts = [arc for arc in starts if arc > 1.0]
        if starts:
            go = Phase(When.EGO_ARRIVES, ENTERING, speed_mps, PULL_AWAY)
            return [Actor(path, arc, 0.0, colour=(WHITE, GREY)[k % 2], mark=mark, phases=[go]) for k, arc in enumerate(starts)]
    raise Misfit("no oncoming lane meets the turn of the route")


def _turned(ahead: Ahead, at: float) -> float:
    """How far the route turns to the left within 24 m before and behind a place, rad."""
    before, after = ahead.point(at - 12.0)[1], ahead.point(at + 12.0)[1]
    return math.remainder(after - before, 2 * math.pi)


def _blocked_lane(ahead: Ahead, ahead_m: float) -> list[Actor]:
    ahead.need(ahead_m + 40.0)
    try:
        ahead.beside(ahead_m + 20.0)
    except Misfit:
        if not ahead.oncoming(ahead_m):
            raise Misfit("there is no other lane to pass the lorry in") from None
    return [Actor(ahead.route, ahead.here + ahead_m, 0.0, size=LORRY, kind=AgentKind.TRUCK, colour=WHITE)]


def _wrong_way_driver(ahead: Ahead, ahead_m: float, speed_mps: float) -> list[Actor]:
    ahead.need(ahead_m + 5.0)
    ahead.no_junction(ahead_m)
    first = max(0, int((ahead.here - 60.0) / 2.0))
    path = ahead.route[first : int((ahead.here + ahead_m) / 2.0) + 1].flip(0)
    return [Actor(path, 0.0, speed_mps, colour=WHITE)]


def _dense_stop_and_go(ahead: Ahead, cars: float, gap_m: float, period_s: float, speed_mps: float) -> list[Actor]:
    count = round(cars)
    ahead.need(60.0 + count * (gap_m + 4.6))
    start = ahead.here + ahead.half + max(gap_m, 1.5 * ahead.speed) + 2.3
    actors = []
    for number in range(count):
        delay = 0.8 * (count - 1 - number)
        swing = [Phase(When.TIME, 0.1 + delay + 0.5 * period_s * k, 0.0 if k % 2 == 0 else speed_mps, 3.0) for k in range(8)]
        actors.append(Actor(ahead.route, start + number * (gap_m + 4.6), speed_mps, colour=(GREY, WHITE)[number % 2], phases=swing))
    return actors


_PLACES: dict[str, Callable[..., list[Actor]]] = {
    "cut_in": _cut_in,
    "hard_braking_lead": _hard_braking_lead,
    "cut_out": _cut_out,
    "jaywalker": _jaywalker,
    "red_light_runner": _red_light_runner,
    "short_merge": _short_merge,
    "unprotected_turn": _unprotected_turn,
    "blocked_lane": _blocked_lane,
    "wrong_way_driver": _wrong_way_driver,
    "dense_stop_and_go": _dense_stop_and_go,
}
assert _PLACES.keys() == FAMILIES.keys()
