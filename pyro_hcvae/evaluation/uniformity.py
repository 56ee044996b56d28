"""Whether PIT values or ranks are uniform: several quantities at once, with probabilities that allow for their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kstest

Floats = NDArray[np.float64]


def uniformity(pit: pd.DataFrame) -> pd.DataFrame:
    """Kolmogorov-Smirnov tests of uniformity, one a column.

    Args:
        pit: Values within 0 to 1, independent rows; NaN is left out.

    Returns:
        Indexed by column: ``n``; ``distance`` from uniform (the KS statistic) and its probability ``p``; ``p Holm``, the
        probability that allows for the number of columns; ``mean`` (0.5: no shift) and ``spread``, the standard deviation over
        that of the uniform law (below 1: draws are too wide; above 1: too narrow, the model is too certain).
    """
    records = []
    for name in pit.columns:
        values = pit[name].dropna().to_numpy(np.float64)
        test = kstest(values, "uniform")
        records.append(
            {"quantity": name, "n": len(values), "distance": test.statistic, "p": test.pvalue}
            | {"mean": values.mean(), "spread": values.std() * 12**0.5}
        )
    table = pd.DataFrame(records).set_index("quantity")
    table.insert(3, "p Holm", holm(table["p"]))
    return table


def holm(p: ArrayLike) -> Floats:
    """Adjust probabilities of several tests so that they hold together (Holm 1979, A simple sequentially rejective procedure).

    Args:
        p: One probability a test, shape ``(n,)``.
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw)
    stepped = np.maximum.accumulate((len(raw) - np.arange(len(raw))) * raw[order])
    out = np.empty_like(raw)
    out[order] = np.minimum(stepped, 1.0)
    return out
