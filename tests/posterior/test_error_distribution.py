"""Errors of groups: every group counts once, one more group is reckoned with, nothing is certain."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae.posterior.error_distribution import ErrorDistribution, equal_weights


def test_every_group_counts_once() -> None:
    errors, groups = np.array([1.0, 1, 1, 1, 9]), np.array([4, 4, 4, 4, 7])
    assert equal_weights(groups).tolist() == [0.25, 0.25, 0.25, 0.25, 1]
    distribution = ErrorDistribution.fit(errors, groups)
    assert distribution.errors.tolist() == [1, 9]
    assert distribution.masses.tolist() == [0.5, 0.5]
    assert distribution.groups == 2


def test_quantiles_reckon_with_the_group_that_comes() -> None:
    distribution = ErrorDistribution.fit(np.arange(1.0, 100.0), np.arange(99))
    assert distribution.interval(0.8) == (10, 90)  # the 90th of 100: of 99 errors and the one to come
    assert distribution.interval(0.9) == (5, 95)
    few = ErrorDistribution.fit(np.array([-3.0, 0, 5]), np.arange(3))
    assert few.interval(0.9) == (-3, 5)  # three cannot promise 90 %: the widest that was seen


def test_a_new_group_is_covered_as_often_as_promised() -> None:
    """Groups of one to forty rows, whose errors share a part: the larger ones are also the better predicted ones."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = rng.choice([1, 3, 40], count)
        groups = np.repeat(np.arange(count), sizes)
        spread = np.where(sizes == 40, 1.0, 6.0)
        return (rng.normal(0, spread)[groups] + rng.normal(0, 0.5, len(groups))), groups

    inside, pooled = [], []
    for _ in range(300):
        errors, groups = draw(40)
        new, which = draw(20)
        one = new[np.unique(which, return_index=True)[1]]
        low, high = ErrorDistribution.fit(errors, groups).interval(0.8)
        inside.append(np.mean((low <= one) & (one <= high)))
        low, high = np.quantile(errors, [0.1, 0.9])
        pooled.append(np.mean((low <= one) & (one <= high)))
    assert 0.8 <= np.mean(inside) < 0.86
    assert np.mean(pooled) < 0.7


def test_probabilities_fall_strictly_and_are_never_certain() -> None:
    rng = np.random.default_rng(1)
    distribution = ErrorDistribution.fit(rng.normal(size=300), np.repeat(np.arange(100), 3))
    at = np.linspace(-50, 50, 2001)
    above = distribution.exceeding(at)
    assert (np.diff(above) < 0).all()
    for extreme in (-1e30, 1e30):
        assert 0 < distribution.exceeding(np.array([extreme]))[0] < 1
    low, high = distribution.interval(0.9)
    assert distribution.exceeding(np.array([low, high])) == pytest.approx([0.95, 0.05], abs=0.012)


def test_probabilities_of_known_errors() -> None:
    distribution = ErrorDistribution.fit(np.array([-1.0, 0, 1]), np.arange(3))
    # Three groups and the one to come: half a quarter beyond either end, a quarter from one error to the next.
    assert distribution.exceeding(np.array([-1.0, -0.5, 0, 0.5, 1])) == pytest.approx([0.75, 0.625, 0.5, 0.375, 0.25])
    without_noise = ErrorDistribution.fit(np.zeros(6), np.arange(6))
    assert without_noise.exceeding(np.array([0.0]))[0] == pytest.approx(0.5)
    assert without_noise.exceeding(np.array([1e9]))[0] < 1e-6


def test_representatives_stand_for_equal_parts_of_the_mass() -> None:
    # One group of four equal errors weighs as much as one of a single error.
    distribution = ErrorDistribution.fit(np.array([1.0, 1, 1, 1, 9]), np.array([4, 4, 4, 4, 7]))
    assert distribution.representatives(4).tolist() == [1, 1, 9, 9]
    many = ErrorDistribution.fit(np.random.default_rng(0).normal(size=5000), np.arange(5000)).representatives(400)
    assert many.mean() == pytest.approx(0, abs=0.05)
    assert many.std() == pytest.approx(1, abs=0.05)
    assert (np.diff(many) >= 0).all()
