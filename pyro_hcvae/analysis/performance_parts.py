r"""Parts of the uncertainty of the predicted performance.

A measurement of a recipe :math:`x` is taken as :math:`y = f(x) + s(x)\,e`, cut to the bounds of the performance: the predictor,
and errors of the size that it made on recipes that it had not seen (`PerformancePredictor`); :math:`\mu(x)` and :math:`v(x)` are
its mean and variance. The predictor, fitted on other tables of the same kind, would have said something else; :math:`f_k` are
fits on tables in which the groups (recipes) were drawn anew with replacement (Efron's bootstrap). For recipes that are drawn,
:math:`x \sim p(x \mid c)`, the law of total variance reads

.. math::

    \operatorname{Var}[y] =
        \underbrace{E_x\big[v(x) - \operatorname{Var}_k f_k(x)\big]_+}_{\text{aleatoric}}
      + \underbrace{\operatorname{Var}_x\, \mu(x)}_{\text{latent}}
      + \underbrace{E_x \min\big(\operatorname{Var}_k f_k(x),\, v(x)\big)}_{\text{epistemic}}

*Latent* is which recipe the generator draws; for a given recipe it is 0. *Epistemic* is what other tables of the same kind would
have changed. *Aleatoric* is the rest of the errors that were made on unseen recipes: scatter of measurements, what the columns do
not tell, and what the learners get wrong however large the table. That bias is not told apart, so the epistemic part is
a lower bound. Where the fits are further apart than the errors, which they are not meant to be, they are cut to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.analysis.decomposition import PARTS
from pyro_hcvae.analysis.rows import encoded
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.learners import Inputs, Learners
from pyro_hcvae.posterior.performance import PerformancePredictor

Floats = NDArray[np.float64]
REFITS = 10
_ERRORS = 400
"""Errors that stand for their distribution."""


@dataclass(frozen=True)
class Refits:
    """The learners of the predictor, fitted on tables whose groups were drawn anew.

    Attributes:
        predictor: Whose learners they are, with its shares.
        learners: Those of each such table, ``K``.
    """

    predictor: PerformancePredictor
    learners: Sequence[Learners]

    @classmethod
    def fit(
        cls,
        predictor: PerformancePredictor,
        table: RecipeTable,
        groups: NDArray[np.int64],
        count: int = REFITS,
        *,
        seed: int = 0,
    ) -> Refits:
        """Fit on tables drawn from one.

        Args:
            predictor: Of the performance.
            table: Rows to draw from: those that it was fitted on, or others of the same kind.
            groups: What is drawn as a whole, with replacement: the recipe of each row, or its laboratory.
            count: Number of fits, at least 2.
            seed: Fixes the tables and the fits.

        Raises:
            InputError: If there are fewer than two fits.
        """
        if count < 2:
            raise InputError(f"at least 2 refits of the predictor are needed to see how far they differ, got {count}")
        x, recipes = Inputs.of(table.schema, table.frame), table.recipe_ids()
        y = table.frame[table.schema.performance.name].to_numpy(np.float64)
        rows_of = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        rng = np.random.default_rng(seed)
        learners = []
        for k in range(count):
            rows = np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))])
            learners.append(Learners.fit(x[rows], y[rows], recipes[rows], seed=seed + k))
        return cls(predictor, learners)

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Performance by each fit, within its bounds, shape ``(K, B)``; rows with recipe and condition columns."""
        schema, shares = self.predictor.schema, self.predictor.shares
        x, bounds = Inputs.of(schema, rows), schema.performance.bounds
        return np.stack([(learners.predict(x)[0] @ shares).clip(*bounds) for learners in self.learners])

    def variance(self, rows: pd.DataFrame) -> Floats:
        """Variance between the fits, shape ``(B,)``, in units of the performance squared."""
        spread: Floats = self.predict(rows).var(axis=0, ddof=1)
        return spread


def performance_parts(refits: Refits, rows: pd.DataFrame, draws: int = 1) -> pd.DataFrame:
    """Parts of the variance of the performance.

    Args:
        refits: Of a predictor of the performance, on tables drawn anew.
        rows: Recipe and condition columns; each ``draws`` in succession are draws for one set of conditions.
        draws: Draws of each, 1 for recipes that are given.

    Returns:
        ``mean`` and ``sd`` in units of the performance, ``variance`` and its parts; one row a set of draws.
    """
    predictor = refits.predictor
    schema = predictor.schema
    predicted = predictor.predict(rows[list(schema.recipe_columns)], rows[list(schema.condition_columns)])
    mean, error = (x.reshape(-1, draws) for x in _measured(predictor, predicted))
    between = np.minimum(refits.variance(rows).reshape(-1, draws), error)
    parts = {
        "aleatoric": (error - between).mean(axis=1),
        "latent": mean.var(axis=1, ddof=1) if draws > 1 else np.zeros(len(mean)),
        "epistemic": between.mean(axis=1),
    }
    total = sum(parts.values(), np.zeros(len(mean)))
    return pd.DataFrame({"mean": mean.mean(axis=1), "sd": np.sqrt(total), "variance": total, **parts})


def _measured(predictor: PerformancePredictor, predicted: pd.DataFrame) -> tuple[Floats, Floats]:
    """Mean and variance of one measurement within the bounds of the performance, each of shape ``(B,)``."""
    loc, scale = (predicted[name].to_numpy(np.float64) for name in ("mean", "scale"))
    errors = predictor.errors.representatives(_ERRORS)
    measured = (loc[:, None] + scale[:, None] * errors).clip(*predictor.schema.performance.bounds)
    return measured.mean(axis=1), measured.var(axis=1)


def performance_uncertainty(
    designer: RecipeDesigner,
    rows: pd.DataFrame,
    refits: Refits | None = None,
    *,
    draws: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Split the uncertainty of the performance of given recipes, or of recipes drawn for conditions alone.

    Args:
        designer: A fitted one.
        rows: As for `uncertainty`.
        refits: Of its predictor; None: they are fitted, recipes drawn anew.
        draws: Recipes drawn for each row, where conditions alone are given; at least 2.
        seed: Fixes draws and fits.

    Returns:
        One row for each of ``rows``: ``recipe`` (its label), ``column`` and ``unit`` of the performance, ``value`` (that of the
        row: what was measured or is wanted; NaN if unknown), ``mean``, ``sd``, ``variance`` and its parts in the unit squared.

    Raises:
        InputError: If a recipe is given in part, or if there are too few draws or refits.
    """
    table, performance = designer.table, designer.schema.performance
    _, given = encoded(designer.codec, rows)
    if not given and draws < 2:
        raise InputError("at least 2 draws are needed to see how far they differ")
    if refits is None:
        refits = Refits.fit(designer.predictor, table, table.recipe_ids(), seed=seed)
    # Fits of learners are the same whatever is reckoned with; errors and shares are those of the designer as it is now.
    refits = replace(refits, predictor=designer.predictor)
    drawn = rows if given else pd.concat(designer.sample(rows, draws, as_drawn=True, seed=seed))
    parts = performance_parts(refits, drawn, 1 if given else draws)
    about = pd.DataFrame(
        {
            "recipe": rows.index,
            "column": performance.name,
            "unit": performance.unit,
            "value": rows[performance.name].to_numpy(np.float64),
        }
    )
    return pd.concat([about, parts[["mean", "sd", "variance", *PARTS]]], axis=1)
