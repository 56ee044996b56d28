"""`Levels`: the values around which the numbers of a table gather.

People write round numbers: half of all calcinations last two or four hours. A density that knows these values has only to say how
likely each is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import Amounts, Category, Fractions

Floats = NDArray[np.float64]
_SINGLE = 2 / 3
"""Largest share of the Gaussians that stand on single values."""
_DIGITS = 5
"""Values that agree in so many digits are one: they were standardised in float32."""
_NARROWEST = 0.05
"""Narrowest of the Gaussians that cover rare values, in standard deviations of all values."""
_TINY = 1e-300
_PRIOR_ROWS = 3.0
"""Pseudo-rows with the weights of the whole block in the weights of one component."""


def fit_levels(codec: RecipeCodec, packed: Tensor, weights: Floats, count: int) -> dict[str, Levels]:
    """Find the levels of every site of numbers.

    Values that many rows share are levels of their own; the others are covered by Gaussians at their quantiles, half as wide
    as the gaps between them. Components of a block have their levels in common, in wt% or as ratios: they differ in how often
    each is used.

    Args:
        codec: Scales of the numbers.
        packed: Encoded rows, shape ``(N, W)``.
        weights: Weight of each row, shape ``(N,)``.
        count: Gaussians of each number, ``K``.
    """
    out = {}
    for block in codec.schema.blocks:
        if isinstance(block, Category):
            continue
        _, site = sites.of_block(block)
        values = packed[:, codec.layout.slices[site]].double().numpy()
        scalers = [codec.scalers[name] for name in block.names()]
        if isinstance(block, Amounts | Fractions):
            loc = np.array([s.loc for s in scalers])
            scale = np.array([s.scale for s in scalers])
            groups: Iterable[Floats] = [values * scale + loc]
        else:
            loc, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
            groups = [values[:, [i]] for i in range(values.shape[1])]
        parts = [_levels_of(group, weights, count) for group in groups]
        shares, centres, widths = (np.concatenate(part) for part in zip(*parts, strict=True))
        out[site] = Levels(
            torch.from_numpy(np.log(shares)).float(),
            torch.from_numpy((centres - loc[:, None]) / scale[:, None]).float(),
            torch.from_numpy(widths / scale[:, None]).float(),
        )
    return out


def _levels_of(values: Floats, weights: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Shares, centres and widths, each ``(columns, count)``, of columns ``(N, columns)`` with common levels; NaN is no value."""
    columns = values.shape[1]
    row, column = np.nonzero(np.isfinite(values))
    if len(row) == 0:
        row, column, values, weights = np.zeros(1, int), np.zeros(1, int), np.zeros((1, columns)), np.zeros(1)
    distinct, value = np.unique(np.round(values[row, column], _DIGITS), return_inverse=True)
    mass = np.bincount(value, weights=weights[row])
    share = mass / mass.sum() if mass.sum() > 0 else np.ones(len(mass))
    often = np.argsort(-share, kind="stable")[: int(_SINGLE * count)]
    often = often[share[often] >= 0.5 / count]
    wide = count - len(often)
    centres, widths = _cover(distinct, share, often, wide)
    # Each component's own shares, drawn towards those of all: several components occur in one to three recipes.
    level = np.full(len(distinct), count)
    level[often] = np.arange(len(often))
    counts = np.zeros((columns, count + 1))
    np.add.at(counts, (column, level[value]), weights[row] / max(weights.mean(), _TINY))
    counts = np.concatenate(
        [counts[:, : len(often)], np.repeat(counts[:, count:], wide, axis=1) / max(wide, 1)], axis=1
    )
    pooled = np.maximum(counts.sum(axis=0), 0.01 * max(counts.sum(), 1.0) / count)
    shares = counts + _PRIOR_ROWS * pooled / pooled.sum()
    shares /= shares.sum(axis=1, keepdims=True)
    return shares, np.tile(centres, (columns, 1)), np.tile(widths, (columns, 1))


def _cover(distinct: Floats, share: Floats, often: NDArray[np.int64], wide: int) -> tuple[Floats, Floats]:
    """Centres and widths: points at the frequent values, then wide Gaussians at the quantiles of the others."""
    rest = np.setdiff1d(np.arange(len(distinct)), often)
    if len(rest) == 0:  # nothing is left over: they stand ready for what a new recipe may bring
        rest = np.arange(len(distinct))
    mean = share @ distinct
    spread = np.sqrt(share @ (distinct - mean) ** 2) or 1.0
    running = np.concatenate([[0.0], np.cumsum(share[rest]) / share[rest].sum()])
    points = np.concatenate([distinct[rest[:1]], distinct[rest]])
    edges = np.interp(np.linspace(0, 1, wide + 1), running, points)
    centres = np.interp((np.arange(wide) + 0.5) / max(wide, 1), running, points)
    widths = np.maximum(np.diff(edges) / 2, _NARROWEST * spread)
    return np.concatenate([distinct[often], centres]), np.concatenate([np.zeros(len(often)), widths])
