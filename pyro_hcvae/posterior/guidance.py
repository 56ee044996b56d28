"""Guided draws: of many draws for the same conditions, those that the predictor holds likely to show what is wanted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.posterior.performance import PerformancePredictor

_SD_OVER_MEAN_ERROR = math.sqrt(math.pi / 2)
"""Standard deviation of a Gaussian over its mean absolute deviation."""


def guided(
    draws: pd.DataFrame,
    predictor: PerformancePredictor,
    one_of: int,
    *,
    rows: int,
    kinds: NDArray[np.bool_],
    seed: int,
) -> pd.DataFrame:
    r"""Keep some draws of each row of conditions, likelier the better they fit the performance that is wanted there.

    The model says :math:`p(x \mid c, y^\star)`, the predictor :math:`p(y^\star \mid x, c)` from its own fit. Their product is
    sampled without replacement (the Gumbel trick of Kool et al. 2019), so that no draw comes twice. A wanted performance that is
    not known guides nothing.

    Args:
        draws: Recipe, condition and performance columns; draws for one row of conditions are adjacent, equally many for each.
            The performance is the wanted one.
        predictor: Fitted on the same table as the model.
        one_of: One of so many draws is kept: of all draws of a row that are of one kind, not of each few in turn.
        rows: Rows of conditions.
        kinds: Kind of each draw, shape ``(len(draws),)``; a row has a multiple of ``one_of`` of each.
        seed: Fixes which.

    Returns:
        The kept draws in the order of the rows; those of one row in random order.

    References:
        Kool et al. (2019), Stochastic Beams and Where to Find Them, arXiv:1903.06059
    """
    schema = predictor.schema
    predicted = predictor.predict(draws[list(schema.recipe_columns)], draws[list(schema.condition_columns)])
    wanted = draws[schema.performance.name].to_numpy(np.float64)
    sd = _SD_OVER_MEAN_ERROR * predicted["scale"].to_numpy(np.float64)
    log_weight = np.nan_to_num(
        -0.5 * ((wanted - predicted["mean"].to_numpy(np.float64)) / sd) ** 2 - np.log(sd), nan=0.0
    )
    rng = np.random.default_rng(seed)
    keys = log_weight + rng.gumbel(size=len(draws))
    group = 2 * np.arange(rows).repeat(len(draws) // rows) + kinds
    best_first = np.lexsort((-keys, group))
    of_group = pd.Series(best_first).groupby(group[best_first])
    kept = best_first[of_group.cumcount() * one_of < of_group.transform("size")]
    chosen: pd.DataFrame = draws.iloc[rng.permuted(kept.reshape(rows, -1), axis=1).ravel()]
    return chosen
