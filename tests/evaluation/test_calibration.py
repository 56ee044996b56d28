"""Calibration scores: closed forms, generators that are perfect, and generators that are wrong by a known amount."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm

from pyro_hcvae.evaluation.calibration import (
    brier_score,
    calibration,
    calibration_error,
    coverage,
    crps,
    distance_from_uniform,
    energy_score,
    randomised_pit,
)
from tests.laboratories import tiny_frame, tiny_schema, tiny_table

NAN = float("nan")


def hurdle(rng: np.random.Generator, *shape: int, present: float = 0.3) -> np.ndarray:
    return np.where(rng.random(shape) < present, rng.gamma(2.0, 3.0, shape), 0.0)


def test_pit_of_a_hurdle_variable_is_uniform() -> None:
    rng = np.random.default_rng(0)
    pit = randomised_pit(hurdle(rng, 20, 4000), hurdle(rng, 4000), rng)
    assert kstest(pit, "uniform").pvalue > 0.01
    assert distance_from_uniform(pit) == pytest.approx(kstest(pit, "uniform").statistic)
    assert distance_from_uniform(pit) < 0.03
    for level in (0.5, 0.8, 0.95):
        assert coverage(pit, level) == pytest.approx(level, abs=0.03)


def test_pit_notices_a_wrong_presence() -> None:
    rng = np.random.default_rng(0)
    pit = randomised_pit(hurdle(rng, 200, 4000, present=0.6), hurdle(rng, 4000, present=0.3), rng)
    # The truth is absent in 70 %, which the draws put below their 40 % quantile.
    assert distance_from_uniform(pit) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_coverage_of_a_wrong_scale_is_known(scale: float) -> None:
    rng = np.random.default_rng(1)
    pit = randomised_pit(scale * rng.normal(size=(400, 6000)), rng.normal(size=6000), rng)
    for level in (0.5, 0.8, 0.95):
        half_width = scale * norm.ppf((1 + level) / 2)
        assert coverage(pit, level) == pytest.approx(2 * norm.cdf(half_width) - 1, abs=0.025)


def test_coverage_is_nominal_with_three_draws() -> None:
    rng = np.random.default_rng(2)
    pit = randomised_pit(rng.normal(size=(3, 20000)), rng.normal(size=20000), rng)
    assert coverage(pit, 0.8) == pytest.approx(0.8, abs=0.01)


def test_pit_by_hand() -> None:
    draws, truth = np.array([[1.0, NAN, NAN], [2.0, 5.0, NAN], [3.0, NAN, NAN]]), np.array([2.5, NAN, 1.0])
    pit = randomised_pit(draws, truth, np.random.default_rng(0))
    assert 2 / 4 <= pit[0] <= 3 / 4
    assert np.isnan(pit[1:]).all()  # no truth; no draw
    assert np.isnan(distance_from_uniform(pit[1:]))
    assert np.isnan(coverage(pit[1:], 0.5))


def test_crps_of_a_gaussian_has_a_closed_form() -> None:
    rng = np.random.default_rng(3)
    y = np.linspace(-2, 2, 9)
    # Without bias: few draws, averaged over many repetitions, give the integral.
    scores = crps(rng.normal(size=(4, 40000, 9)), np.broadcast_to(y, (40000, 9))).mean(axis=0)
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert scores == pytest.approx(exact, abs=0.015)


def test_crps_by_hand_and_with_draws_that_do_not_exist() -> None:
    draws = np.array([[1.0, 1.0, 1.0, 1.0], [4.0, NAN, NAN, 4.0], [NAN, 4.0, NAN, 1.0]])
    scores = crps(draws, np.array([2.0, 2.0, 2.0, NAN]))
    assert scores[:2] == pytest.approx([1.5 - 1.5, 0.0])  # (1 + 2) / 2 less half of the distance of 3
    assert np.isnan(scores[2:]).all()


def test_the_energy_score_of_one_number_is_its_crps() -> None:
    rng = np.random.default_rng(4)
    draws, truth = rng.normal(size=(7, 30)), rng.normal(size=30)
    assert energy_score(draws[..., None], truth[:, None]) == pytest.approx(crps(draws, truth))
    assert energy_score(np.ones((3, 2, 5)), np.ones((2, 5))) == pytest.approx([0.0, 0.0])


def test_the_energy_score_is_best_for_the_true_law() -> None:
    rng = np.random.default_rng(5)
    mix = np.array([[1.0, 0.0], [0.9, np.sqrt(1 - 0.9**2)]])
    truth = rng.normal(size=(3000, 2)) @ mix.T
    noise = rng.normal(size=(10, 3000, 2))
    right = energy_score(noise @ mix.T, truth).mean()
    for wrong in (noise, 2 * noise @ mix.T, noise @ mix.T + 1):  # uncorrelated, too wide, shifted
        assert energy_score(wrong, truth).mean() > right + 0.01


def test_brier_score_does_not_depend_on_the_number_of_draws() -> None:
    rng = np.random.default_rng(6)
    p = rng.random(20000)
    happened = rng.random(20000) < p
    expected = 1 / 6  # E[p (1 - p)] of a uniform p
    for size in (2, 5, 50):
        drawn = rng.random((size, 20000)) < p
        assert brier_score(drawn, happened).mean() == pytest.approx(expected, abs=0.01)


def test_calibration_error_of_probabilities() -> None:
    rng = np.random.default_rng(7)
    p = rng.random(20000)
    happened = rng.random(20000) < p
    assert calibration_error(rng.random((20, 20000)) < p, happened) < 0.02
    constant = rng.random((20, 20000)) < 0.8
    assert calibration_error(constant, happened) == pytest.approx(0.3, abs=0.02)  # 0.8 said, 0.5 seen
    reverse = rng.random((200, 20000)) < 1 - p  # E|1 - 2 p| = 1/2
    assert calibration_error(reverse, happened) == pytest.approx(0.5, abs=0.03)
    never = np.zeros((4, 10), dtype=bool)
    assert calibration_error(never, never[0]) == 0.0


def redrawn(held: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Draws from the law of the held-out recipes: other recipes of the same laboratory."""
    fresh = tiny_frame(len(held) * draws, 1, seed=11)
    return fresh.set_axis(held.index.repeat(draws))


HELD = tiny_table(recipes=400, rows_per_recipe=1, seed=10).frame
PERFECT = redrawn(HELD, 20)


def test_a_generator_that_draws_from_the_true_law() -> None:
    scores = calibration(tiny_schema(), HELD, PERFECT)
    for block in ("metals", "supports", "reduction"):
        for level in (50, 80, 95):
            assert scores[f"coverage {level} % {block}, given present"] == pytest.approx(level / 100, abs=0.07)
        assert scores[f"PIT KS {block}, given present"] < 0.08
    for block in ("metals", "supports"):
        assert scores[f"PIT KS {block}"] < 0.08
    for block in ("metals", "supports", "method", "reduction"):
        assert scores[f"presence calibration error {block}"] < 0.06
    assert scores["Brier method"] == pytest.approx(2 * (1 / 3) * (2 / 3), abs=0.05)  # dry in a third of the recipes
    assert scores["Brier reduction"] == pytest.approx(3 * (1 / 3) * (2 / 3), abs=0.05)  # three states alike


def test_wrong_generators_score_worse() -> None:
    right = calibration(tiny_schema(), HELD, PERFECT)
    wrong = {
        "coverage 80 % metals, given present": PERFECT.assign(**{c: 20.0 * (PERFECT[c] > 0) for c in "ABC"}),
        "CRPS metals [wt%]": PERFECT.assign(**{c: PERFECT[c] * 3 for c in "ABC"}),
        "CRPS Red T, given present [degC]": PERFECT.assign(**{"Red T": PERFECT["Red T"].where(PERFECT["Red T"] == 0, 800.0)}),
        "PIT KS reduction, given present": PERFECT.assign(**{"Red T": PERFECT["Red T"].where(PERFECT["Red T"] == 0, 800.0)}),
        "Brier method": PERFECT.assign(Method="dry"),
        "presence calibration error supports": PERFECT.assign(X=0.0, Y=0.0, Z=0.0),
        "energy score, recipe": PERFECT.assign(Method="damp", A=10.0),
    }  # fmt: skip
    for name, draws in wrong.items():
        worse = calibration(tiny_schema(), HELD, draws)[name]
        assert worse < right[name] - 0.2 if name.startswith("coverage") else worse > 1.05 * right[name], name


def test_draws_of_the_truth_itself_are_perfect() -> None:
    copies = HELD.loc[HELD.index.repeat(3)]
    scores = calibration(tiny_schema(), HELD, copies)
    for name, score in scores.items():
        if name.startswith(("CRPS", "Brier", "presence", "energy")):
            assert score == pytest.approx(0.0, abs=1e-9), name


def test_the_order_of_rows_does_not_matter() -> None:
    shuffled = PERFECT.loc[np.random.default_rng(0).permutation(HELD.index)]
    assert calibration(tiny_schema(), HELD, shuffled) == calibration(tiny_schema(), HELD, PERFECT)


def test_broken_draws_get_a_score() -> None:
    broken = PERFECT.assign(A=NAN, B=-1.0, C=np.inf, X=1e300, Method="damp")
    broken["Red T"] = NAN
    scores = calibration(tiny_schema(), HELD, broken)
    assert np.isfinite(list(scores.values())).all()
    assert "coverage 50 % metals, given present" not in scores  # no draw has any
    assert scores["CRPS metals [wt%]"] == pytest.approx(HELD[["A", "B", "C"]].sum(axis=1).mean())


def test_draws_must_fit_the_rows() -> None:
    schema = tiny_schema()
    with pytest.raises(ValueError, match="at least two"):
        calibration(schema, HELD, PERFECT.iloc[:-1])
    with pytest.raises(ValueError, match="at least two"):
        calibration(schema, HELD, HELD)
    with pytest.raises(ValueError, match="labels"):
        calibration(schema, HELD, PERFECT.iloc[20:])
