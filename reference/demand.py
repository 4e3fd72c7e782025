"""Who else is on the road: vehicle types and the seeded routes of through traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..scene import AgentKind
from .roadmap import LaneIndex

LATEST_ARRIVAL = 180.0  # s after the start of the simulation; nobody enters later
MOST_EDGES = 40  # of one vehicle's route


@dataclass(frozen=True)
class VehicleType:
    """One body of the traffic mix."""

    name: str
    kind: AgentKind
    length: float
    width: float
    height: float
    share: float
    acceleration: float = 2.6
    max_speed: float = 50.0

    def xml(self) -> str:
        """The SUMO vType."""
        if self.kind == AgentKind.BICYCLE:
            return (
                f'<vType id="{self.name}" vClass="bicycle" length="{self.length}" width="{self.width}" height="{self.height}" '
                f'accel="{self.acceleration}" decel="3" maxSpeed="{self.max_speed}" speedFactor="normc(1,0.15,0.6,1.4)" minGap="1"/>'
            )
        shape = {AgentKind.TRUCK: "truck", AgentKind.BUS: "bus"}.get(self.kind, "passenger")
        return (
            f'<vType id="{self.name}" length="{self.length}" width="{self.width}" height="{self.height}" accel="{self.acceleration}" '
            f'decel="4.5" emergencyDecel="9" sigma="0.3" minGap="2.5" tau="1.2" maxSpeed="{self.max_speed}" '
            f'speedFactor="normc(0.98,0.08,0.8,1.15)" guiShape="{shape}"/>'
        )


TYPES = (
    VehicleType("hatchback", AgentKind.CAR, 4.1, 1.75, 1.48, 0.26),
    VehicleType("sedan", AgentKind.CAR, 4.7, 1.85, 1.46, 0.30),
    VehicleType("suv", AgentKind.CAR, 4.75, 1.95, 1.75, 0.20),
    VehicleType("van", AgentKind.CAR, 5.6, 2.05, 2.4, 0.10, acceleration=2.0),
    VehicleType("truck", AgentKind.TRUCK, 8.6, 2.5, 3.4, 0.06, acceleration=1.3, max_speed=25.0),
    VehicleType("lorry", AgentKind.TRUCK, 13.5, 2.55, 3.9, 0.03, acceleration=1.0, max_speed=24.0),
    VehicleType("bus", AgentKind.BUS, 12.0, 2.55, 3.2, 0.05, acceleration=1.2, max_speed=24.0),
)

BICYCLE = VehicleType("bicycle", AgentKind.BICYCLE, 1.8, 0.65, 1.7, 0.18, acceleration=1.2, max_speed=5.5)
WALKER = VehicleType("walker", AgentKind.PEDESTRIAN, 0.5, 0.6, 1.75, 1.0)
FIRST_WALKER = 500_000  # number of an episode's first walker, so that walkers and vehicles never share one
WALKERS = {"sparse": 60, "dense": 160}  # on their way at the start; half as many more set out in the minutes after it

PER_LANE_KM = {  # vehicles at the start: sparse, dense
    "city": {"sparse": 5.0, "dense": 13.0},
    "town": {"sparse": 5.0, "dense": 11.0},
    "motorway": {"sparse": 6.0, "dense": 14.0},
    "country": {"sparse": 6.0, "dense": 13.0},
}
PER_LANE_SECOND = {  # arrivals at every way in
    "city": {"sparse": 0.03, "dense": 0.065},
    "town": {"sparse": 0.03, "dense": 0.055},
    "motorway": {"sparse": 0.14, "dense": 0.30},
    "country": {"sparse": 0.06, "dense": 0.14},
}

_PAINT = np.array([
    (0.92, 0.92, 0.92), (0.75, 0.76, 0.78), (0.42, 0.44, 0.47), (0.10, 0.10, 0.11), (0.60, 0.10, 0.09), (0.11, 0.20, 0.45),
    (0.30, 0.45, 0.62), (0.16, 0.33, 0.22), (0.80, 0.62, 0.18), (0.55, 0.42, 0.30),
])  # fmt: skip
_PAINT_SHARE = np.array([0.24, 0.17, 0.15, 0.15, 0.08, 0.08, 0.05, 0.03, 0.03, 0.02])


def paint(vehicle: int, seed: int) -> tuple[float, float, float]:
    """Base colour in [0, 1] of a vehicle of an episode."""
    rng = np.random.default_rng([seed, vehicle, 23])
    base = _PAINT[rng.choice(len(_PAINT), p=_PAINT_SHARE)] + rng.uniform(-0.04, 0.04, 3)
    return tuple(float(v) for v in base.clip(0, 1))  # type: ignore[return-value]


class Walker:
    """Random ways through a network."""

    def __init__(self, index: LaneIndex) -> None:
        self.following = {edge: index.following(edge) for edge in index.edges}
        reached = {end for ends in self.following.values() for end in ends}
        self.entries = [edge for edge in index.edges if edge not in reached]
        self.speed = {edge: index.lanes[lanes[0]].speed for edge, lanes in index.edges.items()}
        self.length = {edge: index.edge_length(edge) for edge in index.edges}
        self.lanes = {edge: len(lanes) for edge, lanes in index.edges.items()}
        self.walkable = {edge for edge in index.edges if edge in index.sidewalks}

    def walk(self, rng: np.random.Generator, start: str, most: int = MOST_EDGES) -> list[str]:
        """Edges from `start` to a way out (or `most` edges), keeping to faster and wider roads more often than not."""
        edges = [start]
        while len(edges) < most and self.following[edges[-1]]:
            options = self.following[edges[-1]]
            weights = np.array([self.speed[e] * self.lanes[e] for e in options]) ** 1.5
            edges.append(options[int(rng.choice(len(options), p=weights / weights.sum()))])
        return edges


def walks_xml(walker: Walker, density: str, seed: int) -> list[str]:
    """SUMO's persons of an episode: people on their way from one street to another."""
    rng = np.random.default_rng([seed, 29])
    edges = sorted(walker.walkable)
    if len(edges) < 2:
        return []
    count = WALKERS[density]
    times = np.concatenate((np.zeros(count), np.sort(rng.uniform(1, LATEST_ARRIVAL, count // 2))))
    lines = ['<vType id="walker" vClass="pedestrian" speedFactor="normc(1,0.15,0.7,1.4)"/>']
    for number, depart in enumerate(times):
        start, end = (edges[int(k)] for k in rng.choice(len(edges), 2, replace=False))
        at = rng.uniform(0.0, walker.length[start])
        name, walk = FIRST_WALKER + number, f'<walk from="{start}" to="{end}"/>'
        lines.append(f'<person id="{name}" type="walker" depart="{depart:.1f}" departPos="{at:.1f}">{walk}</person>')
    return lines


def traffic_xml(walker: Walker, family: str, density: str, seed: int) -> tuple[str, list[VehicleType]]:
    """SUMO's route file for an episode's through traffic, and each vehicle's type (vehicle ids count from 0).

    Vehicles on the road at time 0 come first, then arrivals at the ways in until LATEST_ARRIVAL.
    """
    rng = np.random.default_rng([seed, 13])
    bodies = (*TYPES, BICYCLE) if family == "town" else TYPES
    share = np.array([t.share for t in bodies])
    edges = list(walker.length)
    room = np.array([walker.length[e] * walker.lanes[e] for e in edges])
    count = rng.poisson(PER_LANE_KM[family][density] * room.sum() / 1000)
    departures = [(0.0, str(edges[k]), True) for k in rng.choice(len(edges), count, p=room / room.sum())]
    arrivals: list[tuple[float, str, bool]] = []
    for edge in walker.entries:
        rate = PER_LANE_SECOND[family][density] * walker.lanes[edge] * rng.uniform(0.6, 1.3)
        if family not in ("city", "town") and walker.speed[edge] < max(walker.speed.values()) - 1:
            rate *= 0.5
        gaps = rng.exponential(1 / rate, int(LATEST_ARRIVAL * rate * 2) + 10)
        arrivals += [(float(t), edge, False) for t in np.cumsum(gaps) if t < LATEST_ARRIVAL]
    departures += sorted(arrivals)

    lines = ["<routes>", *(t.xml() for t in bodies)]
    types = []
    for vehicle, (depart, edge, inside) in enumerate(departures):
        body = bodies[int(rng.choice(len(bodies), p=share / share.sum()))]
        types.append(body)
        place = "random_free" if inside else "base"
        way = " ".join(walker.walk(rng, edge))
        lines.append(
            f'<vehicle id="{vehicle}" type="{body.name}" depart="{depart:.1f}" departLane="free" departPos="{place}" departSpeed="max" '
            f'arrivalPos="max"><route edges="{way}"/></vehicle>'
        )
    if family == "town":
        lines += walks_xml(walker, density, seed)
    lines.append("</routes>")
    return "\n".join(lines), types
