"""Reasons: neighbours in a table that is known, and changes whose effect is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.posterior.reasons import KnownRecipes, helpful_changes
from tests.laboratories import tiny_schema, tiny_table


@pytest.fixture(scope="module")
def known() -> KnownRecipes:
    return known_recipes(tiny_table())


def known_recipes(table: RecipeTable) -> KnownRecipes:
    return KnownRecipes(table, RecipeCodec.fit(table.schema, table.frame, table.recipe_weights()))


def recipe_columns(known: KnownRecipes) -> list[str]:
    return list(known.table.schema.recipe_columns)


def test_a_known_recipe_is_its_own_neighbour_at_the_nearest_conditions(known: KnownRecipes) -> None:
    frame = known.table.frame
    ids = known.table.recipe_ids()
    rows = np.flatnonzero(ids == ids[10])
    asked = frame.iloc[[rows[1]]]
    found = known.nearest(frame.iloc[[10]][recipe_columns(known)], asked)
    assert found["distance"].tolist() == [0.0]
    temperatures = frame.loc[found["row"], "T"]
    assert ids[frame.index.get_indexer(found["row"])] == ids[10]
    assert (
        abs(float(temperatures.iloc[0]) - float(asked["T"].iloc[0]))
        == np.abs(frame.iloc[rows]["T"] - float(asked["T"].iloc[0])).min()
    )


def test_the_asked_performance_does_not_choose_the_row(known: KnownRecipes) -> None:
    frame = known.table.frame
    recipe, asked = frame.iloc[[4]][recipe_columns(known)], frame.iloc[[4]]
    low, high = (known.nearest(recipe, asked.assign(Yield=y))["row"].tolist() for y in (0.0, 100.0))
    assert low == high


def test_distance_counts_components_and_standard_deviations(known: KnownRecipes) -> None:
    recipe = known.table.frame.iloc[[0]][recipe_columns(known)]
    metal = next(c for c in "ABC" if recipe[c].iloc[0] > 0)
    moved = recipe.assign(**{metal: recipe[metal] + 0.01 * known.scale.spread[metal]})
    assert known.distance(moved)[0] == pytest.approx(0.01, rel=1e-6)
    other = {"wet": "dry", "dry": "wet"}[recipe["Method"].iloc[0]]
    assert known.distance(moved.assign(Method=other))[0] == pytest.approx(1.01, rel=1e-6)
    assert known.distance(recipe)[0] == 0.0
    assert known.spacing > 0


def test_a_table_of_one_recipe_has_a_spacing() -> None:
    table = tiny_table()
    one = table.select(np.flatnonzero(table.recipe_ids() == 0))
    assert known_recipes(one).spacing == 1.0


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    return round_to_grid(frame, tiny_schema())


def valid(frame: pd.DataFrame) -> NDArray[np.bool_]:
    return is_valid(frame, tiny_schema())


def rows_with_a(table: RecipeTable) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = table.frame[(table.frame["A"] > 2) & (table.frame["A"] < 6)].iloc[:3]
    schema = table.schema
    return frame[list(schema.recipe_columns)], frame[[*schema.condition_columns, schema.performance.name]]


def test_the_change_that_helps_most_is_named_with_its_gain(known: KnownRecipes) -> None:
    recipes, conditions = rows_with_a(known.table)

    def probability(some: pd.DataFrame, at: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(np.clip(some["A"].to_numpy() / 20 + (at["T"].to_numpy() - 500) / 2000, 0, 1))

    of_recipe, of_conditions = helpful_changes(known, settle(recipes), conditions, settle, valid, probability)
    assert set(of_recipe) == {0, 1, 2}
    for row, change in of_recipe.items():
        assert change.column == "A" and change.new > change.old
        assert change.gain == pytest.approx((change.new - change.old) / 20)
        assert change.new % 0.5 == 0, "on the grid"
        assert change.probability == pytest.approx(probability(settle(recipes), conditions)[row] + change.gain)
    for change in of_conditions.values():
        assert change.column == "T" and change.gain == pytest.approx((change.new - change.old) / 2000)


def test_what_is_not_allowed_or_does_not_help_is_not_said(known: KnownRecipes) -> None:
    recipes, conditions = rows_with_a(known.table)

    def nothing(some: pd.DataFrame, at: pd.DataFrame) -> NDArray[np.float64]:
        return np.full(len(some), 0.5)

    assert helpful_changes(known, recipes, conditions, settle, valid, nothing) == ({}, {})

    def more_a(some: pd.DataFrame, at: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(some["A"].to_numpy() / 20)

    def never(frame: pd.DataFrame) -> NDArray[np.bool_]:
        return np.zeros(len(frame), dtype=bool)

    assert helpful_changes(known, recipes, conditions, settle, never, more_a)[0] == {}
