"""A world small enough for tests: a straight road of two lanes, a signal, a tree, some cars, and a camera of noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from xpeng_world.batched import Batched
from xpeng_world.rewards import StepReward
from xpeng_world.road import LANE_POINTS, MAX_PHASES, ROUTE_STEP, Border, LaneKind, RoadMap, Route, SceneryKind, SignalState
from xpeng_world.scenario import draw_scenario
from xpeng_world.scene import DT, Agents, Ego, Scene
from xpeng_world.vehicles import bicycle_step, vehicle_profile
from xpeng_world.world import WorldState

LENGTH = 60.0  # m of a lane piece


def straight_road(pieces: int) -> RoadMap:
    lanes = 2 * pieces
    along = torch.linspace(0, LENGTH, LANE_POINTS)
    centreline = torch.zeros(1, lanes, LANE_POINTS, 2)
    successors = torch.full((1, lanes, 4), -1)
    for lane in range(lanes):
        centreline[0, lane, :, 0] = along + LENGTH * (lane // 2)
        centreline[0, lane, :, 1] = 3.5 * (lane % 2)
        if lane + 2 < lanes:
            successors[0, lane, 0] = lane + 2
    even = torch.arange(lanes) % 2 == 0
    phases = torch.tensor([5.0, 7.0] + [12.0] * (MAX_PHASES - 2)).view(1, 1, -1)
    colours = [SignalState.GREEN, SignalState.YELLOW] + [SignalState.RED] * (MAX_PHASES - 2)
    return RoadMap(
        centreline=centreline,
        width=torch.full((1, lanes), 3.5),
        speed_limit=torch.full((1, lanes), 13.89),
        kind=torch.full((1, lanes), int(LaneKind.DRIVING)),
        successors=successors,
        left=torch.where(even, torch.arange(lanes) + 1, -1).unsqueeze(0),
        right=torch.where(even, -1, torch.arange(lanes) - 1).unsqueeze(0),
        left_border=torch.where(even, int(Border.DASHED), int(Border.EDGE)).unsqueeze(0),
        right_border=torch.where(even, int(Border.EDGE), int(Border.DASHED)).unsqueeze(0),
        junctions=torch.zeros(1, 1, 4, 2),
        stop_line=torch.tensor([[[[60.0, 1.75], [60.0, -1.75]]]]),
        signal_head=torch.tensor([[[80.0, 0.0, 5.0, 0.0]]]),
        signal_lane=torch.zeros(1, 1, dtype=torch.int64),
        phase_end=phases,
        phase_state=torch.tensor([int(c) for c in colours]).view(1, 1, -1),
        phase_offset=torch.zeros(1, 1),
        scenery=torch.tensor([[[20.0, 12.0, 0.0, 8.0, 6.0, 9.0]]]),
        scenery_colour=torch.tensor([[[0.7, 0.3, 0.2]]]),
        scenery_kind=torch.tensor([[int(SceneryKind.BUILDING)]]),
    )


def straight_route(pieces: int) -> Route:
    along = torch.arange(0, LENGTH * pieces + 0.1, ROUTE_STEP)
    points = torch.stack((along, torch.zeros_like(along)), -1).unsqueeze(0)
    return Route(points=points, length=torch.tensor([LENGTH * pieces]), lanes=torch.arange(2 * pieces).unsqueeze(0))


@dataclass(frozen=True)
class Counter(Batched):
    """Memory of a world: steps so far."""

    count: torch.Tensor  # [B]


class FakeWorld:
    """Cars keep their speed; the picture is noise of (seed, step). Roads and numbers of cars differ from seed to seed."""

    def reset(self, seeds, scenario=None):
        scenes = [self._scene(int(seed), scenario) for seed in seeds]
        scene = Scene.cat(scenes)
        seed = torch.tensor([int(s) for s in seeds])
        step = torch.zeros(len(seeds), dtype=torch.int64)
        return WorldState(scene, self._frames(seed, step), seed, step, memory=Counter(step.clone()))

    def step(self, state, actions):
        scene = state.scene
        agents = scene.agents.state.clone()
        agents[..., 0] += agents[..., 3] * DT
        time = scene.time + DT
        ego = bicycle_step(scene.ego, actions, scene.profile, DT)
        scene = replace(scene, ego=ego, agents=replace(scene.agents, state=agents), time=time, signals=scene.road.signals_at(time))
        step = state.step + 1
        return WorldState(scene, self._frames(state.seed, step), state.seed, step, memory=Counter(state.memory.count + 1))

    def _scene(self, seed, scenario):
        drawn = draw_scenario(seed, scenario)
        generator = torch.Generator().manual_seed(seed)
        pieces, cars = 4 + seed % 3, 2 + seed % 4
        road = straight_road(pieces)
        agents = Agents.empty(1, cars)
        agents.state[0, :, 0] = 30 + 25 * torch.arange(cars) + 5 * torch.rand(cars, generator=generator)
        agents.state[0, :, 1] = 3.5
        agents.state[0, :, 3] = 8.0
        agents.state[0, :, 5:8] = torch.tensor([4.5, 1.8, 1.5])
        agents = replace(agents, valid=agents.valid | True, id=torch.arange(cars).unsqueeze(0), colour=agents.colour + 0.5)
        start = torch.rand(2, generator=generator)
        zero = torch.zeros(1)
        time = zero.clone()
        return Scene(
            ego=Ego.of(5 + start[:1], 0.2 * start[1:], zero, 8 + zero, zero, zero, zero),
            agents=agents,
            signals=road.signals_at(time),
            time=time,
            appearance=torch.tensor([int(drawn.appearance)]),
            road=road,
            route=straight_route(pieces),
            profile=vehicle_profile(),
        )

    def _frames(self, seeds, steps):
        frames = []
        for seed, step in zip(seeds.tolist(), steps.tolist(), strict=True):
            generator = torch.Generator().manual_seed(seed * 1009 + step)
            frames.append(torch.randint(0, 256, (64, 128, 3), generator=generator, dtype=torch.uint8))
        return torch.stack(frames)


class FakeDesign:
    """Reward is progress; leaving the road ends the episode; the mean speed is over the window."""

    def step(self, track):
        on_road = (track.ego.y[:, -1] > -3) & (track.ego.y[:, -1] < 7)
        speed = torch.where(track.valid, track.ego.speed, torch.zeros_like(track.ego.speed))
        values = {
            "on_road": on_road.float(),
            "progress": track.ego.speed[:, -1] * 0.1,
            "mean_speed": speed.sum(1) / track.valid.sum(1),
        }
        return StepReward(values["progress"] * values["on_road"], ~on_road, values, {"on_road": ~on_road})
