"""SUMO through libsumo: one simulation per process, loaded anew per episode, with the ego moved in from outside."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SimulatorError
from ..scene import DT, AgentKind, Agents
from ..vehicles import VehicleProfile
from .demand import FIRST_WALKER, WALKER, VehicleType, paint
from .networks import Network, sumo_home
from .smoothing import SmoothMotion

AGENTS = 24  # slots
RANGE = 120.0  # m around the ego
WALKER_RANGE = 60.0  # m around the ego in which people count
MOST_WALKERS = 10  # slots that they may take
STAY = 10.0  # m by which an agent that has a slot counts as nearer, so that slots do not flicker
BRAKE_LIGHT = 8  # bit of SUMO's vehicle signals

P = ParamSpec("P")
R = TypeVar("R")


def _guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Turn SUMO's exceptions into a SimulatorError of one line."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SimulatorError:
            raise
        except Exception as error:
            if not type(error).__module__.startswith("libsumo"):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SimulatorError(f"SUMO failed: {reason}; reset the world, and report it if it happens again") from error

    return call


class Engine:
    """The process's one SUMO simulation.

    Use `Engine.get()`; whoever loads an episode owns it until somebody else loads another.
    """

    _instance: Engine | None = None

    def __init__(self) -> None:
        os.environ["SUMO_HOME"] = str(sumo_home())
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a guess about pyarrow, whose library it does not share
                import libsumo
        except ImportError as error:
            raise SimulatorError("libsumo is not installed; pip install 'xpeng-world[reference]' to use the reference world") from error
        if libsumo.isLoaded():
            raise SimulatorError(
                "another libsumo simulation runs in this process; close it, or use the reference world in a process of its own"
            )
        self.sumo: Any = libsumo
        self.loaded = False
        self.live: object | None = None  # whose episode the simulation is at, set by who steps it

    @classmethod
    def get(cls) -> Engine:
        """The engine of this process; a forked process goes on with a copy of its parent's.

        Raises:
            SimulatorError: SUMO is missing, or runs already for somebody else.
        """
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    @_guarded
    def load(self, network: Network, routes: str, types: list[VehicleType], seed: int, warm_up: float) -> None:
        """Begin a simulation and let `warm_up` seconds pass (a multiple of DT)."""
        with tempfile.TemporaryDirectory(prefix="xpeng_world_") as folder:
            path = Path(folder) / "traffic.rou.xml"
            path.write_text(routes)
            options = [
                "-n", str(network.path), "-r", str(path), "--route-steps", "0", "--seed", str(int(seed) % 2**31), "--step-length", str(DT),
                "--collision.action", "warn", "--time-to-teleport", "-1", "--max-depart-delay", "10", "--no-step-log", "true",
                "--no-warnings", "true", "--xml-validation", "never", "--xml-validation.net", "never", "--duration-log.disable", "true",
            ]  # fmt: skip
            if self.loaded:
                self.sumo.load(options)
            else:
                self.sumo.start(["sumo", *options])
                self.loaded = True
        self._seed, self._types = int(seed), types
        self._ego: str | None = None
        self._egos = 0
        self._slots = np.full(AGENTS, -1, dtype=np.int64)
        self._paint: dict[int, tuple[float, float, float]] = {}
        self._motion = SmoothMotion(AGENTS)
        self._room = AGENTS
        self._waiting: set[str] = set()  # actors that SUMO shows from its next step on
        for _ in range(round(warm_up / DT)):
            self.sumo.simulationStep()

    @_guarded
    def positions(self) -> dict[str, tuple[str, float, float, float]]:
        """Lane, front bumper's position on it (m), length and speed of every other vehicle."""
        vehicle = self.sumo.vehicle
        return {
            v: (vehicle.getLaneID(v), vehicle.getLanePosition(v), vehicle.getLength(v), vehicle.getSpeed(v))
            for v in vehicle.getIDList()
            if v != self._ego
        }

    @_guarded
    def remove(self, name: str) -> None:
        """Take a vehicle off the road."""
        self.sumo.vehicle.remove(name)

    @_guarded
    def add_ego(self, edge: str, lane: int, position: float, speed: float, profile: VehicleProfile) -> None:
        """Put the ego on a lane, front bumper at `position`; SUMO shows it from the next step on."""
        sumo = self.sumo
        self._egos += 1
        name = f"ego{self._egos}"
        if "ego" not in sumo.vehicletype.getIDList():
            sumo.vehicletype.copy("DEFAULT_VEHTYPE", "ego")
            for what in ("length", "width", "height"):
                getattr(sumo.vehicletype, f"set{what.capitalize()}")("ego", float(getattr(profile, what)[0]))
            sumo.vehicletype.setMaxSpeed("ego", float(profile.max_speed[0]))
            sumo.vehicletype.setMinGap("ego", 0.0)
        sumo.route.add(f"route_{name}", [edge])
        sumo.vehicle.add(name, f"route_{name}", typeID="ego", departLane=str(lane), departPos=str(position), departSpeed="0")
        sumo.vehicle.setSpeedMode(name, 0)
        sumo.vehicle.setLaneChangeMode(name, 0)
        self._ego, self._home, self._profile = name, edge, profile
        self._added = True  # and not listed by SUMO before its next step
        self._half = 0.5 * float(profile.length[0])

    @_guarded
    def add_actors(self, actors: Agents) -> None:
        """Put scripted road users [1, A] on the road; they take the last slots of `agents`, which leaves those to the caller."""
        sumo = self.sumo
        self._room = AGENTS - actors.valid.shape[1]
        self._slots[self._room :] = -1
        for number, (length, width, height) in enumerate(actors.state[0, :, 5:8].tolist()):
            name = f"actor{number}"
            kind = f"{name}_{length:.2f}_{width:.2f}"
            if kind not in sumo.vehicletype.getIDList():
                sumo.vehicletype.copy("DEFAULT_VEHTYPE", kind)
                for what, value in (("Length", length), ("Width", width), ("Height", height)):
                    getattr(sumo.vehicletype, f"set{what}")(kind, value)
                sumo.vehicletype.setMinGap(kind, 0.0)
            self._add_actor(name, kind)

    def _add_actor(self, name: str, kind: str) -> None:
        sumo = self.sumo
        self._egos += 1
        route = f"route_{name}_{self._egos}"
        sumo.route.add(route, [self._home])
        sumo.vehicle.add(name, route, typeID=kind, departLane="0", departPos="0", departSpeed="0")
        sumo.vehicle.setSpeedMode(name, 0)
        sumo.vehicle.setLaneChangeMode(name, 0)
        self._waiting.add(name)

    def _move_actors(self, actors: Agents) -> None:
        """Take every actor to its pose; those that are gone leave the road."""
        on_road = set(self.sumo.vehicle.getIDList()) | self._waiting
        self._waiting = set()
        for number, (there, state) in enumerate(zip(actors.valid[0].tolist(), actors.state[0].tolist(), strict=True)):
            name = f"actor{number}"
            if name not in on_road:
                if not there:
                    continue
                # SUMO takes off the road who reaches the end of its route
                self._add_actor(name, f"{name}_{state[5]:.2f}_{state[6]:.2f}")
            if not there:
                self.sumo.vehicle.remove(name)
                continue
            x, y, heading, speed = state[:4]
            front_x, front_y = x + 0.5 * state[5] * math.cos(heading), y + 0.5 * state[5] * math.sin(heading)
            self.sumo.vehicle.setSpeed(name, speed)
            self.sumo.vehicle.moveToXY(name, "", -1, front_x, front_y, angle=(90.0 - math.degrees(heading)) % 360.0, keepRoute=2)

    @_guarded
    def step(self, x: float, y: float, heading: float, speed: float, actors: Agents | None = None) -> None:
        """Advance by DT; the ego's box is centred at x, y at the end of the step, and the others answer where it was before.

        `actors` [1, A] are where scripted road users are then.
        """
        sumo = self.sumo
        if self._ego is None:
            raise SimulatorError("no ego is on the road; add it before stepping the engine")
        if not self._added and self._ego not in sumo.vehicle.getIDList():
            self.add_ego(self._home, 0, 1.0, speed, self._profile)  # SUMO takes off the road who reaches the end of its route
        self._added = False
        self._place(x, y, heading, speed)
        if actors is not None:
            self._move_actors(actors)
        sumo.simulationStep()

    def _place(self, x: float, y: float, heading: float, speed: float) -> None:
        front_x, front_y = x + self._half * math.cos(heading), y + self._half * math.sin(heading)
        angle = (90.0 - math.degrees(heading)) % 360.0
        self.sumo.vehicle.setSpeed(self._ego, speed)
        self.sumo.vehicle.moveToXY(self._ego, "", -1, front_x, front_y, angle=angle, keepRoute=2)

    @_guarded
    def agents(self, x: float, y: float) -> Agents:
        """The AGENTS nearest vehicles within RANGE of a point as Agents [1, AGENTS]; a vehicle keeps its slot while it stays."""
        vehicle = self.sumo.vehicle
        names = [v for v in vehicle.getIDList() if not v.startswith(("ego", "actor"))]
        places = [vehicle.getPosition(v) for v in names]
        for name in self._near_walkers(x, y):
            names.append(name)
            places.append(self.sumo.person.getPosition(name))
        if names:
            fronts = np.array(places)
            self._assign(np.array([int(v) for v in names]), np.hypot(fronts[:, 0] - x, fronts[:, 1] - y))
        else:
            self._slots[:] = -1
        read = np.zeros((AGENTS, 5))  # front x, y, heading, speed, acceleration
        body = np.zeros((AGENTS, 3))
        kind = np.zeros(AGENTS, dtype=np.int64)
        brake = np.zeros(AGENTS, dtype=bool)
        colour = np.zeros((AGENTS, 3), dtype=np.float32)
        for slot in np.flatnonzero(self._slots >= 0):
            number = int(self._slots[slot])
            name = str(number)
            walks = number >= FIRST_WALKER
            its, read_of = (WALKER, self.sumo.person) if walks else (self._types[number], vehicle)
            if number not in self._paint:
                self._paint[number] = paint(number, self._seed)
            angle = math.radians(90.0 - read_of.getAngle(name))
            acceleration = 0.0 if walks else vehicle.getAcceleration(name)
            read[slot] = (*read_of.getPosition(name), angle, read_of.getSpeed(name), acceleration)
            body[slot] = its.length, its.width, its.height
            kind[slot] = int(its.kind)
            brake[slot] = not walks and its.kind <= AgentKind.BUS and bool(vehicle.getSignals(name) & BRAKE_LIGHT)
            colour[slot] = self._paint[number]
        front, heading = self._motion.update(self._slots, read[:, :2], read[:, 2], read[:, 3], body[:, 0])
        heading = (heading + math.pi) % (2 * math.pi) - math.pi
        centre = front - 0.5 * body[:, :1] * np.stack((np.cos(heading), np.sin(heading)), -1)
        state = np.concatenate((centre, heading[:, None], read[:, 3:], body), 1).astype(np.float32)
        state[self._slots < 0] = 0.0
        return Agents(
            state=torch.from_numpy(state).unsqueeze(0),
            kind=torch.from_numpy(kind).unsqueeze(0),
            valid=torch.from_numpy(self._slots >= 0).unsqueeze(0),
            id=torch.from_numpy(self._slots.copy()).unsqueeze(0),
            brake=torch.from_numpy(brake).unsqueeze(0),
            colour=torch.from_numpy(colour).unsqueeze(0),
        )

    def _near_walkers(self, x: float, y: float) -> list[str]:
        """The MOST_WALKERS nearest people within WALKER_RANGE of a point."""
        person = self.sumo.person
        near = []
        for name in person.getIDList():
            px, py = person.getPosition(name)
            gap = math.hypot(px - x, py - y)
            if gap < WALKER_RANGE:
                near.append((gap, int(name)))
        return [str(number) for _, number in sorted(near)[:MOST_WALKERS]]

    def _assign(self, numbers: NDArray[np.int64], distance: NDArray[np.float64]) -> None:
        """Keep the slots of vehicles that stay among the nearest, hand the free ones to newcomers, nearest first."""
        rank = distance - STAY * np.isin(numbers, self._slots)
        order = np.lexsort((numbers, rank))[: self._room]
        near = numbers[order][distance[order] <= RANGE]
        self._slots[~np.isin(self._slots, near)] = -1
        fresh = near[~np.isin(near, self._slots)]
        self._slots[np.flatnonzero(self._slots[: self._room] < 0)[: len(fresh)]] = fresh

    @_guarded
    def signal_letters(self, lights: list[tuple[str, int]]) -> list[str]:
        """SUMO's own state letter of each (traffic light, link index)."""
        return [self.sumo.trafficlight.getRedYellowGreenState(light)[link] for light, link in lights]

    @_guarded
    def ego_seen(self) -> tuple[float, float, float]:
        """Front bumper x, y and speed of the ego as SUMO has it."""
        x, y = self.sumo.vehicle.getPosition(self._ego)
        return float(x), float(y), float(self.sumo.vehicle.getSpeed(self._ego))
