"""A fold: every score of draws, and the figures that copies of the held-out recipes must get."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.evaluation.baselines import MarginalBootstrap
from pyro_hcvae.evaluation.cross_validation import split_folds
from pyro_hcvae.evaluation.fold import ALL_ROWS, Fold, rule_scores
from tests.evaluation.broken import broken_draws

DRAWS = 2
pytestmark = pytest.mark.usefixtures("small_forests")


@pytest.fixture(scope="module")
def fold(small_forests: None) -> Fold:
    """A quarter of the recipes of a virtual laboratory is held out."""
    raw = VirtualLab().experiments(60, 3, seed=1)
    table = RecipeTable.from_frame(raw, RecipeSchema.load("drm"), source="virtual")
    _, _, first = next(split_folds(table, "recipe", 4, (0,)))
    return first


@pytest.fixture(scope="module")
def resampled(fold: Fold) -> dict[str, float]:
    generator = MarginalBootstrap().fit(fold.train, seed=0)
    return fold.score(generator.sample(fold.conditions, DRAWS, seed=0))


@pytest.fixture(scope="module")
def copied(fold: Fold) -> dict[str, float]:
    held = fold.held.frame
    return fold.score(held.loc[np.repeat(held.index, DRAWS)])


@pytest.fixture(scope="module")
def uneven(fold: Fold) -> Fold:
    """Of the 15 held-out recipes with their 49 rows, one of five rows and one of three break a rule in all of them."""
    frame = fold.test.frame.copy()
    frame.loc[fold.test.recipe_ids() == 2, ["Ni", "Co", "Pt"]] = [0.0, 0.0, 6.0]
    return replace(fold, test=replace(fold.test, frame=frame))


def test_held_out_recipes_are_new_and_stand_in_one_row_each(fold: Fold) -> None:
    recipes = list(fold.train.schema.recipe_columns)
    held = fold.held.frame
    assert not held.duplicated(recipes).any()
    assert len(held) == len(np.unique(fold.test.recipe_ids())) == 15
    both = pd.concat([fold.seen.frame[recipes], held[recipes]])
    assert not both.duplicated().any()
    assert list(fold.conditions) == [*fold.train.schema.condition_columns, fold.train.schema.performance.name]
    assert fold.conditions.index.equals(held.index)


def test_every_score_of_a_resampler_is_finite(resampled: dict[str, float]) -> None:
    assert len(resampled) > 60
    for name, score in resampled.items():
        assert math.isfinite(score), name


def test_a_resampler_is_valid_and_knows_nothing_new(resampled: dict[str, float]) -> None:
    assert resampled["valid"] == 1
    assert resampled["novel"] == resampled["novel, valid and unique"] == resampled["novel beyond rounding"] == 0
    assert resampled["distance to the nearest known recipe"] == 0
    assert resampled["memorised"] == 1
    assert resampled["hit jointly, 1 draw"] < 0.3


def test_copies_of_the_held_out_recipes_are_perfect(copied: dict[str, float]) -> None:
    ones = ["valid", "valid, by row", "precision", "recall", "coverage", "novel"]
    ones += ["precision, many draws", "recall, many draws", "coverage, many draws"]
    ones += [f"hit {part}, {draws}" for part in ("metals", "supports", "jointly") for draws in ("1 draw", "2 draws")]
    assert [copied[name] for name in ones] == [1.0] * len(ones)
    assert copied["memorised"] == copied["memorised, held-out recipes"]
    for level in ("raw", "structure"):
        assert copied[f"C2ST AUC, {level}"] == pytest.approx(0.5)
    zeros = ["energy ratio, recipe", "energy ratio, recipe and conditions", "energy score, recipe"]
    zeros += ["marginals, total variation", "marginals, Wasserstein-1 [sd]"]
    zeros += [name for name in copied if name.startswith(("Brier", "CRPS"))]
    for name in zeros:
        assert copied[name] == pytest.approx(0, abs=1e-9), name
    assert copied["unique"] == pytest.approx(1 / DRAWS)
    assert copied["novel, valid and unique"] == pytest.approx(1 / DRAWS)
    for judge in ("", f", {ALL_ROWS}"):
        for score, unit in (("adherence MAE", " [%]"), ("adherence partial r", "")):
            real = copied[f"{score}, real recipes{judge}{unit}"]
            assert copied[f"{score}{judge}{unit}"] == pytest.approx(real)
            assert copied[f"{score}, mean of draws{judge}{unit}"] == pytest.approx(real)


def test_real_recipes_get_scores_of_the_same_names(fold: Fold, resampled: dict[str, float]) -> None:
    real = fold.score_real_recipes()
    assert set(real) <= set(resampled)
    assert all(math.isfinite(score) for score in real.values())
    assert real["valid"] == 1
    assert real["adherence MAE [%]"] == resampled["adherence MAE, real recipes [%]"]
    assert real[f"adherence partial r, {ALL_ROWS}"] == resampled[f"adherence partial r, real recipes, {ALL_ROWS}"]


def test_by_row_each_recipe_counts_as_often_as_it_has_rows(uneven: Fold) -> None:
    held, rows = uneven.held.frame, uneven.rows
    assert rows.index.equals(held.index)
    assert sorted(rows) == [1, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    draws = held.iloc[np.repeat(np.arange(len(held)), DRAWS)].copy()
    first = np.flatnonzero(draws.index == rows.idxmin())[0]
    draws.iloc[first, draws.columns.get_indexer(list(uneven.train.schema.component_columns))] = 0.0
    scores = uneven.score(draws)
    assert scores["valid"] == pytest.approx(1 - 1 / 30)  # one of two draws for each of 15 recipes,
    assert scores["valid, by row"] == pytest.approx(1 - 1 / 98)  # and it stands for one row of 49
    assert scores["keeps the rules"] == pytest.approx(1 - 2 / 15)
    assert scores["keeps the rules, by row"] == pytest.approx(1 - 8 / 49)


def test_where_rows_of_a_recipe_agree_the_scored_ones_say_what_all_rows_say(uneven: Fold) -> None:
    real, every = uneven.score_real_recipes(), rule_scores(uneven.train.schema, uneven.test.frame)
    assert real["keeps the rules"] == pytest.approx(13 / 15)
    assert real["valid, by row"] == every["valid"] == 1.0
    assert real["keeps the rules, by row"] == pytest.approx(every["keeps the rules"]) == pytest.approx(41 / 49)
    assert "keeps the rules, by row" not in every


def test_the_judge_of_all_rows_knows_the_held_out_recipes(copied: dict[str, float]) -> None:
    assert copied[f"adherence MAE, real recipes, {ALL_ROWS} [%]"] < copied["adherence MAE, real recipes [%]"]


def test_broken_draws_get_figures_too(fold: Fold) -> None:
    held = fold.held.frame
    draws = broken_draws(held.loc[np.repeat(held.index, DRAWS)], fold.train.schema, 0)
    scores = fold.score(draws)
    assert scores["valid"] == 0
    broken = {name: share for name, share in scores.items() if name.startswith("broken: ")}
    assert broken
    assert all(0 < share <= 1 for share in broken.values())
    assert scores["keeps the rules"] < 1


def test_scores_are_the_same_every_time(fold: Fold, resampled: dict[str, float]) -> None:
    again = Fold(fold.train, fold.test, fold.whole, fold.seed)
    draws = MarginalBootstrap().fit(again.train, seed=0).sample(again.conditions, DRAWS, seed=0)
    assert again.score(draws) == resampled


def test_draws_of_a_row_are_scored_in_random_order(fold: Fold) -> None:
    held = fold.held.frame
    draws = held.loc[np.repeat(held.index, 5)].assign(member=np.tile(np.arange(5), len(held)))
    shuffled = fold._shuffled(draws)
    assert list(shuffled.index) == list(draws.index)
    assert (shuffled.groupby(level=0)["member"].sum() == 10).all()
    # Members take turns as draws come: the first one of every row must not be the same member's.
    assert shuffled.groupby(level=0)["member"].first().nunique() > 2
