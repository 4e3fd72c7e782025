"""The start bank: the roads and opening scenes that ship with the weights, so that the learned world needs no simulator."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..batched import flatten
from ..errors import CheckpointError, ConfigError, DataError
from ..road import RoadMap, Route
from ..scenario import SPLITS, Scenario, nearest
from ..scene import Agents, Ego, Scene
from ..vehicles import vehicle_profile
from .packing import pack, unpack

VERSION = 1
TENSORS, INDEX = "starts.safetensors", "starts.json"
ANY_DENSITY = "any"
CYCLE = 240.0  # s over which signals' clocks are drawn
CLOCKS = 24  # clocks tried for one that shows the ego what it has seen
NEAR_SIGNAL = 60.0  # m ahead of the ego within which signals must not jump


@dataclass(frozen=True)
class StartRoad:
    """One road network with the scenes that episodes on it begin from."""

    family: str
    network_seed: int
    road: RoadMap  # [1]
    ego: Ego  # [n, 7]
    agents: Agents  # [n, N, ...]
    route: Route  # [n]
    clock: Tensor  # [n] s, added to the road's phase offsets
    appearance: Tensor  # [n]
    densities: tuple[str, ...]

    def scene(self, number: int, clock: float | None = None, profile: str = "sedan") -> Scene:
        """Start `number` as a Scene [1] at time 0, its signals at their own clock or at the given one in s."""
        shift = self.clock[number : number + 1] if clock is None else torch.tensor([clock], dtype=self.clock.dtype)
        road = dataclasses.replace(self.road, phase_offset=self.road.phase_offset + shift.unsqueeze(-1))
        time = torch.zeros(1)
        return Scene(
            ego=self.ego[number],
            agents=self.agents[number],
            signals=road.signals_at(time),
            time=time,
            appearance=self.appearance[number : number + 1],
            road=road,
            route=self.route[number],
            profile=vehicle_profile(profile),
        )


@dataclass
class StartBank:
    """Roads with start scenes, by family and network seed."""

    roads: list[StartRoad] = field(default_factory=list)

    @classmethod
    def collect(cls, source: Iterable[Any]) -> StartBank:
        """Gather start scenes.

        Args:
            source: clips with a track (their first scene is taken; `provenance` names `family` and `network_seed`), or tuples
                (scene [1], family, network_seed) with a density as a fourth item if it is known.

        Raises:
            DataError: a clip without a track or without those names, or roads of one name that differ.
        """
        groups: dict[tuple[str, int], list[tuple[Scene, str]]] = {}
        for item in source:
            scene, family, network_seed, density = _start_of(item)
            groups.setdefault((family, network_seed), []).append((scene, density))
        return cls([_gather(family, number, starts) for (family, number), starts in sorted(groups.items(), key=lambda g: g[0])])

    def save(self, folder: str | Path) -> None:
        """Write `starts.safetensors` and `starts.json` into a folder; lengths are kept to a millimetre."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        index = []
        for number, entry in enumerate(self.roads):
            for part in ("road", "ego", "agents", "route"):
                tensors.update({f"{number}.{part}.{k}": v for k, v in pack(part, flatten(getattr(entry, part))).items()})
            tensors[f"{number}.clock"] = entry.clock
            tensors[f"{number}.appearance"] = entry.appearance.to(torch.uint8)
            index.append({"family": entry.family, "network_seed": entry.network_seed, "densities": list(entry.densities)})
        aside = folder / f".{TENSORS}.{os.getpid()}"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside)
        os.replace(aside, folder / TENSORS)
        aside = folder / f".{INDEX}.{os.getpid()}"
        aside.write_text(json.dumps({"format": "xpeng-world-starts", "version": VERSION, "roads": index}, indent=1) + "\n")
        os.replace(aside, folder / INDEX)

    @classmethod
    def load(cls, folder: str | Path) -> StartBank:
        """Read a bank that `save` wrote.

        Raises:
            CheckpointError: files that are missing, damaged or of another version.
        """
        folder = Path(folder)
        for name in (INDEX, TENSORS):
            if not (folder / name).is_file():
                raise CheckpointError(f"no start bank in {folder}: {name} is missing; train the world or fetch its weights again")
        try:
            index = json.loads((folder / INDEX).read_text())
            version = index.get("version")
            if index.get("format") != "xpeng-world-starts" or version != VERSION:
                raise CheckpointError(f"{folder / INDEX} is a start bank of version {version}, this code reads {VERSION}; collect it again")
            tensors = load_file(folder / TENSORS)
            return cls([_read_road(tensors, number, entry) for number, entry in enumerate(index["roads"])])
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"the start bank in {folder} is damaged ({first}); collect it again") from None

    def draw(self, scenario: Scenario, fixed: Collection[str] = (), profile: str = "sedan") -> Scene:
        """Draw an episode's opening Scene [1] for a scenario.

        Args:
            scenario: drawn by `draw_scenario`; what of it the bank does not hold is drawn anew from its seed.
            fixed: the keys the caller asked for, which are kept.
            profile: the ego's vehicle.

        Raises:
            ConfigError: the bank holds nothing of what the caller fixed.
        """
        rng = np.random.default_rng([scenario.seed, 31])
        entry, number = self._choose(scenario, fixed, rng)
        scene = entry.scene(number, _choose_clock(entry, number, rng), profile)
        return dataclasses.replace(scene, appearance=torch.tensor([int(scenario.appearance)]))

    def describe(self, scenario: Scenario, fixed: Collection[str] = ()) -> Scenario:
        """The scenario that `draw` begins for one, with what of it the bank does not hold replaced.

        Raises:
            ConfigError: the bank holds nothing of what the caller fixed.
        """
        entry, number = self._choose(scenario, fixed, np.random.default_rng([scenario.seed, 31]))
        return dataclasses.replace(scenario, family=entry.family, network_seed=entry.network_seed, density=entry.densities[number])

    def _choose(self, scenario: Scenario, fixed: Collection[str], rng: np.random.Generator) -> tuple[StartRoad, int]:
        entry = self._choose_road(scenario, fixed, rng)
        numbers = [i for i, d in enumerate(entry.densities) if d in (scenario.density, ANY_DENSITY)]
        if not numbers and "density" in fixed:
            raise ConfigError(f"the start bank has no {scenario.density} start on {entry.family} {entry.network_seed}; leave density open")
        return entry, int(rng.choice(numbers or len(entry.densities)))

    def _choose_road(self, scenario: Scenario, fixed: Collection[str], rng: np.random.Generator) -> StartRoad:
        if "network_seed" in fixed:
            pool = [r for r in self.roads if r.network_seed == scenario.network_seed]
            if not pool:
                known = sorted({r.network_seed for r in self.roads})
                raise ConfigError(
                    f"the start bank has no network {scenario.network_seed}; {nearest(str(scenario.network_seed), map(str, known))}"
                )
        else:
            pool = [r for r in self.roads if r.network_seed in SPLITS[scenario.split]]
            if not pool:
                splits = [name for name, seeds in SPLITS.items() if any(r.network_seed in seeds for r in self.roads)]
                raise ConfigError(f"the start bank has no road of split '{scenario.split}'; known: {', '.join(splits)}")
        families = sorted({r.family for r in pool})
        family = scenario.family
        if family not in families:
            if "family" in fixed:
                raise ConfigError(f"the start bank has no {family} road there; {nearest(family, families)}")
            family = str(rng.choice(families))
        pool = [r for r in pool if r.family == family]
        if "density" in fixed and "network_seed" not in fixed:
            pool = [r for r in pool if {scenario.density, ANY_DENSITY} & set(r.densities)]
            if not pool:
                raise ConfigError(f"the start bank has no {scenario.density} start on any {family} road there; leave density open")
        exact = [r for r in pool if r.network_seed == scenario.network_seed]
        return exact[0] if exact else pool[int(rng.integers(len(pool)))]


def _start_of(item: Any) -> tuple[Scene, str, int, str]:
    if isinstance(item, tuple):
        scene, family, network_seed, *density = item
        return scene, str(family), int(network_seed), str(density[0]) if density else ANY_DENSITY
    if item.track is None:
        raise DataError("a clip without a track cannot give a start scene; collect from clips that know their scene")
    known: Mapping[str, Any] = item.provenance
    for key in ("family", "network_seed"):
        if key not in known:
            raise DataError(f"a clip's provenance lacks '{key}'; start scenes come from clips of the reference world")
    return item.track.scene(0), str(known["family"]), int(known["network_seed"]), str(known.get("density", ANY_DENSITY))


def _gather(family: str, network_seed: int, starts: list[tuple[Scene, str]]) -> StartRoad:
    road = starts[0][0].road.trimmed()
    clocks = []
    for scene, _ in starts:
        other = scene.road.trimmed()
        if other.centreline.shape != road.centreline.shape or not torch.allclose(other.centreline, road.centreline, atol=1e-3):
            raise DataError(f"two roads are named {family} {network_seed} and differ; collect from one version of the networks")
        clocks.append(float(other.phase_offset[0, 0] - road.phase_offset[0, 0] + scene.time[0]))
    scenes = [scene for scene, _ in starts]
    return StartRoad(
        family=family,
        network_seed=network_seed,
        road=road,
        ego=Ego.cat([s.ego for s in scenes]),
        agents=Agents.cat([s.agents for s in scenes]),
        route=Route.cat([s.route for s in scenes]),
        clock=torch.tensor(clocks),
        appearance=torch.cat([s.appearance for s in scenes]),
        densities=tuple(density for _, density in starts),
    )


def _read_road(tensors: dict[str, Tensor], number: int, entry: dict[str, Any]) -> StartRoad:
    def value(part: str, kind: Any) -> Any:
        prefix = f"{number}.{part}."
        return kind(**unpack(part, {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}))

    road = StartRoad(
        family=str(entry["family"]),
        network_seed=int(entry["network_seed"]),
        road=value("road", RoadMap),
        ego=value("ego", Ego),
        agents=value("agents", Agents),
        route=value("route", Route),
        clock=tensors[f"{number}.clock"],
        appearance=tensors[f"{number}.appearance"].long(),
        densities=tuple(str(d) for d in entry["densities"]),
    )
    sizes = {len(road.densities), road.ego.batch_size, road.agents.batch_size, road.route.batch_size, len(road.clock), len(road.appearance)}
    if len(sizes) != 1:
        raise ValueError(f"{road.family} {road.network_seed} has parts of different sizes")
    return road


def _choose_clock(entry: StartRoad, number: int, rng: np.random.Generator) -> float:
    """A random moment of the signal programmes at which the signals just ahead of the ego show what they did."""
    clocks = float(entry.clock[number]) + np.concatenate((rng.uniform(0, CYCLE, CLOCKS), [0.0]))
    road, ego = entry.road, entry.ego[number]
    toward = road.stop_line.mean(-2)[0] - ego.position
    forward = torch.stack((torch.cos(ego.heading), torch.sin(ego.heading)), -1)
    near = (road.signal_lane[0] >= 0) & (toward.norm(dim=-1) < NEAR_SIGNAL) & ((toward * forward).sum(-1) > 0)
    moments = torch.tensor(clocks, dtype=torch.float32)
    many = dataclasses.replace(road.map(lambda t: t.expand(len(clocks), *t.shape[1:])))
    states = many.signals_at(moments)
    same = ((states == states[-1:]) | ~near).all(-1)
    return float(clocks[int(same.int().argmax())])
