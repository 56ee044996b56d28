"""Written values: what recurs is written as it is, the rest is left alone, and no recipe becomes another kind of recipe."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.schema import Category
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.data.written import WrittenValues
from tests.laboratories import tiny_schema
from tests.strategies import QUICK, schemas_with_frames

RECIPE = dict.fromkeys("ABCXYZ", 0.0) | {"X": 1.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0}


def written(rows: list[dict[str, object]], reach: float = 0.1) -> WrittenValues:
    """Fitted on recipes that differ from `RECIPE`; equal rows are one recipe."""
    frame = pd.DataFrame([{**RECIPE, "T": 600.0, "Yield": 50.0, **row} for row in rows])
    schema = tiny_schema()
    recipes = np.unique(row_hashes(frame, list(schema.recipe_columns)), return_inverse=True)[1]
    return WrittenValues.fit(RecipeCodec.fit(schema, frame), frame, recipes, reach)


def apply(to: WrittenValues, **cells: object) -> dict[str, object]:
    return dict(to(pd.DataFrame([{**RECIPE, **cells}])).iloc[0])


TABLE = written(
    [
        {"A": 5.0, "Red T": 500.0, "Red H2": 10.0},
        {"A": 5.0, "Y": 0.2, "X": 0.8, "Red T": 500.0},
        {"B": 5.0, "Y": 0.2, "X": 0.8, "Red T": 700.0, "Red H2": 10.0},
        {"B": 20.0, "Z": 0.5, "X": 0.5, "Red T": 700.0, "Red H2": 80.0},
        {"A": 20.0, "Z": 0.5, "X": 0.5, "Red T": 700.0},
        {"A": 1.0, "Red T": 300.0},
        {"A": 1.0, "Red T": 300.0},
    ]
)


def test_a_value_is_written_where_two_recipes_share_it_in_whatever_component() -> None:
    assert list(TABLE.values["metals"]) == [5.0, 20.0]  # two rows with 1.0 are one recipe
    assert list(TABLE.values["supports"]) == [0.2, 0.5, 0.8]
    assert list(TABLE.values["Red T"]) == [500.0, 700.0]
    assert list(TABLE.values["Red H2"]) == [10.0]
    assert apply(TABLE, C=5.02)["C"] == 5.0


def test_what_lies_near_is_brought_there_and_the_rest_stays() -> None:
    assert apply(TABLE, A=20.7)["A"] == 20.0
    assert apply(TABLE, A=4.93)["A"] == 5.0
    assert apply(TABLE, A=9.3)["A"] == 9.3
    assert apply(TABLE, **{"Red T": 503.0, "Red H2": 10.3})["Red T"] == 500.0
    assert apply(TABLE, **{"Red T": 560.0, "Red H2": 40.0}) == {**RECIPE, "Red T": 560.0, "Red H2": 40.0}


def test_reach_is_in_standard_deviations_of_the_log_amount() -> None:
    sd = TABLE.codec.scalers["A"].scale
    for side in (-1, 1):
        assert apply(TABLE, A=5 * np.exp(side * 0.099 * sd))["A"] == 5.0
        beyond = 5 * np.exp(side * 0.101 * sd)
        assert apply(TABLE, A=beyond)["A"] == beyond


def test_the_first_share_takes_up_what_the_others_leave() -> None:
    made = apply(TABLE, X=0.794, Y=0.206)
    assert (made["X"], made["Y"]) == (0.8, 0.2)
    made = apply(TABLE, X=0.294, Y=0.202, Z=0.504)
    assert (made["X"], made["Y"], made["Z"]) == (0.3, 0.2, 0.5)
    made = apply(TABLE, X=0.66, Y=0.34)
    assert (made["X"], made["Y"]) == (0.66, 0.34)


def test_a_sum_is_not_written_up_over_its_limit() -> None:
    assert apply(TABLE, A=19.6, B=0.4)["A"] == 19.6
    assert apply(TABLE, A=19.6, B=0.5)["A"] == 20.0  # it was over before


def test_a_step_that_was_not_done_and_a_zero_stay() -> None:
    wide = written(
        [{"A": 1.0, "Red T": t, "Red H2": h} for t, h in ((100.0, 1.0), (100.0, 2.0), (900.0, 1.0))], reach=50
    )
    assert apply(wide, A=3.0) == {**RECIPE, "A": 1.0}
    assert apply(wide, **{"Red T": 500.0})["Red T"] == 100.0
    assert apply(wide, **{"Red T": 500.0})["Red H2"] == 0.0


def test_nothing_recurs() -> None:
    alone = written([{"A": 1.0, "Red T": 300.0, "Red H2": 20.0}, {"A": 2.0, "Y": 0.3, "X": 0.7}])
    row = {"A": 1.001, "B": 3.0, "Y": 0.31, "X": 0.69, "Red T": 301.0, "Red H2": 21.0}
    assert apply(alone, **row) == {**RECIPE, **row}


@QUICK
@given(schemas_with_frames(min_rows=2, max_rows=8), st.floats(0.01, 3.0))
def test_recipes_stay_of_their_kind(case, reach) -> None:  # type: ignore[no-untyped-def]
    schema, frame = case
    codec = RecipeCodec.fit(schema, frame)
    to = WrittenValues.fit(codec, frame, np.arange(len(frame)), reach)
    drawn = codec.decode(codec.encode(frame))
    made = to(drawn)
    assert list(made.columns) == list(drawn.columns)
    for block in schema.blocks:
        names = list(block.names())
        if isinstance(block, Category):
            pd.testing.assert_frame_equal(made[names], drawn[names])
        else:
            before, after = drawn[names].to_numpy(np.float64), made[names].to_numpy(np.float64)
            assert ((before > 0) == (after > 0)).all()
            assert np.isfinite(after).all()
    assert is_valid(made, schema)[is_valid(drawn, schema)].all()


@QUICK
@given(schemas_with_frames(min_rows=2, max_rows=8))
def test_recurring_numbers_of_the_table_are_drawn_exactly(case) -> None:  # type: ignore[no-untyped-def]
    schema, frame = case
    twice = pd.concat([frame, frame], ignore_index=True)
    codec = RecipeCodec.fit(schema, twice)
    to = WrittenValues.fit(codec, twice, np.arange(len(twice)), 1e-4)
    made = to(codec.decode(codec.encode(frame)))
    for block in schema.blocks:
        if not isinstance(block, Category):
            names = list(block.names())
            assert np.allclose(made[names].to_numpy(float), frame[names].to_numpy(float), rtol=2e-5, atol=1e-7)
