"""Predicted performance, from a predictor that shares nothing with the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mean_absolute_error, r2_score

from pyro_hcvae.data.codec import condition_features
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.data.splits import folds

Floats = NDArray[np.float64]
_TREES, _FOLDS = 100, 5


@dataclass(frozen=True)
class PerformancePredictor:
    """Extremely randomised trees on recipe and conditions, with errors from recipes that it had not seen.

    Attributes:
        schema: Meaning of the columns.
        forest: Fitted on all rows.
        residuals: Sorted out-of-fold errors (measured minus predicted), folds grouped by recipe, in units of the performance.
        r2: Out-of-fold R2.
        mae: Out-of-fold mean absolute error, in units of the performance.
    """

    schema: RecipeSchema
    forest: Any
    residuals: Floats
    r2: float
    mae: float

    @classmethod
    def fit(
        cls, schema: RecipeSchema, experiments: pd.DataFrame, recipes: NDArray[np.int64], *, seed: int = 0
    ) -> PerformancePredictor:
        """Fit on canonical rows.

        Args:
            schema: Meaning of the columns.
            experiments: Rows of `RecipeTable.frame`.
            recipes: Recipe of each row, which no fold cuts in two.
            seed: Seed of the trees and folds.

        Raises:
            InputError: If there are fewer than two recipes.
        """
        x = _features(schema, experiments)
        y = experiments[schema.performance.name].to_numpy(np.float64)
        count = min(_FOLDS, len(np.unique(recipes)))
        predicted = np.empty_like(y)
        for train, test in folds(recipes, count, seed=seed):
            predicted[test] = _forest(seed).fit(x[train], y[train]).predict(x[test])
        forest = _forest(seed).fit(x, y)
        return cls(
            schema,
            forest,
            np.sort(y - predicted),
            float(r2_score(y, predicted)),
            float(mean_absolute_error(y, predicted)),
        )

    def predict(self, recipes: pd.DataFrame, conditions: pd.DataFrame, *, level: float = 0.9) -> pd.DataFrame:
        """Predict the performance of recipes under conditions.

        Args:
            recipes: Recipe columns, ``B`` rows.
            conditions: Condition columns, ``B`` rows in the same order.
            level: Probability that the interval should hold.

        Returns:
            Columns ``mean``, ``low``, ``high``, ``B`` rows. The interval is the mean plus quantiles of the out-of-fold errors.
        """
        joined = pd.concat([recipes.reset_index(drop=True), conditions.reset_index(drop=True)], axis=1)
        mean = self.forest.predict(_features(self.schema, joined))
        low, high = np.quantile(self.residuals, [(1 - level) / 2, (1 + level) / 2])
        bounds = self.schema.performance.bounds
        return pd.DataFrame(
            {"mean": np.clip(mean, *bounds), "low": np.clip(mean + low, *bounds), "high": np.clip(mean + high, *bounds)}
        )

    def probability_of(self, predicted: pd.DataFrame, target: float) -> Floats:
        """Probability that a measurement meets the target, from what `predict` returned, shape ``(B,)``: share of errors."""
        mean = predicted["mean"].to_numpy(np.float64)
        if self.schema.performance.higher_is_better:
            missed = np.searchsorted(self.residuals, target - mean, side="left")
            return 1 - missed / len(self.residuals)
        reached: Floats = np.searchsorted(self.residuals, target - mean, side="right") / len(self.residuals)
        return reached


def _forest(seed: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)


def _features(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Recipe columns as they are (codes one-hot, unknown cells -1) and condition features; shape ``(B, F)``."""
    parts: list[Floats] = []
    for block in schema.blocks:
        if isinstance(block, Category):
            parts.append(np.stack([(frame[block.column] == code).to_numpy(np.float64) for code in block.codes], axis=1))
        else:
            parts.append(np.nan_to_num(frame[list(block.names())].to_numpy(np.float64), nan=-1.0))
    with_any = frame.assign(**{schema.performance.name: 0.0})
    parts.append(condition_features(schema, with_any)[:, :-1])
    return np.concatenate(parts, axis=1)
