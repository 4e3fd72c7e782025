import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.data import Clip
from xpeng_world.road import RoadMap, Route
from xpeng_world.scene import Agents, Ego, Scene, Track
from xpeng_world.vehicles import vehicle_profile


def street_frames(steps: int, seed: int = 0) -> torch.Tensor:
    """A road in perspective with dashes that pass, coloured boxes that move, and a little sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:64, 0:128]
    boxes = [(*rng.integers((0, 20, 4, 5), (120, 30, 20, 25)), rng.integers(0, 256, 3)) for _ in range(20)]
    depth = 1 / (y[32:] - 31.5)
    across = (x[32:] - 64) * depth
    frames = []
    for t in range(steps):
        frame = np.zeros((64, 128, 3))
        frame[:32] = np.array([135, 180, 220]) - y[:32, :, None]
        frame[32:] = (80, 82, 85)
        frame[32:][((depth * 60 + 0.7 * t) % 4 < 2) & (abs(across) < 0.12)] = 240
        frame[32:][abs(abs(across) - 1.6) < 0.1] = 250
        frame[32:][abs(across) > 2.2] = (70, 110, 60)
        for i, (left, top, wide, high, colour) in enumerate(boxes):
            left = int(left + t * (i % 5 - 2) * 0.5) % 128
            frame[top : top + high, left : left + wide] = colour
        frames.append((frame + rng.normal(0, 1, frame.shape)).clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(frames))


def straight_track(steps: int, slots: int = 6) -> Track:
    """One lane, one signal, one building, and agents in the first two slots."""
    rng = torch.Generator().manual_seed(0)
    road = RoadMap(
        centreline=torch.linspace(0, 55, 12).view(1, 1, 12, 1) * torch.tensor([1.0, 0.0]),
        width=torch.full((1, 1), 3.5),
        speed_limit=torch.full((1, 1), 13.89),
        kind=torch.ones(1, 1, dtype=torch.int64),
        successors=torch.full((1, 1, 4), -1),
        left=torch.full((1, 1), -1),
        right=torch.full((1, 1), -1),
        left_border=torch.ones(1, 1, dtype=torch.int64),
        right_border=torch.ones(1, 1, dtype=torch.int64),
        junctions=torch.zeros(1, 1, 4, 2),
        stop_line=torch.rand(1, 1, 2, 2, generator=rng),
        signal_head=torch.rand(1, 1, 4, generator=rng),
        signal_lane=torch.zeros(1, 1, dtype=torch.int64),
        phase_end=torch.linspace(10, 80, 8).view(1, 1, 8),
        phase_state=torch.ones(1, 1, 8, dtype=torch.int64),
        phase_offset=torch.zeros(1, 1),
        scenery=torch.rand(1, 1, 6, generator=rng),
        scenery_colour=torch.rand(1, 1, 3, generator=rng),
        scenery_kind=torch.ones(1, 1, dtype=torch.int64),
    )
    route = Route(
        torch.linspace(0, 54, 28).view(1, 28, 1) * torch.tensor([1.0, 0.0]), torch.tensor([54.0]), torch.zeros(1, 1, dtype=torch.int64)
    )
    scenes = []
    for t in range(steps):
        agents = Agents.empty(1, slots)
        agents.state[0, :2] = torch.tensor([20.0 + t, 1.0, math.pi / 7, 8.0, 0.1, 4.5, 1.8, 1.5])
        agents.valid[0, :2] = True
        agents.id[0, :2] = torch.tensor([3, 70_000])
        agents.colour[0, :2] = torch.tensor([0.2, 0.5, 0.9])
        ego = Ego(torch.tensor([[0.9 * t, 0.0, 0.01 * t, 9.0, 0.0, 0.02, 0.01]]))
        signals = torch.full((1, 1), t % 4)
        time = torch.tensor([0.1 * t])
        scenes.append(Scene(ego, agents, signals, time, torch.zeros(1, dtype=torch.int64), road, route, vehicle_profile()))
    return Track.of(scenes)


def _make_clip(steps: int = 12, network_seed: int = 3, seed: int = 0, track: bool = True) -> Clip:
    split = "train" if network_seed < 30 else "validation" if network_seed < 106 else "test"
    actions = torch.rand(steps, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    actions[-1] = 0
    provenance = {"source": "reference", "family": "city", "network_seed": network_seed, "split": split, "seed": seed, "dt": 0.1}
    return Clip(street_frames(steps, seed), actions, straight_track(steps) if track else None, provenance)


@pytest.fixture(scope="session")
def make_clip():
    return _make_clip


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, which lives outside the repository."""
    folder = Path(os.environ.get("XPENG_WORLD_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; set XPENG_WORLD_DATA to their folder")
    return folder
