"""`WrittenValues`: the values that the people behind a table write, to which what a model draws is brought.

A density puts a narrow Gaussian around each value that recurs in a table: 10 wt%, 500 degC, a share of 0.2. Nobody writes the
10.13 that is drawn there, and a rule that ends at 20 wt% would refuse half of the draws around 20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.codec import RecipeCodec, step_settings, transformed
from pyro_hcvae.data.columns import matrix_of
from pyro_hcvae.data.schema import Amounts, Category, Fractions, Step
from pyro_hcvae.data.validity import ROUNDING

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Read = Callable[[Floats], Floats]
_RECURRING = 2
"""Recipes that must share a value for it to be one that people write."""
_MOST = 200
"""Values of a block or column that are kept, those of the most recipes."""
_REACH = 2.0
"""How far a number may lie from its value, in units of the noise."""
_DECIMALS = 9
"""Values that agree to so many decimals are one, as in `row_hashes`."""


class Recurring(NamedTuple):
    """Values that several recipes share.

    Attributes:
        values: In the unit of the column, ascending, shape ``(V,)``.
        recipes: How many recipes have each, same shape.
    """

    values: Floats
    recipes: Floats

    @classmethod
    def of(cls, values: Floats, exists: Mask, recipes: NDArray[np.int64]) -> Self:
        """Count the recipes of the numbers ``(rows, columns)`` that exist, all columns together."""
        row, column = np.nonzero(exists)
        pairs = pd.DataFrame({"value": np.round(values[row, column], _DECIMALS), "recipe": recipes[row]})
        counts = pairs.drop_duplicates()["value"].value_counts()
        counts = counts[(counts >= _RECURRING) & (counts.index != 0)].head(_MOST).sort_index()
        return cls(np.asarray(counts.index, dtype=np.float64), np.asarray(counts, dtype=np.float64))


class Nearest(NamedTuple):
    """For each number of one column the recurring value that it is written as: constant between breaks.

    Attributes:
        breaks: Ascending, in units of the noise on the scale of the column, shape ``(K,)``.
        values: In the unit of the column, NaN where no value is near, shape ``(K + 1,)``.
    """

    breaks: Floats
    values: Floats

    @classmethod
    def of(cls, recurring: Recurring, places: Floats) -> Self:
        """Find the breaks of values at ``places``, their positions in units of the noise, shape ``(V,)``."""
        known = np.isfinite(places)
        values, at, log_recipes = recurring.values[known], places[known], np.log(recurring.recipes[known])
        # A value comes into reach, leaves it, or yields to another that is in reach at the same time; nothing happens elsewhere.
        apart = at - at[:, None]
        i, j = np.nonzero((apart > 0) & (apart <= 2 * _REACH))
        yields = (at[i] + at[j]) / 2 + (log_recipes[i] - log_recipes[j]) / (at[j] - at[i])
        breaks = np.unique(np.concatenate([at - _REACH, at + _REACH, yields]))
        if not len(breaks):
            return cls(breaks, np.array([np.nan]))
        between = np.concatenate([breaks[:1] - 1, (breaks[1:] + breaks[:-1]) / 2, breaks[-1:] + 1])
        gaps = between[:, None] - at
        worth = np.where(np.abs(gaps) <= _REACH, log_recipes - gaps**2 / 2, -np.inf)
        best = np.where(np.isfinite(worth.max(axis=1)), values[worth.argmax(axis=1)], np.nan)
        changes = ~((best[1:] == best[:-1]) | (np.isnan(best[1:]) & np.isnan(best[:-1])))
        return cls(breaks[changes], best[np.append(True, changes)])


@dataclass(frozen=True)
class WrittenValues:
    r"""Brings numbers to the recurring value that they were most likely drawn around.

    Of the values :math:`v` at most two units of noise away, each shared by :math:`n_v` recipes, a number :math:`x` gets the one
    with the largest

    .. math:: \ln n_v - \tfrac12 \left( (x - v) / \sigma \right)^2,

    on the scale of its column (amounts: logarithms; shares: log odds). Numbers with no value so near stay as they are.
    Components of a block have their values in common, as their levels do. What is present stays present, shares keep their sum,
    and a row that could not be a recipe is left alone.

    Attributes:
        codec: Scales of the numbers.
        recurring: By block name for components, by column for settings.
        noise: :math:`\sigma`, in standard deviations of the codec: the floor of the scale of the model's numbers.
    """

    codec: RecipeCodec
    recurring: Mapping[str, Recurring]
    noise: float
    _nearest: dict[str, Nearest] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def fit(cls, codec: RecipeCodec, frame: pd.DataFrame, recipes: NDArray[np.int64], noise: float) -> Self:
        """Collect the values that at least two recipes share.

        Args:
            codec: Scales of the numbers.
            frame: Rows of `RecipeTable.frame`.
            recipes: Recipe of each row.
            noise: See the attribute.
        """
        found: dict[str, Recurring] = {}
        for block in codec.schema.blocks:
            match block:
                case Amounts():
                    amounts = matrix_of(frame, block.columns)
                    found[block.name] = Recurring.of(amounts, amounts > 0, recipes)
                case Fractions():
                    shares = matrix_of(frame, block.columns)
                    parts = (shares > 0) & (np.round(shares, _DECIMALS) < block.total)
                    found[block.name] = Recurring.of(shares, parts, recipes)
                case Step():
                    settings = step_settings(block, frame)
                    for i, name in enumerate(block.names()):
                        found[name] = Recurring.of(settings[:, [i]], np.isfinite(settings[:, [i]]), recipes)
                case Category():
                    pass
        return cls(codec, found, noise)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Draws as they would be written; columns that are no numbers of a recipe are passed on."""
        names = self.codec.number_columns
        if not len(names):
            return frame.copy()
        # One matrix for all of them: assigning columns to a frame costs more than everything else here.
        numbers = pd.DataFrame(self.numbers(frame[names].to_numpy(np.float64)), frame.index, names.copy(), copy=False)
        return pd.concat([numbers, frame.drop(columns=names)], axis=1)[list(frame.columns)]

    @property
    def _blocks(self) -> list[Amounts | Fractions | Step]:
        return [block for block in self.codec.schema.blocks if not isinstance(block, Category)]

    def numbers(self, matrix: Floats) -> Floats:
        """The same for the numbers of recipes alone, all of them in the order of the schema, shape ``(B, columns)``."""
        parts, start = [matrix[:, :0]], 0
        for block in self._blocks:
            found = matrix[:, start : start + len(block.names())]
            start += found.shape[1]
            match block:
                case Amounts():
                    parts.append(self._amounts(found, block))
                case Fractions():
                    parts.append(self._shares(found, block))
                case Step():
                    parts.append(self._settings(found, block))
        written: Floats = np.concatenate([x.T for x in parts]).T
        return written

    def _amounts(self, found: Floats, block: Amounts) -> Floats:
        """All brought to values, but where their sum would then be more than is allowed."""
        written = self._near(found, found > 0, block.columns, block.name, np.log)
        if block.max_total is None:
            return written
        most = block.max_total * (1 + ROUNDING)
        too_much = (written.sum(axis=1) > most) & (found.sum(axis=1) <= most)
        result: Floats = np.where(too_much[:, None], found, written)
        return result

    def _shares(self, found: Floats, block: Fractions) -> Floats:
        """All but the first present one are brought to values; it keeps what is left, unless that is far from what it had."""
        rows, present = np.arange(len(found)), found > 0
        scales = np.array([self.codec.scalers[name].scale for name in block.columns])
        first = present.argmax(axis=1)
        several = (present.sum(axis=1) > 1) & ~((found < 0) | (found >= block.total)).any(axis=1)
        several &= np.abs(found.sum(axis=1) / block.total - 1) <= ROUNDING
        others = present & several[:, None]
        others[rows, first] = False

        def odds(x: Floats) -> Floats:
            return np.log(x / (block.total - x))

        written = self._near(found, others, block.columns, block.name, odds)
        written[rows, first] += found.sum(axis=1) - written.sum(axis=1)
        left = written[rows, first] = np.round(written[rows, first], _DECIMALS)
        good = several & (left > 0) & (left < block.total)
        moved = np.abs(odds(left[good]) - odds(found[rows, first][good])) / scales[first[good]]
        good[good] = moved <= _REACH * self.noise * (1 + ROUNDING)
        result: Floats = np.where(good[:, None], written, found)
        return result

    def _settings(self, found: Floats, block: Step) -> Floats:
        """Each column brought to its values, where the step was done and the setting is one."""
        exists = np.isfinite(found)
        if block.optional:
            exists &= found[:, :1] != block.absent
        exists[:, block.zeroable] &= found[:, block.zeroable] != 0
        columns = []
        for i, column in enumerate(block.columns):
            here, read = [i], transformed(column.transform)
            columns.append(self._near(found[:, here], exists[:, here], [column.name], column.name, read))
        return np.concatenate(columns, axis=1)

    def _near(self, found: Floats, exists: Mask, names: Sequence[str], recurring: str, read: Read) -> Floats:
        """A copy of numbers ``(B, F)``, those that exist brought to values; ``read`` puts them on the scale of the column."""
        out = found.copy()
        # Column after column what exists, which is little.
        columns, rows = np.nonzero((exists & np.isfinite(found)).T)
        places, written = read(found[rows, columns]), np.empty(len(rows))
        ends = np.searchsorted(columns, np.arange(len(names) + 1))
        for name, start, end in zip(names, ends, ends[1:], strict=False):
            if start == end:
                continue
            unit = self.noise * self.codec.scalers[name].scale
            if name not in self._nearest:
                values = self.recurring[recurring]
                self._nearest[name] = Nearest.of(values, read(values.values) / unit)
            near = self._nearest[name]
            written[start:end] = near.values[np.searchsorted(near.breaks, places[start:end] / unit)]
        close = ~np.isnan(written)
        out[rows[close], columns[close]] = written[close]
        return out
