"""Makes `worlds.py` importable as `rewards_worlds` by the tests of this folder."""

import importlib.util
import sys
from pathlib import Path

import pytest
from xpeng_world.rewards import RULES, find_rule

if "rewards_worlds" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("rewards_worlds", Path(__file__).with_name("worlds.py"))
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["rewards_worlds"] = _module
    _spec.loader.exec_module(_module)


@pytest.fixture(autouse=True)
def _forget_rules():
    """Rules that a test registers are gone after it."""
    find_rule("progress")
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)
