"""What the predictor of the performance is made of: three unlike learners, and how much each of them counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from pyro_hcvae.chemistry.verdicts import equilibrium_limits
from pyro_hcvae.data.codec import condition_features
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.posterior.gaussian_process import GaussianProcess, smooth_features

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEARNERS = ("trees", "boosting", "process")
_TREES = 100
_UNKNOWN, _LARGEST = -1.0, 1e12
_HIGHEST_OF_LIMIT = 1.1
"""Measured conversions above the equilibrium by more than this count as this much: what is beyond is no matter of the recipe."""
_EQUAL_MATTERS = 0.3
"""How much it counts that shares are equal, beside that errors are small: clear differences decide, and noise does not."""
_SUM_MATTERS = 1e4
"""How much more it counts that shares sum to 1."""


@dataclass(frozen=True)
class Inputs:
    """Recipes and conditions as the learners see them.

    Attributes:
        tabular: For trees, finite, shape ``(B, F)``.
        smooth: For distances, NaN where there is nothing, shape ``(B, S)``.
        blocks: Which of ``smooth`` belong together, shape ``(S,)``.
        limit_pct: Conversion at equilibrium, which the process is told shares of, shape ``(B,)``; None if the schema does not
            declare its reaction.
    """

    tabular: Floats
    smooth: Floats
    blocks: Ints
    limit_pct: Floats | None

    @classmethod
    def of(cls, schema: RecipeSchema, frame: pd.DataFrame) -> Inputs:
        """Those of rows with recipe and condition columns."""
        tabular, (smooth, blocks) = features(schema, frame), smooth_features(schema, frame)
        if schema.reaction is None:
            return cls(tabular, smooth, blocks, None)
        limit = equilibrium_limits(schema, frame)
        logit = np.log(limit / np.maximum(100 - limit, 0.1))
        return cls(
            np.column_stack([tabular, np.nan_to_num(limit, nan=_UNKNOWN)]),
            np.column_stack([smooth, logit]),
            np.append(blocks, blocks[-1]),
            np.nan_to_num(limit, nan=100.0),
        )

    def __getitem__(self, rows: Any) -> Inputs:
        limit = None if self.limit_pct is None else self.limit_pct[rows]
        return Inputs(self.tabular[rows], self.smooth[rows], self.blocks, limit)


@dataclass(frozen=True)
class Learners:
    """Extremely randomised trees, boosted trees on histograms and a Gaussian process, fitted on the same rows.

    All on one thread: where other work keeps a core busy, boosting on all cores mostly waits for the slowest of its threads. On
    two busy cores that took five times the processor time.

    Attributes:
        trees: Geurts et al. (2006).
        boosting: Ke et al. (2017).
        process: Of the performance, or of its share of `Inputs.limit_pct`.
    """

    trees: Any
    boosting: Any
    process: GaussianProcess

    @classmethod
    def fit(cls, x: Inputs, y: Floats, recipes: Ints, *, seed: int) -> Learners:
        """Fit all of them on performances ``(rows,)``; rows of one recipe share its number."""
        trees = ExtraTreesRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
        # Early stopping would set rows aside at random, and rows of one recipe know each other.
        boosting = HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.07, max_features=0.3, early_stopping=False, random_state=seed
        )
        outcome = y if x.limit_pct is None else (y / x.limit_pct).clip(0, _HIGHEST_OF_LIMIT)
        process = GaussianProcess.fit(x.smooth, outcome, recipes, x.blocks, seed=seed)
        with threadpool_limits(limits=1, user_api="openmp"):
            return cls(trees.fit(x.tabular, y), boosting.fit(x.tabular, y), process)

    def predict(self, x: Inputs) -> tuple[Floats, Floats]:
        """What they expect, and how sure of it they may be.

        Returns:
            What each learner expects, shape ``(B, 3)`` in the order of `LEARNERS`; spread of the trees, and nearness of the
            nearest row to the process, shape ``(B, 2)``.
        """
        mean, spread = mean_and_spread(self.trees, x.tabular)
        with threadpool_limits(limits=1, user_api="openmp"):
            boosted = self.boosting.predict(x.tabular)
        said, nearness = self.process.predict(x.smooth)
        smooth = said if x.limit_pct is None else said * x.limit_pct
        return np.column_stack([mean, boosted, smooth]), np.column_stack([spread, nearness])


def shares_of_learners(predicted: Floats, y: Floats, weights: Floats) -> Floats:
    r"""How much each learner counts: a convex combination with a small squared error on rows that none has seen.

    .. math::

        \arg\min_{a \ge 0,\; \sum a = 1} \sum_i w_i \Bigl(\sum_l a_l f_l(x_i) - y_i\Bigr)^2
            + \lambda\, \sigma^2 \sum_l (a_l - \tfrac1L)^2

    with the mean squared error :math:`\sigma^2` of the best learner. Where they are about equally good, the second term keeps
    noise from choosing among them.

    Args:
        predicted: Out of fold, by each learner, shape ``(rows, L)``.
        y: What was measured, shape ``(rows,)``.
        weights: Of the rows, shape ``(rows,)``.

    Returns:
        Shares that sum to 1, shape ``(L,)``.

    References:
        Breiman (1996), Stacked Regressions, Machine Learning 24; van der Laan et al. (2007), Super Learner
    """
    # Since shares sum to 1, the error of the combination is the combination of the errors. The other terms are further equations.
    errors = (predicted - y[:, None]) * np.sqrt(weights / weights.sum())[:, None]
    squared = (errors**2).sum(axis=0)
    count, largest = len(squared), float(squared.max()) or 1.0
    # A trace of the largest error, so that learners without any error share equally.
    equal = np.sqrt(_EQUAL_MATTERS * max(float(squared.min()), 1e-9 * largest)) * np.eye(count)
    total = np.full(count, _SUM_MATTERS * np.sqrt(largest))
    wanted = np.concatenate([np.zeros(len(y)), equal.sum(axis=1) / count, total[:1]])
    shares, _ = nnls(np.vstack([errors, equal, total]), wanted)
    out: Floats = shares / shares.sum()
    return out


def mean_and_spread(forest: Any, x: Floats) -> tuple[Floats, Floats]:
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
    return finite(np.concatenate(parts, axis=1))


def finite(values: Floats) -> Floats:
    """What trees can read: unknown cells are -1, and none is beyond a million millions."""
    bounded: Floats = np.nan_to_num(values, nan=_UNKNOWN, posinf=_LARGEST, neginf=-_LARGEST)
    return bounded.clip(-_LARGEST, _LARGEST)
