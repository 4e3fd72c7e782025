import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from xpeng_world.policies.vla import VlaModel
from xpeng_world.world import Observation
from xpeng_world.world_model.video.tokenizer import FrameTokenizer


def _module(name: str, path: Path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def fake():
    """The module of the small hand-checkable world."""
    return _module("fake_world", Path(__file__).parents[1] / "fake_world.py")


@pytest.fixture(scope="session")
def worlds():
    """The module of the hand-made tracks that the rules are tested on."""
    return _module("rewards_worlds", Path(__file__).parents[2] / "rewards" / "worlds.py")


@pytest.fixture(scope="session")
def frames():
    torch.manual_seed(0)
    return FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1).eval()


@pytest.fixture(scope="session")
def model(frames):
    return VlaModel.create("tiny", frames, seed=1)


@pytest.fixture(scope="session")
def look():
    """A maker of random observations [B]."""

    def make(batch: int, seed: int = 0) -> Observation:
        draw = torch.Generator().manual_seed(seed)
        route = torch.stack((4.0 * torch.arange(1, 21), torch.zeros(20)), -1) + 0.5 * torch.randn(batch, 20, 2, generator=draw)
        ego = torch.rand(batch, 5, generator=draw) * torch.tensor([20.0, 3.0, 0.2, 0.3, 20.0])
        return Observation(torch.randint(0, 256, (batch, 64, 128, 3), dtype=torch.uint8, generator=draw), ego, route)

    return make
