"""Predicted performance, from a predictor that shares nothing with the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from threadpoolctl import threadpool_limits

from pyro_hcvae.data.codec import condition_features
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.data.splits import folds
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.error_distribution import ErrorDistribution, equal_weights

Floats = NDArray[np.float64]
PREDICTED = ("mean", "low", "high", "scale")
"""Columns of `PerformancePredictor.predict`."""
_FOLDS, _LEVEL = 5, 0.9
_TREES, _SCALE_TREES, _SCALE_LEAF = 100, 50, 20
_SMALLEST_SCALE = 0.2  # of the mean error: a few lucky rows promise no certainty
_UNKNOWN, _LARGEST = -1.0, 1e12


@dataclass(frozen=True)
class PerformancePredictor:
    r"""Mean of two unlike learners, with intervals that were calibrated on recipes that it had not seen.

    Extremely randomised trees (Geurts et al. 2006) and boosted trees on histograms (Ke et al. 2017) are averaged to :math:`f`.
    Their out-of-fold errors, folds grouped by recipe, train a forest for the expected size :math:`s` of the error at a recipe
    and its conditions (out of fold once more), and the intervals are

    .. math:: [f(x) + s(x)\, q_{\text{low}},\; f(x) + s(x)\, q_{\text{high}}],

    with quantiles of the normalised errors :math:`(y - f(x)) / s(x)` in which every recipe counts once.

    What is meant to hold: one measurement of a new recipe that comes about as those of the table did lies in the interval with
    the probability asked for. Not promised: the same for each region on its own, for laboratories that are unlike all in the
    table, or for recipes that were picked because their prediction is high.

    Attributes:
        schema: Meaning of the columns.
        learners: The two learners, fitted on all rows.
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
            apart: Group of each row which no fold cuts in two, e.g. its laboratory: intervals then reckon with errors on groups
                that were not seen. None: the recipes.
            seed: Seed of the learners and folds.

        Raises:
            InputError: If there are fewer than two groups.
        """
        groups = recipes if apart is None else apart
        x = features(schema, experiments)
        y = experiments[schema.performance.name].to_numpy(np.float64)
        parts = list(folds(groups, max(2, min(_FOLDS, len(np.unique(groups)))), seed=seed))
        known = np.empty((len(y), x.shape[1] + Learners.outputs))
        for train, test in parts:
            known[test] = Learners.fit(x[train], y[train], seed=seed).extend(x[test])
        predicted = known[:, -1].clip(*schema.performance.bounds)

        error = y - predicted
        weights = equal_weights(recipes)
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
            Learners.fit(x, y, seed=seed),
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
            recipes: Recipe columns, ``B`` rows.
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
        joined = pd.concat([recipes.reset_index(drop=True), conditions.reset_index(drop=True)], axis=1)
        known = self.learners.extend(features(self.schema, joined))
        bounds = self.schema.performance.bounds
        mean = known[:, -1].clip(*bounds)
        scale = _mean_and_spread(self.scale_forest, known)[0].clip(self.smallest_scale)
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


@dataclass(frozen=True)
class Learners:
    """Two unlike learners of the same rows, and what they say of others.

    On one thread: where other work keeps a core busy, boosting on all cores mostly waits for the slowest of its threads. On two
    busy cores that took five times the processor time.
    """

    trees: Any
    boosting: Any
    outputs = 3
    """Number of columns that `extend` adds."""

    @classmethod
    def fit(cls, x: Floats, y: Floats, *, seed: int) -> Learners:
        """Fit both on features ``(rows, F)`` and performances ``(rows,)``."""
        trees = ExtraTreesRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
        # Early stopping would set rows aside at random, and rows of one recipe know each other.
        boosting = HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.07, max_features=0.3, early_stopping=False, random_state=seed
        )
        with threadpool_limits(limits=1, user_api="openmp"):
            return cls(trees.fit(x, y), boosting.fit(x, y))

    def extend(self, x: Floats) -> Floats:
        """Features, spread of the trees, distance between the learners, and their mean; shape ``(B, F + 3)``."""
        mean, spread = _mean_and_spread(self.trees, x)
        with threadpool_limits(limits=1, user_api="openmp"):
            boosted = self.boosting.predict(x)
        return np.column_stack([x, spread, np.abs(mean - boosted), (mean + boosted) / 2])


def _scale_forest(known: Floats, error: Floats, weights: Floats, seed: int) -> ExtraTreesRegressor:
    forest = ExtraTreesRegressor(
        _SCALE_TREES, min_samples_leaf=_SCALE_LEAF, max_features=0.3, random_state=seed, n_jobs=1
    )
    return forest.fit(known, np.abs(error), weights)


def _mean_and_spread(forest: Any, x: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the trees of a forest, each of shape ``(B,)``."""
    cells = np.ascontiguousarray(x, dtype=np.float32)  # what trees split on; checked once, not once a tree
    each = np.stack([tree.predict(cells, check_input=False) for tree in forest.estimators_])
    return each.mean(axis=0), each.std(axis=0)


def features(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Recipe columns as they are, codes one-hot, and condition features; finite (unknown cells are -1), shape ``(B, F)``."""
    parts: list[Floats] = []
    for block in schema.blocks:
        if isinstance(block, Category):
            codes = frame[block.column]
            parts.append(np.column_stack([(codes == code).to_numpy(np.float64) for code in block.codes]))
        else:
            parts.append(frame[list(block.names())].to_numpy(np.float64))
    parts.append(condition_features(schema, frame.assign(**{schema.performance.name: 0.0}))[:, :-1])
    bounded = np.nan_to_num(np.concatenate(parts, axis=1), nan=_UNKNOWN, posinf=_LARGEST, neginf=-_LARGEST)
    finite: Floats = bounded.clip(-_LARGEST, _LARGEST)
    return finite
