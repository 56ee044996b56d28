"""Kinds of rules whose numbers come from a table: melting points of metals, or the laboratory's own rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field

from pyro_hcvae.data.rule_base import (
    ROUNDING,
    Bools,
    ColumnsRule,
    Floats,
    Severity,
    equals,
    exceeds,
    quantity,
    values_of,
)

if TYPE_CHECKING:
    import pandas as pd

_ZERO_CELSIUS_K = 273.15


class Sintering(ColumnsRule):
    """The hottest of some temperatures is at most a fraction of the melting point of each metal present.

    At the Tammann temperature, half of the melting point in kelvin, atoms of the bulk begin to move. Supports hold particles
    apart far above it: by itself that is a note and never a veto.
    """

    kind: Literal["sintering"] = "sintering"
    severity: Severity = "note"
    temperatures: tuple[str, ...] = Field(min_length=1)
    unit: Literal["degC", "K"] = "degC"
    """Unit of the temperatures."""
    fraction: float = Field(default=0.5, gt=0, le=1)
    melting_points_k: dict[str, float] = Field(default_factory=dict)
    """In kelvin, by column. Those not given here come from the table of components; a metal without one is passed over."""

    def limits(self) -> dict[str, float]:
        """Fraction of the melting point of each metal that has one, in the unit of the temperatures."""
        zero = _ZERO_CELSIUS_K if self.unit == "degC" else 0.0
        known = self.melting_points_k
        return {c: self.fraction * known[c] - zero for c in self.columns if c in known}

    def degree(self, frame: pd.DataFrame) -> Floats:
        """By how many hundreds of kelvin the metal that is furthest above its limit exceeds it, shape ``(rows,)``."""
        excess = self._excess(frame).max(axis=1, initial=0.0) / 100
        return np.where(self.broken(frame), excess, 0.0)

    def _own(self) -> tuple[str, ...]:
        return (*self.columns, *self.temperatures)

    def _hottest(self, frame: pd.DataFrame) -> Floats:
        return np.asarray(np.fmax.reduce(values_of(frame, self.temperatures), axis=1))

    def _excess(self, frame: pd.DataFrame) -> Floats:
        """Kelvin above the limit, 0 for metals that are absent or below it, shape ``(rows, metals)``."""
        limits = self.limits()
        present = values_of(frame, tuple(limits)) > 0
        above = self._hottest(frame)[:, None] - np.array(list(limits.values()))[None, :]
        return np.where(present & (above > ROUNDING), above, 0.0)

    def _outside(self, frame: pd.DataFrame) -> Bools:
        return np.asarray((self._excess(frame) > 0).any(axis=1))

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        limits = list(self.limits().items())
        return [
            "; ".join(
                f"{limits[i][0]} at {hot:g} {self.unit} is {row[i]:.0f} K above {self.fraction:g} Tm, "
                f"{limits[i][1]:.0f} {self.unit}"
                for i in np.flatnonzero(row)
            )
            for hot, row in zip(self._hottest(frame), self._excess(frame), strict=True)
        ]


class Observed(ColumnsRule):
    """Some numbers lie within the range that the laboratory's own table has for each component present."""

    kind: Literal["observed"] = "observed"
    numbers: tuple[str, ...] = Field(min_length=1)
    minimum_rows: int = Field(default=10, ge=1)
    """A component says nothing of a number that fewer rows of the table have with it."""
    unless: float | None = None
    """Value that is no observation, and of which the rule says nothing: that of a step that was not done."""
    ranges: dict[str, dict[str, tuple[float, float, int]]] = Field(default_factory=dict)
    """By component, then number: the least and the most that was observed, and in how many rows. They come from the table by
    which recipes are judged; without one the rule is silent."""

    def fit(self, table: pd.DataFrame) -> Self:
        """The rule with the ranges of a table."""
        numbers = {name: table[name].to_numpy(np.float64) for name in self.numbers}
        known = {name: np.isfinite(v) & ~equals(v, self.unless) for name, v in numbers.items()}
        ranges: dict[str, dict[str, tuple[float, float, int]]] = {}
        for component in self.columns:
            present = table[component].to_numpy(np.float64) > 0
            for name, values in numbers.items():
                seen = values[present & known[name]]
                if len(seen) >= self.minimum_rows:
                    ranges.setdefault(component, {})[name] = (float(seen.min()), float(seen.max()), len(seen))
        return self.model_copy(update={"ranges": ranges})

    def _own(self) -> tuple[str, ...]:
        return (*self.columns, *self.numbers)

    def _outside(self, frame: pd.DataFrame) -> Bools:
        out = np.zeros(len(frame), dtype=np.bool_)
        for _, _, outside in self._each(frame):
            out |= outside
        return out

    def _said(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        said: list[list[str]] = [[] for _ in range(len(frame))]
        for component, name, outside in self._each(frame):
            low, high, rows = self.ranges[component][name]
            known = f"{low:g} to {high:g} in the {rows} rows with {component}"
            for i in np.flatnonzero(outside):
                said[i].append(f"{quantity(name, float(frame[name].iloc[i]), units)} was not observed: {known}")
        return ["; ".join(parts) for parts in said]

    def _each(self, frame: pd.DataFrame) -> Iterator[tuple[str, str, Bools]]:
        """Component, number, and whether the number is outside of the component's range in each row."""
        for component in self.columns:
            present = frame[component].to_numpy(np.float64) > 0
            for name, (low, high, _) in self.ranges.get(component, {}).items():
                values = frame[name].to_numpy(np.float64)
                outside = exceeds(np.full(values.shape, low), values) | exceeds(values, np.full(values.shape, high))
                yield component, name, present & outside & ~equals(values, self.unless)
