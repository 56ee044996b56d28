"""Repair and novelty: copies are recognised, what is new is counted, by hand-made draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.features import RecipeFeatures
from pyro_hcvae.data.schema import Fractions
from pyro_hcvae.data.table import row_groups
from pyro_hcvae.evaluation.novelty import memorisation, novelty, set_recovery
from pyro_hcvae.evaluation.repair import Repair
from tests.evaluation.broken import broken_draws, table_of
from tests.laboratories import tiny_frame, tiny_schema, tiny_table
from tests.strategies import QUICK, schemas_with_frames

SCHEMA = tiny_schema()
BASE: dict[str, object] = {"A": 5.0, "B": 0.0, "C": 0.0, "X": 1.0, "Y": 0.0, "Z": 0.0, "Method": "wet"} | {
    "Red T": 500.0,
    "Red H2": 50.0,
}


def recipes(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([BASE | change for change in changes]).assign(T=600.0, Yield=50.0)


SEEN = recipes({}, {"A": 6.0, "Red T": 600.0}, {"A": 5.0, "B": 1.0}, {"Red T": 0.0, "Red H2": 0.0})
REPAIR = Repair.fit(SCHEMA, SEEN)
TINY = tiny_table(60, 1)


def repaired(**change: object) -> dict[str, object]:
    return (
        REPAIR(recipes({name.replace("_", " "): value for name, value in change.items()}))[list(BASE)].iloc[0].to_dict()
    )


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ({"A": 5.4}, {"A": 5.0}),
        ({"A": 5.48}, {"A": 6.0}),  # sqrt(30) = 5.477 parts the levels on the log scale
        ({"A": 2.6}, {"A": 5.0}),
        ({"A": 2.4}, {"A": 0.0}),  # nearer to nothing than to the smallest level
        ({"A": -1.0}, {"A": 0.0}),
        ({"A": np.nan}, {"A": 0.0}),
        ({"C": 0.7}, {"C": 0.7}),  # no training recipe has it: no level to snap to
        ({"X": 0.5, "Y": 0.26, "Z": 0.01}, {"X": 0.7, "Y": 0.3}),
        ({"X": 3.0, "Y": np.nan, "Z": -1.0}, {"X": 1.0, "Y": 0.0}),
        ({"Red_T": 560.0, "Red_H2": 20.0}, {"Red T": 600.0, "Red H2": 50.0}),
        ({"Red_T": 200.0}, {"Red T": 0.0, "Red H2": 0.0}),  # not done: nearer to 0 than to 500
        ({"Method": "?"}, {"Method": np.nan}),
    ],
)
def test_repair_by_hand(drawn: dict[str, object], expected: dict[str, object]) -> None:
    clipped = {name.replace("_", " "): 0.0 for name in drawn if name in "YZ"}
    assert repaired(**drawn) == pytest.approx(BASE | clipped | expected, nan_ok=True)


def test_codes_that_are_numbers_go_to_the_nearest() -> None:
    data = SCHEMA.model_dump()
    data["stages"][2]["blocks"][0]["codes"] = (1, 2, 4)
    schema = type(SCHEMA).model_validate(data)
    seen = SEEN.assign(Method=1)
    draws = SEEN.assign(Method=pd.Series([3.4, "2", -9.0, None], dtype=object))
    codes = Repair.fit(schema, seen)(draws)["Method"].tolist()
    assert codes[:3] == [4, 2, 1]
    assert np.isnan(codes[3])


@QUICK
@given(schemas_with_frames(), st.integers(0, 99))
def test_repair_leaves_amounts_and_settings_of_known_recipes_and_is_idempotent(case, seed) -> None:  # type: ignore[no-untyped-def]
    schema, rows = case
    repair = Repair.fit(schema, rows)
    fixed = [name for block in schema.blocks if not isinstance(block, Fractions) for name in block.names()]
    pd.testing.assert_frame_equal(repair(rows)[fixed], rows[fixed])
    once = repair(broken_draws(rows, schema, seed))
    pd.testing.assert_frame_equal(repair(once), once)


def test_copies_are_known_with_noise_and_without() -> None:
    noise = np.random.default_rng(0).uniform(0.998, 1.002, size=len(TINY))  # the levels are a hundredth apart
    recipe = TINY.frame[list(SCHEMA.recipe_columns)]
    repair = Repair.fit(SCHEMA, TINY.frame)
    for draws in (recipe, recipe.assign(A=recipe["A"] * noise, B=recipe["B"] * noise)):
        found = novelty(repair, TINY.frame, draws)
        assert found["novel"] == found["novel beyond rounding"] == found["novel, valid and unique"] == 0.0
        assert found["new set, jointly"] == 0.0


def test_novelty_by_hand() -> None:
    draws = recipes(
        {"A": 5.1},  # known after repair
        {"A": 6.0},  # new: 6 wt% was reduced at 600 degC only
        {"A": 6.0},  # the same again
        {"A": 6.0, "B": 1.0, "X": 0.8},  # new, and shares that do not sum to 1
        {"C": 1.0, "A": 0.0},  # new, with a metal that training does not know
    )
    found = novelty(REPAIR, SEEN, draws)
    assert found["novel"] == pytest.approx(4 / 5)
    assert found["unique"] == pytest.approx(4 / 5)
    assert found["novel, valid and unique"] == pytest.approx(2 / 5)
    assert found["novel, valid and unique, repaired"] == pytest.approx(3 / 5)
    assert found["new set, metals"] == pytest.approx(1 / 5)
    assert found["new set, supports"] == 0.0
    assert found["novel beyond rounding"] == pytest.approx(4 / 5)


def test_beyond_rounding_needs_one_number_further_than_a_tenth() -> None:
    seen = recipes(
        {"A": 5.0}, {"A": 5.5, "Red H2": 100.0}, {"A": 6.0, "Red H2": 100.0}, {"Red T": 600.0, "Red H2": 54.0}
    )
    draws = recipes({"A": 5.5, "Red H2": 54.0}, {"A": 6.0}, {"Red T": 600.0, "Red H2": 100.0, "A": 6.0})
    repair = Repair.fit(SCHEMA, seen)
    each = [novelty(repair, seen, draws.iloc[[i]]) for i in range(3)]
    assert [score["novel"] for score in each] == [1.0, 1.0, 1.0]
    assert [score["novel beyond rounding"] for score in each] == [0.0, 1.0, 1.0]


def test_memorisation_of_copies_and_of_strangers() -> None:
    features = RecipeFeatures.fit(TINY)
    held = tiny_frame(30, 1, seed=5)
    copies = memorisation(features, held, TINY.frame, TINY.frame)
    assert copies["distance to the nearest known recipe"] == 0.0
    assert copies["memorised"] == 1.0
    assert copies["memorised, held-out recipes"] < 0.5  # by the definition of a median
    strangers = held.assign(A=1.0, B=1.0, C=1.0, X=0.4, Y=0.3, Z=0.3)
    far = memorisation(features, held, strangers, TINY.frame)
    assert far["memorised"] == 0.0
    assert far["distance to the nearest known recipe"] > 1.0


def test_distance_to_the_nearest_known_recipe_by_hand() -> None:
    features = RecipeFeatures.fit(table_of(SEEN, SCHEMA))
    draws = SEEN.iloc[[0]].assign(A=5.0 * np.exp(-2 * features.codec.scalers["A"].scale))
    found = memorisation(features, SEEN.assign(Method="dry"), draws, SEEN)
    assert found["distance to the nearest known recipe"] == pytest.approx(2.0)
    assert found["distance to the nearest known recipe, held-out recipes"] == pytest.approx(np.sqrt(2))  # the code
    assert found["memorised"] == 0.0


def test_recovery_of_component_sets_by_hand() -> None:
    held = recipes({}, {"B": 1.0, "X": 0.5, "Y": 0.5}).set_axis([10, 20], axis=0)
    draws = recipes({"A": 6.0}, {"C": 1.0}, {"Y": 0.5, "X": 0.5}, {"B": 1.0}).set_axis([10] * 4, axis=0)
    found = set_recovery(REPAIR, held, draws)  # nothing was drawn for the second row
    assert found == {
        "hit metals, 1 draw": 0.25,  # A alone: two of four draws, in one of two rows
        "hit metals, 4 draws": 0.5,
        "hit supports, 1 draw": 0.375,
        "hit supports, 4 draws": 0.5,
        "hit jointly, 1 draw": 0.125,
        "hit jointly, 4 draws": 0.5,
    }
    assert set(set_recovery(REPAIR, held, held).values()) == {1.0}


@QUICK
@given(schemas_with_frames(min_rows=2), st.integers(0, 99))
def test_no_score_fails_on_broken_draws_of_any_schema(case, seed) -> None:  # type: ignore[no-untyped-def]
    schema, rows = case
    held = rows.reset_index(drop=True)
    repair, features = Repair.fit(schema, held), RecipeFeatures.fit(table_of(held, schema))
    draws = broken_draws(held, schema, seed)
    found = novelty(repair, held, draws) | set_recovery(repair, held, draws)
    assert all(0.0 <= value <= 1.0 for value in found.values())
    assert found["novel beyond rounding"] <= found["novel"] >= found["novel, valid and unique"]
    distances = memorisation(features, held, draws, held)
    assert 0.0 <= distances["memorised"] <= 1.0
    assert row_groups(repair(held), schema.recipe_columns).shape == (len(held),)


def test_no_score_without_draws() -> None:
    none = SEEN.iloc[:0]
    assert novelty(REPAIR, SEEN, none) == set_recovery(REPAIR, SEEN, none) == {}
