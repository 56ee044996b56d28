"""Donors: recipes of the table, measured under conditions like those that are asked for, that lend their structure to draws.

A network is smooth in the conditions and sees components one by one; what was put together before, as a whole and by whom, it
knows only roughly. A table knows it exactly, but nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from torch import Tensor

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.features import finite, indicators
from pyro_hcvae.errors import InputError

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


def which_borrow(share: float, start: int, stop: int, *, seed: int) -> NDArray[np.bool_]:
    """Which draws of a long sequence borrow; the answer for a draw is the same wherever a chunk begins.

    Args:
        share: Probability of each.
        start: First draw that is asked for.
        stop: The draw after the last.
        seed: Of the sequence.

    Returns:
        Shape ``(stop - start,)``.
    """
    source = np.random.PCG64([seed, 0, 1])
    source.advance(start)
    return np.random.Generator(source).random(stop - start) < share


class LeafDonors:
    """Training rows that lie in each leaf of each tree.

    Args:
        leaves: Leaf of each training row in each tree, shape ``(B, trees)``.
        weights: How often each row is drawn beside others of its leaf, shape ``(B,)``, above 0; None: all alike.
    """

    def __init__(self, leaves: NDArray[Any], weights: Floats | None = None) -> None:
        rows, trees = leaves.shape
        self._stride = int(leaves.max()) + 1
        keys = (leaves + self._stride * np.arange(trees)).ravel(order="F")
        order = np.argsort(keys, kind="stable")
        self._keys, self._rows = keys[order], order % rows
        self._sums = np.cumsum(np.ones(len(order)) if weights is None else weights[self._rows])

    def draw(
        self, leaves: NDArray[Any], trees: NDArray[Any] | int, rng: np.random.Generator, size: int = 1
    ) -> Positions:
        """Random training rows out of given leaves.

        Args:
            leaves: Leaf of each draw, shape ``(N,)``; each holds a training row.
            trees: Tree of each draw, shape ``(N,)``, or one for all.
            rng: Source of randomness.
            size: Independent donors for each.

        Returns:
            Positions among the training rows, shape ``(N, size)``.
        """
        keys = leaves + self._stride * trees
        first, stop = np.searchsorted(self._keys, keys, side="left"), np.searchsorted(self._keys, keys, side="right")
        before = np.where(first > 0, self._sums[first - 1], 0.0)
        height = before[:, None] + rng.random((len(keys), size)) * (self._sums[stop - 1] - before)[:, None]
        place = np.searchsorted(self._sums, height, side="right")
        donors: Positions = self._rows[np.clip(place, first[:, None], stop[:, None] - 1)]
        return donors


class ForestDonors:
    """Chooses training rows for features: of a random tree of a forest, one from the leaf of the features.

    The forest predicts the targets from the features; the distribution of the donors is that of a quantile regression forest,
    over rows instead of one number.

    Args:
        features: Of the training rows, shape ``(B, C)``, all finite.
        targets: What the forest predicts, shape ``(B, T)``; brought to one scale here.
        weights: How much each row counts, shape ``(B,)``, above 0; None: all alike.
        trees: Of the forest.
        min_leaf: Fewest bootstrapped rows in a leaf.
        seed: Of the forest.

    References:
        Meinshausen (2006), Quantile Regression Forests, JMLR 7
    """

    def __init__(
        self,
        features: Floats,
        targets: Floats,
        weights: Floats | None = None,
        *,
        trees: int = 100,
        min_leaf: int = 5,
        seed: int = 0,
    ) -> None:
        self._trees = trees
        spread = targets.std(axis=0)
        # One thread: the caller's settings stay.
        forest = RandomForestRegressor(trees, min_samples_leaf=min_leaf, random_state=seed, n_jobs=1)
        self._forest = forest.fit(features, targets / np.where(spread > 0, spread, 1.0), weights)
        self._leaves = LeafDonors(self._forest.apply(features), weights)

    def draw(self, features: Floats, rng: np.random.Generator, size: int = 1) -> Positions:
        """Draw donors.

        Args:
            features: What they are for, shape ``(N, C)``, at least one row, all finite.
            rng: Source of randomness.
            size: Independent donors for each.

        Returns:
            Positions among the training rows, shape ``(N * size,)``; those of one row are adjacent.
        """
        leaves = self._forest.apply(features).repeat(size, axis=0)
        tree = rng.integers(self._trees, size=len(leaves))
        return self._leaves.draw(leaves[np.arange(len(leaves)), tree], tree, rng)[:, 0]


class StructureDonors:
    """Chooses recipes of a table for conditions, by a forest that predicts the structure: which components, codes and states.

    Args:
        codec: Scales of the conditions.
        frame: Rows of the table; those of which a part is unknown lend nothing.
        weights: How much each row counts, shape ``(rows,)``.
        seed: Of the forest.

    Raises:
        InputError: If no row is known in whole.
    """

    def __init__(self, codec: RecipeCodec, frame: pd.DataFrame, weights: Floats, *, seed: int = 0) -> None:
        whole = frame[list(codec.schema.recipe_columns)].notna().all(axis=1).to_numpy()
        if not whole.any():
            raise InputError("no recipe of the table is known in whole, so that none can lend its structure")
        frame, weights = frame[whole], weights[whole]
        self._codec = codec
        self._packed = codec.encode(frame)
        structure = indicators(codec.schema, frame)
        self._donors = ForestDonors(self._features(self._packed), structure, weights, seed=seed)

    def lend(self, packed: Tensor, rng: np.random.Generator) -> Tensor:
        """Choose a donor for each row.

        Args:
            packed: At least one encoded row ``(N, W)``; only the conditions and the wanted performance are used.
            rng: Source of randomness.

        Returns:
            The donors' packed rows ``(N, W)``, with the rows' own conditions in the place of the donors'.
        """
        lent = self._packed[torch.from_numpy(self._donors.draw(self._features(packed), rng))]
        width = self._codec.layout.condition_features
        return torch.cat([packed[:, :width], lent[:, width:]], dim=1)

    def _features(self, packed: Tensor) -> Floats:
        return finite(packed[:, : self._codec.layout.condition_features].double().numpy())
