"""The constraint language: what a user may ask of every recipe, each kind as a small value with a short text.

An item names columns, or blocks of columns; which ones exist is known by the schema (`Constraints` checks it). `str(item)` is the
text that `pyro_hcvae.constraints.parsing.parse` reads.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = int | float | str
"""A number, or the code of a category."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
LEADING = ("exclude", "require", "no", "same", "total", "each", "cost", "novelty")
"""Words that a constraint may begin with."""
_INNER = ("in", "at", "exactly", "and", "none")
_PLAIN = re.compile(r"[^\W\d](?:[\w()\[\]/%:-]|\.(?!\.)| (?! ))*", re.UNICODE)


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exclude(_Item):
    """None of some components is present."""

    kind: Literal["exclude"] = "exclude"
    names: Names
    """Components; a block stands for all of its components."""

    def __str__(self) -> str:
        return f"exclude {_list(self.names)}"


class Require(_Item):
    """Each of some components is present, or a step is carried out."""

    kind: Literal["require"] = "require"
    names: Names
    """Components, blocks (at least one component of it), steps."""

    def __str__(self) -> str:
        return f"require {_list(self.names)}"


class Only(_Item):
    """What is present of a block is among some of its components; or: the code of a category is among some codes."""

    kind: Literal["only"] = "only"
    block: Name
    """Name of the block, or the column of a category."""
    allowed: Annotated[tuple[Value, ...], Field(min_length=1)]

    def __str__(self) -> str:
        return f"{quoted(self.block)} in {', '.join(map(value_text, self.allowed))}"


class Fix(_Item):
    """A cell holds a value: an amount or share (0: absent), a setting of a step, a code. It need not lie on the grid."""

    kind: Literal["fix"] = "fix"
    column: Name
    value: Annotated[Finite, Field(strict=True)] | int | str

    def __str__(self) -> str:
        return f"{quoted(self.column)} = {value_text(self.value)}"


class NotDone(_Item):
    """An optional step is not carried out."""

    kind: Literal["not_done"] = "not_done"
    step: Name

    def __str__(self) -> str:
        return f"no {quoted(self.step)}"


class _Between(_Item):
    minimum: Finite | None = None
    maximum: Finite | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("give 'minimum', 'maximum' or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self

    def _limits(self) -> str:
        if self.maximum is None:
            return f">= {value_text(self.minimum)}"
        if self.minimum is None:
            return f"<= {value_text(self.maximum)}"
        return f"{value_text(self.minimum)}..{value_text(self.maximum)}"


class Range(_Between):
    """Each of some columns lies within limits, inclusive, where it holds a number.

    It says nothing of an absent component, of a step that was not done, and of a 0 that has a meaning of its own.
    """

    kind: Literal["range"] = "range"
    names: Names
    """Components or settings of steps."""

    def __str__(self) -> str:
        each = "each " if len(self.names) > 1 else ""
        return f"{each}{_list(self.names)} {self._limits()}"


class Sum(_Between):
    """The sum of some components lies within limits, inclusive; an absent one counts as 0."""

    kind: Literal["sum"] = "sum"
    names: Names
    """Components of one unit; a block stands for all of its components."""

    def __str__(self) -> str:
        if len(self.names) == 1:
            return f"total {quoted(self.names[0])} {self._limits()}"
        return f"{'+'.join(map(quoted, self.names))} {self._limits()}"


class Count(_Item):
    """How many of some components are present."""

    kind: Literal["count"] = "count"
    names: Names
    """Components; a block stands for all of its components."""
    minimum: Annotated[int, Field(ge=0)] | None = None
    maximum: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("give 'minimum', 'maximum' or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    def __str__(self) -> str:
        names = _list(self.names)
        if self.minimum == self.maximum:
            return f"{names} exactly {self.minimum}"
        low, high = f"at least {self.minimum}", f"at most {self.maximum}"
        return f"{names} " + (high if self.minimum is None else low if self.maximum is None else f"{low} and {high}")


class Cost(_Item):
    """The price of a recipe, summed over its components, is at most ``maximum``."""

    kind: Literal["cost"] = "cost"
    maximum: Finite
    """In the currency of the prices that `Constraints` is given, e.g. USD per kg of catalyst."""

    def __str__(self) -> str:
        return f"cost <= {value_text(self.maximum)}"


class Novelty(_Item):
    """The distance to the nearest known recipe is at least ``minimum``. A filter: recipes are not repaired towards it."""

    kind: Literal["novelty"] = "novelty"
    minimum: Annotated[Finite, Field(ge=0)]

    def __str__(self) -> str:
        return f"novelty >= {value_text(self.minimum)}"


class Shared(_Item):
    """All recipes of one batch hold the same value in each of some columns: one furnace, one temperature."""

    kind: Literal["shared"] = "shared"
    names: Names
    """Columns; a step stands for all of its settings."""

    def __str__(self) -> str:
        return f"same {_list(self.names)}"


Item = Annotated[
    Exclude | Require | Only | Fix | NotDone | Range | Sum | Count | Cost | Novelty | Shared,
    Field(discriminator="kind"),
]


def quoted(name: str) -> str:
    """A name as it stands in a text: in double quotes where it could be misread."""
    first, *rest = name.split(" ")
    plain = (
        _PLAIN.fullmatch(name)
        and first not in LEADING
        and not any(w in _INNER or w[:1].isdigit() for w in (first, *rest))
    )
    return name if plain and not name.endswith(" ") else json.dumps(name, ensure_ascii=False)


def value_text(value: Value | None) -> str:
    """A number in its shortest form, or a code."""
    if isinstance(value, str):
        return quoted(value)
    return repr(value).removesuffix(".0")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names))
