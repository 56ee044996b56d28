"""Baselines: the contract of a generator, and what each must be able to copy."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines import BASELINES
from pyro_hcvae.evaluation.baselines.adversarial_forest import AdversarialForest, prune
from pyro_hcvae.evaluation.baselines.base import from_one_hot, one_hot, recipe_frame, recipe_matrix
from pyro_hcvae.evaluation.baselines.copula import GaussianCopula
from pyro_hcvae.evaluation.baselines.forest_flow import ForestFlow
from pyro_hcvae.evaluation.baselines.plain_cvae import PlainCVAE
from pyro_hcvae.evaluation.baselines.resampling import JitteredNearest, NearestCondition
from pyro_hcvae.evaluation.baselines.trees import ForestDonor, SequentialCart
from pyro_hcvae.evaluation.baselines.tvae import TVAE, Modes
from pyro_hcvae.evaluation.generators import Generator
from tests.laboratories import tiny_table

SMALL: dict[str, Callable[[], Generator]] = {
    **BASELINES,
    "forest-donor": lambda: ForestDonor(trees=20),
    "plain-cvae": lambda: PlainCVAE(latent=2, hidden=(32,), epochs=60, batch=50, learning_rate=5e-3),
    "tvae": lambda: TVAE(latent=4, hidden=(32,), epochs=60, batch=50, learning_rate=5e-3),
    "forest-flow": lambda: ForestFlow(times=5, trees=10, depth=3),
}
COPIES = ("marginal", "nearest", "forest-donor")
CONDITIONAL = tuple(name for name in SMALL if name != "marginal")

TWO_AMOUNTS = """
name = "two"
[[stages]]
name = "metal"
[[stages.blocks]]
kind = "amounts"
name = "metals"
columns = ["A", "B"]
[[conditions]]
name = "T"
[performance]
name = "Yield"
"""


def new(name: str) -> Generator:
    if name == "forest-flow":
        pytest.importorskip("xgboost")
    return SMALL[name]()


def two_amounts(a: np.ndarray, b: np.ndarray, wanted: np.ndarray) -> RecipeTable:
    frame = pd.DataFrame({"A": a, "B": b, "T": 500.0, "Yield": wanted})
    return RecipeTable.from_frame(frame, RecipeSchema.from_toml(TWO_AMOUNTS))


@cache
def easy() -> RecipeTable:
    """A follows the yield, B falls with it; no categories, steps, shares or feed, and a condition that never changes."""
    wanted = np.random.default_rng(0).uniform(0, 100, 300)
    return two_amounts(1 + wanted / 20, 10 - wanted / 12.5, wanted)


@cache
def fitted(name: str) -> Generator:
    return new(name).fit(tiny_table(), seed=0)


def wanted() -> pd.DataFrame:
    return tiny_table(seed=1).frame[["T", "Yield"]].iloc[[5, 50, 90]].set_axis([7, 3, 11])


@pytest.mark.parametrize("name", SMALL)
def test_draws_keep_the_contract(name: str) -> None:
    schema, generator = tiny_table().schema, fitted(name)
    drawn = generator.sample(wanted(), 20, seed=1)
    assert generator.name == name
    assert tuple(drawn.columns) == schema.columns
    assert drawn.index.tolist() == [7] * 20 + [3] * 20 + [11] * 20
    pd.testing.assert_frame_equal(drawn[["T", "Yield"]], wanted().loc[drawn.index])
    assert drawn["Method"].isin(["wet", "dry"]).all()
    assert np.isfinite(drawn[[c for c in schema.recipe_columns if c != "Method"]].to_numpy(np.float64)).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_fixes_fit_and_draws_and_nothing_global_changes(name: str) -> None:
    states = np.random.get_state()[1].copy(), torch.get_rng_state().clone(), random.getstate()  # noqa: NPY002
    table, conditions = tiny_table(20), wanted()
    first = new(name).fit(table, seed=3)
    again = new(name).fit(table, seed=3)
    drawn = first.sample(conditions, 20, seed=1)
    pd.testing.assert_frame_equal(drawn, again.sample(conditions, 20, seed=1))
    assert not drawn.equals(first.sample(conditions, 20, seed=2))
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    assert random.getstate() == states[2]


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_baselines_beat_the_marginal_on_an_easy_relation(name: str) -> None:
    conditions = pd.DataFrame({"T": 500.0, "Yield": np.linspace(5, 95, 30)})

    def error(generator: Generator) -> float:
        drawn = generator.fit(easy(), seed=0).sample(conditions, 10, seed=0)
        return float((drawn["A"] - (1 + drawn["Yield"] / 20)).abs().mean())

    assert error(new(name)) < 0.5 * error(new("marginal"))


@pytest.mark.parametrize("name", COPIES)
def test_resamplers_give_known_recipes_only(name: str) -> None:
    table = tiny_table()
    recipes = list(table.schema.recipe_columns)
    known = set(table.frame[recipes].itertuples(index=False, name=None))
    assert set(fitted(name).sample(wanted(), 50, seed=0)[recipes].itertuples(index=False, name=None)) <= known


def test_marginal_draws_each_row_equally_often() -> None:
    table = two_amounts(np.array([1.0, 1, 1, 2]), np.ones(4), np.zeros(4))
    drawn = new("marginal").fit(table, seed=0).sample(table.frame, 2500, seed=0)
    assert (drawn["A"] == 1).mean() == pytest.approx(0.75, abs=0.02)


def test_nearest_draws_evenly_from_the_nearest_distinct_rows() -> None:
    a = np.arange(1.0, 11)
    table = two_amounts(np.append(a, a[5]), np.append(a, a[5]), np.append(10 * a, 60.0))  # the last row repeats another
    drawn = (
        NearestCondition(neighbours=2).fit(table, seed=0).sample(table.frame.iloc[[5]].assign(Yield=62), 2000, seed=0)
    )
    assert set(drawn["A"]) == {6.0, 7.0}
    assert (drawn["A"] == 6).mean() == pytest.approx(0.5, abs=0.05)


def test_jitter_is_relative_and_keeps_absences_and_sums() -> None:
    table = tiny_table()
    conditions = table.frame[["T", "Yield"]]
    plain = NearestCondition().fit(table, seed=0).sample(conditions, 5, seed=0)
    moved = JitteredNearest(noise=0.05).fit(table, seed=0).sample(conditions, 5, seed=0)
    assert is_valid(moved, table.schema).all()
    metals = ["A", "B", "C"]
    np.testing.assert_array_equal(
        moved[[*metals, "X", "Y", "Z", "Red T"]] > 0, plain[[*metals, "X", "Y", "Z", "Red T"]] > 0
    )
    np.testing.assert_allclose(moved[["X", "Y", "Z"]].sum(axis=1), plain[["X", "Y", "Z"]].sum(axis=1))
    present = plain[metals].to_numpy() > 0
    ratio = np.log(moved[metals].to_numpy()[present] / plain[metals].to_numpy()[present])
    assert ratio.std() == pytest.approx(0.05, rel=0.15)


def test_cart_reproduces_a_deterministic_dependence_between_columns() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(1, 4, 200).astype(float)
    table = two_amounts(a, a**2, rng.uniform(0, 100, 200))
    drawn = SequentialCart().fit(table, seed=0).sample(table.frame, 5, seed=0)
    assert (drawn["B"] == drawn["A"] ** 2).all()
    assert drawn["A"].value_counts(normalize=True)[1.0] == pytest.approx((a == 1).mean(), abs=0.05)


def test_cart_follows_codes() -> None:
    drawn = fitted("cart").sample(tiny_table().frame[["T", "Yield"]], 5, seed=0)
    main = drawn[["A", "B", "C"]].idxmax(axis=1)
    assert ((drawn["Method"] == "dry") == (main == "C")).mean() > 0.95  # what the table holds without exception


def test_forest_donors_share_a_leaf_with_the_conditions() -> None:
    wanted = np.repeat([10.0, 90.0], 50)
    table = two_amounts(np.where(wanted > 50, 3.0, 1.0), np.ones(100), wanted)
    drawn = ForestDonor(trees=20).fit(table, seed=0).sample(table.frame, 10, seed=0)
    assert (drawn["A"] == np.where(drawn["Yield"] > 50, 3.0, 1.0)).all()


def test_copula_reproduces_a_known_correlation() -> None:
    rng = np.random.default_rng(0)
    y, e1, e2 = rng.standard_normal((3, 4000))
    a, b = 0.8 * y + 0.6 * e1, 0.6 * e1 - 0.8 * e2
    table = two_amounts(np.exp(a), np.exp(b), 50 + 10 * y)
    drawn = GaussianCopula().fit(table, seed=0).sample(table.frame, 1, seed=0)
    # Spearman's rank correlation of a Gaussian copula with correlation r is 6/pi asin(r/2).
    for left, right, r in (("A", "Yield", 0.8), ("B", "Yield", 0.0), ("A", "B", 0.36)):
        expected = 6 / np.pi * np.arcsin(r / 2)
        assert spearmanr(drawn[left], drawn[right]).statistic == pytest.approx(expected, abs=0.05)
    assert set(drawn["A"]) <= set(table.frame["A"])


def test_adversarial_forest_keeps_a_dependence_that_the_marginals_lack() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice([1.0, 3.0], 400)
    table = two_amounts(a, 2 * a, rng.uniform(0, 100, 400))
    drawn = AdversarialForest().fit(table, seed=0).sample(table.frame, 3, seed=0)
    assert (drawn["B"] == 2 * drawn["A"]).mean() > 0.95


def test_pruned_leaves_hold_enough_rows() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)), rng.integers(2, size=200)
    forest = RandomForestClassifier(5, random_state=0).fit(x, y)

    def sizes() -> np.ndarray:
        return np.concatenate([np.unique(leaves, return_counts=True)[1] for leaves in forest.apply(x[:100]).T])

    assert sizes().min() < 5
    prune(forest, x[:100], 5)
    assert sizes().min() >= 5
    assert len(sizes()) > 2 * 5  # and the trees are still trees
    prune(forest, x[:100], 101)  # no leaf can: nothing is cut
    assert len(sizes()) > 2 * 5


def test_columns_as_numbers_come_back() -> None:
    table = tiny_table()
    recipes = table.frame[list(table.schema.recipe_columns)]
    matrix = recipe_matrix(table.schema, recipes)
    pd.testing.assert_frame_equal(recipe_frame(table.schema, matrix), recipes.reset_index(drop=True), check_dtype=False)
    np.testing.assert_array_equal(from_one_hot(table.schema, one_hot(table.schema, matrix)), matrix)


def test_unknown_cells_count_as_the_median() -> None:
    table = tiny_table()
    holes = table.frame.copy()
    holes.iloc[:3, holes.columns.get_loc("A")] = np.nan
    assert (recipe_matrix(table.schema, holes)[:3, 0] == holes["A"].median()).all()


def test_modes_of_two_bumps() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(100, 2, 500)])
    modes, share = Modes.fit(values, 0)
    mode, position = modes.place(values, share, rng)
    assert np.abs(modes.loc[mode] - np.repeat([0.0, 100.0], 500)).max() < 10
    inside = np.abs(position) < 0.98
    np.testing.assert_allclose((modes.loc[mode] + 4 * modes.scale[mode] * position)[inside], values[inside])


def test_plain_cvae_multiplies_amounts_by_a_probability_so_nothing_is_ever_absent() -> None:
    drawn = fitted("plain-cvae").sample(wanted(), 20, seed=0)
    assert (drawn[["A", "B", "C", "X", "Y", "Z"]].to_numpy() != 0).all()


def test_forest_flow_stays_in_the_range_of_the_table() -> None:
    table, drawn = tiny_table(), fitted("forest-flow").sample(wanted(), 50, seed=0)
    for name in ("A", "X", "Red T"):
        assert table.frame[name].min() <= drawn[name].min() <= drawn[name].max() <= table.frame[name].max()


def test_forest_flow_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(InputError, match=r"pyro-hcvae\[baselines\]"):
        ForestFlow().fit(easy(), seed=0)
