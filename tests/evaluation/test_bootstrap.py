import numpy as np
import pytest
from xpeng_world.evaluation.bootstrap import bootstrap, ratio_of_means


def test_two_samples_by_hand():
    # Means of two draws from {0, 1} are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the 95 % interval is [0, 1], the 40 % one [1/2, 1/2].
    assert bootstrap([0.0, 1.0]).value == 0.5
    wide, narrow = bootstrap([0.0, 1.0]), bootstrap([0.0, 1.0], level=0.4)
    assert (wide.low, wide.high, wide.n) == (0.0, 1.0, 2)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_interval_agrees_with_the_normal_one_for_many_samples():
    samples = np.random.default_rng(3).normal(10.0, 2.0, 400)
    found = bootstrap(samples)
    half = 1.96 * samples.std() / 20
    assert found.low == pytest.approx(samples.mean() - half, abs=0.03)
    assert found.high == pytest.approx(samples.mean() + half, abs=0.03)


def test_repeats_exactly():
    assert bootstrap([1.0, 5.0, 2.0]) == bootstrap([1.0, 5.0, 2.0])


def test_one_sample_has_no_interval():
    found = bootstrap([4.0])
    assert (found.value, found.low, found.high, found.n) == (4.0, None, None, 1)


def test_paired_ratio_is_tighter_than_its_parts():
    true = np.array([1.0, 2.0, 4.0, 8.0])
    found = bootstrap(np.stack((0.5 * true, true), -1), statistic=ratio_of_means)
    assert found.value == found.low == found.high == 0.5


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")], [float("inf")]])
def test_refuses_what_has_no_mean(samples):
    with pytest.raises(ValueError, match="sample"):
        bootstrap(samples)
