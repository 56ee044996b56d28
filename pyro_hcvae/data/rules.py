"""Kinds of feasibility rules that a schema may declare: what a laboratory would not make, or not without a reason.

The numbers of a rule belong to a reaction, so they live in its schema file. Rules judge recipes; the import of a table does not
look at them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Severity = Literal["hard", "warning"]
_ROUNDING = 1e-6


class _Rule(BaseModel):
    """What every rule has. A cell that is no number breaks none: structural validity is judged elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    severity: Severity = "warning"
    """``hard``: a recipe that breaks it cannot be made. ``warning``: it is unusual, and wants a second look."""
    reason: str = ""
    """Why the rule is there, for the person who reads that a recipe breaks it."""
    source: str = ""
    """Where its numbers come from."""


class _ColumnsRule(_Rule):
    columns: tuple[str, ...] = Field(min_length=1)

    def names(self) -> tuple[str, ...]:
        """Columns that the rule speaks of."""
        return self.columns

    def without(self, dropped: Collection[str]) -> Self | None:
        """The rule on the columns that are left; None if there are none."""
        left = tuple(c for c in self.columns if c not in dropped)
        return self.model_copy(update={"columns": left}) if left else None


class Range(_ColumnsRule):
    """Each of some columns lies within ``minimum`` to ``maximum``, inclusive; one of the two may lack."""

    kind: Literal["range"] = "range"
    minimum: float | None = None
    maximum: float | None = None
    unless: float | None = None
    """Value for which the rule says nothing: that of an absent component, or of a step that was not done."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError(f"rule {self.name!r}: give 'minimum', 'maximum' or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"rule {self.name!r}: minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Whether each row breaks the rule, shape ``(rows,)``."""
        values = _values(frame, self.columns)
        outside = np.zeros(values.shape, dtype=np.bool_)
        if self.minimum is not None:
            outside |= _above(np.full(values.shape, self.minimum), values)
        if self.maximum is not None:
            outside |= _above(values, np.full(values.shape, self.maximum))
        return np.asarray((outside & ~_equal(values, self.unless)).any(axis=1))


class Sum(_ColumnsRule):
    """The sum of some columns is at most ``maximum``."""

    kind: Literal["sum"] = "sum"
    maximum: float

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Whether each row breaks the rule, shape ``(rows,)``."""
        total = _values(frame, self.columns).sum(axis=1)
        return _above(total, np.full(len(total), self.maximum))


class Count(_ColumnsRule):
    """At most ``maximum`` of some components are present."""

    kind: Literal["count"] = "count"
    maximum: int = Field(ge=0)

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Whether each row breaks the rule, shape ``(rows,)``."""
        return np.asarray((_values(frame, self.columns) > 0).sum(axis=1) > self.maximum)


class Ordering(_Rule):
    """``lower`` is at most ``upper`` plus ``offset``."""

    kind: Literal["ordering"] = "ordering"
    lower: str
    upper: str
    offset: float = 0.0
    unless: float | None = None
    """Value of either column for which the rule says nothing: that of a step that was not done."""

    def names(self) -> tuple[str, ...]:
        """Columns that the rule speaks of."""
        return (self.lower, self.upper)

    def without(self, dropped: Collection[str]) -> Self | None:
        """The rule itself; None if one of its columns is dropped."""
        return None if set(self.names()) & set(dropped) else self

    def broken(self, frame: pd.DataFrame) -> Bools:
        """Whether each row breaks the rule, shape ``(rows,)``."""
        values = _values(frame, self.names())
        above = _above(values[:, 0], values[:, 1] + self.offset)
        return np.asarray(above & ~_equal(values, self.unless).any(axis=1))


Rule = Annotated[Range | Sum | Count | Ordering, Field(discriminator="kind")]


def _values(frame: pd.DataFrame, columns: tuple[str, ...]) -> Floats:
    values: Floats = frame[list(columns)].to_numpy(np.float64)
    return values


def _above(values: Floats, limits: Floats) -> Bools:
    """Whether values pass their limits by more than the rounding of binary fractions; False where one is NaN."""
    return np.asarray(values > limits + _ROUNDING * np.abs(limits))


def _equal(values: Floats, wanted: float | None) -> Bools:
    return np.zeros(values.shape, dtype=np.bool_) if wanted is None else np.asarray(values == wanted)
