"""`Constraints`: all that a user asks of every recipe, checked against the schema."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pyro_hcvae.constraints.checking import broken
from pyro_hcvae.constraints.known import Known, known_part
from pyro_hcvae.constraints.language import Cost, Item
from pyro_hcvae.constraints.parsing import parse
from pyro_hcvae.constraints.validation import check_item
from pyro_hcvae.constraints.vocabulary import Vocabulary
from pyro_hcvae.data.rules import Rule
from pyro_hcvae.data.schema import Amounts, Fractions, RecipeSchema, describe
from pyro_hcvae.data.tabled_rules import Observed, Sintering
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.errors import InputError

_ITEM: TypeAdapter[Item] = TypeAdapter(Item)
_WHOLE = 1e-6
"""Shares come from 32-bit numbers where the schema has no grid for them."""
Distance = Callable[[pd.DataFrame], NDArray[np.float64]]


@dataclass(frozen=True)
class Constraints:
    """What every recipe must satisfy, beside the structural validity and the hard rules of its schema.

    Args:
        schema: Meaning of the columns.
        items: What is asked.
        prices: Price of one unit of a component (USD/kg of catalyst per wt%), by column; needed for `Cost`.
        distance: Distance of each row of a frame to the nearest known recipe; needed to check `Novelty`
            (`RecipeScale.nearest` makes one).

    Raises:
        InputError: If an item names what the schema does not have, or asks what no column can hold.

    Example:
        >>> constraints = Constraints.from_texts(["exclude Pt", "Ni 2..10", "same Calcination T"], RecipeSchema.load("drm"))
        >>> [item.kind for item in constraints.items]
        ['exclude', 'range', 'shared']
        >>> print(constraints)
        exclude Pt; Ni 2..10; same Calcination T
    """

    schema: RecipeSchema
    items: tuple[Item, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    distance: Distance | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(dict.fromkeys(self.items)))
        for item in self.items:
            try:
                check_item(item, self.vocabulary)
            except InputError as error:
                raise InputError(f"constraint {str(item)!r}: {error}") from None
        if any(isinstance(item, Cost) for item in self.items):
            self._check_prices()

    def __str__(self) -> str:
        return "; ".join(map(str, self.items))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Names of the schema."""
        return Vocabulary(self.schema)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Hard rules of the schema that speak of the recipe alone and need no table.

        Those that need one (`Sintering` the melting points, `Observed` the known experiments) are not among them, and not looked
        at by `satisfied`: `pyro_hcvae.chemistry.rules` gives them their tables and applies them.
        """
        recipe = set(self.schema.recipe_columns)
        return tuple(
            rule
            for rule in self.schema.rules
            if rule.severity == "hard"
            and recipe.issuperset(rule.names())
            and not isinstance(rule, Sintering | Observed)
        )

    def adding(self, *items: Item) -> Self:
        """The same, and more."""
        return replace(self, items=(*self.items, *items))

    def satisfied(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each row satisfies everything, shape ``(rows,)``.

        That is: the items, structural validity (shares sum to their whole, without a tolerance for sloppy tables) and the hard
        rules that speak of the recipe alone and need no table (`rules`).

        Args:
            frame: Recipe columns, rounded to the laboratory's grid: limits are meant to the last digit.
        """
        good = is_valid(frame, self.schema) & ~self.violations(frame).to_numpy(dtype=bool).any(axis=1)
        for block in self.schema.blocks:
            if isinstance(block, Fractions):
                total = frame[list(block.columns)].to_numpy(np.float64).sum(axis=1)
                good &= (total == 0) | (np.abs(total - block.total) <= _WHOLE * block.total)
        for rule in self.rules:
            good &= ~rule.broken(frame)
        return np.asarray(good)

    def violations(self, frame: pd.DataFrame) -> pd.DataFrame:
        """One row a recipe, one bool column an item, named by its text: True where the item does not hold.

        `Shared` looks at the frame as one batch: a row that holds another value than most others breaks it.
        """
        columns = {str(item): broken(item, frame, self) for item in self.items}
        return pd.DataFrame(columns, index=frame.index, dtype=bool)

    def known_part(self) -> dict[str, Known]:
        """What is certain of each recipe column before anything is drawn; see `known_part` of the module ``known``."""
        return known_part(self.items, self.vocabulary)

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], schema: RecipeSchema, *, source: str = "constraint", **others: Any
    ) -> Self:
        """Read short texts; ``others`` are further arguments of the class.

        Raises:
            InputError: If one cannot be read; quotes it.
        """
        return cls(schema, tuple(parse(text, schema, source=source) for text in texts), **others)

    @classmethod
    def from_toml(cls, path: str | Path, schema: RecipeSchema, **others: Any) -> Self:
        """Read a file with a list ``constraints`` of short texts, or of tables with a ``kind``, in any mixture.

        Raises:
            InputError: If it cannot be read; names the file and the line.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            data = tomllib.loads(text)
        except OSError:
            raise InputError(f"{path}: there is no such file, or it cannot be read") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: a file of constraints is a text file in UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not a TOML file: {error} (each constraint takes quotes)") from None
        entries = data.get("constraints")
        if set(data) != {"constraints"} or not isinstance(entries, list):
            raise InputError(f'{path}: write one list: constraints = ["exclude Pt", "Ni 2..10"]; found {sorted(data)}')
        items = []
        for position, entry in enumerate(entries, start=1):
            place = f"{path}: {_line(text, entry, position)}"
            items.append(parse(entry, schema, source=place) if isinstance(entry, str) else _from_table(entry, place))
            try:
                check_item(items[-1], Vocabulary(schema))
            except InputError as error:
                raise InputError(f"{place} {str(items[-1])!r}: {error}") from None
        return cls(schema, tuple(items), **others)

    def to_toml(self) -> str:
        """Text of a file; `from_toml` reads the same items back. A text that would be misread is written as a table."""
        entries: list[Any] = []
        for item in self.items:
            try:
                plain = parse(str(item), self.schema) == item
            except InputError:
                plain = False
            entries.append(str(item) if plain else item.model_dump(mode="json", exclude_none=True))
        return tomli_w.dumps({"constraints": entries}, multiline_strings=False)

    def _check_prices(self) -> None:
        part = self.known_part()
        lacking = [
            name
            for block in self.schema.blocks
            if isinstance(block, Amounts)
            for name in block.columns
            if name not in self.prices and part[name].present is not False
        ]
        if lacking:
            raise InputError(f"cost: there is no price for {', '.join(lacking)}: give it, or exclude these components")
        if bad := [name for name, price in self.prices.items() if not 0 <= price < math.inf]:
            raise InputError(f"cost: prices must be finite and not negative; see {', '.join(bad)}")


def _line(text: str, entry: object, position: int) -> str:
    """Where an entry stands; TOML's reader does not say."""
    if isinstance(entry, str):
        for number, line in enumerate(text.splitlines(), start=1):
            if json.dumps(entry, ensure_ascii=False) in line or f"'{entry}'" in line:
                return f"line {number}:"
    else:
        headers = [n for n, line in enumerate(text.splitlines(), start=1) if line.strip().startswith("[[constraints]]")]
        if len(headers) >= position:
            return f"line {headers[position - 1]}:"
    return f"constraint {position}:"


def _from_table(entry: object, place: str) -> Item:
    try:
        return _ITEM.validate_python(_as_tuples(entry))
    except ValidationError as error:
        raise InputError(f"{place} {entry}: {describe(error)}") from None


def _as_tuples(entry: object) -> object:
    if isinstance(entry, dict):
        return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return entry
