r"""`QuantileMap`: intervals that hold, from draws whose intervals do not.

If :math:`u = F(y)` is the probability integral transform of a truth among draws and :math:`G` its distribution function on
recipes that were not seen, then :math:`G(F(y))` is uniform: asked for the quantile :math:`\alpha`, one takes the draws' quantile
:math:`G^{-1}(\alpha)` instead (Kuleshov et al. 2018). Calibrated draws have :math:`G(u) = u`, and keep their intervals.

References:
    Kuleshov, Fenner & Ermon (2018), Accurate Uncertainties for Deep Learning Using Calibrated Regression, arXiv:1807.00263
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.error_distribution import equal_weights

Floats = NDArray[np.float64]
_KNOTS = 20
"""Pieces of the map."""


@dataclass(frozen=True)
class QuantileMap:
    r"""Rising map of 0 to 1 onto itself, the distribution function :math:`G` of PIT values.

    Attributes:
        knots: PIT values, shape ``(K,)``, from 0 to 1.
        shares: Share of truths at or below each, shape ``(K,)``, from 0 to 1.
    """

    knots: Floats
    shares: Floats

    @classmethod
    def fit(cls, pit: Floats, groups: NDArray[np.int64], *, knots: int = _KNOTS) -> QuantileMap:
        """Fit on truths that were not seen.

        Args:
            pit: `randomised_pit` of the truths, shape ``(n,)``; NaN is left out.
            groups: Recipe of each, shape ``(n,)``; every recipe counts once.
            knots: Pieces of equal mass on which the map is straight: few, so that it does not bend where only the sample does.

        Raises:
            InputError: If fewer than two recipes are left.
        """
        keep = np.isfinite(pit)
        if len(np.unique(groups[keep])) < 2:
            raise InputError("recalibration needs truths of at least two recipes")
        u, weights = pit[keep], equal_weights(groups[keep])
        order = np.argsort(u)
        below = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
        shares = np.linspace(0, 1, knots + 1)
        quantiles = np.interp(shares, below, u[order])
        quantiles[[0, -1]] = 0.0, 1.0
        # A further recipe that is calibrated keeps the map strictly rising.
        count = len(np.unique(groups[keep]))
        return cls((count * quantiles + shares) / (count + 1), shares)

    def __call__(self, pit: Floats) -> Floats:
        """PIT values as they are after recalibration; NaN stays NaN."""
        mapped: Floats = np.interp(pit, self.knots, self.shares)
        return mapped

    def quantile(self, alpha: Floats) -> Floats:
        """Quantiles of the draws to take where ``alpha`` are asked for."""
        out: Floats = np.interp(alpha, self.shares, self.knots)
        return out

    def interval(self, level: float) -> tuple[float, float]:
        """Quantiles of the draws that bound a central interval.

        Raises:
            InputError: If ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"the level of an interval must lie between 0 and 1, got {level}")
        low, high = self.quantile(np.array([(1 - level) / 2, (1 + level) / 2]))
        return float(low), float(high)
