"""Gaussian copula over conditions and recipe columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from pyro_hcvae.evaluation.baselines.base import Baseline, Floats, recipe_frame, recipe_matrix


class GaussianCopula(Baseline):
    r"""Rank-normal scores of all columns follow one Gaussian, which is conditioned in closed form.

    .. math::
        s_x \mid s_c \sim \mathcal N\big(R_{xc} R_{cc}^{-1} s_c,\; R_{xx} - R_{xc} R_{cc}^{-1} R_{cx}\big), \qquad
        x_j = \hat F_j^{-1}(\Phi(s_j))

    Codes are ranked by position, ties share their mean rank, and a drawn value is one that the column holds in training.

    References:
        Patki, Wedge, Veeramachaneni (2016), The Synthetic Data Vault, doi:10.1109/DSAA.2016.49
    """

    name = "copula"

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        joint = np.hstack([features, recipe_matrix(self.schema, frame)])
        self._sorted = np.sort(joint, axis=0)
        scores = self._scores(joint)
        spread = scores.std(axis=0)
        # Ties leave scores with less than unit spread; a column that never changes is independent of all others.
        self._spread = np.where(spread > 1e-9, spread, 1.0)
        unit = np.where(spread > 1e-9, scores / self._spread, 0.0)
        self._correlation = unit.T @ unit / len(unit)
        np.fill_diagonal(self._correlation, 1.0)

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        width, r = features.shape[1], self._correlation
        gain = r[width:, :width] @ np.linalg.pinv(r[:width, :width], hermitian=True)
        values, vectors = np.linalg.eigh(r[width:, width:] - gain @ r[:width, width:])
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        mean = (self._scores(features) / self._spread[:width] @ gain.T).repeat(draws_per_row, axis=0)
        ranks = ndtr(mean + rng.standard_normal(mean.shape) @ root.T)
        rows = len(self._sorted)
        positions = np.minimum((ranks * rows).astype(np.int64), rows - 1)
        return recipe_frame(self.schema, np.take_along_axis(self._sorted[:, width:], positions, axis=0))

    def _scores(self, values: Floats) -> Floats:
        """Normal scores by training rank, for the first columns of the joint matrix; shape as ``values``."""
        rows = len(self._sorted)
        ranks = np.empty_like(values)
        for i, column in enumerate(values.T):
            low, high = (np.searchsorted(self._sorted[:, i], column, side=side) for side in ("left", "right"))
            ranks[:, i] = np.clip((low + high) / (2 * rows), 0.5 / rows, 1 - 0.5 / rows)
        scores: Floats = ndtri(ranks)
        return scores
