"""Rounding to what a laboratory can weigh and set, without losing validity."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.columns import matrix_of, with_columns
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step

Floats = NDArray[np.float64]


def round_to_grid(frame: pd.DataFrame, schema: RecipeSchema, keep: Collection[str] = ()) -> pd.DataFrame:
    """Round recipe columns to the schema's resolutions.

    Present components stay present, absent ones absent, shares still sum to their total, and settings stay within their limits.

    Args:
        frame: Valid recipe rows.
        schema: Declares the resolutions; a column without one is left as it is.
        keep: Columns that stay as they are; the others of a block share what these leave of its total or cap.
    """
    new: dict[str, Floats] = {}
    for block in schema.blocks:
        match block:
            case Amounts():
                free = tuple(c for c in block.columns if c not in keep)
                if block.resolution is not None and free:
                    kept = matrix_of(frame, [c for c in block.columns if c in keep]).sum(axis=1)
                    cap = None if block.max_total is None else block.max_total - kept
                    rounded = _amounts(matrix_of(frame, free), block.resolution, cap)
                    new |= dict(zip(free, rounded.T, strict=True))
            case Fractions():
                free = tuple(c for c in block.columns if c not in keep)
                if block.resolution is not None and free:
                    kept = matrix_of(frame, [c for c in block.columns if c in keep]).sum(axis=1)
                    rounded = _shares(matrix_of(frame, free), block.total - kept, block.resolution)
                    new |= dict(zip(free, rounded.T, strict=True))
            case Step():
                for column in block.columns:
                    if column.resolution is not None and column.name not in keep:
                        values = frame[column.name].to_numpy(np.float64)
                        skip = values == 0 if column.zero_means is not None else np.zeros(len(values), dtype=bool)
                        if block.optional:
                            skip |= frame[block.columns[0].name].to_numpy(np.float64) == block.absent
                        low, high = column.bounds
                        first = np.ceil(low / column.resolution - 1e-9) if np.isfinite(low) else -np.inf
                        if column.transform == "log" or column.zero_means is not None:
                            first = max(first, 1.0)
                        steps = np.clip(
                            _nearest(values, column.resolution), first, np.floor(high / column.resolution + 1e-9)
                        )
                        new[column.name] = np.where(skip, values, _clean(steps * column.resolution))
            case Category():
                pass
    return with_columns(frame, new)


def _amounts(values: Floats, resolution: float, cap: Floats | None) -> Floats:
    steps = np.where(values > 0, np.maximum(_nearest(values, resolution), 1.0), 0.0)
    if cap is not None:  # rounding up may pass the cap by a step or two: take them from the largest
        most = np.floor(cap / resolution + 1e-9)
        inside = values.sum(axis=1) <= cap * (1 + 1e-9)
        for _ in range(values.shape[1]):
            over = inside & (steps.sum(axis=1) > most)
            if not over.any():
                break
            steps[over, steps[over].argmax(axis=1)] -= 1
    return _clean(steps * resolution)


def _shares(values: Floats, total: Floats, resolution: float) -> Floats:
    """Largest-remainder rounding of rows that sum to ``total``, at least one step for each present component.

    What is left of a total that is no multiple of the resolution goes to the largest component.
    """
    present = values > 0
    count = np.floor(total / resolution + 1e-9)
    exact = values / np.where(total > 0, total, 1.0)[:, None] * count[:, None]
    steps = np.where(present, np.maximum(np.floor(exact + 1e-9), 1.0), 0.0)
    some = present.any(axis=1) & (count >= present.sum(axis=1))
    for _ in range(values.shape[1] + 1):
        missing = np.where(some, count - steps.sum(axis=1), 0.0)
        if not missing.any():
            break
        remainder = np.where(present, exact - steps, -np.inf)
        up = missing > 0
        steps[up, remainder[up].argmax(axis=1)] += 1
        down = missing < 0
        reducible = np.where(steps > 1, remainder, np.inf)
        steps[down, reducible[down].argmin(axis=1)] -= 1
    shares = steps * resolution
    rows = np.flatnonzero(some)
    shares[rows, shares[rows].argmax(axis=1)] += total[rows] - shares[rows].sum(axis=1)
    return _clean(np.where(some[:, None], shares, values))


def _nearest(values: Floats, resolution: float) -> Floats:
    return np.floor(values / resolution + 0.5)


def _clean(values: Floats) -> Floats:
    """Drop the noise of binary fractions: 0.15000000000000002 -> 0.15."""
    return np.round(values, 9)
