from __future__ import annotations

import numpy as np
import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.factory.gain import crossed_bootstrap, measure_gain


def test_the_mean_is_over_all_and_the_interval_covers_seeds_and_episodes() -> None:
    samples = np.asarray([[1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 6.0, 8.0]])
    found = crossed_bootstrap(samples)
    assert found.value == pytest.approx(4.5)
    assert found.low < 4.5 < found.high
    assert found.n == 2
    assert crossed_bootstrap(samples) == found
    same = crossed_bootstrap(np.full((3, 5), 2.0))
    assert (same.value, same.low, same.high) == (2.0, 2.0, 2.0)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    alike = rng.normal(0, 1, (3, 200))
    apart = alike + np.asarray([[-5.0], [0.0], [5.0]])
    width = lambda e: e.high - e.low
    assert width(crossed_bootstrap(apart)) > 3 * width(crossed_bootstrap(alike))


def test_no_seed_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        measure_gain("x", str(tmp_path), [], 10, "learned", "smoke", 0, ["learned"], None, 1, "none")
