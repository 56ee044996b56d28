"""Predicted performance, from a predictor that shares nothing with the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mean_absolute_error, r2_score

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.splits import folds
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.error_distribution import ErrorDistribution, equal_weights
from pyro_hcvae.posterior.learners import LEARNERS, Inputs, Learners, mean_and_spread, shares_of_learners

Floats = NDArray[np.float64]
PREDICTED = ("mean", "low", "high", "scale")
"""Columns of `PerformancePredictor.predict`."""
_FOLDS, _LEVEL = 5, 0.9
_SCALE_TREES, _SCALE_LEAF = 50, 20
_SMALLEST_SCALE = 0.2  # of the mean error: a few lucky rows promise no certainty


@dataclass(frozen=True)
class PerformancePredictor:
    r"""Mean of three unlike learners, with intervals that were calibrated on recipes that it had not seen.

    `Learners` are averaged to :math:`f`, each with the share that suits its out-of-fold predictions, folds grouped by recipe. The
    errors of these train a forest for the expected size :math:`s` of the error at a recipe and its conditions (out of fold once
    more), and the intervals are

    .. math:: [f(x) + s(x)\, q_{\text{low}},\; f(x) + s(x)\, q_{\text{high}}],

    with quantiles of the normalised errors :math:`(y - f(x)) / s(x)` in which every recipe counts once.

    What is meant to hold: one measurement of a new recipe that comes about as those of the table did lies in the interval with
    the probability asked for. Not promised: the same for each region on its own, for laboratories that are unlike all in the
    table, or for recipes that were picked because their prediction is high.

    Attributes:
        schema: Meaning of the columns.
        learners: Fitted on all rows.
        shares: How much each of them counts, in the order of `LEARNERS`; they sum to 1.
        scale_forest: Predicts the size of the error, in units of the performance.
        smallest_scale: The least size of an error that is believed, in units of the performance.
        errors: Normalised out-of-fold errors.
        r2: Out-of-fold R2 of rows.
        mae: Out-of-fold mean absolute error of rows, in units of the performance.
        coverage: Out-of-fold share of measurements inside their 90 % interval, every recipe counting once; the quantiles are
            those of the other folds.
    """

    schema: RecipeSchema
    learners: Learners
    shares: Floats
    scale_forest: Any
    smallest_scale: float
    errors: ErrorDistribution
    r2: float
    mae: float
    coverage: float

    @classmethod
    def fit(
        cls,
        schema: RecipeSchema,
        experiments: pd.DataFrame,
        recipes: NDArray[np.int64],
        *,
        apart: NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> PerformancePredictor:
        """Fit on canonical rows.

        Args:
            schema: Meaning of the columns.
            experiments: Rows of `RecipeTable.frame`.
            recipes: Recipe of each row; each counts once.
            apart: Group of each row which no fold cuts in two, e.g. its laboratory: intervals, and how much each learner counts,
                then reckon with errors on groups that were not seen. None: the recipes.
            seed: Seed of the learners and folds.

        Raises:
            InputError: If there are fewer than two groups.
        """
        groups = recipes if apart is None else apart
        x = Inputs.of(schema, experiments)
        y = experiments[schema.performance.name].to_numpy(np.float64)
        parts = list(folds(groups, max(2, min(_FOLDS, len(np.unique(groups)))), seed=seed))
        each, sureness = np.empty((len(y), len(LEARNERS))), np.empty((len(y), 2))
        for train, test in parts:
            learners = Learners.fit(x[train], y[train], recipes[train], seed=seed)
            each[test], sureness[test] = learners.predict(x[test])
        weights = equal_weights(recipes)
        shares = shares_of_learners(each, y, weights)
        predicted = (each @ shares).clip(*schema.performance.bounds)

        error = y - predicted
        known = _error_features(x, each, sureness, predicted)
        smallest = max(
            _SMALLEST_SCALE * float(np.average(np.abs(error), weights=weights)), 1e-9 * (1 + np.abs(y).max())
        )
        scale = np.empty_like(y)
        for train, test in parts:
            scale[test] = _scale_forest(known[train], error[train], weights[train], seed).predict(known[test])
        normalised = error / scale.clip(smallest)

        inside = np.empty(len(y), dtype=bool)
        for train, test in parts:
            low, high = ErrorDistribution.fit(normalised[train], recipes[train]).interval(_LEVEL)
            inside[test] = (low <= normalised[test]) & (normalised[test] <= high)
        return cls(
            schema,
            Learners.fit(x, y, recipes, seed=seed),
            shares,
            _scale_forest(known, error, weights, seed),
            smallest,
            ErrorDistribution.fit(normalised, recipes),
            float(r2_score(y, predicted)),
            float(mean_absolute_error(y, predicted)),
            float(np.average(inside, weights=weights)),
        )

    def predict(self, recipes: pd.DataFrame, conditions: pd.DataFrame, *, level: float = _LEVEL) -> pd.DataFrame:
        """Predict the performance of recipes under conditions.

        Args:
            recipes: Recipe columns, ``B`` rows; none is fine.
            conditions: Condition columns, ``B`` rows in the same order.
            level: Probability that the interval should hold one measurement.

        Returns:
            Columns ``mean``, ``low``, ``high`` and ``scale`` (expected size of the error), ``B`` rows in units of the
            performance. The first three are within its bounds.

        Raises:
            InputError: If ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"the level of an interval must lie between 0 and 1, got {level}")
        if not len(recipes):
            return pd.DataFrame(columns=list(PREDICTED), dtype=np.float64)
        joined = pd.concat([recipes.reset_index(drop=True), conditions.reset_index(drop=True)], axis=1)
        x, bounds = Inputs.of(self.schema, joined), self.schema.performance.bounds
        each, sureness = self.learners.predict(x)
        mean = (each @ self.shares).clip(*bounds)
        scale = mean_and_spread(self.scale_forest, _error_features(x, each, sureness, mean))[0].clip(
            self.smallest_scale
        )
        low, high = self.errors.interval(level)
        limits = {"low": (mean + scale * low).clip(*bounds), "high": (mean + scale * high).clip(*bounds)}
        return pd.DataFrame({"mean": mean, **limits, "scale": scale})

    def probability_of(self, predicted: pd.DataFrame, target: float) -> Floats:
        """Probability that one measurement meets a target.

        Args:
            predicted: What `predict` returned, ``B`` rows.
            target: Wanted performance; met by what is at least as good, upwards or downwards as the schema says.

        Returns:
            Probabilities above 0 and below 1, shape ``(B,)``, from the distribution behind the intervals.
        """
        mean, scale = predicted["mean"].to_numpy(np.float64), predicted["scale"].to_numpy(np.float64)
        above = self.errors.exceeding((target - mean) / scale)
        return above if self.schema.performance.higher_is_better else 1 - above


def _error_features(x: Inputs, each: Floats, sureness: Floats, mean: Floats) -> Floats:
    """What the size of the error is told from.

    That is recipe and conditions, how far trees and learners are apart, how near the nearest row is, and the prediction.
    """
    return np.column_stack([x.tabular, sureness, each.std(axis=1), mean])


def _scale_forest(known: Floats, error: Floats, weights: Floats, seed: int) -> ExtraTreesRegressor:
    forest = ExtraTreesRegressor(
        _SCALE_TREES, min_samples_leaf=_SCALE_LEAF, max_features=0.3, random_state=seed, n_jobs=1
    )
    return forest.fit(known, np.abs(error), weights)
