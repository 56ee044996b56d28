"""Adherence: whether recipes drawn for a wanted performance would reach it, as judged by a predictor of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from pyro_hcvae.data.codec import condition_features
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.posterior.error_distribution import equal_weights
from pyro_hcvae.posterior.learners import features, finite

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class AdherenceJudge:
    """Predictor of the performance from recipe and reaction conditions: the mean of two unlike learners.

    Fitted on training recipes it is the honest judge. Fitted on all rows it has seen the true answers for the held-out
    conditions. Both favour copies: of a training recipe a judge knows the answer, of a new one it must guess. So copies can
    score better than the real held-out recipes do; read adherence beside novelty.

    Attributes:
        schema: Meaning of the columns.
        name: What tells this judge from others in the names of scores, e.g. ``"judge of all rows"``; may be empty.
        trees: Extremely randomised trees (Geurts et al. 2006).
        boosting: Boosted trees on histograms (Ke et al. 2017).
    """

    schema: RecipeSchema
    name: str
    trees: Any
    boosting: Any

    @classmethod
    def fit(
        cls, schema: RecipeSchema, frame: pd.DataFrame, recipes: Groups, *, seed: int = 0, name: str = ""
    ) -> AdherenceJudge:
        """Fit on canonical rows; every recipe weighs the same, however often it was measured.

        Args:
            schema: Meaning of the columns.
            frame: Rows of `RecipeTable.frame`.
            recipes: Recipe of each row, shape ``(rows,)``.
            seed: Seed of both learners.
            name: What tells this judge from others in the names of scores.
        """
        x, y, weights = features(schema, frame), _performance(schema, frame), equal_weights(recipes)
        trees = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
        boosting = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.07, random_state=seed)
        with threadpool_limits(limits=1, user_api="openmp"):  # see `Learners` of the predictor
            return cls(schema, name, trees.fit(x, y, weights), boosting.fit(x, y, weights))

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Predicted performance of recipes under their conditions, within its limits; shape ``(rows,)``.

        Cells that are no number count as unknown and codes that do not exist as none: a broken recipe gets a figure too.
        """
        x = features(self.schema, frame)
        with threadpool_limits(limits=1, user_api="openmp"):
            mean: Floats = (self.trees.predict(x) + self.boosting.predict(x)) / 2
        return mean.clip(*self.schema.performance.bounds)


@dataclass(frozen=True)
class ConditionEffect:
    """What the reaction conditions alone say of the measured performance, and of a judge's predictions.

    Hot reactions convert more whatever the catalyst: a draw must not be credited for that. Fit it on training rows only, so
    that a held-out row's own measurement is no part of what its conditions are said to explain.

    Attributes:
        judge: Whose predictions are explained.
        forest: Extremely randomised trees from condition features to ``(measured, predicted)``.
    """

    judge: AdherenceJudge
    forest: Any

    @classmethod
    def fit(cls, judge: AdherenceJudge, frame: pd.DataFrame, recipes: Groups, *, seed: int = 0) -> ConditionEffect:
        """Fit on training rows, every recipe with the same weight. Arguments as for `AdherenceJudge.fit`."""
        x = _conditions(judge.schema, frame)
        y = np.column_stack([_performance(judge.schema, frame), judge.predict(frame)])
        forest = ExtraTreesRegressor(100, min_samples_leaf=5, random_state=seed, n_jobs=1)
        return cls(judge, (forest if x.shape[1] else DummyRegressor()).fit(x, y, equal_weights(recipes)))

    def __call__(self, frame: pd.DataFrame) -> Floats:
        """Expected ``(measured, predicted)`` under the conditions of some rows, shape ``(rows, 2)``."""
        expected: Floats = self.forest.predict(_conditions(self.judge.schema, frame))
        return expected


def adherence(effect: ConditionEffect, held: pd.DataFrame, draws: pd.DataFrame) -> dict[str, float]:
    r"""Compare what was asked with what a judge predicts for the draws.

    .. math:: \text{MAE} = \tfrac1N \sum_i |y_i - f(x_i, c_i)|, \qquad
        r = \operatorname{corr}\bigl(y - \operatorname{E}[y \mid c],\; f(x, c) - \operatorname{E}[f \mid c]\bigr)

    Every draw counts. The scores named ``mean of draws`` compare the mean prediction of a row's draws instead: they ask whether
    the generator is right on average, and forgive it the spread of its draws, part of which is wanted diversity.

    Args:
        effect: Judge and what the conditions explain, the latter fitted without the held-out recipes.
        held: Held-out rows with their measured performance, whose own figures stand beside (``real``).
        draws: Recipes with the conditions and the performance that they were drawn for, indexed by the row of conditions.

    Returns:
        MAE in the unit of the performance and partial correlation, for draws, means of draws and real recipes. The correlation
        is 0 where one side does not vary.
    """
    judge = effect.judge
    suffix = f", {judge.name}" if judge.name else ""
    unit = f" [{judge.schema.performance.unit}]" if judge.schema.performance.unit else ""

    def table(frame: pd.DataFrame) -> pd.DataFrame:
        expected = effect(frame)
        asked, predicted = _performance(judge.schema, frame), judge.predict(frame)
        columns = {"miss": asked - predicted, "asked": asked - expected[:, 0], "predicted": predicted - expected[:, 1]}
        return pd.DataFrame(columns, index=frame.index)

    drawn = table(draws)
    versions = {"": drawn, ", mean of draws": drawn.groupby(level=0).mean(), ", real recipes": table(held)}
    out: dict[str, float] = {}
    for version, rows in versions.items():
        out[f"adherence MAE{version}{suffix}{unit}"] = float(rows["miss"].abs().mean())
        out[f"adherence partial r{version}{suffix}"] = _correlation(
            rows["asked"].to_numpy(), rows["predicted"].to_numpy()
        )
    return out


def density_drops(
    density: Callable[[pd.DataFrame], Floats], schema: RecipeSchema, held: pd.DataFrame, *, seed: int = 0
) -> dict[str, float]:
    """How much less likely held-out recipes become under the conditions of others: 0 if the conditions are ignored.

    Every row gets the values of another row. Once these are conditions and performance together, once the performance alone.

    Args:
        density: Log density of each row's recipe given its conditions and performance, in nats, shape ``(rows,)``.
        schema: Meaning of the columns.
        held: Held-out rows, one a recipe.
        seed: Fixes who gets whose values.

    Returns:
        Mean drops in nats per recipe.
    """
    order = np.random.default_rng(seed).permutation(len(held))
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)  # one cycle through all rows: none keeps its own values
    before = density(held).mean()
    permuted = {
        "conditions and performance": [*schema.condition_columns, schema.performance.name],
        "performance": [schema.performance.name],
    }
    out: dict[str, float] = {}
    for name, columns in permuted.items():
        other = held.assign(**{column: held[column].to_numpy()[source] for column in columns})
        out[f"log p drop, {name} permuted [nats]"] = float(before - density(other).mean())
    return out


def _conditions(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Condition features without the performance, shape ``(rows, C)``."""
    conditions = condition_features(schema, frame.assign(**{schema.performance.name: 0.0}))[:, :-1]
    return finite(conditions)


def _performance(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    return frame[schema.performance.name].to_numpy(np.float64)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
