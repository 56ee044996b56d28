"""Written values: what recurs is written as it is, the rest is left alone, and no recipe becomes another kind of recipe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data import sites
from pyro_hcvae.data.codec import RecipeCodec, step_settings
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.schema import Amounts, Category, Step
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.data.written import Nearest, Recurring, WrittenValues
from tests.laboratories import tiny_schema
from tests.strategies import QUICK, schemas_with_frames

RECIPE = dict.fromkeys("ABCXYZ", 0.0) | {"X": 1.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0}


def written(rows: list[dict[str, object]], noise: float = 0.05) -> WrittenValues:
    """Fitted on recipes that differ from `RECIPE`; equal rows are one recipe."""
    frame = pd.DataFrame([{**RECIPE, "T": 600.0, "Yield": 50.0, **row} for row in rows])
    schema = tiny_schema()
    recipes = np.unique(row_hashes(frame, list(schema.recipe_columns)), return_inverse=True)[1]
    return WrittenValues.fit(RecipeCodec.fit(schema, frame), frame, recipes, noise)


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
    assert list(TABLE.recurring["metals"].values) == [5.0, 20.0]  # two rows with 1.0 are one recipe
    assert list(TABLE.recurring["supports"].values) == [0.2, 0.5, 0.8]
    assert list(TABLE.recurring["Red T"].values) == [500.0, 700.0]
    assert list(TABLE.recurring["Red H2"].values) == [10.0]
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
        [{"A": 1.0, "Red T": t, "Red H2": h} for t, h in ((100.0, 1.0), (100.0, 2.0), (900.0, 1.0))], noise=25
    )
    assert apply(wide, A=3.0) == {**RECIPE, "A": 1.0}
    assert apply(wide, **{"Red T": 500.0})["Red T"] == 100.0
    assert apply(wide, **{"Red T": 500.0})["Red H2"] == 0.0


def test_nothing_recurs() -> None:
    alone = written([{"A": 1.0, "Red T": 300.0, "Red H2": 20.0}, {"A": 2.0, "Y": 0.3, "X": 0.7}])
    row = {"A": 1.001, "B": 3.0, "Y": 0.31, "X": 0.69, "Red T": 301.0, "Red H2": 21.0}
    assert apply(alone, **row) == {**RECIPE, **row}


def noisy(codec: RecipeCodec, frame: pd.DataFrame, sd: float, seed: int) -> pd.DataFrame:
    """Recipes with noise on their numbers, as a model draws them."""
    packed = codec.encode(frame)
    generator = torch.Generator().manual_seed(seed)
    for block in codec.schema.blocks:
        for site in list(sites.of_block(block))[1:]:
            place = codec.layout.slices[site]
            packed[:, place] += sd * torch.randn(packed[:, place].shape, generator=generator)
    return codec.decode(packed)


@QUICK
@given(schemas_with_frames(min_rows=2, max_rows=6), st.floats(0.005, 0.5), st.floats(0, 0.5), st.integers(0, 99))
def test_recipes_stay_of_their_kind(case, noise, sd, seed) -> None:  # type: ignore[no-untyped-def]
    schema, frame = case
    twice = pd.concat([frame, frame], ignore_index=True)
    codec = RecipeCodec.fit(schema, twice)
    to = WrittenValues.fit(codec, twice, np.arange(len(twice)), noise)  # each number recurs
    drawn = noisy(codec, frame, sd, seed)
    made = to(drawn)
    assert list(made.columns) == list(drawn.columns)
    for block in schema.blocks:
        names = list(block.names())
        if isinstance(block, Category):
            pd.testing.assert_frame_equal(made[names], drawn[names])
        else:
            before, after = drawn[names].to_numpy(np.float64), made[names].to_numpy(np.float64)
            assert np.isfinite(after).all()
            if isinstance(block, Step):  # a setting may have any sign
                there, was = (np.isfinite(step_settings(block, x)) for x in (made, drawn))
                assert (there == was).all()
            else:
                assert ((before > 0) == (after > 0)).all()
    assert is_valid(made, schema)[is_valid(drawn, schema)].all()


@QUICK
@given(schemas_with_frames(min_rows=1, max_rows=1), st.integers(0, 99))
def test_numbers_around_a_recurring_value_are_written_exactly(case, seed) -> None:  # type: ignore[no-untyped-def]
    """One recipe with its twin: no other value is near. Noise of a tenth of what is reckoned with."""
    schema, frame = case
    twice = pd.concat([frame, frame], ignore_index=True)
    codec = RecipeCodec.fit(schema, twice)
    to = WrittenValues.fit(codec, twice, np.arange(2), 0.05)
    made = to(noisy(codec, frame, 0.005, seed))
    for block in schema.blocks:
        if isinstance(block, Category):
            continue
        names = list(block.names())
        there, was = made[names].to_numpy(np.float64), frame[names].to_numpy(np.float64)
        if isinstance(block, Amounts) and block.max_total is not None and was.sum() > block.max_total * (1 - 1e-6):
            continue  # at the limit a row may stay as drawn
        assert np.abs(there - was).max() <= 2e-9 * max(1.0, np.abs(was).max())


def test_a_frequent_value_takes_its_draws_from_a_rare_neighbour() -> None:
    """5.275 is within the noise of 5: two recipes against forty."""
    rows = [{"A": 5.0, "Red T": 100.0 + i} for i in range(40)] + [{"A": 5.275, "Red T": 100.0 + i} for i in range(2)]
    rows += [{"A": float(a)} for a in np.geomspace(0.5, 15, 40)]
    to = written(rows)
    sd = to.codec.scalers["A"].scale
    draws = 5 * np.exp(0.05 * sd * np.random.default_rng(0).normal(size=400))
    made = to(pd.DataFrame([{**RECIPE, "A": a} for a in draws]))
    assert (made["A"] == 5.0).mean() > 0.93
    assert apply(to, A=5.5)["A"] == 5.275


def test_rows_that_could_not_be_recipes_are_left_alone() -> None:
    for shares in (
        [-0.1, 0.5, 0.6],
        [0.3, 0.2, 1.5],
        [0.4, 0.2, 0.2],
        [np.nan, 0.5, 0.5],
        [0.0, 0.0, 0.0],
        [1e-20, 1.0, 0.0],
    ):
        row = dict(zip("XYZ", shares, strict=True))
        made = apply(TABLE, **row)
        np.testing.assert_array_equal([made[name] for name in "XYZ"], shares)
    made = apply(TABLE, **{"A": np.inf, "B": -1.0, "C": np.nan, "Red T": np.inf, "Red H2": np.nan})
    np.testing.assert_array_equal([made["A"], made["B"], made["C"], made["Red T"]], [np.inf, -1.0, np.nan, np.inf])


def test_the_first_share_does_not_pay_for_the_others() -> None:
    """Two shares of a half each, both rounded up, would leave next to nothing of a small third one."""
    rows = [{"X": 0.01 * i, "Y": 0.5 - 0.005 * i, "Z": 0.5 - 0.005 * i} for i in range(1, 9)]
    to = written([*rows, {"X": 0.5, "Y": 0.5}, {"X": 0.5, "Z": 0.5}, {"A": 1.0, "Y": 0.5, "Z": 0.5}])
    made = apply(to, X=0.012, Y=0.494, Z=0.494)
    assert (made["X"], made["Y"], made["Z"]) == (0.012, 0.494, 0.494)


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_breaks_say_what_comparing_with_every_value_says(count: int) -> None:
    rng = np.random.default_rng(count)
    places = np.sort(rng.uniform(0, 30, count))
    recurring = Recurring(10 + np.arange(count, dtype=np.float64), rng.integers(2, 200, count).astype(np.float64))
    near = Nearest.of(recurring, places)
    x = rng.uniform(-5, 35, 4000)
    gaps = x[:, None] - places
    worth = np.where(np.abs(gaps) <= 2, np.log(recurring.recipes) - gaps**2 / 2, -np.inf)
    expected = np.full(len(x), np.nan)
    if count:
        reached = np.isfinite(worth).any(axis=1)
        expected[reached] = recurring.values[worth[reached].argmax(axis=1)]
        assert 0 < reached.mean() < 1
    np.testing.assert_array_equal(near.values[np.searchsorted(near.breaks, x)], expected)
