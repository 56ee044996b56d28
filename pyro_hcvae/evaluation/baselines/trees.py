"""Baselines that draw from the leaves of trees on the conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from pyro_hcvae.evaluation.baselines.base import (
    Baseline,
    Floats,
    code_counts,
    one_hot,
    recipe_frame,
    recipe_matrix,
)
from pyro_hcvae.posterior.donors import ForestDonors, LeafDonors


@dataclass
class SequentialCart(Baseline):
    r"""One tree a column, in the order of the stages, as synthpop synthesises microdata.

    .. math:: p(x \mid c) = \prod_j p(x_j \mid x_{<j}, c)

    Each factor is a classification or regression tree on the condition features and the columns before; a value is drawn
    from the training rows in the leaf. Codes serve as predictors by position.

    References:
        Nowok, Raab, Dibben (2016), synthpop: Bespoke Creation of Synthetic Data in R, doi:10.18637/jss.v074.i11
    """

    name = "cart"

    min_leaf: int = 5
    """Fewest training rows in a leaf (``minbucket``)."""

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        self._values = recipe_matrix(self.schema, frame)
        known = np.hstack([features, self._values])
        codes = code_counts(self.schema)
        self._trees: list[tuple[DecisionTreeRegressor, LeafDonors]] = []
        for i, values in enumerate(self._values.T):
            kind = DecisionTreeClassifier if i in codes else DecisionTreeRegressor
            tree = kind(min_samples_leaf=self.min_leaf, random_state=int(rng.integers(2**31)))
            tree.fit(known[:, : features.shape[1] + i], values)
            self._trees.append((tree, LeafDonors(tree.apply(known[:, : features.shape[1] + i])[:, None])))

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        width = features.shape[1]
        drawn = np.hstack([features, np.empty((len(features), self._values.shape[1]))]).repeat(draws_per_row, axis=0)
        for i, (tree, donors) in enumerate(self._trees):
            leaves = tree.apply(drawn[:, : width + i])
            drawn[:, width + i] = self._values[donors.draw(leaves, 0, rng)[:, 0], i]
        return recipe_frame(self.schema, drawn[:, width:])


@dataclass
class ForestDonor(Baseline):
    """The whole recipe of a training row that shares a leaf with the conditions in a random tree of a forest.

    The forest predicts all recipe columns at once (standardised, codes one-hot) from the condition features. The donor
    distribution is that of a quantile regression forest, here over recipes instead of one number.

    References:
        Meinshausen (2006), Quantile Regression Forests, JMLR 7
    """

    name = "forest-donor"

    trees: int = 100
    min_leaf: int = 5
    """Fewest bootstrapped rows in a leaf."""

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        self._recipes = frame[list(self.schema.recipe_columns)]
        targets = one_hot(self.schema, recipe_matrix(self.schema, frame))
        seed = int(rng.integers(2**31))
        self._donors = ForestDonors(features, targets, trees=self.trees, min_leaf=self.min_leaf, seed=seed)

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        return self._recipes.iloc[self._donors.draw(features, rng, draws_per_row)]
