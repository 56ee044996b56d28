"""Distribution of the error on a group that was not seen, from errors that were made on groups that were not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CERTAIN = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ErrorDistribution:
    r"""Errors of ``K`` groups, in which every group counts once, however many errors it has.

    .. math:: F(e) = \frac1K \sum_{k=1}^K \frac1{n_k} \sum_{i=1}^{n_k} 1[e_{ki} \le e]

    Attributes:
        errors: Distinct errors in rising order, shape ``(N,)``, unitless.
        masses: Probability of each, shape ``(N,)``; they sum to 1.
        groups: Number of groups ``K``.

    References:
        Lee, Barber & Willett (2023), Distribution-free inference with hierarchical data, arXiv:2306.06342
    """

    errors: Floats
    masses: Floats
    groups: int

    @classmethod
    def fit(cls, errors: Floats, groups: NDArray[np.int64]) -> ErrorDistribution:
        """Collect errors, shape ``(rows,)``, of the groups that are named beside them."""
        distinct, position = np.unique(errors, return_inverse=True)
        weights = equal_weights(groups)
        masses: Floats = np.bincount(position, weights / weights.sum()).astype(np.float64)
        return cls(distinct, masses, len(np.unique(groups)))

    def interval(self, level: float) -> tuple[float, float]:
        r"""Smallest and largest error to reckon with on one row of a new group.

        A new group that is exchangeable with the ``K`` of the distribution is one of ``K + 1``, so each tail is read at
        :math:`\tfrac{1 + \text{level}}2 \cdot \tfrac{K + 1}K`. Where that exceeds 1 the groups are too few for the promise, and
        the most extreme errors are returned instead of infinity.
        """
        share = min(1.0, (1 + level) / 2 * (self.groups + 1) / self.groups)
        return -_quantile(-self.errors[::-1], self.masses[::-1], share), _quantile(self.errors, self.masses, share)

    def representatives(self, count: int) -> Floats:
        """Errors in rising order, shape ``(count,)``, each standing for an equal part of the mass: the median of that part."""
        middle = (np.arange(count) + 0.5) / count
        place = np.searchsorted(np.cumsum(self.masses), middle - 1e-9)
        return self.errors[np.minimum(place, len(self.errors) - 1)]

    def exceeding(self, errors: Floats) -> Floats:
        """Probability that the error on a row of a new group is at least this large; same shape, strictly falling.

        The steps of the distribution are joined by straight lines, and half of the mass ``1 / (K + 1)`` of the new group lies
        beyond either end, in tails that fall as the inverse of the distance: nothing is impossible, and nothing certain.
        """
        below = (self.groups * (np.cumsum(self.masses) - self.masses / 2) + 0.5) / (self.groups + 1)
        first, last = self.errors[0], self.errors[-1]
        width = float(np.abs(self.errors) @ self.masses) or 1.0
        inside = np.interp(errors, self.errors, below)
        lower = below[0] / (1 + np.maximum(first - errors, 0) / width)
        upper = (1 - below[-1]) / (1 + np.maximum(errors - last, 0) / width)
        above: Floats = np.where(errors < first, 1 - lower, np.where(errors > last, upper, 1 - inside))
        return above.clip(_CERTAIN, 1 - _CERTAIN)


def equal_weights(groups: NDArray[np.int64]) -> Floats:
    """One over the number of rows of each row's group, shape ``(rows,)``."""
    _, number, count = np.unique(groups, return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / count[number]
    return weights


def _quantile(rising: Floats, masses: Floats, share: float) -> float:
    """Smallest value at or below which at least ``share`` of the mass lies."""
    position = int(np.searchsorted(np.cumsum(masses), share - 1e-9))
    return float(rising[min(position, len(rising) - 1)])
