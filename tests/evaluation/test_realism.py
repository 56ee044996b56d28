"""Realism scores: known answers, and the extremes of good and bad generators."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hcvae.data.features import RecipeFeatures
from pyro_hcvae.evaluation import realism as scores
from pyro_hcvae.evaluation.realism import (
    classifier_two_sample,
    disjoint_sets,
    energy_distance,
    energy_ratios,
    in_turns,
    marginals,
    precision_recall,
    precision_recall_of_many,
    real_against_real,
    realism,
)
from tests.evaluation.broken import broken_draws, table_of
from tests.laboratories import tiny_frame, tiny_table
from tests.strategies import QUICK, schemas_with_frames

FEATURES = RecipeFeatures.fit(tiny_table(100, 1))
SEEN = tiny_table(100, 1).frame
HELD = tiny_frame(60, 1, seed=1)
CONDITIONS = ["T", "Yield"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the forests out, where a test is about other scores."""
    monkeypatch.setattr(scores, "classifier_two_sample", lambda *_, **__: {})


def two_sample(draws: pd.DataFrame, **options: object) -> dict[str, float]:
    return classifier_two_sample(FEATURES, HELD, draws, trees=20, sets=2, **options)  # type: ignore[arg-type]


def from_the_same_source(draws_per_row: int, *, seed: int) -> pd.DataFrame:
    """Recipes of the source of `HELD`; its conditions tell next to nothing of the recipe here."""
    held = HELD.loc[np.repeat(HELD.index, draws_per_row)]
    recipes = tiny_frame(len(held), 1, seed=seed).set_axis(held.index, axis=0)
    return recipes.assign(**{name: held[name] for name in CONDITIONS})


def test_sets_of_draws_are_disjoint_and_aligned() -> None:
    draws = pd.DataFrame({"draw": range(6)}, index=[7, 7, 7, 5, 5, 99])
    sets = list(disjoint_sets(pd.DataFrame({"row": [50, 70]}, index=[5, 7]), draws, 9))
    assert [drawn["draw"].tolist() for _, drawn in sets] == [[0, 3], [1, 4], [2]]
    assert [real["row"].tolist() for real, _ in sets] == [[70, 50], [70, 50], [70]]
    assert len(list(disjoint_sets(HELD, HELD, 9))) == 1


def test_draws_are_taken_in_turns() -> None:
    draws = pd.DataFrame({"draw": range(40)}, index=np.repeat([5, 7, 8, 9], 10))
    for seed in range(5):
        assert (in_turns(draws, 4, seed=seed).index.value_counts() == 1).all()
        assert sorted(in_turns(draws, 10, seed=seed).index.value_counts()) == [2, 2, 3, 3]
    assert sorted(in_turns(draws, 99)["draw"]) == list(range(40))
    # Neither the draws of a row nor the rows that come last are always the first ones of the frame.
    taken = pd.concat([in_turns(draws, 6, seed=seed) for seed in range(50)])
    assert set(taken["draw"]) == set(range(40))
    assert taken.index.value_counts().max() < 100
    assert in_turns(draws, 6, seed=1).equals(in_turns(draws, 6, seed=1))
    assert in_turns(draws.iloc[:0], 6).empty


def test_copies_of_the_held_out_rows_cannot_be_told_apart() -> None:
    areas = two_sample(HELD)
    for level in ("raw", "structure"):
        assert areas[f"C2ST AUC, {level}"] == pytest.approx(0.5)  # each pair is tied
    assert areas["C2ST AUC, jittered"] == pytest.approx(0.5, abs=0.15)


def test_wrong_structure_is_told_at_every_level() -> None:
    draws = HELD.assign(A=1.0, B=1.0, C=1.0)
    assert min(two_sample(draws).values()) > 0.99


def test_noise_on_rounded_values_is_told_by_the_raw_level_alone() -> None:
    held = HELD.assign(A=2.0, B=0.0, C=0.0)
    noise = np.random.default_rng(0).choice([-0.02, 0.02], size=len(held))
    areas = classifier_two_sample(FEATURES, held, held.assign(A=2.0 * np.exp(noise)), trees=50)
    assert areas["C2ST AUC, raw"] > 0.99
    assert areas["C2ST AUC, structure"] == pytest.approx(0.5)
    assert areas["C2ST AUC, jittered"] == pytest.approx(0.5, abs=0.15)


def test_recipes_at_the_wrong_conditions_are_told_though_the_marginals_agree() -> None:
    hot = HELD.index % 2 == 0
    held = HELD.assign(T=np.where(hot, 800.0, 500.0), Method=np.where(hot, "wet", "dry"))
    draws = held.assign(Method=np.where(hot, "dry", "wet"))
    assert min(classifier_two_sample(FEATURES, held, draws, trees=50).values()) > 0.9
    assert marginals(FEATURES, held, draws)["marginals, total variation"] == 0.0


def test_real_rows_against_real_rows_are_near_one_half() -> None:
    found = real_against_real(FEATURES, tiny_frame(100, 1, seed=1), SEEN)
    for level in ("raw", "jittered", "structure"):
        assert found[f"C2ST AUC, {level}"] == pytest.approx(0.5, abs=0.15)
    assert found["precision"] > 0.8


def test_energy_distance_by_hand() -> None:
    assert energy_distance(np.array([[0.0]]), np.array([[1.0]])) == 2.0
    assert energy_distance(np.array([[0.0], [2.0]]), np.array([[1.0]])) == 1.0
    same = np.random.default_rng(0).normal(size=(20, 3))
    assert energy_distance(same, same) == pytest.approx(0.0, abs=1e-12)


def test_energy_ratio_has_its_fixed_points() -> None:
    labels = np.resize(HELD.index, len(SEEN))
    seen = SEEN.set_axis(labels, axis=0)
    assert energy_ratios(FEATURES, HELD, seen, seen) == pytest.approx(
        {"energy ratio, recipe": 1.0, "energy ratio, recipe and conditions": 1.0}
    )
    assert list(energy_ratios(FEATURES, HELD, HELD, SEEN).values()) == pytest.approx([0.0, 0.0], abs=1e-9)
    assert energy_ratios(FEATURES, HELD, HELD.assign(A=1.0, B=1.0, C=1.0), SEEN)["energy ratio, recipe"] > 5


def test_precision_and_recall_by_hand() -> None:
    real = np.array([[0.0], [1.0], [2.0], [3.0], [3.0]])  # the repeated point counts once
    drawn = np.array([[0.5], [10.0]])
    precision, recall, density, coverage = scores._neighbourhoods(real, drawn, 1)
    assert precision == 0.5  # only 0.5 lies within 1 of a real point,
    assert density == 1.0  # in two balls: two over two draws
    assert coverage == 0.5  # the balls of 0 and 1 hold it
    assert recall == 1.0  # balls of radius 9.5 around 0.5 and 10


def test_precision_and_recall_at_the_extremes() -> None:
    same = precision_recall(FEATURES, HELD, HELD)
    assert same["precision"] == same["recall"] == same["coverage"] == 1.0
    far = precision_recall(FEATURES, HELD, HELD.assign(A=1e-9, B=1e-9, C=1e-9))
    assert far == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}
    one = HELD.assign(**{name: HELD[name].iloc[0] for name in FEATURES.schema.recipe_columns})
    collapsed = precision_recall(FEATURES, HELD, one)
    assert collapsed["precision"] == 1.0
    assert collapsed["coverage"] < 0.5
    assert collapsed["recall"] < 0.1


def test_many_draws_fill_the_gaps_that_few_leave() -> None:
    few, many = (from_the_same_source(count, seed=4) for count in (1, 20))
    of_few, of_many = precision_recall(FEATURES, HELD, few), precision_recall_of_many(FEATURES, HELD, many)
    assert of_few["recall"] < 0.95 < of_many["recall, many draws"]
    assert of_few["precision"] == pytest.approx(of_many["precision, many draws"], abs=0.05)


def test_of_one_draw_a_row_the_many_are_the_few() -> None:
    few = from_the_same_source(1, seed=4)
    named = {f"{name}, many draws": score for name, score in precision_recall(FEATURES, HELD, few).items()}
    assert precision_recall_of_many(FEATURES, HELD, few.reset_index(drop=True)) == named
    twice = pd.concat([few, few])  # copies say nothing new
    assert precision_recall_of_many(FEATURES, HELD, twice) == pytest.approx(named)


def test_the_many_draws_are_as_many_as_there_are_training_recipes(quick: None) -> None:
    copies = HELD.loc[np.repeat(HELD.index, 3)]
    assert realism(FEATURES, HELD, copies, SEEN.iloc[: len(HELD)])["coverage, many draws"] == 1.0  # one copy of each
    three = realism(FEATURES, HELD, copies, SEEN.iloc[:3])
    assert three["coverage"] == three["precision, many draws"] == 1.0
    assert three["coverage, many draws"] < 0.5


def test_all_training_recipes_stand_for_the_many_draws(quick: None) -> None:
    far = HELD.iloc[:50].assign(A=1e-9, B=1e-9, C=1e-9)
    found = real_against_real(FEATURES, HELD, pd.concat([HELD, far]))
    assert found["precision, many draws"] == 60 / 110  # no set of 60 has this share
    assert found["recall, many draws"] == found["coverage, many draws"] == 1.0


def test_marginals_by_hand() -> None:
    scale = FEATURES.codec.scalers["A"].scale
    held = HELD.assign(A=2.0, B=0.0, C=0.0)
    quarter = HELD.index < len(HELD) / 4
    shifted = marginals(FEATURES, held[["A", *HELD.columns.drop("A")]], held.assign(A=2.0 * math.exp(scale)))
    others = (~np.isnan(FEATURES.numbers(held))).sum() / len(held)  # numbers a recipe, that of A among them
    assert shifted["marginals, Wasserstein-1 [sd]"] == pytest.approx(1 / others)
    absent = marginals(FEATURES, held, held.assign(A=np.where(quarter, 0.0, 2.0)))
    assert absent["marginals, total variation"] == pytest.approx(0.25 / 8)  # six components, a code and a step
    unknown = marginals(FEATURES, held, held.assign(Method="?"))
    assert unknown["marginals, total variation"] == pytest.approx(1 / 8)


def test_no_score_fails_without_draws() -> None:
    found = realism(FEATURES, HELD, HELD.iloc[:0], SEEN)
    assert found
    assert all(math.isnan(value) for value in found.values())
    part = realism(FEATURES, HELD, from_the_same_source(1, seed=3).iloc[:3], SEEN)
    assert all(math.isfinite(value) for value in part.values())


@settings(QUICK, max_examples=15)
@given(schemas_with_frames(min_rows=2), st.integers(0, 99))
def test_no_score_fails_on_broken_draws_of_any_schema(case, seed) -> None:  # type: ignore[no-untyped-def]
    schema, rows = case
    features = RecipeFeatures.fit(table_of(rows, schema))
    held = rows.reset_index(drop=True)
    draws = broken_draws(held, schema, seed)
    found = classifier_two_sample(features, held, draws, trees=2, sets=1)
    found |= precision_recall(features, held, draws) | energy_ratios(features, held, draws, held.iloc[:1])
    found |= marginals(features, held, draws)
    assert all(isinstance(value, float) for value in found.values())
    assert 0.0 <= found["marginals, total variation"] <= 1.0
