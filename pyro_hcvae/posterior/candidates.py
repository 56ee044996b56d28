"""`Candidates`: what a search has found, rounded to the laboratory's grid, checked, and weighed by what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.conditions import Conditions
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.posterior.performance import PREDICTED, PerformancePredictor

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
_LEAST = 1e-6
"""Probability below which a recipe is as good as any other that will not do."""


@dataclass(frozen=True)
class Goal:
    """What a measurement is wanted to show.

    Attributes:
        target: Wanted performance, in the unit of its column.
        within: None: the target or better. A number: at most so far from the target, in the same unit.
    """

    target: float
    within: float | None = None

    def probability(self, predictor: PerformancePredictor, predicted: pd.DataFrame) -> Floats:
        """Probability that a measurement of each recipe meets the goal, from what was predicted for it, shape ``(B,)``."""
        if self.within is None:
            return predictor.probability_of(predicted, self.target)
        above: list[Floats] = []
        low, high = predictor.schema.performance.bounds
        for limit in (self.target - self.within, self.target + self.within):
            if limit <= low or limit >= high:  # a measurement cannot lie beyond
                above.append(np.full(len(predicted), float(limit <= low)))
            else:
                met = predictor.probability_of(predicted, limit)
                above.append(met if predictor.schema.performance.higher_is_better else 1 - met)
        inside: Floats = above[0] - above[1]
        return inside


class Candidates:
    """Weighs recipes for `pyro_hcvae.posterior.search.search`, and keeps those that are allowed.

    Args:
        codec: Packed rows -> recipes.
        round_recipes: Recipes as drawn -> as a laboratory would make them.
        predictor: Of the performance.
        conditions: What the recipes are for.
        goal: What is wanted of them.
        excluded: Recipes that must not be proposed.
        allowed: Valid recipes -> which of them may be proposed.

    Attributes:
        drawn: Recipes weighed.
        valid: Structurally valid ones, of these and of those added.
        novel: Of these, ones that are not excluded.
        allowed_count: Of these, allowed ones.
    """

    def __init__(
        self,
        codec: RecipeCodec,
        round_recipes: Callable[[pd.DataFrame], pd.DataFrame],
        predictor: PerformancePredictor,
        conditions: Conditions,
        goal: Goal,
        excluded: pd.DataFrame,
        allowed: Callable[[pd.DataFrame], Mask],
    ) -> None:
        self._codec, self._round, self._predictor = codec, round_recipes, predictor
        self._conditions, self._goal, self._allowed = conditions.frame(), goal, allowed
        self._columns = list(codec.schema.recipe_columns)
        self._excluded = row_hashes(excluded, self._columns)
        self._found: list[pd.DataFrame] = []
        self._refused: list[pd.DataFrame] = []
        self.drawn = self.valid = self.novel = self.allowed_count = 0

    def weigh(self, packed: Tensor) -> Tensor:
        """Log probability that each recipe meets the goal, shape ``(N,)``; ``-inf`` for what is not allowed."""
        weights = np.full(len(packed), -np.inf)
        recipes = self._round(self._codec.decode(packed))
        self.drawn += len(recipes)
        keep, probability = self.add(recipes)
        weights[keep] = np.log(np.maximum(probability, _LEAST))
        return torch.from_numpy(weights)

    def add(self, recipes: pd.DataFrame) -> tuple[NDArray[np.int64], Floats]:
        """Take up recipes that stand on the grid.

        Returns:
            Positions of those that are allowed, and the probability that each of them meets the goal.
        """
        at = np.arange(len(recipes))
        at = at[is_valid(recipes, self._codec.schema)]
        self.valid += len(at)
        at = at[~np.isin(row_hashes(recipes.iloc[at], self._columns), self._excluded)]
        self.novel += len(at)
        allowed = self._allowed(recipes.iloc[at])
        self._refused.append(recipes.iloc[at[~allowed]][self._columns])
        at = at[allowed]
        self.allowed_count += len(at)
        if not len(at):
            return at, np.empty(0)
        kept = recipes.iloc[at].reset_index(drop=True)
        predicted = self.predict(kept)
        probability = self._goal.probability(self._predictor, predicted)
        self._found.append(
            pd.concat([kept, predicted.add_prefix("predicted: ").assign(probability=probability)], axis=1)
        )
        return at, probability

    def predict(self, recipes: pd.DataFrame) -> pd.DataFrame:
        """Predicted performance of recipes at the conditions asked for: see `PerformancePredictor.predict`."""
        at = self._conditions.iloc[np.zeros(len(recipes), dtype=int)]
        return self._predictor.predict(recipes, at)

    def found(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Distinct allowed recipes; and beside them what is predicted (as of `predict`) with the ``probability`` of the goal."""
        if not self._found:
            nothing = pd.DataFrame(columns=[*PREDICTED, "probability"], dtype=np.float64)
            return pd.DataFrame(columns=self._columns), nothing
        every = pd.concat(self._found, ignore_index=True)
        every = every[_firsts(row_hashes(every, self._columns))].reset_index(drop=True)
        beside = every.drop(columns=self._columns).rename(columns=lambda name: name.removeprefix("predicted: "))
        return every[self._columns], beside

    def refused(self, most: int) -> pd.DataFrame:
        """Distinct recipes that are valid and new but not allowed, those that were drawn first."""
        if not self._refused:
            return pd.DataFrame(columns=self._columns)
        every = pd.concat(self._refused, ignore_index=True)
        return every[_firsts(row_hashes(every, self._columns))].head(most).reset_index(drop=True)


def _firsts(hashes: NDArray[np.uint64]) -> Mask:
    first = np.zeros(len(hashes), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first
