"""Memory that is freed stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from xpeng_world.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from xpeng_world.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
sizes = (40_000_000, 48_000_000)
for _ in range(2):
    held = [np.ones(size, np.uint8) for size in sizes]
    del held
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    held = [np.ones(size, np.uint8) for size in sizes]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_pictures_of_a_batch_are_not_asked_of_the_system_again() -> None:
    if not keep_freed_memory():
        pytest.skip("the C library of this system has no mallopt")
    faults = [int(subprocess.run([sys.executable, "-P", "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
              for how in ("default", "keep")]  # fmt: skip
    assert faults[0] > 100
    assert faults[1] < 0.1 * faults[0]
