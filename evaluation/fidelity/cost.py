"""What traffic costs: its share of a learned world's step, with many road users."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...envs import make_world
from ...errors import ConfigError
from ...geometry import sample_polyline
from ...road import LaneKind
from ...scene import Agents, Ego, Scene
from ...world_model.learned import LearnedWorld
from ...world_model.traffic import SLOTS, Traffic, make_traffic
from ..bootstrap import Estimate, bootstrap
from .windows import Window

BATCH = 16  # scenes side by side
CROWD = 64  # road users of each
STEPS = 10  # of each repeat
WARM_UP = 3  # steps
REPEATS = 5
SPACING = 14.0  # m between road users of one lane
CAR = (4.6, 1.8, 1.5)  # m


class _Timed:
    """Traffic that notes how long its steps take."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic, self.seconds = traffic, 0.0

    def reset(self, scene: Scene, seed: Tensor) -> tuple[Agents, Any]:
        return self.traffic.reset(scene, seed)

    def step(self, scene: Scene, ego_next: Ego, memory: Any, seed: Tensor, step: Tensor) -> tuple[Agents, Any]:
        began = time.perf_counter()
        found = self.traffic.step(scene, ego_next, memory, seed, step)
        self.seconds += time.perf_counter() - began
        return found


def cost_figures(windows: Sequence[Window], kinds: Sequence[str], world: str) -> dict[str, Estimate]:
    """Share of a world's step that traffic takes, and the seconds of its own step, at BATCH scenes of CROWD road users each.

    Traffic that cannot be told how many to keep is measured with SLOTS of them, its figures then end in their number.

    Raises:
        ConfigError: the world is no learned one.
    """
    loaded = make_world(world)
    if not isinstance(loaded, LearnedWorld):
        raise ConfigError(f"world '{world}' has no step of its own to compare with; give world=learned or the folder of a trained one")
    scenes = Scene.cat([crowded(windows[row % len(windows)].log.scene(0)) for row in range(BATCH)])
    figures: dict[str, Estimate] = {}
    for kind in kinds:
        folder, slots = "" if world == "learned" else world, CROWD
        try:
            traffic = make_traffic(kind, folder, slots=CROWD)
        except ConfigError:
            traffic, slots = make_traffic(kind, folder), SLOTS
        shares, seconds = step_shares(loaded, traffic, scenes)
        figures[f"step_share_{kind}_n{slots}"] = bootstrap(shares)
        figures[f"step_ms_{kind}_n{slots}"] = bootstrap([1e3 * value for value in seconds])
    return figures


@torch.inference_mode()
def step_shares(world: LearnedWorld, traffic: Traffic, scenes: Scene) -> tuple[list[float], list[float]]:
    """Share of the world's step that traffic takes in each of REPEATS, and seconds of a step of it."""
    timed = _Timed(traffic)
    running = LearnedWorld(world.generator, timed, world.starts, world.profile)
    shares, seconds = [], []
    for repeat in range(REPEATS):
        state = running.reset_from(scenes, None, [repeat * BATCH + row for row in range(BATCH)])
        actions = torch.zeros(BATCH, 2)
        for step in range(WARM_UP + STEPS):
            if step == WARM_UP:
                timed.seconds, began = 0.0, time.perf_counter()
            state = running.step(state, actions)
        shares.append(timed.seconds / (time.perf_counter() - began))
        seconds.append(timed.seconds / STEPS)
    return shares, seconds


def crowded(scene: Scene, count: int = CROWD) -> Scene:
    """The scene [1] with `count` cars, one every SPACING metres of the lanes nearest to the ego."""
    road = scene.road
    lanes = ((road.kind[0] == int(LaneKind.DRIVING)) | (road.kind[0] == int(LaneKind.JUNCTION))).nonzero().flatten()
    lines = road.centreline[0, lanes]
    arc = torch.arange(SPACING / 2, 60.0, SPACING).expand(len(lanes), -1)
    length = (lines[:, 1:] - lines[:, :-1]).norm(dim=-1).sum(-1, keepdim=True)
    points, heading = sample_polyline(lines, arc)
    inside = arc < length
    points, heading, speed = points[inside], heading[inside], (0.5 * road.speed_limit[0, lanes]).unsqueeze(-1).expand_as(arc)[inside]
    gap = (points - scene.ego.position).norm(dim=-1)
    order = torch.where(gap > CAR[0] * 2, gap, torch.inf).argsort()[:count]
    agents = Agents.empty(1, count)
    size = torch.tensor(CAR).expand(len(order), 3)
    still = torch.zeros(len(order))
    agents.state[0, : len(order)] = torch.cat((points[order], torch.stack((heading[order], speed[order], still), -1), size), -1)
    agents.valid[0, : len(order)] = True
    agents.id[0, : len(order)] = torch.arange(len(order))
    agents.colour[0, : len(order)] = 0.5
    return dataclasses.replace(scene, agents=agents)
