"""A world small enough to check by hand: one road, two lanes, one light, a few cars at constant speed, a plain picture."""

from __future__ import annotations

import math

import torch
from xpeng_world.camera import CAMERA
from xpeng_world.errors import SimulatorError
from xpeng_world.road import LANE_POINTS, MAX_PHASES, ROUTE_STEP, Border, LaneKind, RoadMap, Route, SignalState
from xpeng_world.scene import DT, Agents, Ego, Scene
from xpeng_world.vehicles import bicycle_step, vehicle_profile
from xpeng_world.world import WorldState


def centreline(bend: float, length: float = 600.0) -> torch.Tensor:
    """Points ROUTE_STEP apart: 60 m straight, then a bend of curvature `bend` for 90 degrees, then straight."""
    heading, x, y, points = 0.0, 0.0, 0.0, []
    for k in range(int(length / ROUTE_STEP) + 1):
        points.append((x, y))
        turning = bend != 0 and k * ROUTE_STEP >= 60 and abs(heading) < math.pi / 2
        step = bend * ROUTE_STEP if turning else 0.0
        x += ROUTE_STEP * math.cos(heading + step / 2)
        y += ROUTE_STEP * math.sin(heading + step / 2)
        heading += step
    return torch.tensor(points)


def make_scene(batch=1, bend=0.0, cars=(), speed=0.0, light=None, lateral=0.0, limit=13.9) -> Scene:
    """The road of `centreline`; cars as (arc, lateral, speed); a light as (arc, phases [(end, state), ...])."""
    points = centreline(bend)
    pieces = [points[k * 10 : k * 10 + 11] for k in range(len(points) // 10)]
    rows = torch.linspace(0, 10, LANE_POINTS).round().long()
    lanes = torch.stack([piece[rows] for piece in pieces])
    count = len(lanes)
    phases_end, phases = torch.zeros(1, 1, MAX_PHASES), torch.zeros(1, 1, MAX_PHASES, dtype=torch.int64)
    stop_line, signal_lane = torch.zeros(1, 1, 2, 2), torch.full((1, 1), -1)
    if light is not None:
        arc, programme = light
        k = round(arc / ROUTE_STEP)
        along = points[k + 1] - points[k]
        left = torch.stack((-along[1], along[0])) / along.norm() * 1.6
        stop_line[0, 0] = torch.stack((points[k] + left, points[k] - left))
        signal_lane[0, 0] = k // 10
        for j in range(MAX_PHASES):
            end, state = programme[min(j, len(programme) - 1)]
            phases_end[0, 0, j], phases[0, 0, j] = end, int(state)
    number = torch.arange(count)
    none = torch.full((1, count), -1)
    road = RoadMap(
        centreline=lanes[None],
        width=torch.full((1, count), 3.2),
        speed_limit=torch.full((1, count), limit),
        kind=torch.full((1, count), int(LaneKind.DRIVING)),
        successors=torch.nn.functional.pad(torch.where(number + 1 < count, number + 1, -1)[None, :, None], (0, 3), value=-1),
        left=none,
        right=none,
        left_border=torch.full((1, count), int(Border.EDGE)),
        right_border=torch.full((1, count), int(Border.EDGE)),
        junctions=torch.zeros(1, 1, 4, 2),
        stop_line=stop_line,
        signal_head=torch.zeros(1, 1, 4),
        signal_lane=signal_lane,
        phase_end=phases_end,
        phase_state=phases,
        phase_offset=torch.zeros(1, 1),
        scenery=torch.zeros(1, 1, 6),
        scenery_colour=torch.zeros(1, 1, 3),
        scenery_kind=torch.zeros(1, 1, dtype=torch.int64),
    )
    agents = Agents.empty(1, max(1, len(cars)))
    for slot, (arc, side, pace) in enumerate(cars):
        k = int(arc / ROUTE_STEP)
        along = points[k + 1] - points[k]
        heading = math.atan2(along[1], along[0]) + (math.pi if pace < 0 else 0.0)
        place = points[k] + side * torch.stack((-along[1], along[0])) / along.norm()
        agents.state[0, slot] = torch.tensor([*place, heading, abs(pace), 0.0, 4.6, 1.8, 1.5])
        agents.valid[0, slot], agents.id[0, slot] = True, slot
    zero = torch.zeros(1)
    ego = Ego.of(zero + 10, zero + lateral, zero, zero + speed, zero, zero, zero)
    route = Route(points[None], torch.tensor([ROUTE_STEP * (len(points) - 1)]), number[None])
    scene = Scene(ego, agents, road.signals_at(zero), zero, torch.zeros(1, dtype=torch.int64), road, route, vehicle_profile())
    return Scene.cat([scene] * batch)


def advance(scene: Scene, actions: torch.Tensor) -> Scene:
    """One step: the ego by its model, cars straight on, lights by their programme."""
    agents = scene.agents
    state = agents.state.clone()
    travel = state[..., 3] * DT
    state[..., 0] += travel * torch.cos(state[..., 2])
    state[..., 1] += travel * torch.sin(state[..., 2])
    moved = Agents(state, agents.kind, agents.valid, agents.id, agents.brake, agents.colour)
    time = scene.time + DT
    ego = bicycle_step(scene.ego, actions, scene.profile, DT)
    return Scene(ego, moved, scene.road.signals_at(time), time, scene.appearance, scene.road, scene.route, scene.profile)


class FakeWorld:
    """The road above as a World; seeds draw the start, seed 666 fails."""

    def reset(self, seeds, scenario=None) -> WorldState:
        if 666 in list(seeds):
            raise SimulatorError("the fake world failed at seed 666")
        scenes = []
        for seed in seeds:
            g = torch.Generator().manual_seed(int(seed))
            bend = float(torch.empty(1).uniform_(-0.03, 0.03, generator=g))
            speed = float(torch.empty(1).uniform_(2.0, 10.0, generator=g))
            scenes.append(make_scene(bend=bend, speed=speed, cars=[(60.0, 0.0, 6.0)], light=(40.0, [(60.0, SignalState.GREEN)])))
        seed = torch.tensor([int(s) for s in seeds])
        return self._state(Scene.cat(scenes), seed, torch.zeros_like(seed))

    def step(self, state: WorldState, actions: torch.Tensor) -> WorldState:
        return self._state(advance(state.scene, actions), state.seed, state.step + 1)

    def _state(self, scene: Scene, seed: torch.Tensor, step: torch.Tensor) -> WorldState:
        """Sky above, road below, shifted with the heading so that a picture tells something."""
        frame = torch.full((scene.batch_size, CAMERA.height, CAMERA.width, 3), 90, dtype=torch.uint8)
        frame[:, : CAMERA.height // 2] = 200
        column = (CAMERA.width / 2 + 60 * torch.sin(scene.ego.heading)).long().clamp(2, CAMERA.width - 3)
        rows = torch.arange(scene.batch_size)
        for k in range(-2, 3):
            frame[rows, CAMERA.height // 2 :, column + k] = 255
        return WorldState(scene, frame, seed, step)


class FlickeringWorld(FakeWorld):
    """The same scenes seen as noise of (seed, step), so that no two pictures are alike."""

    def _state(self, scene: Scene, seed: torch.Tensor, step: torch.Tensor) -> WorldState:
        frames = []
        for one, number in zip(seed.tolist(), step.tolist(), strict=True):
            g = torch.Generator().manual_seed(one * 1009 + number)
            frames.append(torch.randint(0, 256, (CAMERA.height, CAMERA.width, 3), generator=g, dtype=torch.uint8))
        return WorldState(scene, torch.stack(frames), seed, step)
