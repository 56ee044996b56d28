"""Calibration as curves: coverage against the level asked for, and frequency against the probability that was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from pyro_hcvae.evaluation.calibration import coverage

Floats = NDArray[np.float64]
LEVELS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2))
"""Levels of a coverage curve."""
_BAND = 0.95


def coverage_curve(pit: Floats, levels: Sequence[float] = LEVELS, *, count: int | None = None) -> pd.DataFrame:
    """How often the truth lies within central intervals, against how often it should.

    Args:
        pit: `randomised_pit` of the truths; NaN is left out.
        levels: Levels of the intervals.
        count: Independent truths among them, where several of one recipe are not; None: all.

    Returns:
        ``level``, ``inside`` (the share of truths), ``n`` (independent truths), and the 95 % band ``low``, ``high`` of the shares
        that calibrated draws would show with so many. One row a level.
    """
    n = int(np.isfinite(pit).sum()) if count is None else count
    rows = []
    for level in levels:
        low, high = binom.interval(_BAND, n, level) if n else (np.nan, np.nan)
        rows.append(
            {"level": level, "inside": coverage(pit, level), "n": n}
            | ({"low": low / n, "high": high / n} if n else {"low": np.nan, "high": np.nan})
        )
    return pd.DataFrame(rows)


def reliability(probability: ArrayLike, happened: ArrayLike, *, bins: int = 10) -> pd.DataFrame:
    """Events sorted into bins by their probability, and how often they happened.

    Args:
        probability: Of each event, any shape.
        happened: Whether it did, the same shape.
        bins: Largest number of bins of equal mass; events of equal probability are never parted.

    Returns:
        One row a bin, rising: ``probability`` (its mean), ``frequency``, ``n``, and the 95 % band ``low``, ``high`` of the
        frequency if the probabilities hold and events are independent.
    """
    p = np.asarray(probability, dtype=np.float64).ravel()
    y = np.asarray(happened, dtype=np.float64).ravel()
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, p, side="left")
    rows = []
    for k in np.unique(place):
        mine = place == k
        n, mean = int(mine.sum()), float(p[mine].mean())
        low, high = binom.interval(_BAND, n, min(max(mean, 0.0), 1.0))
        rows.append({"probability": mean, "frequency": float(y[mine].mean()), "n": n, "low": low / n, "high": high / n})
    return pd.DataFrame(rows)
