"""The reference world: SUMO's traffic around an ego that the bicycle model moves, seen through the reference camera."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batched import Batched
from ..camera import CAMERA
from ..errors import SimulatorError
from ..road import RoadMap
from ..scenario import DENSITIES, FAMILIES, Scenario, attempts, draw_scenario, misfit
from ..scenarios import FAMILIES as INCIDENTS
from ..scenarios import Incident, Misfit, Script, advance, in_the_way, place, put_on_road
from ..scene import DT, Agents, Appearance, Scene
from ..vehicles import VehicleProfile, bicycle_step, check_actions, vehicle_profile
from ..world import WorldState
from .demand import Walker, traffic_xml
from .engine import Engine
from .networks import build_network
from .roadmap import LaneIndex, read_road_map
from .scenery import furnish
from .start import clear_way, draw_start

WARM_UP = {
    "city": (20.0, 60.0),
    "town": (20.0, 60.0),
    "motorway": (8.0, 20.0),
    "country": (10.0, 25.0),
}  # s, drawn per episode, so that signals and queues differ


TRIES = 24  # starts that are looked at for one that a scripted scenario fits
MOST_PARAMETERS = max(len(family.parameters) for family in INCIDENTS.values())


@dataclass(frozen=True)
class Replay(Batched):
    """What the reference world needs to come to a state again: its circumstances and every action so far."""

    scenario: Tensor  # [B, 6] int64: family, network seed, density, appearance, seed that all is drawn from, scripted scenario or -1
    parameters: Tensor  # [B, MOST_PARAMETERS] float64, of the scripted scenario
    actions: Tensor  # [B, T, 2]; the first `step` of them count

    @classmethod
    def of(cls, scenario: Scenario) -> Replay:
        """The memory of an episode that has just begun."""
        row = [FAMILIES.index(scenario.family), scenario.network_seed, DENSITIES.index(scenario.density), int(scenario.appearance)]
        incident = scenario.incident
        row += [scenario.seed, -1 if incident is None else list(INCIDENTS).index(incident.name)]
        values = torch.zeros(1, MOST_PARAMETERS, dtype=torch.float64)
        if incident is not None:
            values[0, : len(incident.values)] = torch.tensor(incident.values, dtype=torch.float64)
        return cls(torch.tensor([row]), values, torch.zeros(1, 0, 2))

    def unpack(self) -> Scenario:
        """The scenario of batch element 0."""
        family, network_seed, density, appearance, seed, scripted = self.scenario[0].tolist()
        incident = None
        if scripted >= 0:
            name = list(INCIDENTS)[scripted]
            incident = Incident(name, tuple(self.parameters[0, : len(INCIDENTS[name].parameters)].tolist()))
        return Scenario(FAMILIES[family], network_seed, DENSITIES[density], Appearance(appearance), seed, incident)


@dataclass
class _Live:
    """The episode that the engine is at."""

    scenario: Scenario
    scene: Scene
    actions: list[Tensor]
    script: Script | None = None

    def is_at(self, scenario: Scenario, past: Tensor, scene: Scene) -> bool:
        """Whether this is the episode of a scenario after the actions `past` [T, 2], with the ego where `scene` has it."""
        if self.scenario != scenario or len(self.actions) != len(past):
            return False
        same_past = not self.actions or torch.equal(torch.cat(self.actions), past)
        same_side = torch.equal(self.scene.road.traffic_side, scene.road.traffic_side)
        same_profile = torch.equal(self.scene.profile.length, scene.profile.length)
        return same_past and same_side and same_profile and torch.equal(self.scene.ego.state, scene.ego.state)


class ReferenceWorld:
    """World over SUMO, one episode at a time; use one process per episode for more.

    States are values: stepping a state that the simulation is not at simulates it again from its seed (exact, and about
    as slow as the episode so far was), so keep to one line of states where speed counts.
    """

    most_episodes = 1  # side by side: SUMO is one simulation a process

    def __init__(self, camera: bool = True, profile: str = "sedan", traffic_side: str = "right") -> None:
        self.profile = vehicle_profile(profile)
        self.traffic_side = traffic_side
        self._engine = Engine.get()
        self._camera: Any = None
        self._described: tuple[int, dict[str, Any], Scenario] | None = None
        if camera:
            from .camera import ReferenceCamera

            self._camera = ReferenceCamera()

    def reset(self, seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> WorldState:
        """Begin the episode of one seed.

        Raises:
            ConfigError: an unknown scenario key or value.
            SimulatorError: more than one seed, or SUMO failed.
        """
        if len(seeds) != 1:
            raise SimulatorError(
                f"the reference world runs one episode a process, got {len(seeds)} seeds; use one worker process per episode"
            )
        drawn = draw_scenario(int(seeds[0]), scenario)
        if drawn.incident is None:
            live = self._begin(drawn, self.profile, self.traffic_side)
        else:
            live = self._begin_scripted(int(seeds[0]), scenario)
        self._described = (int(seeds[0]), dict(scenario or {}), dataclasses.replace(live.scenario, seed=int(seeds[0])))
        return WorldState(
            scene=live.scene,
            frame=self._render(live.scene),
            seed=torch.tensor([drawn.seed]),
            step=torch.zeros(1, dtype=torch.int64),
            memory=Replay.of(live.scenario),
        )

    def describe(self, seed: int, scenario: Mapping[str, Any] | None = None) -> Scenario:
        """The circumstances of the episode that `reset([seed], scenario)` begins.

        Raises:
            ConfigError: an unknown scenario key or value.
        """
        drawn = draw_scenario(seed, scenario)
        if drawn.incident is not None and self._described is not None and self._described[:2] == (seed, dict(scenario or {})):
            return self._described[2]
        return drawn

    def _begin_scripted(self, seed: int, scenario: Mapping[str, Any] | None) -> _Live:
        """The first start that the scripted scenario fits.

        Raises:
            ConfigError: it fits none.
        """
        reason = ""
        for drawn in attempts(seed, scenario, TRIES):
            try:
                return self._begin(drawn, self.profile, self.traffic_side)
            except Misfit as error:
                reason = str(error)
        raise misfit(drawn, reason, TRIES)

    def step(self, state: WorldState, actions: Tensor) -> WorldState:
        """Advance by DT under actions [1, 2] in [-1, 1].

        Raises:
            ActionError: actions of the wrong shape, not finite, or out of range.
            SimulatorError: the state is of more than one episode, or SUMO failed.
        """
        check_actions(actions, state.step.shape[0])
        if state.step.shape[0] != 1:
            raise SimulatorError(f"the reference world runs one episode a process, got {state.step.shape[0]}; index the state first")
        live = self._at(state)
        actions = actions.detach().to("cpu", torch.float32)
        scene = self._advance(live, actions)
        done = state.memory.actions[:, : int(state.step)]
        memory = dataclasses.replace(state.memory, actions=torch.cat((done, actions.unsqueeze(1)), 1))
        return WorldState(scene, self._render(scene), state.seed, state.step + 1, memory)

    def _at(self, state: WorldState) -> _Live:
        """The live episode at a state, simulated again from its seed unless the engine is there already."""
        scenario = state.memory.unpack()
        past = state.memory.actions[0, : int(state.step)]
        live = self._engine.live
        if not (isinstance(live, _Live) and live.is_at(scenario, past, state.scene)):
            side = "right" if int(state.scene.road.traffic_side) > 0 else "left"
            live = self._begin(scenario, state.scene.profile, side)
            for action in past:
                self._advance(live, action.unsqueeze(0))
        return live

    def _begin(self, scenario: Scenario, profile: VehicleProfile, side: str) -> _Live:
        road, index, walker = _furnished(scenario.family, scenario.network_seed, side)
        network = build_network(scenario.family, scenario.network_seed, side)
        rng = np.random.default_rng([scenario.seed, 17])
        warm_up = round(float(rng.uniform(*WARM_UP[scenario.family])) / DT) * DT
        routes, types = traffic_xml(walker, scenario.family, scenario.density, scenario.seed)
        self._engine.live = None
        self._engine.load(network, routes, types, scenario.seed, warm_up)
        start = draw_start(rng, index, walker, scenario.family, self._engine, profile)
        clear_way(self._engine, start, profile)
        self._engine.add_ego(start.edge, start.lane, start.front, start.speed, profile)
        ego = start.ego
        self._engine.step(float(ego.x), float(ego.y), float(ego.heading), float(ego.speed))
        clock = warm_up + DT
        # SUMO switches its signals at the beginning of a step and half a step keeps clear of rounding at the edges
        road = dataclasses.replace(road, phase_offset=road.phase_offset + (clock - 0.5 * DT))
        scene = Scene(
            ego=ego,
            agents=self._engine.agents(float(ego.x), float(ego.y)),
            signals=road.signals_at(torch.zeros(1)),
            time=torch.zeros(1),
            appearance=torch.tensor([int(scenario.appearance)]),
            road=road,
            route=start.route,
            profile=profile,
        )
        script = None
        if scenario.incident is not None:
            script = place(scene, scenario.incident)
            gone = in_the_way(scene, put_on_road(script), script)
            for identity in scene.agents.id[gone & scene.agents.valid].tolist():
                self._engine.remove(str(identity))
            self._engine.add_actors(put_on_road(script))
            scene = dataclasses.replace(scene, agents=_with_actors(self._engine.agents(float(ego.x), float(ego.y)), put_on_road(script)))
        live = _Live(scenario, scene, [], script)
        self._engine.live = live
        return live

    def _advance(self, live: _Live, actions: Tensor) -> Scene:
        scene = live.scene
        ego = bicycle_step(scene.ego, actions, scene.profile, DT)
        x, y, heading, speed = ego.state[0, :4].tolist()
        self._engine.live = None
        time = torch.tensor([(len(live.actions) + 1) * DT])
        actors = None
        if live.script is not None:
            script = advance(live.script, ego, time)
            actors, live.script = put_on_road(script, live.script), script
        self._engine.step(x, y, heading, speed, actors)
        agents = self._engine.agents(x, y)
        agents = agents if actors is None else _with_actors(agents, actors)
        scene = dataclasses.replace(scene, ego=ego, agents=agents, signals=scene.road.signals_at(time), time=time)
        live.scene = scene
        live.actions.append(actions)
        self._engine.live = live
        return scene

    def _render(self, scene: Scene) -> Tensor:
        if self._camera is None:
            return torch.zeros(1, CAMERA.height, CAMERA.width, 3, dtype=torch.uint8)
        return self._camera.render(scene)


@functools.lru_cache(maxsize=64)
def _furnished(family: str, network_seed: int, traffic_side: str) -> tuple[RoadMap, LaneIndex, Walker]:
    """A network's furnished road map with its index, kept in memory."""
    road, index = read_road_map(build_network(family, network_seed, traffic_side))
    return furnish(road, network_seed), index, Walker(index)


def _with_actors(agents: Agents, actors: Agents) -> Agents:
    """Agents [1, N] with scripted ones [1, A] in the last slots."""
    free = agents.valid.shape[1] - actors.valid.shape[1]
    names = [field.name for field in dataclasses.fields(Agents)]
    return Agents(*(torch.cat((getattr(agents, name)[:, :free], getattr(actors, name)), 1) for name in names))
