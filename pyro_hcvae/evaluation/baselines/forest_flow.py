"""Forest flow: flow matching with gradient-boosted trees."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines.base import Baseline, Floats, from_one_hot, one_hot, recipe_frame, recipe_matrix


def _xgboost() -> ModuleType:
    try:
        import xgboost
    except ImportError:
        raise InputError('forest-flow needs xgboost: pip install "pyro-hcvae[baselines]"') from None
    module: ModuleType = xgboost
    return module


@dataclass
class ForestFlow(Baseline):
    r"""Boosted trees learn, at each of a few times, the velocity that carries noise to recipes.

    .. math::
        x_t = t\, x + (1 - t)\, \epsilon, \qquad v_t(x_t, c) \approx \mathbb E[x - \epsilon \mid x_t, c], \qquad
        \epsilon \sim \mathcal N(0, I)

    A draw follows the velocities from noise by Euler steps. Conditions are covariates of every tree, as the authors' package
    has them. Columns are scaled to [-1, 1] and clipped there; codes are one-hot. Columns that never change are set.
    Smaller than the paper's (50 times, 100 noises a row, 100 trees of depth 7, 256 bins), so that a fit takes minutes.

    References:
        Jolicoeur-Martineau, Fatras, Kachman (2024), Generating and Imputing Tabular Data via Diffusion and Flow-based
        Gradient-Boosted Trees, AISTATS, arXiv:2309.09968
    """

    name = "forest-flow"

    times: int = 10
    noises: int = 3
    """Copies of each training row, each with a noise of its own."""
    trees: int = 20
    depth: int = 5
    bins: int = 32
    """Candidate splits of a column; xgboost's own 256 take three times as long."""
    learning_rate: float = 0.3

    def __post_init__(self) -> None:
        _xgboost()

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        values = one_hot(self.schema, recipe_matrix(self.schema, frame))
        self._low, self._high = values.min(axis=0), values.max(axis=0)
        self._moves = self._high > self._low
        data = 2 * ((values - self._low) / np.where(self._moves, self._high - self._low, 1.0))[:, self._moves] - 1
        data, c = np.tile(data, (self.noises, 1)), np.tile(features, (self.noises, 1))
        noise = rng.standard_normal(data.shape)
        self._velocity: list[Any] = []
        regressor = _xgboost().XGBRegressor
        for t in np.arange(self.times) / self.times:
            trees = regressor(
                n_estimators=self.trees,
                max_depth=self.depth,
                max_bin=self.bins,
                learning_rate=self.learning_rate,
                reg_lambda=0.0,
                tree_method="hist",
                random_state=int(rng.integers(2**31)),
                n_jobs=1,
            )
            self._velocity.append(trees.fit(np.hstack([t * data + (1 - t) * noise, c]), data - noise))

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        c = features.repeat(draws_per_row, axis=0)
        x = rng.standard_normal((len(c), int(self._moves.sum())))
        for trees in self._velocity:
            x += trees.predict(np.hstack([x, c])).reshape(x.shape) / self.times
        values = np.tile(self._low, (len(c), 1))
        values[:, self._moves] += (np.clip(x, -1, 1) + 1) / 2 * (self._high - self._low)[self._moves]
        return recipe_frame(self.schema, from_one_hot(self.schema, values))
