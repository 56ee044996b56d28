"""What all kinds of feasibility rules have, and how they compare and speak of numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Severity = Literal["hard", "strong warning", "warning", "note"]
ROUNDING = 1e-6


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Where(_Frozen):
    """Rows of which a rule speaks: those in which any of ``columns`` is above a value, for a component: is present."""

    columns: tuple[str, ...] = Field(min_length=1)
    above: float = 0.0

    def holds(self, frame: pd.DataFrame) -> Bools:
        """Whether it holds in each row, shape ``(rows,)``."""
        return np.asarray(self._above(frame).any(axis=1))

    def evidence(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        """What holds, in words, one text a row."""
        values = values_of(frame, self.columns)
        return [
            " and ".join(quantity(self.columns[i], row[i], units) for i in np.flatnonzero(above))
            for row, above in zip(values, self._above(frame), strict=True)
        ]

    def without(self, dropped: Collection[str]) -> Self | None:
        """The clause on the columns that are left; None if there are none, and it can never hold."""
        left = tuple(c for c in self.columns if c not in dropped)
        return self.model_copy(update={"columns": left}) if left else None

    def _above(self, frame: pd.DataFrame) -> Bools:
        values = values_of(frame, self.columns)
        return exceeds(values, np.full(values.shape, self.above))


class BaseRule(_Frozen):
    """What every rule has. A cell that is no number breaks none: structural validity is judged elsewhere."""

    name: str = Field(min_length=1)
    severity: Severity = "warning"
    """``hard``: a recipe that breaks it cannot be made. ``strong warning``, ``warning``: it is unusual, and wants a second look.
    ``note``: worth knowing, and no ground to refuse it."""
    advice: bool = False
    """Shown with a recipe, and nothing more: it counts neither in the share that keeps the rules nor in training."""
    reason: str = ""
    """Why the rule is there, for the person who reads that a recipe breaks it."""
    source: str = ""
    """Where its numbers come from."""
    where: tuple[Where, ...] = ()
    """The rule speaks of rows in which all of these hold; without any, of every row."""

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Whether each row breaks the rule, shape ``(rows,)``."""
        out = self._outside(frame)
        for clause in self.where:
            out &= clause.holds(frame)
        return out

    def degree(self, frame: pd.DataFrame) -> Floats:
        """How far each row breaks the rule, shape ``(rows,)``: 0 for not at all, else 1, unless a kind says otherwise."""
        return self.broken(frame).astype(np.float64)

    def evidence(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        """The numbers that decided, in words, for rows that break the rule.

        Args:
            frame: Rows that break it.
            units: Unit of each column that has one.
        """
        said = self._said(frame, units)
        if not self.where:
            return said
        clauses = zip(*(clause.evidence(frame, units) for clause in self.where), strict=True)
        return [f"{what}, with {' and '.join(given)}" for what, given in zip(said, clauses, strict=True)]

    def names(self) -> tuple[str, ...]:
        """Columns that the rule looks at."""
        return (*self._own(), *(c for clause in self.where for c in clause.columns))

    def without(self, dropped: Collection[str]) -> Self | None:
        """The rule on the columns that are left; None if it has nothing to say of them."""
        where = [clause.without(dropped) for clause in self.where]
        if any(clause is None for clause in where):
            return None
        left = self._without(dropped)
        return None if left is None else left.model_copy(update={"where": tuple(where)})

    def _own(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _without(self, dropped: Collection[str]) -> Self | None:
        raise NotImplementedError

    def _outside(self, frame: pd.DataFrame) -> Bools:
        raise NotImplementedError

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        raise NotImplementedError


class ColumnsRule(BaseRule):
    """A rule on some columns that makes sense of any of them alone."""

    columns: tuple[str, ...] = Field(min_length=1)

    def _own(self) -> tuple[str, ...]:
        return self.columns

    def _without(self, dropped: Collection[str]) -> Self | None:
        left = tuple(c for c in self.columns if c not in dropped)
        return self.model_copy(update={"columns": left}) if left else None


def values_of(frame: pd.DataFrame, columns: tuple[str, ...]) -> Floats:
    """Cells of some columns, shape ``(rows, columns)``."""
    values: Floats = frame[list(columns)].to_numpy(np.float64)
    return values


def exceeds(values: Floats, limits: Floats) -> Bools:
    """Whether values pass their limits by more than the rounding of binary fractions; False where one is NaN."""
    return np.asarray(values > limits + ROUNDING * np.abs(limits))


def equals(values: Floats, wanted: float | None) -> Bools:
    """Whether values are a given one; none is if none is given."""
    return np.zeros(values.shape, dtype=np.bool_) if wanted is None else np.asarray(values == wanted)


def quantity(column: str, value: float, units: Mapping[str, str]) -> str:
    """A column with its value and unit, in words."""
    return f"{column} {value:g} {units.get(column, '')}".rstrip()


def listed(columns: tuple[str, ...], row: Floats, units: Mapping[str, str]) -> str:
    """The components that are present in a row, in words."""
    return ", ".join(quantity(c, v, units) for c, v in zip(columns, row, strict=True) if v > 0)


def beyond(
    frame: pd.DataFrame,
    limits: Mapping[str, tuple[float, float]],
    units: Mapping[str, str],
    *,
    unless: float | None = None,
) -> list[str]:
    """Which columns lie beyond their limits, in words, one text a row."""
    columns = tuple(limits)
    values = values_of(frame, columns)
    low, high = (np.broadcast_to(np.array([limits[c][i] for c in columns]), values.shape) for i in (0, 1))
    skip = equals(values, unless)
    texts: list[list[str]] = [[] for _ in range(len(values))]
    for bounds, outside, word in ((low, exceeds(low, values), "below"), (high, exceeds(values, high), "above")):
        for i, j in np.argwhere(outside & ~skip):
            limit = f"{bounds[i, j]:g} {units.get(columns[j], '')}".rstrip()
            texts[i].append(f"{quantity(columns[j], values[i, j], units)} is {word} {limit}")
    return ["; ".join(parts) for parts in texts]
