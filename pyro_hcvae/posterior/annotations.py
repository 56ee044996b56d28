"""What a proposal carries beside its recipe, in numbers and in words: one frame a topic, one row a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry.recipe_words import composition
from pyro_hcvae.chemistry.rules import Verdicts
from pyro_hcvae.data.conditions import Conditions
from pyro_hcvae.data.schema import Performance
from pyro_hcvae.posterior.asked import Asked
from pyro_hcvae.posterior.candidates import Goal
from pyro_hcvae.posterior.performance import PerformancePredictor
from pyro_hcvae.posterior.reasons import Change, KnownRecipes, helpful_changes

Floats = NDArray[np.float64]


def predicted_columns(performance: Performance, goal: Goal, predicted: pd.DataFrame) -> pd.DataFrame:
    """Target, predicted performance with its 90 % interval, and the probability of the goal.

    Args:
        performance: Column that is predicted.
        goal: What is wanted.
        predicted: Columns ``mean``, ``low``, ``high`` and ``probability``.
    """
    own = performance.unit
    unit = f" [{own}]" if own and own not in performance.name else ""
    name = f"predicted {performance.name}"
    meets = "probability to reach the target" if goal.within is None else "probability to come near the target"
    return pd.DataFrame(
        {
            f"target {performance.name}{unit}": goal.target,
            f"{name}{unit}": predicted["mean"].round(2),
            f"{name} low 5 %{unit}": predicted["low"].round(2),
            f"{name} high 95 %{unit}": predicted["high"].round(2),
            meets: predicted["probability"].round(3),
        }
    )


def rule_columns(against: Verdicts) -> pd.DataFrame:
    """What the feasibility rules hold against each recipe: a score (0: nothing) and words."""
    return pd.DataFrame({"rule score": against.score.round(2), "rules broken": against.words()})


def nearest_columns(known: KnownRecipes, recipes: pd.DataFrame, conditions: Conditions) -> pd.DataFrame:
    """The nearest known recipe, its distance, and what it showed under the conditions nearest to those asked for."""
    schema, frame = known.table.schema, known.table.frame
    nearest = known.nearest(recipes, conditions.frame())
    names = [column.name for column in schema.conditions]
    units = schema.units()
    said, recipe = [], [composition(frame.loc[row], schema) for row in nearest["row"]]
    for row in nearest["row"]:
        cells = frame.loc[row]
        at = ", ".join(f"{name} {cells[name]:g} {units.get(name, '')}".rstrip() for name in names)
        said.append(f"{cells[schema.performance.name]:g} {schema.performance.unit} at {at}".replace("  ", " "))
    return pd.DataFrame(
        {
            "nearest known recipe [row]": nearest["row"],
            "nearest known recipe": recipe,
            "distance to it [sd]": nearest["distance"].round(3),
            f"its {schema.performance.name}": said,
        }
    )


def change_columns(
    known: KnownRecipes,
    asked: Asked,
    goal: Goal,
    predictor: PerformancePredictor,
    allowed: Callable[[pd.DataFrame], NDArray[np.bool_]],
    recipes: pd.DataFrame,
    conditions: pd.DataFrame,
) -> pd.DataFrame:
    """What would raise the probability of the goal: the best change of one number of the recipe, and of one condition."""

    def probability(some: pd.DataFrame, at: pd.DataFrame) -> Floats:
        return goal.probability(predictor, predictor.predict(some, at))

    found = helpful_changes(known, recipes, conditions, asked.on_grid, allowed, probability)
    units = known.table.schema.units()
    return pd.DataFrame(
        {
            name: [_in_words(changes.get(row), units) for row in range(len(recipes))]
            for name, changes in zip(("a change that would help", "a condition that would help"), found, strict=True)
        }
    )


def _in_words(change: Change | None, units: Mapping[str, str]) -> str:
    if change is None:
        return "none found"
    unit = f" {units[change.column]}" if units.get(change.column) else ""
    now = change.probability - change.gain
    return f"{change.column} {change.old:g} -> {change.new:g}{unit}: probability {now:.2f} -> {change.probability:.2f}"
