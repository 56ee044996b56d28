"""Order of proposals: good ones first, and no two alike while others are nearly as good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]
_POOL = 50
"""Candidates looked at for each place: the best of all."""


def varied(utility: Floats, points: Floats, n: int, *, variety: float, length: float) -> NDArray[np.int64]:
    r"""Choose by maximal marginal relevance.

    .. math:: \arg\max_i \; (1 - v)\, u_i - v \max_{j \in chosen} e^{-\lVert x_i - x_j \rVert_1 / \ell}

    Args:
        utility: Of each candidate, between 0 and 1, shape ``(N,)``.
        points: Candidates in a space in which city-block distances mean something, shape ``(N, F)``.
        n: How many to choose.
        variety: Weight :math:`v` of not being alike, from 0 (utility alone) to 1.
        length: Distance :math:`\ell` at which two candidates are alike to a share of 1/e.

    Returns:
        Positions of the chosen ones in order of choice; the first is the one of the highest utility.

    References:
        Carbonell and Goldstein (1998), The use of MMR, diversity-based reranking, SIGIR
    """
    order = np.argsort(-utility, kind="stable")[: _POOL * n]
    utility, points = utility[order], points[order]
    chosen: list[int] = []
    alike = np.zeros(len(order))
    for _ in range(min(n, len(order))):
        score = (1 - variety) * utility - variety * alike
        score[chosen] = -np.inf
        best = int(np.argmax(score))
        chosen.append(best)
        alike = np.maximum(alike, np.exp(-cdist(points, points[best : best + 1], "cityblock")[:, 0] / length))
    taken: NDArray[np.int64] = order[chosen]
    return taken
