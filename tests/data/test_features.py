"""Features of recipes: known values, jitter where a number exists, and no draw that cannot be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.features import FURTHEST, JITTER, LEVELS, RecipeFeatures, indicator_variables
from tests.evaluation.broken import broken_draws, table_of
from tests.laboratories import tiny_schema, tiny_table
from tests.strategies import QUICK, schemas_with_frames

SCHEMA = tiny_schema()
TABLE = tiny_table()
FEATURES = RecipeFeatures.fit(TABLE)
ROW = {"A": 2.0, "B": 0.0, "C": 0.0, "X": 0.5, "Y": 0.5, "Z": 0.0, "Method": "dry"} | {
    "Red T": 500.0,
    "Red H2": 0.0,
    "T": 600.0,
    "Yield": 50.0,
}


def frame(**cells: object) -> pd.DataFrame:
    return pd.DataFrame([ROW | {name.replace("_", " "): value for name, value in cells.items()}])


def test_indicators_of_a_recipe() -> None:
    assert indicator_variables(SCHEMA) == (*"ABCXYZ", "method", "method", "reduction", "reduction", "reduction")
    # metals, supports, (wet, dry), (not done, with H2, in inert gas)
    assert FEATURES.indicators(frame())[0].tolist() == [1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1]
    assert FEATURES.indicators(frame(Red_T=0.0))[0, -3:].tolist() == [1, 0, 0]


def test_numbers_are_standardised_where_they_exist() -> None:
    recipes = TABLE.frame.drop_duplicates(list(SCHEMA.recipe_columns))
    shares = recipes[["X", "Y", "Z"]].to_numpy()
    shares = shares[shares > 0]
    amount = FEATURES.codec.scalers["A"]
    settings = recipes["Red T"].to_numpy()
    settings = settings[settings > 0]
    a, *no_metals, x, y, z, t, h2 = FEATURES.numbers(frame())[0]
    assert a == pytest.approx((np.log(2.0) - amount.loc) / amount.scale)
    assert x == y == pytest.approx((0.5 - shares.mean()) / shares.std())
    assert t == pytest.approx((500 - settings.mean()) / settings.std())
    assert np.isnan([*no_metals, z, h2]).all()  # inert gas has no H2


def test_rows_of_a_recipe_count_once() -> None:
    often = TABLE.select(np.concatenate([np.zeros(500, dtype=np.int64), np.arange(len(TABLE))]))
    again = RecipeFeatures.fit(often)
    # Means of rare components are shrunk by pseudo-rows, which move a little with the number of rows.
    np.testing.assert_allclose(again.recipe(TABLE.frame), FEATURES.recipe(TABLE.frame), atol=0.01)
    assert again.share_scalers["supports"].loc == pytest.approx(FEATURES.share_scalers["supports"].loc)


def test_what_cannot_be_read_is_well_defined() -> None:
    row = frame(A=-1.0, B=np.nan, C=1e-300, X=np.inf, Method="?", Red_T=np.nan)
    assert FEATURES.indicators(row)[0].tolist() == [-1, -1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    numbers = FEATURES.numbers(row)[0]
    assert np.isnan(numbers[:2]).all()
    assert numbers[2] == -FURTHEST  # a trace is present, and far from any amount
    assert numbers[3] == FURTHEST


def test_jitter_moves_numbers_that_exist_and_nothing_else() -> None:
    rows = TABLE.frame.iloc[np.tile(np.arange(len(TABLE)), 20)]
    raw, jittered = (FEATURES.matrix(rows, level, np.random.default_rng(0)) for level in ("raw", "jittered"))
    indicators = FEATURES.indicators(rows).shape[1]
    moved = jittered - raw
    exists = np.column_stack([~np.isnan(FEATURES.numbers(rows)), np.ones((len(rows), 2), dtype=bool)])
    assert (moved[:, :indicators] == 0).all()
    assert (moved[:, indicators:][~exists] == 0).all()
    assert (raw[:, indicators:][~exists] == 0).all()
    assert moved[:, indicators:][exists].std() == pytest.approx(JITTER, rel=0.05)


def test_structure_knows_no_amounts() -> None:
    rng = np.random.default_rng(0)
    other = frame(A=7.0, X=0.9, Y=0.1, Red_T=800.0)
    assert (FEATURES.matrix(frame(), "structure", rng) == FEATURES.matrix(other, "structure", rng)).all()
    assert (FEATURES.matrix(frame(), "raw", rng) != FEATURES.matrix(other, "raw", rng)).any()


@QUICK
@given(schemas_with_frames(min_rows=2), st.integers(0, 99))
def test_any_schema_and_any_draw_have_finite_features(case, seed) -> None:  # type: ignore[no-untyped-def]
    schema, rows = case
    features = RecipeFeatures.fit(table_of(rows, schema))
    for draws in (rows, broken_draws(rows, schema, seed)):
        for level in LEVELS:
            matrix = features.matrix(draws, level, np.random.default_rng(seed))
            assert np.isfinite(matrix).all()
            assert len(matrix) == len(rows)
    assert features.indicators(rows).shape[1] == len(indicator_variables(schema))
