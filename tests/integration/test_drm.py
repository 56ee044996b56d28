"""The real table, where it is at hand: import, a short fit, proposals, unfiltered draws, and its report."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae import RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.data.splits import folds
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.evaluation.fold import rule_scores
from pyro_hcvae.evaluation.reconstruction import one_row_per_recipe

PATH = os.environ.get("PYRO_HCVAE_DRM_CSV", "")
pytestmark = [
    pytest.mark.usefixtures("full_predictors"),
    pytest.mark.drm,
    pytest.mark.slow,
    pytest.mark.skipif(not PATH, reason="PYRO_HCVAE_DRM_CSV is not set"),
]


@pytest.fixture(scope="module")
def fitted() -> tuple[RecipeDesigner, RecipeTable]:
    """A short fit on four fifths of the recipes, and the rows of the others, one a recipe."""
    table = RecipeTable.read(Path(PATH), RecipeSchema.load("drm"))
    train, test = next(folds(table.recipe_ids(), 5, seed=0))
    designer = RecipeDesigner(table.schema, train=TrainConfig(members=2, steps=400, refit=False))
    return designer.fit(table.select(train)), one_row_per_recipe(table.select(test), seed=0)


def test_unfiltered_draws_at_held_out_conditions_are_valid(fitted: tuple[RecipeDesigner, RecipeTable]) -> None:
    designer, held = fitted
    draws = pd.concat(designer.sample(held.frame, -(-2000 // len(held))))
    assert (
        is_valid(draws, designer.schema).mean() >= 0.97
    )  # a short fit; docs/results.md has the figure of the full one
    supports = next(block for block in designer.schema.blocks if block.name == "supports")
    assert (draws[list(supports.names())].sum(axis=1) == 0).mean() < 0.1


def test_draws_written_as_in_the_table_keep_more_rules_and_nothing_else_changes(
    fitted: tuple[RecipeDesigner, RecipeTable],
) -> None:
    designer, held = fitted
    usual, drawn = (pd.concat(designer.sample(held.frame, 10, as_drawn=raw, seed=3)) for raw in (False, True))
    kept, kept_as_drawn = (rule_scores(designer.schema, draws)["keeps the rules"] for draws in (usual, drawn))
    assert kept > kept_as_drawn + 0.01
    components = list(designer.schema.component_columns)
    assert ((usual[components] > 0) == (drawn[components] > 0)).all(axis=None)
    assert (usual["Preparation"] == drawn["Preparation"]).all()


@pytest.mark.usefixtures("full_proposals")
def test_twenty_distinct_new_recipes(fitted: tuple[RecipeDesigner, RecipeTable]) -> None:
    designer, _ = fitted
    proposals = designer.propose({"Reaction T": 700, "CO2/CH4": 1}, 85, 20)
    assert len(proposals.frame) == 20
    recipes = proposals.frame[list(designer.schema.recipe_columns)]
    assert not recipes.duplicated().any()
    both = pd.concat([designer.table.frame[list(designer.schema.recipe_columns)].drop_duplicates(), recipes])
    assert not both.round(6).duplicated().any()
    assert (proposals.frame["Reaction CH4"] == proposals.frame["Reaction CO2"]).all()


def test_silver_can_be_left_out() -> None:
    table = RecipeTable.read(Path(PATH), RecipeSchema.load("drm"), drop_columns=["Ag"])
    assert "Ag" not in table.schema.columns
    assert not table.report.find("columns-equal")


def test_the_predicted_intervals_hold_on_recipes_not_seen(fitted: tuple[RecipeDesigner, RecipeTable]) -> None:
    designer, held = fitted
    schema, measured = designer.schema, held.frame[designer.schema.performance.name]
    recipes, conditions = held.frame[list(schema.recipe_columns)], held.frame[list(schema.condition_columns)]
    predicted = designer.predictor.predict(recipes, conditions, level=0.9).set_index(measured.index)
    assert 0.82 < measured.between(predicted["low"], predicted["high"]).mean() < 0.97  # of 122 recipes: 0.9 +- 0.03
    assert designer.predictor.coverage == pytest.approx(0.9, abs=0.05)
    assert designer.predictor.r2 > 0.5
