"""`RecipeFeatures`: recipes and conditions as numeric matrices, on scales on which distances and classifiers make sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.codec import RecipeCodec, Scaler, step_settings, step_states
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema
from pyro_hcvae.data.table import RecipeTable

Floats = NDArray[np.float64]
Level = Literal["raw", "jittered", "structure"]
LEVELS: tuple[Level, ...] = get_args(Level)
JITTER = 0.1
"""Noise of level ``jittered`` in standard deviations: wider than the rounding of published values, narrower than the data."""
FURTHEST = 10.0
"""Largest standardised number: what a broken generator writes stays finite and far away."""


@dataclass(frozen=True)
class RecipeFeatures:
    """Maps rows to features that exist for every draw, however broken.

    A recipe becomes *indicators* (presence of each component, one column a code, one column a state of each step: 0 or 1) and
    *numbers* (log amounts, shares, settings: standardised). A number that does not exist (of an absent component, of a step
    that was not done) enters a matrix as 0, beside its indicator. What cannot be read is well defined too: a negative or
    missing amount has the presence -1, an unknown code or state has no indicator at all, infinities are far away.

    Attributes:
        schema: Meaning of the columns.
        codec: Scales of amounts, settings and conditions.
        share_scalers: Scales of the fractions blocks, by block name.
    """

    schema: RecipeSchema
    codec: RecipeCodec
    share_scalers: dict[str, Scaler]

    @classmethod
    def fit(cls, table: RecipeTable) -> Self:
        """Fit the scales on training rows; every recipe counts once, however often it was measured."""
        schema, weights = table.schema, table.recipe_weights()
        shares: dict[str, Scaler] = {}
        for block in schema.blocks:
            if isinstance(block, Fractions):
                values = _numbers(table.frame, block)
                present = values > 0
                w = np.broadcast_to(weights[:, None], values.shape)[present]
                x = values[present]
                loc = float(np.average(x, weights=w)) if len(x) else 0.0
                sd = float(np.sqrt(np.average((x - loc) ** 2, weights=w))) if len(x) else 0.0
                shares[block.name] = Scaler("linear", loc, sd if sd > 1e-6 * block.total else block.total)
        return cls(schema, RecipeCodec.fit(schema, table.frame, weights), shares)

    def indicators(self, frame: pd.DataFrame) -> Floats:
        """Presences, codes and states, shape ``(B, I)``."""
        return indicators(self.schema, frame)

    def numbers(self, frame: pd.DataFrame) -> Floats:
        """Standardised log amounts, shares and settings, shape ``(B, N)``; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.empty((len(frame), 0)), *self._number_blocks(frame)]  # a schema of codes alone has no number
            return np.clip(np.column_stack(parts), -FURTHEST, FURTHEST)

    def _number_blocks(self, frame: pd.DataFrame) -> Iterator[Floats]:
        scalers = self.codec.scalers
        for block in self.schema.blocks:
            if isinstance(block, Category):
                continue
            if isinstance(block, Amounts | Fractions):
                values = _numbers(frame, block)
                values = np.where(values > 0, values, np.nan)
                each = [
                    self.share_scalers[block.name] if isinstance(block, Fractions) else scalers[c]
                    for c in block.columns
                ]
            else:
                values = step_settings(block, frame)
                each = [scalers[column.name] for column in block.columns]
            yield np.column_stack([scaler.encode(values[:, i]) for i, scaler in enumerate(each)])

    def conditions(self, frame: pd.DataFrame) -> Floats:
        """Standardised conditions and performance, shape ``(B, C)``; 0 where unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return finite(self.codec.encode_conditions(frame))

    def recipe(self, frame: pd.DataFrame) -> Floats:
        """Indicators and numbers, shape ``(B, I + N)``: the space of all distances between recipes."""
        return np.column_stack([self.indicators(frame), np.nan_to_num(self.numbers(frame), nan=0.0)])

    def matrix(self, frame: pd.DataFrame, level: Level, rng: np.random.Generator) -> Floats:
        """Recipe and conditions for a classifier, shape ``(B, F)``.

        Args:
            frame: Recipe, condition and performance columns.
            level: ``raw``: everything; ``jittered``: with Gaussian noise on every number that exists, so that the rounding of
                published values tells nobody apart; ``structure``: indicators and conditions alone.
            rng: Drives the noise of level ``jittered``.
        """
        indicators, conditions = self.indicators(frame), self.conditions(frame)
        if level == "structure":
            return np.column_stack([indicators, conditions])
        numbers = self.numbers(frame)
        if level == "jittered":
            numbers = numbers + rng.normal(scale=JITTER, size=numbers.shape)  # NaN, no number, stays NaN
            conditions = conditions + rng.normal(scale=JITTER, size=conditions.shape)
        return np.column_stack([indicators, np.nan_to_num(numbers, nan=0.0), conditions])


def finite(standardised: Floats) -> Floats:
    """The same numbers, cut at `FURTHEST` (the log of a ratio of 0 is not finite); 0 where unknown."""
    cut: Floats = np.nan_to_num(np.clip(standardised, -FURTHEST, FURTHEST), nan=0.0)
    return cut


def indicators(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Presences, codes and states, shape ``(B, I)``: see `RecipeFeatures`."""
    return np.column_stack([_indicators(frame, block) for block in schema.blocks])


def indicator_variables(schema: RecipeSchema) -> tuple[str, ...]:
    """Variable of each indicator, shape ``(I,)``: a component, or the block whose codes or states it belongs to."""
    return tuple(name for block in schema.blocks for name in _variables(block))


def _indicators(frame: pd.DataFrame, block: Block) -> Floats:
    if isinstance(block, Amounts | Fractions):
        signs: Floats = np.sign(np.nan_to_num(_numbers(frame, block), nan=-1.0))
        return signs
    if isinstance(block, Category):
        codes = frame[block.column]
        return np.column_stack([(codes == code).to_numpy(np.float64) for code in block.codes])
    return np.equal.outer(step_states(frame, block), np.arange(len(block.states))).astype(np.float64)


def _variables(block: Block) -> tuple[str, ...]:
    if isinstance(block, Amounts | Fractions):
        return block.columns
    return (block.name,) * len(block.codes if isinstance(block, Category) else block.states)


def _numbers(frame: pd.DataFrame, block: Amounts | Fractions) -> Floats:
    return frame[list(block.columns)].to_numpy(np.float64)
