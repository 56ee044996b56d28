"""Reasons for a proposal: the nearest known recipes and what they showed, and what would bring it nearer to the goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pyro_hcvae.constraints.scale import RecipeScale
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.schema import Amounts, Step
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.written import WrittenValues

Floats = NDArray[np.float64]
_STRIDES = (-1.0, -0.5, 0.5, 1.0)
"""Changes that are looked at, in standard deviations of the table."""
_WORTH = 0.05
"""Smallest gain in probability that is worth a word."""


@dataclass(frozen=True)
class KnownRecipes:
    """The recipes of a table, to find a new one's neighbours in.

    The distance between recipes is that of `RecipeScale`: 1 for each component, code or state that differs, and the differences
    of numbers in standard deviations of the table.

    Attributes:
        table: Rows of the laboratory.
        codec: Fitted on them.
        noise: Floor of the scale of the model's numbers, in standard deviations.
    """

    table: RecipeTable
    codec: RecipeCodec
    noise: float = 0.05

    @cached_property
    def scale(self) -> RecipeScale:
        """What is usual among the recipes."""
        return RecipeScale.fit(self.table.schema, self.table.frame.iloc[self._recipes[1]])

    @cached_property
    def written(self) -> WrittenValues:
        """The values that the recipes repeat; draws within the noise around one are brought to it."""
        return WrittenValues.fit(self.codec, self.table.frame, self._recipes[0], self.noise)

    @cached_property
    def _recipes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Recipe of each row, and the first row of each recipe."""
        ids = self.table.recipe_ids()
        return ids, np.unique(ids, return_index=True)[1]

    @cached_property
    def _points(self) -> Floats:
        return self.scale.points(self.table.frame.iloc[self._recipes[1]])

    @cached_property
    def to_others(self) -> Floats:
        """Distance of each known recipe to the nearest other one, shape ``(R,)``; 1 where there is none."""
        if len(self._points) < 2:
            return np.ones(len(self._points))
        between: Floats = cdist(self._points, self._points, "cityblock")
        np.fill_diagonal(between, np.inf)
        nearest: Floats = between.min(axis=1)
        return nearest

    @cached_property
    def spacing(self) -> float:
        """Median of `to_others`; 1 where it is 0."""
        return float(np.median(self.to_others)) or 1.0

    def distance(self, recipes: pd.DataFrame) -> Floats:
        """Distance of each recipe to the nearest known one, shape ``(B,)``."""
        return self._distance(recipes)

    @cached_property
    def _distance(self) -> Callable[[pd.DataFrame], Floats]:
        return self.scale.nearest(self.table.frame.iloc[self._recipes[1]])

    def nearest(self, recipes: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
        """The nearest known recipe of each, and its row whose conditions are nearest to those asked for.

        Args:
            recipes: Recipe columns, ``B`` rows.
            conditions: One row of conditions; the performance in it does not count.

        Returns:
            Columns ``distance`` and ``row`` (label of the row in the table), ``B`` rows.
        """
        between = self._between(recipes)
        nearest = between.argmin(axis=1)
        frame, ids = self.table.frame, self._recipes[0]
        gaps = cdist(self._settings(frame), self._settings(conditions))[:, 0]
        order = np.lexsort((gaps, ids))
        best = order[np.unique(ids[order], return_index=True)[1]]
        return pd.DataFrame(
            {"distance": between[np.arange(len(nearest)), nearest], "row": frame.index[best[nearest]].to_numpy()}
        )

    def _settings(self, frame: pd.DataFrame) -> Floats:
        """Standardised conditions without the performance, shape ``(B, C)``; 0 where unknown."""
        unasked = {self.table.schema.performance.name: np.nan}
        return np.nan_to_num(self.codec.encode_conditions(frame.assign(**unasked)), nan=0.0)

    def _between(self, recipes: pd.DataFrame) -> Floats:
        distances: Floats = cdist(self.scale.points(recipes), self._points, "cityblock")
        return distances


@dataclass(frozen=True)
class Change:
    """One cell of a recipe or of its conditions, changed.

    Attributes:
        row: Position of the recipe.
        column: What changes.
        old: Value now.
        new: Value then.
        gain: Rise of the probability to meet the goal.
        probability: What it rises to.
    """

    row: int
    column: str
    old: float
    new: float
    gain: float
    probability: float


def helpful_changes(
    known: KnownRecipes,
    recipes: pd.DataFrame,
    conditions: pd.DataFrame,
    settle: Callable[[pd.DataFrame], pd.DataFrame],
    allowed: Callable[[pd.DataFrame], NDArray[np.bool_]],
    probability: Callable[[pd.DataFrame, pd.DataFrame], Floats],
) -> tuple[dict[int, Change], dict[int, Change]]:
    """The change of one number of each recipe, and of one condition, that helps most, where one helps at all.

    Numbers are moved by half and by one standard deviation of the table.

    Args:
        known: Scales.
        recipes: ``B`` rows.
        conditions: Conditions of each, ``B`` rows.
        settle: Changed recipes -> the same on the laboratory's grid.
        allowed: Recipes -> which may be proposed.
        probability: Recipes and conditions -> probability to meet the goal.

    Returns:
        By position of the recipe: the best change of the recipe, and the best change of its conditions.
    """
    recipes, conditions = recipes.reset_index(drop=True), conditions.reset_index(drop=True)
    now = probability(recipes, conditions)
    of_recipe = list(_recipe_changes(known, recipes))
    of_conditions = list(_condition_changes(known, conditions))
    out: list[dict[int, Change]] = []
    for changes, into_recipe in ((of_recipe, True), (of_conditions, False)):
        if not changes:
            out.append({})
            continue
        rows = np.array([row for row, _, _ in changes])
        new_recipes, new_conditions = recipes.iloc[rows], conditions.iloc[rows]
        target = new_recipes if into_recipe else new_conditions
        target = target.reset_index(drop=True).copy()
        for i, (_, column, value) in enumerate(changes):
            target.loc[i, column] = value
        good = np.ones(len(rows), dtype=bool)
        if into_recipe:
            target = settle(target)
            moved = row_hashes(target, list(recipes.columns)) != row_hashes(new_recipes, list(recipes.columns))
            good = moved & allowed(target)
            new_recipes = target
        else:
            new_conditions = target
        after = np.where(good, probability(new_recipes, new_conditions), -np.inf)
        out.append(_best(changes, after, now, recipes if into_recipe else conditions, target))
    return out[0], out[1]


def _best(
    changes: list[tuple[int, str, float]], after: Floats, now: Floats, old: pd.DataFrame, new: pd.DataFrame
) -> dict[int, Change]:
    best: dict[int, Change] = {}
    for i, (row, column, _) in enumerate(changes):
        gain = float(after[i] - now[row])
        if gain >= _WORTH and (row not in best or gain > best[row].gain):
            values = float(old[column].iloc[row]), float(new[column].iloc[i])
            best[row] = Change(row, column, *values, gain, float(after[i]))
    return best


def _recipe_changes(known: KnownRecipes, recipes: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    schema, scalers = known.table.schema, known.codec.scalers
    for block in schema.blocks:
        if not isinstance(block, Amounts | Step):
            continue
        for column in block.names():
            values = recipes[column].to_numpy(np.float64)
            there = values > 0
            if isinstance(block, Step) and block.optional:
                there = recipes[block.names()[0]].to_numpy(np.float64) != block.absent
                there &= values > 0
            for stride in _STRIDES:
                with np.errstate(divide="ignore"):
                    moved = scalers[column].decode(scalers[column].encode(values) + stride)
                yield from ((int(row), column, float(moved[row])) for row in np.flatnonzero(there))


def _condition_changes(known: KnownRecipes, conditions: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    schema, scalers, frame = known.table.schema, known.codec.scalers, known.table.frame
    for column in schema.conditions:
        values = conditions[column.name].to_numpy(np.float64)
        low, high = frame[column.name].min(), frame[column.name].max()
        for stride in _STRIDES:
            moved = scalers[column.name].decode(scalers[column.name].encode(values) + stride)
            moved = np.array([float(f"{x:.3g}") for x in moved])
            inside = (moved >= low) & (moved <= high)
            yield from ((int(row), column.name, float(moved[row])) for row in np.flatnonzero(inside))
