"""The learners of the predictor: what each of them is told, and how much each of them counts."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae import RecipeSchema, RecipeTable
from pyro_hcvae.chemistry.equilibrium import equilibrium
from pyro_hcvae.chemistry.verdicts import equilibrium_limits
from pyro_hcvae.data.virtual_lab import PERFORMANCE, VirtualLab
from pyro_hcvae.posterior import learners
from pyro_hcvae.posterior.learners import LEARNERS, Inputs, Learners, shares_of_learners
from pyro_hcvae.posterior.performance import PerformancePredictor
from tests.laboratories import tiny_table

pytestmark = pytest.mark.usefixtures("full_predictors")

DRM = RecipeSchema.load("drm")
LAB = RecipeTable.from_frame(VirtualLab().experiments(recipes=40, seed=0), DRM)


def test_shares_are_those_of_the_best_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that are independent are averaged in proportion to one over their variance."""
    rng = np.random.default_rng(0)
    y = rng.normal(50, 20, 20_000)
    predicted = y[:, None] + rng.normal(size=(len(y), 3)) * [1.0, 2.0, 4.0]
    drawn_together = shares_of_learners(predicted, y, np.ones_like(y))
    monkeypatch.setattr(learners, "_EQUAL_MATTERS", 0.0)
    best = shares_of_learners(predicted, y, np.ones_like(y))
    np.testing.assert_allclose(best, np.array([16, 4, 1]) / 21, atol=0.02)
    assert drawn_together.sum() == best.sum() == pytest.approx(1)
    assert 1 / 3 < drawn_together[0] < best[0]
    assert drawn_together[0] > drawn_together[1] > drawn_together[2] > best[2]


def test_the_penalty_is_that_of_its_formula() -> None:
    """Against a search over all shares of two learners; the unit of the performance is no matter."""
    rng = np.random.default_rng(0)
    y = rng.normal(50, 20, 300)
    predicted = y[:, None] + rng.normal(size=(300, 2)) * [2.0, 3.0]
    first = np.linspace(0, 1, 2001)
    both = np.stack([first, 1 - first])
    errors = predicted - y[:, None]
    loss = ((errors @ both) ** 2).mean(axis=0) + 0.3 * (errors**2).mean(axis=0).min() * ((both - 0.5) ** 2).sum(axis=0)
    found = shares_of_learners(predicted, y, np.ones(300))
    assert found[0] == pytest.approx(first[loss.argmin()], abs=1e-3)
    np.testing.assert_allclose(shares_of_learners(predicted / 100, y / 100, np.full(300, 7.0)), found, atol=1e-6)


def test_a_learner_that_is_far_off_has_no_share_and_none_is_below_nothing() -> None:
    rng = np.random.default_rng(0)
    y, noise = rng.normal(50, 20, 500), rng.normal(size=500)
    good = y + noise
    shares = shares_of_learners(np.column_stack([good, y - noise, np.full(500, 300.0)]), y, np.ones(500))
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares, [0.5, 0.5, 0], atol=0.01)


def test_shares_see_rows_by_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "_EQUAL_MATTERS", 0.0)
    y = np.zeros(10)
    first, second = np.repeat([1.0, 0.0], 5), np.repeat([0.0, 1.0], 5)
    shares = shares_of_learners(np.column_stack([first, second]), y, np.repeat([1.0, 9.0], 5))
    np.testing.assert_allclose(shares, [0.9, 0.1], atol=1e-6)


@pytest.mark.parametrize("predicted", [np.ones((4, 3)), np.zeros((4, 3))], ids=["no error", "equal errors"])
def test_learners_that_agree_share_equally(predicted: np.ndarray) -> None:
    np.testing.assert_allclose(shares_of_learners(predicted, np.ones(4), np.ones(4)), 1 / 3)


def test_limits_are_those_of_the_equilibrium_and_unknown_where_there_is_none() -> None:
    frame = LAB.frame.head(6).copy()
    limits = equilibrium_limits(DRM, frame)
    inert = frame[["Reaction Ar", "Reaction N2", "Reaction He"]].sum(axis=1)
    feed = {"CH4": frame["Reaction CH4"], "CO2": frame["Reaction CO2"], "inert": inert}
    oracle = equilibrium(frame["Reaction T"], feed, carbon=False).conversion("CH4")
    np.testing.assert_allclose(limits, 100 * oracle)
    changed = frame.assign(**{"Reaction T": [np.nan, 20.0, 5000.0, 700.0, 700.0, 700.0]})
    changed.loc[changed.index[3], "Reaction CH4"] = 0.0
    changed.loc[changed.index[4], "Reaction CO2"] = -1.0
    assert np.isnan(equilibrium_limits(DRM, changed)).tolist() == [True] * 5 + [False]


def test_measurements_say_nothing_to_the_inputs_and_unknown_limits_are_whole_conversions() -> None:
    frame = LAB.frame.head(3)
    x, other = Inputs.of(DRM, frame), Inputs.of(DRM, frame.assign(**{PERFORMANCE: 1.0}))
    for a, b in ((x.tabular, other.tabular), (x.smooth, other.smooth), (x.limit_pct, other.limit_pct)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(x.tabular[:, -1], x.limit_pct)
    cold = Inputs.of(DRM, frame.assign(**{"Reaction T": np.nan}))
    np.testing.assert_array_equal(cold.limit_pct, 100.0)
    assert np.isfinite(cold.tabular).all()
    assert len(x[[0, 2]].tabular) == 2
    np.testing.assert_array_equal(x[[0, 2]].limit_pct, x.limit_pct[[0, 2]])


def test_the_process_hardly_ever_promises_more_than_the_equilibrium_allows() -> None:
    x, y = Inputs.of(DRM, LAB.frame), LAB.frame[PERFORMANCE].to_numpy()
    fitted = Learners.fit(x, y, LAB.recipe_ids(), seed=0)
    cold = LAB.frame.assign(**{"Reaction T": 450.0})
    each, sureness = fitted.predict(Inputs.of(DRM, cold))
    assert each.shape == (len(y), len(LEARNERS))
    assert sureness.shape == (len(y), 2)
    assert (sureness >= 0).all()
    assert (sureness[:, 1] <= 1).all()
    limits = equilibrium_limits(DRM, cold)
    process = each[:, LEARNERS.index("process")]
    assert (process < 1.2 * limits).mean() > 0.95
    assert (process > each[:, 0]).mean() < 0.2  # trees have seen no such cold rows, and repeat the coldest


def test_what_no_recipe_of_the_table_is_like_is_known_for_it() -> None:
    x, y = Inputs.of(DRM, LAB.frame), LAB.frame[PERFORMANCE].to_numpy()
    fitted = Learners.fit(x, y, LAB.recipe_ids(), seed=0)
    nearness = fitted.predict(x)[1][:, 1]
    np.testing.assert_allclose(nearness, 1.0, atol=1e-6)
    odd = LAB.frame.assign(**dict.fromkeys(("Ni", "Co", "Rh", "Ru", "Pt", "Pd", "Ir"), 0.0), K=10.0, Li=10.0)
    assert fitted.predict(Inputs.of(DRM, odd))[1][:, 1].max() < 0.7


def test_without_a_reaction_the_process_learns_the_performance_itself() -> None:
    table = tiny_table(recipes=40)
    x, y = Inputs.of(table.schema, table.frame), table.frame["Yield"].to_numpy()
    assert x.limit_pct is None
    assert x[:3].limit_pct is None
    each, _ = Learners.fit(x, y, table.recipe_ids(), seed=0).predict(x)
    assert (np.corrcoef(each.T, y)[-1, :-1] > 0.9).all()


@pytest.mark.parametrize(
    "feed",
    [
        {"Reaction CH4": 1e-11, "Reaction CO2": 0.0, "Reaction Ar": 100.0},
        {"Reaction CH4": 1e308, "Reaction CO2": 1e308},
        {"Reaction CH4": 100.0, "Reaction CO2": 0.0},
        {"Reaction CH4": 100.0, "Reaction CO2": 1e-13},
    ],
    ids=["traces", "overflow", "no carbon dioxide", "hardly any"],
)
def test_feeds_that_leave_nothing_to_convert_have_no_limit_and_are_no_errors(feed: dict[str, float]) -> None:
    assert np.isnan(equilibrium_limits(DRM, LAB.frame.head(2).assign(**feed))).all()
    assert np.isnan(equilibrium_limits(DRM, LAB.frame.head(2).assign(**{"Reaction T": np.nan}))).all()


def test_the_process_is_told_shares_of_the_limit_within_what_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[np.ndarray] = []

    class Told:
        @classmethod
        def fit(cls, x: np.ndarray, y: np.ndarray, *_: object, **__: object) -> Told:
            told.append(y)
            return cls()

    monkeypatch.setattr(learners, "GaussianProcess", Told)
    x, y = Inputs.of(DRM, LAB.frame), LAB.frame[PERFORMANCE].to_numpy().copy()
    limit = equilibrium_limits(DRM, LAB.frame)
    y[:2] = 3 * limit[0], -5.0
    Learners.fit(x, y, LAB.recipe_ids(), seed=0)
    np.testing.assert_allclose(told[0][:2], [1.1, 0.0])
    np.testing.assert_allclose(told[0][2:], (y / limit)[2:].clip(0, 1.1))


def test_the_predictor_weighs_its_learners_by_its_shares() -> None:
    predictor = PerformancePredictor.fit(DRM, LAB.frame, LAB.recipe_ids())
    assert predictor.shares.sum() == pytest.approx(1)
    each, _ = predictor.learners.predict(Inputs.of(DRM, LAB.frame))
    said = predictor.predict(LAB.frame[list(DRM.recipe_columns)], LAB.frame[list(DRM.condition_columns)])
    np.testing.assert_allclose(said["mean"], (each @ predictor.shares).clip(0, 100))
