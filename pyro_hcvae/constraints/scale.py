"""`RecipeScale`: how far two recipes are from each other, and what is usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pyro_hcvae.data.codec import step_settings, step_states
from pyro_hcvae.data.columns import row_chunks
from pyro_hcvae.data.schema import Amounts, Category, Code, Fractions, RecipeSchema, Step

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RecipeScale:
    """Units of the distance between recipes, learned from known ones.

    The distance of two recipes is the sum over their parts of: 1 for each component that only one of them has, for each differing
    code and for each step that is carried out differently, and the difference of every number in units of its spread.

    Attributes:
        schema: Meaning of the columns.
        spread: Standard deviation of the numbers of each column.
        typical: Median of the numbers of each column; for shares, of those in mixtures.
        frequency: Share of the recipes that have a component ``(column, True)``, a code ``(column, code)`` or a state of a step
            ``(step, position)``.
    """

    schema: RecipeSchema
    spread: dict[str, float]
    typical: dict[str, float]
    frequency: dict[tuple[str, Code], float]

    @classmethod
    def fit(cls, schema: RecipeSchema, recipes: pd.DataFrame) -> Self:
        """Learn from recipes; a column with less than two different numbers takes its block's, or a tenth of its limits."""
        spread: dict[str, float] = {}
        typical: dict[str, float] = {}
        frequency: dict[tuple[str, Code], float] = {}
        rows = max(len(recipes), 1)
        for block in schema.blocks:
            if isinstance(block, Category):
                frequency |= {
                    (block.column, code): float((recipes[block.column] == code).sum() / rows) for code in block.codes
                }
                continue
            values = _numbers(recipes, block)
            if isinstance(block, Step):
                states = step_states(recipes, block)
                frequency |= {(block.name, k): float((states == k).sum() / rows) for k in range(len(block.states))}
            else:
                frequency |= {
                    (c, True): float((~np.isnan(values[:, i])).sum() / rows) for i, c in enumerate(block.columns)
                }
            if isinstance(block, Fractions):
                values = np.where(values < block.total, values, np.nan)
            for i, name in enumerate(block.names()):
                own = values[~np.isnan(values[:, i]), i]
                pooled = values[~np.isnan(values)] if not isinstance(block, Step) else own
                middle, width = _fallback(schema, block, i)
                wide = [float(v.std()) for v in (own, pooled) if len(np.unique(v)) > 1]
                spread[name] = max(wide[0], width / 100) if wide else width  # noise of rounding is no spread
                typical[name] = next((float(np.median(v)) for v in (own, pooled) if len(v)), middle)
        return cls(schema, spread, typical, frequency)

    def nearest(self, known: pd.DataFrame) -> Callable[[pd.DataFrame], Floats]:
        """A function that gives the distance of each row of a frame to the nearest known recipe."""
        points = np.unique(self.points(known), axis=0)

        def distance(frame: pd.DataFrame) -> Floats:
            mine = self.points(frame)
            parts = [cdist(mine[rows], points, "cityblock").min(axis=1) for rows in row_chunks(len(mine))]
            return np.concatenate([np.empty(0), *parts])

        return distance

    def points(self, frame: pd.DataFrame) -> Floats:
        """Recipes as points whose city-block distances are those of the class, shape ``(B, F)``."""
        parts: list[Floats] = []
        for block in self.schema.blocks:
            if isinstance(block, Category):
                parts += [(frame[block.column] == code).to_numpy(np.float64)[:, None] / 2 for code in block.codes]
                continue
            values = _numbers(frame, block)
            if isinstance(block, Step):
                # A setting that one of two rows lacks counts nothing beside the step itself: it stands at its typical value.
                values = np.where(np.isnan(values), [self.typical[n] for n in block.names()], values)
                parts.append(np.equal.outer(step_states(frame, block), np.arange(len(block.states))) / 2)
            else:
                parts.append((~np.isnan(values)).astype(np.float64))
                values = np.nan_to_num(values, nan=0.0)
            parts.append(values / [self.spread[n] for n in block.names()])
        return np.column_stack(parts)


def _numbers(frame: pd.DataFrame, block: Amounts | Fractions | Step) -> Floats:
    if isinstance(block, Step):
        return step_settings(block, frame)
    values = frame[list(block.columns)].to_numpy(np.float64)
    return np.where(values > 0, values, np.nan)


def _fallback(schema: RecipeSchema, block: Amounts | Fractions | Step, position: int) -> tuple[float, float]:
    """Middle and spread of a column of which nothing is known."""
    if isinstance(block, Fractions):
        return block.total / 4, block.total / 4
    if isinstance(block, Amounts):
        most = block.max_total or 10.0 * (block.resolution or 1.0)
        return most / 10, most / 10
    low, high = block.columns[position].bounds
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2, (high - low) / 10
    return (low if np.isfinite(low) else 0.0) + 1.0, max(1.0, abs(low) / 10 if np.isfinite(low) else 1.0)
