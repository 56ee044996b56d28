"""Curves of calibrated and of overconfident draws, and the map that mends the latter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.calibration import coverage, randomised_pit
from pyro_hcvae.evaluation.curves import coverage_curve, reliability
from pyro_hcvae.evaluation.recalibration import QuantileMap


def pits(width: float, count: int = 2000, *, seed: int = 0, loc: float = 0.0) -> np.ndarray:
    """Of standard normal truths among draws that are ``width`` times as wide."""
    rng = np.random.default_rng(seed)
    return randomised_pit(loc + width * rng.standard_normal((200, count)), rng.standard_normal(count), rng)


def test_exactly_calibrated_draws_lie_in_the_band() -> None:
    curve = coverage_curve(pits(1.0))
    assert ((curve["low"] <= curve["inside"]) & (curve["inside"] <= curve["high"])).mean() >= 0.9
    assert (curve["n"] == 2000).all()
    np.testing.assert_allclose(curve["inside"], curve["level"], atol=0.03)
    wide = coverage_curve(pits(1.0), count=50)
    assert (wide["high"] - wide["low"] > curve["high"] - curve["low"]).all()


def test_overconfident_draws_leave_it() -> None:
    curve = coverage_curve(pits(0.5), [0.5, 0.9])
    # Truths are twice as wide as the draws.
    expected = [1 - 2 * norm.cdf(-0.5 * norm.ppf(0.75)), 1 - 2 * norm.cdf(-0.5 * norm.ppf(0.95))]
    np.testing.assert_allclose(curve["inside"], expected, atol=0.03)
    assert (curve["inside"] < curve["low"]).all()
    assert coverage_curve(np.array([np.nan]))["inside"].isna().all()


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_recalibration_mends_the_width_on_recipes_that_it_has_not_seen(width: float) -> None:
    curve = QuantileMap.fit(pits(width), np.arange(2000))
    fresh = curve(pits(width, seed=1))
    for level in (0.5, 0.8, 0.9):
        assert coverage(fresh, level) == pytest.approx(level, abs=0.03)
    low, high = curve.interval(0.9)
    assert (high - low > 0.9) == (width < 1)
    # Asked for the other way round: truths lie between the quantiles that it takes.
    raw = pits(width, seed=2)
    assert ((low <= raw) & (raw <= high)).mean() == pytest.approx(0.9, abs=0.03)


def test_recalibration_moves_draws_that_are_off() -> None:
    curve = QuantileMap.fit(pits(1.0, loc=1.0), np.arange(2000))
    assert curve.quantile(np.array([0.5]))[0] < 0.3
    assert coverage(curve(pits(1.0, seed=1, loc=1.0)), 0.9) == pytest.approx(0.9, abs=0.03)


def test_calibrated_draws_stay_as_they_are() -> None:
    curve = QuantileMap.fit(pits(1.0), np.arange(2000))
    u = np.linspace(0, 1, 11)
    np.testing.assert_allclose(curve(u), u, atol=0.03)
    assert curve(np.array([0.0, 1.0, np.nan])) == pytest.approx([0.0, 1.0, np.nan], nan_ok=True)


def test_every_recipe_counts_once_in_recalibration() -> None:
    # One recipe has a thousand numbers, all at the top; a hundred others have one each, spread evenly.
    u = np.concatenate([np.full(1000, 0.99), np.linspace(0.005, 0.995, 100)])
    groups = np.concatenate([np.zeros(1000), np.arange(1, 101)]).astype(np.int64)
    assert QuantileMap.fit(u, groups)(np.array([0.5]))[0] == pytest.approx(0.5, abs=0.02)
    assert QuantileMap.fit(u, np.arange(1100))(np.array([0.5]))[0] < 0.1


def test_recalibration_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(InputError, match="at least two recipes"):
        QuantileMap.fit(np.array([0.5, 0.6]), np.array([1, 1]))
    with pytest.raises(InputError, match="between 0 and 1"):
        QuantileMap.fit(np.array([0.5, 0.6]), np.array([1, 2])).interval(90)


def test_reliability_of_probabilities_that_hold_and_that_do_not() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    honest = reliability(p, rng.random(20_000) < p)
    assert len(honest) == 10
    assert honest["n"].sum() == 20_000
    assert ((honest["low"] <= honest["frequency"]) & (honest["frequency"] <= honest["high"])).sum() >= 9
    bold = reliability(p, rng.random(20_000) < 0.5 + (p - 0.5) / 2)
    assert bold["frequency"].iloc[0] > bold["high"].iloc[0]
    assert bold["frequency"].iloc[-1] < bold["low"].iloc[-1]
    # Events of equal probability are never parted.
    assert list(reliability(np.repeat([0.0, 1.0], 50), np.repeat([False, True], 50))["n"]) == [50, 50]
