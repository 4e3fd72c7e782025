import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake():
    """The module of the small hand-checkable world."""
    if "fake_world" not in sys.modules:
        spec = importlib.util.spec_from_file_location("fake_world", Path(__file__).parents[1] / "policies" / "fake_world.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["fake_world"] = module
        spec.loader.exec_module(module)
    return sys.modules["fake_world"]
