"""The fake world and design, as fixtures."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake():
    """The module of the fake world."""
    name = "envs_fake_world"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("fake_world.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def parts(fake):
    """World and reward for any of the environments."""
    return {"world": fake.FakeWorld(), "reward": fake.FakeDesign()}
