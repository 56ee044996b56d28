"""Tables that say something of each component, one row a component: a built-in file, and rows of the user's own laid over it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pyro_hcvae.data.schema import Amounts, RecipeSchema
from pyro_hcvae.errors import InputError

T = TypeVar("T")
KEY = "component"
"""Column that names the component: a column of the recipe table, or an element."""
_WEIGHT_UNITS = {"wt%", "wt.%", "wt-%", "weight%", "mass%", "%w/w"}
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:[\s_]*[(\[]?\s*(?:wt|weight|mass)[.\s_-]*%?\s*[)\]]?)?")


def is_weight_unit(unit: str) -> bool:
    """Whether a unit stands for percent by weight, however it is written."""
    return unit.lower().replace(" ", "") in _WEIGHT_UNITS


def weight_columns(schema: RecipeSchema) -> tuple[str, ...]:
    """Columns of the amounts that are given in percent by weight, in schema order."""
    return tuple(
        name
        for block in schema.blocks
        if isinstance(block, Amounts) and is_weight_unit(block.unit)
        for name in block.columns
    )


def find(rows: Mapping[str, T], column: str) -> T | None:
    """Entry of a recipe column: under its own name, or under the element that it names (``Ni``, ``Ni (wt%)``)."""
    if column in rows:
        return rows[column]
    symbol = _SYMBOL.fullmatch(column.strip())
    return rows.get(symbol.group(1)) if symbol else None


@dataclass(frozen=True)
class TableRow:
    """Cells of one row, with the place for messages.

    Attributes:
        source: File.
        number: Row as a spreadsheet shows it; the header is row 1.
        cells: Text by column, stripped; empty where the file lacks an optional column.
    """

    source: str
    number: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def error(self, column: str, remedy: str) -> InputError:
        """The error for a cell of this row."""
        return InputError(f"{self.source}: row {self.number}, column {column!r}: {self[column]!r}: {remedy}")

    def required(self, column: str) -> str:
        """Text of a cell that may not be empty.

        Raises:
            InputError: If it is.
        """
        if not self[column]:
            raise self.error(column, "this cell may not be empty")
        return self[column]

    def positive(self, column: str, *, zero: bool = False, maximum: float = math.inf) -> float:
        """Number of a cell, above 0 (or 0 where ``zero``) and at most ``maximum``.

        Raises:
            InputError: If it is no such number.
        """
        try:
            value = float(self[column])
        except ValueError:
            raise self.error(column, "write a number with a decimal point") from None
        if not (math.isfinite(value) and (value > 0 or (zero and value == 0)) and value <= maximum):
            low = "0 or more" if zero else "above 0"
            most = "" if math.isinf(maximum) else f" and at most {maximum:g}"
            raise self.error(column, f"must be a number {low}{most}")
        return value


def table_rows(
    builtin: str, path: str | Path | None, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[TableRow]:
    """Rows of a built-in table, then those of a file that are to replace or extend them.

    Args:
        builtin: Name of the file in ``chemistry/tables``.
        path: CSV file of the user's own, separated by commas or semicolons; None: there is none.
        required: Columns that a file must have, with the one that names the component.
        optional: Columns that it may have.

    Raises:
        InputError: If the file cannot be read, lacks a column, has one too many, or names a component twice.
    """
    text = (files("pyro_hcvae.chemistry") / "tables" / builtin).read_text(encoding="utf-8")
    yield from _parse(text, f"built-in {builtin}", required, optional)
    if path is not None:
        yield from _parse(_read(Path(path)), str(path), required, optional)


def _read(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a CSV file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8: save it as 'CSV UTF-8'") from None


def _parse(text: str, source: str, required: Sequence[str], optional: Sequence[str]) -> Iterator[TableRow]:
    lines = text.splitlines()
    head = lines[0] if lines else ""
    records = csv.reader(lines, delimiter=";" if head.count(";") > head.count(",") else ",", skipinitialspace=True)
    header = [name.strip() for name in next(records, [])]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{source}: columns that stand twice in the header: {', '.join(repeated)}")
    if lacking := [name for name in required if name not in header]:
        raise InputError(
            f"{source}: column {lacking[0]!r} is missing; the header must have {', '.join(required)}"
            + (f", and may have {', '.join(optional)}" if optional else "")
        )
    known = (*required, *optional)
    if unknown := [name for name in header if name not in known]:
        raise InputError(f"{source}: unknown column {unknown[0]!r}; {RecipeSchema.did_you_mean(unknown[0], known)}")
    seen: set[str] = set()
    for cells in records:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{source}: row {records.line_num} has {len(cells)} cells, but the header has {len(header)}. "
                "Put texts that hold the separator in quotation marks"
            )
        texts = dict.fromkeys(known, "") | {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        row = TableRow(source, records.line_num, texts)
        if row.required(KEY) in seen:
            raise row.error(KEY, "this component has a row already: remove one")
        seen.add(row[KEY])
        yield row
