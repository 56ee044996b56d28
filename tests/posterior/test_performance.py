"""The independent predictor: honest errors, intervals that hold where they should, probabilities that agree with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.performance import PerformancePredictor
from tests.laboratories import TINY_TOML, tiny_frame, tiny_schema, tiny_table

pytestmark = pytest.mark.usefixtures("full_predictors")

TABLE = tiny_table(recipes=120, rows_per_recipe=4)


@pytest.fixture(scope="module")
def predictor(full_predictors: None) -> PerformancePredictor:
    return fitted(TABLE)


def measured(
    law: Callable[[pd.DataFrame, np.random.Generator], np.ndarray], recipes: int = 150, rows: int = 3, *, seed: int = 0
) -> RecipeTable:
    """Recipes of the tiny laboratory whose performance follows another law."""
    frame = tiny_frame(recipes, rows, seed=seed)
    return RecipeTable.from_frame(
        frame.assign(Yield=law(frame, np.random.default_rng([7, seed]))), tiny_schema(), source="law"
    )


def fitted(table: RecipeTable) -> PerformancePredictor:
    return PerformancePredictor.fit(table.schema, table.frame, table.recipe_ids())


def at(predictor: PerformancePredictor, table: RecipeTable, level: float = 0.9) -> pd.DataFrame:
    schema, frame = table.schema, table.frame
    columns = list(schema.recipe_columns), list(schema.condition_columns)
    return predictor.predict(frame[columns[0]], frame[columns[1]], level=level)


def inside(predicted: pd.DataFrame, table: RecipeTable) -> np.ndarray:
    y = table.frame["Yield"].to_numpy()
    return (predicted["low"].to_numpy() <= y) & (y <= predicted["high"].to_numpy())


def test_errors_are_those_of_unseen_recipes(predictor: PerformancePredictor) -> None:
    assert predictor.r2 > 0.8
    seen = at(predictor, TABLE)["mean"].to_numpy() - TABLE.frame["Yield"].to_numpy()
    assert predictor.mae > np.abs(seen).mean()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_on_recipes_from_the_same_laboratory(predictor: PerformancePredictor, level: float) -> None:
    fresh = tiny_table(recipes=150, rows_per_recipe=2, seed=8)
    assert inside(at(predictor, fresh, level), fresh).mean() == pytest.approx(level, abs=0.07)
    assert predictor.coverage == pytest.approx(0.9, abs=0.04)


def test_how_near_the_nearest_row_is_has_a_say_in_the_size_of_an_error(predictor: PerformancePredictor) -> None:
    class Far:
        """The process, to which all is strange."""

        def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            said, nearness = predictor.learners.process.predict(x)
            return said, np.zeros_like(nearness)

    far = replace(predictor, learners=replace(predictor.learners, process=Far()))
    near, strange = at(predictor, TABLE), at(far, TABLE)
    assert near["mean"].equals(strange["mean"])
    assert not np.allclose(near["scale"], strange["scale"], rtol=0.01)


def test_a_step_without_noise_is_known_away_from_it() -> None:
    def law(frame: pd.DataFrame, _: np.random.Generator) -> np.ndarray:
        return np.where(frame["T"] > 645, 80.0, 20.0)

    predicted = at(fitted(measured(law)), fresh := measured(law, seed=1))
    far = (fresh.frame["T"] - 645).abs().to_numpy() > 30
    truth = fresh.frame["Yield"].to_numpy()
    error = np.abs(predicted["mean"].to_numpy() - truth)
    assert error[far].mean() < 2.5  # of a step of 60
    assert error[far].max() < 12
    width = (predicted["high"] - predicted["low"]).to_numpy()
    assert width[far].mean() < 10
    assert width[(fresh.frame["T"] - 645).abs() < 10].mean() > 2 * width[far].mean()
    assert inside(predicted, fresh).mean() > 0.85


def test_intervals_hold_in_quiet_and_in_noisy_regions() -> None:
    """A global quantile holds nearly everything in the quiet region and far too little in the noisy one."""

    def law(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return (50 + rng.normal(size=len(frame)) * np.where(frame["Method"] == "dry", 12.0, 1.0)).clip(0, 100)

    table, fresh = measured(law), measured(law, recipes=300, seed=1)
    predicted = at(fitted(table), fresh)
    noisy = (fresh.frame["Method"] == "dry").to_numpy()
    held, width = inside(predicted, fresh), (predicted["high"] - predicted["low"]).to_numpy()
    assert 0.83 < held[noisy].mean() < 0.97
    assert 0.83 < held[~noisy].mean() < 0.99
    assert width[noisy].mean() > 5 * width[~noisy].mean()

    one_width = np.quantile(np.abs(table.frame["Yield"] - 50), 0.9)
    y = fresh.frame["Yield"].to_numpy()
    assert (np.abs(y - 50) <= one_width)[noisy].mean() < 0.8


def test_rows_of_one_recipe_are_no_evidence_about_another() -> None:
    """Each recipe has a level of its own that nothing explains; one was measured sixty times, and without scatter."""

    def law(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        recipe = frame.groupby(["A", "B", "C", "X", "Y", "Z", "Method", "Red T", "Red H2"]).ngroup()
        return (50 + rng.normal(0, 15, recipe.max() + 1)[recipe]).clip(1, 99)

    table = measured(law, recipes=120)
    often = table.frame.iloc[:1].loc[lambda x: x.index.repeat(60)]
    frame = pd.concat([table.frame, often], ignore_index=True)
    table = RecipeTable.from_frame(frame, tiny_schema(), source="often")
    predictor, fresh = fitted(table), measured(law, recipes=300, rows=1, seed=1)
    assert predictor.r2 < 0.2
    assert inside(at(predictor, fresh), fresh).mean() == pytest.approx(0.9, abs=0.05)
    at_home = fitted(table.select(np.arange(360)))
    low, high = predictor.errors.interval(0.9)
    width = (high - low) * at(predictor, fresh)["scale"].mean()
    low, high = at_home.errors.interval(0.9)
    assert width == pytest.approx((high - low) * at(at_home, fresh)["scale"].mean(), rel=0.25)


def test_everything_predicted_is_within_the_bounds_and_in_order() -> None:
    def law(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return np.where(frame["T"] > 645, 97, 3) + rng.normal(0, 4, len(frame))

    predicted = at(fitted(measured(lambda f, r: law(f, r).clip(0, 100))), measured(lambda f, r: law(f, r).clip(0, 100)))
    assert list(predicted.columns) == ["mean", "low", "high", "scale"]
    assert predicted[["mean", "low", "high"]].to_numpy().min() == 0
    assert predicted[["mean", "low", "high"]].to_numpy().max() == 100
    assert ((predicted["low"] <= predicted["mean"]) & (predicted["mean"] <= predicted["high"])).all()
    assert (predicted["scale"] > 0).all()


def test_higher_levels_and_other_rows_around_do_not_change_the_mean(predictor: PerformancePredictor) -> None:
    narrow, wide = at(predictor, TABLE, 0.5), at(predictor, TABLE, 0.95)
    assert (wide["low"] <= narrow["low"]).all()
    assert (wide["high"] >= narrow["high"]).all()
    pd.testing.assert_series_equal(narrow["mean"], wide["mean"])
    alone = at(predictor, TABLE.select(np.array([5])))
    pd.testing.assert_frame_equal(alone, at(predictor, TABLE).iloc[[5]].reset_index(drop=True))
    frame, schema = TABLE.frame.iloc[:0], TABLE.schema
    none = predictor.predict(frame[list(schema.recipe_columns)], frame[list(schema.condition_columns)])
    pd.testing.assert_frame_equal(none, wide.iloc[:0])
    for level in (0.0, 1.0, 90.0):
        with pytest.raises(InputError, match="between 0 and 1"):
            at(predictor, TABLE, level)


def test_probability_to_reach_a_target(predictor: PerformancePredictor) -> None:
    fresh = tiny_table(recipes=150, rows_per_recipe=2, seed=8)
    predicted, y = at(predictor, fresh), fresh.frame["Yield"].to_numpy()
    reach = np.stack([predictor.probability_of(predicted, target) for target in range(-50, 151, 5)])
    assert (reach > 0).all()
    assert (reach < 1).all()
    assert (np.diff(reach, axis=0) < 0).all()
    for target in (30, 50, 70):
        assert predictor.probability_of(predicted, target).mean() == pytest.approx((y >= target).mean(), abs=0.04)
    ends = at(predictor, fresh, 0.8)
    free = (ends["low"] > 0) & (ends["high"] < 100)
    for end, probability in (("low", 0.9), ("high", 0.1)):
        row = ends[free].iloc[[0]]
        assert predictor.probability_of(row, row[end].iloc[0]) == pytest.approx(probability, abs=0.03)


def test_lower_may_be_better(predictor: PerformancePredictor) -> None:
    schema = RecipeSchema.from_toml(TINY_TOML + "higher_is_better = false\n")
    lower, predicted = replace(predictor, schema=schema), at(predictor, TABLE)
    reach = lower.probability_of(predicted, 50)
    np.testing.assert_allclose(reach, 1 - predictor.probability_of(predicted, 50))
    assert np.corrcoef(reach, predicted["mean"])[0, 1] < -0.8


def test_the_seed_decides_and_one_recipe_is_too_few() -> None:
    table = TABLE.select(np.arange(60))
    one, again, other = (
        PerformancePredictor.fit(table.schema, table.frame, table.recipe_ids(), seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(at(again, TABLE), at(one, TABLE))
    assert (other.r2, other.mae) != (one.r2, one.mae)
    with pytest.raises(InputError, match="too few"):
        PerformancePredictor.fit(table.schema, table.frame, np.zeros(60, dtype=np.int64))


def test_intervals_from_folds_that_keep_laboratories_whole_hold_for_new_ones() -> None:
    """Every laboratory (temperature) has a level of its own, which nothing tells about another one."""

    def law(frame: pd.DataFrame, _: np.random.Generator) -> np.ndarray:
        level = {t: 20 + 60 * np.random.default_rng(int(t)).random() for t in frame["T"].unique()}
        return frame["T"].map(level).to_numpy()

    table = measured(law, recipes=150)
    inside_ = table.frame["T"] < 650
    rows = np.flatnonzero(inside_), np.flatnonzero(~inside_)
    known, new = (table.select(part) for part in rows)
    by_recipe, by_laboratory = (
        PerformancePredictor.fit(known.schema, known.frame, known.recipe_ids(), apart=apart)
        for apart in (None, known.laboratory_ids())
    )
    shares = [inside(at(predictor, new), new).mean() for predictor in (by_recipe, by_laboratory)]
    assert shares[0] < 0.6
    assert shares[1] > 0.8
    assert by_recipe.r2 > by_laboratory.r2 + 0.2
