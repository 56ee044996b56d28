"""`WrittenValues`: the values that the people behind a table write, to which what a model draws is brought.

A density puts a narrow Gaussian around each value that recurs in a table: 10 wt%, 500 degC, a share of 0.2. Nobody writes the
10.13 that is drawn there, and a rule that ends at 20 wt% would refuse half of the draws around 20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.codec import RecipeCodec, step_settings, transformed
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, Step

Floats = NDArray[np.float64]
_RECURRING = 2
"""Recipes that must share a value for it to be one that people write."""
_DECIMALS = 9
"""Values that agree to so many decimals are one, as in `row_hashes`."""


@dataclass(frozen=True)
class WrittenValues:
    """Brings numbers to the recurring value that they lie near to; others stay as they are.

    Components of a block have their values in common, as their levels do. What is present stays present, and shares keep their
    sum: the first present component takes up what the others leave.

    Attributes:
        codec: Scales of the numbers.
        values: Recurring values in the unit of the column, ascending; by block name for components, by column for settings.
        reach: How far a number may lie from the value that it is brought to, in standard deviations.
    """

    codec: RecipeCodec
    values: Mapping[str, Floats]
    reach: float

    @classmethod
    def fit(cls, codec: RecipeCodec, frame: pd.DataFrame, recipes: NDArray[np.int64], reach: float) -> Self:
        """Collect the values that at least two recipes share.

        Args:
            codec: Scales of the numbers.
            frame: Rows of `RecipeTable.frame`.
            recipes: Recipe of each row.
            reach: See the attribute.
        """
        values: dict[str, Floats] = {}
        for block in codec.schema.blocks:
            match block:
                case Amounts():
                    values[block.name] = _recurring(_numbers(frame, block), recipes)
                case Fractions():
                    shares = np.round(_numbers(frame, block), _DECIMALS)
                    values[block.name] = _recurring(np.where(shares < block.total, shares, np.nan), recipes)
                case Step():
                    settings = step_settings(block, frame)
                    values |= {name: _recurring(settings[:, [i]], recipes) for i, name in enumerate(block.names())}
                case Category():
                    pass
        return cls(codec, values, reach)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Draws as they would be written; columns that are no numbers of a recipe are passed on."""
        blocks = [block for block in self.codec.schema.blocks if not isinstance(block, Category)]
        names = [name for block in blocks for name in block.names()]
        if not names:
            return frame.copy()
        # One matrix for all of them: assigning columns to a frame costs more than everything else here.
        matrix = frame[names].to_numpy(np.float64)
        parts, start = [], 0
        for block in blocks:
            found = matrix[:, start : start + len(block.names())]
            start += found.shape[1]
            match block:
                case Amounts():
                    parts.append(self._amounts(found, block))
                case Fractions():
                    parts.append(self._shares(found, block))
                case Step():
                    parts.append(self._settings(found, block))
        numbers = pd.DataFrame(np.concatenate([x.T for x in parts]).T, frame.index, pd.Index(names), copy=False)
        return pd.concat([numbers, frame.drop(columns=names)], axis=1)[list(frame.columns)]

    def _scales(self, block: Block) -> Floats:
        return np.array([self.codec.scalers[name].scale for name in block.names()])

    def _near(self, found: Floats, values: Floats, read: Callable[[Floats], Floats], scales: Floats) -> Floats:
        """Numbers ``(B, F)``, those near to a value replaced by it; ``read`` says on which scale. 0 is no number."""
        row, column = np.nonzero(found > 0)
        if not len(row) or not len(values):
            return found
        at, places, allowed = read(found[row, column]), read(values), self.reach * scales[column]
        nearest = np.searchsorted((places[1:] + places[:-1]) / 2, at)
        close = np.abs(places[nearest] - at) <= allowed
        out = found.copy()
        out[row[close], column[close]] = values[nearest[close]]
        return out

    def _settings(self, found: Floats, block: Step) -> Floats:
        """Each column brought to its values, where the step was done."""
        columns = [
            self._near(found[:, [i]], self.values[column.name], transformed(column.transform), scale)
            for i, (column, scale) in enumerate(zip(block.columns, self._scales(block)[:, None], strict=True))
        ]
        written = np.concatenate(columns, axis=1)
        return np.where(found[:, :1] == block.absent, found, written) if block.optional else written

    def _amounts(self, found: Floats, block: Amounts) -> Floats:
        """All brought to values, but where their sum would then be more than is allowed."""
        written = self._near(found, self.values[block.name], np.log, self._scales(block))
        if block.max_total is None:
            return written
        too_much = (written.sum(axis=1) > block.max_total) & (found.sum(axis=1) <= block.max_total)
        result: Floats = np.where(too_much[:, None], found, written)
        return result

    def _shares(self, found: Floats, block: Fractions) -> Floats:
        """All but the first present component are brought to values; it keeps what is left, where anything is."""
        rows, first = np.arange(len(found)), (found > 0).argmax(axis=1)
        others = np.where((found > 0) & (found < block.total), found, 0.0)
        others[rows, first] = 0.0
        written = self._near(
            others, self.values[block.name], lambda x: np.log(x / (block.total - x)), self._scales(block)
        )
        left = np.round(found.sum(axis=1) - written.sum(axis=1), _DECIMALS)
        written[rows, first] = left
        result: Floats = np.where(((others > 0).any(axis=1) & (left > 0))[:, None], written, found)
        return result


def _numbers(frame: pd.DataFrame, block: Amounts | Fractions) -> Floats:
    return frame[list(block.columns)].to_numpy(np.float64)


def _recurring(values: Floats, recipes: NDArray[np.int64]) -> Floats:
    """Numbers above 0 among ``(rows, columns)`` that several recipes have, ascending; NaN is none."""
    row, column = np.nonzero(values > 0)
    pairs = pd.DataFrame({"value": np.round(values[row, column], _DECIMALS), "recipe": recipes[row]}).drop_duplicates()
    shared = pairs["value"].value_counts()
    return np.sort(shared.index[shared >= _RECURRING].to_numpy(np.float64))
