"""Which columns of a schema make up the equilibrium of reforming and methanation, for schemas of such reactions.

Only then can thermodynamics judge whether an asked performance exists. A schema without this section is not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Species = Literal["CH4", "CO2", "CO", "H2", "H2O"]
DEGREES_C = ("degC", "°C", "℃")
_ATM = {"atm": 1.0, "bar": 1 / 1.01325}


class Reaction(BaseModel):
    """Columns of temperature, feed and pressure, and what the performance is the conversion of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: str
    """Condition column in degC."""
    species: dict[Species, str] = Field(min_length=1)
    """Feed column of each gas that reacts; they share one unit."""
    inert: tuple[str, ...] = ()
    """Feed columns of gases that do not react."""
    pressure: float | str = 1.0
    """Total pressure in atm, or the condition column that holds it, in atm or bar."""
    conversion_of: Species = "CH4"
    """Species whose conversion in % the performance is."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = self.feed_columns
        if len(set(names)) < len(names):
            raise ValueError(f"a feed column stands for two gases: {', '.join(names)}")
        if self.conversion_of not in self.species:
            raise ValueError(f"the performance is the conversion of {self.conversion_of}, which is not in 'species'")
        if isinstance(self.pressure, float) and not 0 < self.pressure < float("inf"):
            raise ValueError(f"pressure {self.pressure:g} atm: must be above 0")
        return self

    @property
    def feed_columns(self) -> tuple[str, ...]:
        """Columns of all gases."""
        return (*self.species.values(), *self.inert)

    def names(self) -> tuple[str, ...]:
        """All columns that the section speaks of."""
        own = (self.pressure,) if isinstance(self.pressure, str) else ()
        return (self.temperature, *self.feed_columns, *own)

    def check(self, conditions: Mapping[str, str], feed: Collection[str], performance_unit: str) -> None:
        """Hold the section against the rest of its schema.

        Args:
            conditions: Unit of each condition column of the schema.
            feed: Columns of its feed.
            performance_unit: Unit of its performance.

        Raises:
            ValueError: If a column or a unit does not fit; names both.
        """
        for name in self.names():
            if name not in conditions:
                raise ValueError(f"reaction: no condition column {name!r}; known are {', '.join(conditions)}")
        if conditions[self.temperature] not in DEGREES_C:
            unit = conditions[self.temperature]
            raise ValueError(f"reaction: the temperature {self.temperature!r} must be in degC, its unit is {unit!r}")
        units = {conditions[name] for name in self.feed_columns}
        if len(units) > 1:
            raise ValueError(f"reaction: all gases must share one unit, theirs are {', '.join(sorted(units))}")
        if left := [name for name in feed if name not in self.feed_columns]:
            raise ValueError(f"reaction: say what {', '.join(map(repr, left))} of the feed is, in 'species' or 'inert'")
        if isinstance(self.pressure, str) and conditions[self.pressure] not in _ATM:
            unit = conditions[self.pressure]
            raise ValueError(f"reaction: the pressure {self.pressure!r} must be in atm or bar, its unit is {unit!r}")
        if performance_unit != "%":
            raise ValueError(f"reaction: the performance must be a conversion in %, its unit is {performance_unit!r}")

    @staticmethod
    def atm_per(unit: str) -> float:
        """What one unit of a pressure column is in atm."""
        return _ATM[unit]

    def describe(self) -> str:
        """One line for reading."""
        gases = [f"{gas} = {column}" for gas, column in self.species.items()]
        gases += [f"inert = {column}" for column in self.inert]
        pressure = f"{self.pressure:g} atm" if isinstance(self.pressure, float) else self.pressure
        return f"conversion of {self.conversion_of} at {self.temperature}, {pressure}; {', '.join(gases)}"
