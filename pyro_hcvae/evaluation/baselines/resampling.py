"""Baselines that repeat recipes of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from pyro_hcvae.data.schema import Amounts, Fractions, Step
from pyro_hcvae.data.table import row_groups
from pyro_hcvae.evaluation.baselines.base import Baseline, Floats, Positions


class MarginalBootstrap(Baseline):
    """The recipe of a random training row, whatever the conditions: the floor of every conditional score."""

    name = "marginal"

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        self._recipes = frame[list(self.schema.recipe_columns)]

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        return self._recipes.iloc[rng.integers(len(self._recipes), size=len(features) * draws_per_row)]


@dataclass
class NearestCondition(Baseline):
    """The recipe of a random one of the nearest training rows in the space of conditions and performance.

    Rows that repeat another one in every column count once. Draws are independent.
    """

    name = "nearest"

    neighbours: int = 10
    """Rows to choose from."""

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        _, distinct = np.unique(row_groups(frame, self.schema.columns), return_index=True)
        self._recipes = frame.iloc[distinct][list(self.schema.recipe_columns)]
        self._search = NearestNeighbors(n_neighbors=min(self.neighbours, len(distinct))).fit(features[distinct])

    def _donors(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> Positions:
        nearest = self._search.kneighbors(features, return_distance=False)
        chosen = rng.integers(nearest.shape[1], size=(len(features), draws_per_row))
        donors: Positions = np.take_along_axis(nearest, chosen, axis=1).ravel()
        return donors

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        return self._recipes.iloc[self._donors(features, draws_per_row, rng)]


@dataclass
class JitteredNearest(NearestCondition):
    """`NearestCondition` with relative noise on what is present: new recipes at no modelling cost.

    Present amounts, present shares and settings of steps are multiplied by ``exp(noise * e)``, ``e ~ N(0, 1)``. Shares are
    rescaled to the sum that they had; settings stay within their limits. Zeros and settings of a step that was not done
    stay.
    """

    name = "nearest-jittered"

    noise: float = 0.05
    """Relative standard deviation."""

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        drawn = super()._draw(features, draws_per_row, rng).copy()
        for block in self.schema.blocks:
            if not isinstance(block, Amounts | Fractions | Step):
                continue
            names = list(block.names())
            old = drawn[names].to_numpy(np.float64)
            new = old * np.exp(self.noise * rng.standard_normal(old.shape))
            if isinstance(block, Fractions):
                total = new.sum(axis=1, keepdims=True)
                new *= old.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
            if isinstance(block, Step):
                new = np.clip(new, *np.array([column.bounds for column in block.columns]).T)
                absent = block.optional & (old[:, :1] == block.absent)
                new = np.where(absent | (old == 0), old, new)
            drawn[names] = new
        return drawn
