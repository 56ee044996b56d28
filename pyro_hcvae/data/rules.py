"""Kinds of feasibility rules that a schema may declare: what a laboratory would not make, or not without a reason.

The numbers of a rule belong to a reaction, so they live in its schema file. Rules judge recipes; the import of a table does not
look at them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pyro_hcvae.data.rule_base import (
    BaseRule,
    Bools,
    ColumnsRule,
    beyond,
    equals,
    exceeds,
    listed,
    quantity,
    values_of,
)
from pyro_hcvae.data.tabled_rules import Observed, Sintering

if TYPE_CHECKING:
    import pandas as pd


class Range(ColumnsRule):
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

    def _limits(self) -> tuple[float, float]:
        return (
            -np.inf if self.minimum is None else self.minimum,
            np.inf if self.maximum is None else self.maximum,
        )

    def _outside(self, frame: pd.DataFrame) -> Bools:
        values = values_of(frame, self.columns)
        low, high = (np.full(values.shape, limit) for limit in self._limits())
        outside = exceeds(low, values) | exceeds(values, high)
        return np.asarray((outside & ~equals(values, self.unless)).any(axis=1))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        return beyond(frame, {c: self._limits() for c in self.columns}, units, unless=self.unless)


class Caps(BaseRule):
    """Each of some columns is at most its own limit."""

    kind: Literal["caps"] = "caps"
    limits: dict[str, float] = Field(min_length=1)

    def _own(self) -> tuple[str, ...]:
        return tuple(self.limits)

    def _without(self, dropped: Collection[str]) -> Self | None:
        left = {c: limit for c, limit in self.limits.items() if c not in dropped}
        return self.model_copy(update={"limits": left}) if left else None

    def _outside(self, frame: pd.DataFrame) -> Bools:
        values = values_of(frame, self._own())
        limits = np.broadcast_to(np.array(list(self.limits.values())), values.shape)
        return np.asarray(exceeds(values, limits).any(axis=1))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        return beyond(frame, {c: (-np.inf, limit) for c, limit in self.limits.items()}, units)


class Sum(ColumnsRule):
    """The sum of some columns is at most ``maximum``."""

    kind: Literal["sum"] = "sum"
    maximum: float

    def _outside(self, frame: pd.DataFrame) -> Bools:
        total = values_of(frame, self.columns).sum(axis=1)
        return exceeds(total, np.full(len(total), self.maximum))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        unit = units.get(self.columns[0], "")
        return [
            f"{listed(self.columns, row, units)}: {quantity('sum', row.sum(), {'sum': unit})} is above {self.maximum:g}"
            for row in values_of(frame, self.columns)
        ]


class Count(ColumnsRule):
    """At most ``maximum`` and at least ``minimum`` of some components are present."""

    kind: Literal["count"] = "count"
    minimum: int = Field(default=0, ge=0)
    maximum: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.maximum is None and not self.minimum:
            raise ValueError(f"rule {self.name!r}: give 'minimum', 'maximum' or both")
        if self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"rule {self.name!r}: minimum {self.minimum} is above maximum {self.maximum}")
        return self

    def _outside(self, frame: pd.DataFrame) -> Bools:
        count = (values_of(frame, self.columns) > 0).sum(axis=1)
        most = len(self.columns) if self.maximum is None else self.maximum
        return np.asarray((count > most) | (count < self.minimum))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        said = []
        for row in values_of(frame, self.columns):
            few = int((row > 0).sum()) < self.minimum
            limit = f"fewer than {self.minimum}" if few else f"more than {self.maximum}"
            said.append(f"{listed(self.columns, row, units) or self.name}: {limit}")
        return said


class Ordering(BaseRule):
    """``lower`` is at most ``upper`` plus ``offset``."""

    kind: Literal["ordering"] = "ordering"
    lower: str
    upper: str
    offset: float = 0.0
    unless: float | None = None
    """Value of either column for which the rule says nothing: that of a step that was not done."""

    def _own(self) -> tuple[str, ...]:
        return (self.lower, self.upper)

    def _without(self, dropped: Collection[str]) -> Self | None:
        return None if set(self._own()) & set(dropped) else self

    def _outside(self, frame: pd.DataFrame) -> Bools:
        values = values_of(frame, self._own())
        above = exceeds(values[:, 0], values[:, 1] + self.offset)
        return np.asarray(above & ~equals(values, self.unless).any(axis=1))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        more = f" by more than {self.offset:g}" if self.offset else ""
        return [
            f"{quantity(self.lower, low, units)} is above {quantity(self.upper, high, units)}{more}"
            for low, high in values_of(frame, self._own())
        ]


Rule = Annotated[Range | Sum | Count | Ordering | Caps | Sintering | Observed, Field(discriminator="kind")]
