"""`Repair`: brings draws of any generator to values that the training table holds, so that copies can be recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Repair:
    """Clips, drops traces, renormalises and snaps to the levels of the training table.

    - Amounts: to the nearest level of their column on the log scale; what is nearer to 0 than to the smallest one is absent. A
      component that no training recipe has keeps its amount.
    - Shares: to the schema's resolution, with their sum restored; less than half a step is absent. Without a resolution they stay
      as they are, and less than half the smallest share of the training table is absent.
    - Codes: to the nearest number; an unknown text stays unknown (NaN).
    - Settings: to the nearest level; an optional step whose first setting is nearest to ``absent`` was not done.

    Attributes:
        schema: Meaning of the columns.
        levels: Values of amounts and settings in the training table by column, ascending.
        traces: Share below which a component is absent, by fractions block.
    """

    schema: RecipeSchema
    levels: Mapping[str, Floats]
    traces: Mapping[str, float]

    @classmethod
    def fit(cls, schema: RecipeSchema, frame: pd.DataFrame) -> Self:
        """Collect the levels of training rows."""
        levels: dict[str, Floats] = {}
        traces: dict[str, float] = {}
        for block in schema.blocks:
            if isinstance(block, Amounts):
                for name in block.columns:
                    values = _floats(frame, name)
                    levels[name] = np.unique(values[values > 0])
            elif isinstance(block, Fractions):
                shares = frame[list(block.columns)].to_numpy(np.float64)
                traces[block.name] = (block.resolution or shares.min(where=shares > 0, initial=block.total)) / 2
            elif isinstance(block, Step):
                done = frame[frame[block.columns[0].name] != block.absent] if block.optional else frame
                for name in block.names():
                    values = _floats(done, name)
                    levels[name] = np.unique(values[np.isfinite(values)])
        return cls(schema, levels, traces)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Repair the recipe columns of a frame; the other columns are passed on."""
        out = frame.copy()
        for block in self.schema.blocks:
            match block:
                case Amounts():
                    for name in block.columns:
                        out[name] = self._amounts(name, _floats(frame, name))
                case Fractions():
                    out[list(block.columns)] = _shares(block, frame, self.traces[block.name])
                case Category():
                    out[block.column] = _codes(block, frame[block.column])
                case Step():
                    for name, values in self._settings(block, frame).items():
                        out[name] = values
        shares = {name for block in self.schema.blocks if isinstance(block, Fractions) for name in block.columns}
        return round_to_grid(out, self.schema, keep=set(self.schema.recipe_columns) - shares)

    def _amounts(self, name: str, values: Floats) -> Floats:
        values, levels = np.where(values > 0, values, 0.0), self.levels[name]
        if not len(levels):
            return np.where(np.isfinite(values), values, 0.0)
        borders = np.concatenate([levels[:1] / 2, np.sqrt(levels[1:] * levels[:-1])])
        return np.concatenate([[0.0], levels])[np.searchsorted(borders, values)]

    def _settings(self, block: Step, frame: pd.DataFrame) -> dict[str, Floats]:
        out = {}
        for i, name in enumerate(block.names()):
            values, levels = _floats(frame, name), self.levels[name]
            if i == 0 and block.optional:
                levels = np.unique(np.append(levels, block.absent))
            out[name] = _snap(values, levels)
        if block.optional:
            absent = out[block.names()[0]] == block.absent
            out = {name: np.where(absent, block.absent, values) for name, values in out.items()}
        return out


def _floats(frame: pd.DataFrame, name: str) -> Floats:
    return frame[name].to_numpy(np.float64)


def _snap(values: Floats, levels: Floats) -> Floats:
    """The nearest level of each value; NaN stays NaN."""
    if not len(levels):
        return values
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
    return np.where(np.isnan(values), np.nan, nearest)


def _shares(block: Fractions, frame: pd.DataFrame, trace: float) -> Floats:
    values = frame[list(block.columns)].to_numpy(np.float64)
    values = np.where(np.isfinite(values) & (values > 0), values, 0.0)
    for smallest in (trace, 0.0):  # the rest makes up for the traces
        sums = values.sum(axis=1, keepdims=True)
        values = block.total * values / np.where(sums > 0, sums, 1.0)
        values = np.where((values >= smallest) | (values == values.max(axis=1, keepdims=True)), values, 0.0)
    return values


def _codes(block: Category, values: pd.Series) -> NDArray[np.object_]:
    if all(isinstance(code, int) for code in block.codes):
        values = pd.Series(
            _snap(pd.to_numeric(values, errors="coerce").to_numpy(np.float64), np.sort(np.array(block.codes, float)))
        )
    known: dict[Any, Any] = {code: code for code in block.codes}
    codes = np.empty(len(values), dtype=object)
    codes[:] = [known.get(value, np.nan) for value in values]
    return codes
