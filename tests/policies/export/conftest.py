from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.evaluation.export import ExportConfig, export_policy
from xpeng_world.policies.car import CarNet, CarNetConfig
from xpeng_world.scene import Track

SIZE = CarNetConfig(widths=(4, 6, 8), camera_features=16, state_features=12, features=16)


def save_network(folder, seed=0, size=SIZE):
    """A small network whose actions differ from scene to scene."""
    torch.manual_seed(seed)
    net = CarNet(size).eval()
    torch.nn.init.normal_(net.action.weight, std=0.3)
    torch.nn.init.normal_(net.action.bias, std=0.1)  # the exporter leaves out biases of zero
    net.save(folder, {"trained_by": "a test"})
    return folder


def record(folder, make_world):
    """Two clips of the train split and two of the validation split, 8 frames each."""
    with ShardWriter(folder) as writer:
        for seed in range(4):
            world = make_world()
            states = [world.reset([seed])]
            for _ in range(7):
                states.append(world.step(states[-1], torch.tensor([[0.05 * seed, 0.2]])))
            split = "train" if seed < 2 else "validation"
            frames = torch.cat([state.frame for state in states])
            writer.add(Clip(frames, torch.zeros(8, 2), Track.of([state.scene for state in states]), {"split": split, "dt": 0.1}))
    return folder


@pytest.fixture(scope="session")
def clips(fake, tmp_path_factory):
    """Recorded clips."""
    return record(tmp_path_factory.mktemp("clips"), fake.FakeWorld)


@pytest.fixture(scope="session")
def flickering(fake, tmp_path_factory):
    """Recorded clips without two equal pictures in them."""
    return record(tmp_path_factory.mktemp("flickering"), fake.FlickeringWorld)


@pytest.fixture(scope="session")
def exported(clips, tmp_path_factory):
    """One export for all tests: its weights, its folder and its bundle."""
    folder = tmp_path_factory.mktemp("export")
    weights = save_network(folder / "weights")
    config = ExportConfig(str(weights), data=str(clips), out=str(folder / "out"), frames=12, calibration_frames=10)
    return SimpleNamespace(weights=weights, out=folder / "out", bundle=export_policy(config), config=config)


@pytest.fixture(scope="session")
def exported_lag(flickering, tmp_path_factory):
    """The export of a network that sees the picture of 3 frames ago as well."""
    folder = tmp_path_factory.mktemp("export_lag")
    weights = save_network(folder / "weights", size=replace(SIZE, lag=3))
    config = ExportConfig(str(weights), data=str(flickering), out=str(folder / "out"), frames=12, calibration_frames=10)
    return SimpleNamespace(weights=weights, out=folder / "out", bundle=export_policy(config), config=config)
