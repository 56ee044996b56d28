"""The Gaussian process among the predictors: a textbook's equations, features that matter, recipes that are measured often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, RationalQuadratic

from pyro_hcvae.posterior import gaussian_process
from pyro_hcvae.posterior.gaussian_process import GaussianProcess, smooth_features
from tests.laboratories import tiny_table

pytestmark = pytest.mark.usefixtures("full_predictors")

ONE_BLOCK = np.zeros(4, dtype=np.int64)


def sample(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four features, of which the first two matter, and a smooth law of them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (rows, 4))
    return x, 50 + 20 * np.sin(1.5 * x[:, 0]) + 10 * x[:, 1] + rng.normal(0, 0.5, rows)


def test_it_gives_what_sklearn_gives_for_the_same_kernel() -> None:
    x, y = sample(80)
    process = GaussianProcess.fit(x, y, np.arange(80), ONE_BLOCK, seed=0)
    middle, unit = process.level
    kernel = ConstantKernel(process.amplitude, "fixed") * RationalQuadratic(1, 1, "fixed", "fixed")
    known = ((x - process.loc) * process.weights).clip(-process.furthest, process.furthest)
    oracle = GaussianProcessRegressor(kernel, alpha=sum(process.noise), optimizer=None).fit(known, (y - middle) / unit)
    asked, _ = sample(50, seed=1)
    points = (asked - process.loc) * process.weights
    found, nearness = process.predict(asked)
    np.testing.assert_allclose(found, middle + unit * oracle.predict(points), rtol=1e-6)
    alike = RationalQuadratic(1, 1)(points, known).max(axis=1)
    np.testing.assert_allclose(nearness, alike, rtol=1e-6)


def test_a_smooth_law_is_learned_from_few_rows_and_what_does_not_matter_is_left_out() -> None:
    x, y = sample(80)
    process = GaussianProcess.fit(x, y, np.arange(80), ONE_BLOCK, seed=0)
    asked, truth = sample(400, seed=1)
    error = np.abs(process.predict(asked)[0] - truth).mean()
    trees = ExtraTreesRegressor(100, random_state=0).fit(x, y)
    assert error < 0.6 * np.abs(trees.predict(asked) - truth).mean()
    assert process.weights[:2].min() > 2 * process.weights[2:].max()


def test_a_recipe_that_was_measured_often_is_one_recipe() -> None:
    """Levels of recipes that nothing explains: sixty rows of one of them say no more of another than one does."""
    rng = np.random.default_rng(0)
    x, level = rng.normal(size=(60, 4)), rng.normal(50, 10, 60)
    recipes = np.concatenate([np.arange(60), np.zeros(60, dtype=np.int64)])
    y = level[recipes] + rng.normal(0, 0.1, 120)
    process = GaussianProcess.fit(x[recipes], y, recipes, ONE_BLOCK, seed=0)
    assert np.sqrt(process.noise[0]) * process.level[1] == pytest.approx(10, rel=0.4)
    near = process.predict(x[:1] + 0.3)[0][0]
    assert abs(near - level.mean()) < abs(level[0] - level.mean())


def test_unknown_and_extreme_features_stay_finite() -> None:
    x, y = sample(40)
    x[:5, 0], x[7, 1] = np.nan, np.inf
    process = GaussianProcess.fit(x, y, np.arange(40), ONE_BLOCK, seed=0)
    asked = np.array([[np.nan] * 4, [np.inf, -np.inf, 1e300, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert np.isfinite(process.predict(asked)).all()


def test_a_feature_without_spread_and_an_outcome_without_one_are_no_errors() -> None:
    process = GaussianProcess.fit(np.ones((5, 4)), np.full(5, 7.0), np.arange(5), ONE_BLOCK, seed=0)
    np.testing.assert_allclose(process.predict(np.ones((2, 4)))[0], 7.0)


def test_of_many_rows_each_recipe_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "_ROWS", 30)
    monkeypatch.setattr(gaussian_process, "_SUBSET", 10)
    recipes = np.repeat(np.arange(20), np.arange(1, 21))
    order = gaussian_process._rows_in_turn(recipes, seed=0)
    assert sorted(order) == list(range(len(recipes)))
    assert set(recipes[order[:20]]) == set(range(20))
    assert (np.bincount(recipes[order[:39]])[1:] == 2).all()
    x, y = sample(len(recipes))
    process = GaussianProcess.fit(x, y, recipes, ONE_BLOCK, seed=0)
    assert len(process.rows) == len(process.solved) == 30
    assert np.corrcoef(process.predict(x)[0], y)[0, 1] > 0.8


def test_the_seed_decides_and_random_numbers_of_others_are_left_alone() -> None:
    x, y = sample(50)
    before = torch.random.get_rng_state()
    with torch.no_grad():  # as inside of a drawing scope
        first, again = (GaussianProcess.fit(x, y, np.arange(50), ONE_BLOCK, seed=3).predict(x)[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)


def test_features_for_distances_are_those_of_the_schema_and_know_nothing_of_the_performance() -> None:
    table = tiny_table(recipes=8)
    found, blocks = smooth_features(table.schema, table.frame)
    frame = table.frame
    metals = np.log1p(frame[list("ABC")].to_numpy())
    np.testing.assert_allclose(found[:, :3], metals)
    np.testing.assert_allclose(np.expm1(found[:, 3]), frame[list("ABC")].sum(axis=1))
    np.testing.assert_allclose(found[:, 4:7] ** 2, frame[list("XYZ")], atol=1e-12)
    np.testing.assert_array_equal(found[:, 7:9], np.column_stack([frame["Method"] == code for code in ("wet", "dry")]))
    done = frame["Red T"].to_numpy() > 0
    np.testing.assert_array_equal(found[:, 9], ~done)
    np.testing.assert_array_equal(found[done, 11], frame["Red T"][done])
    assert np.isnan(found[~done, 11]).all()
    np.testing.assert_array_equal(found[:, 13], frame["T"])
    assert blocks.tolist() == [0] * 4 + [1] * 3 + [2] * 2 + [3] * 2 + [4] * 2 + [5]
    other = frame.assign(Yield=0.0)
    np.testing.assert_array_equal(smooth_features(table.schema, other)[0], found)
