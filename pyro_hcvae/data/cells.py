"""Cells as a file holds them -> numbers and codes, chunk by chunk, with a record of every cell that is neither."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.report import ImportReport, Places
from pyro_hcvae.data.schema import Category

SKIP = "or leave such rows out with --skip-bad-rows"
MISSING = {"", "na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "none", "-", "--", "?", "<na>", "nat"}
"""Cells that hold no number, in lower case. A column of codes may use them as codes."""
DECIMAL_COMMA = re.compile(r"^[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+$")
_POINT_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$")
_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$|^[+-]?\d{1,3}([  ']\d{3})+([.,]\d+)?$")
_UNKNOWN = object()


class NumberReader:
    """Reads columns of numbers chunk by chunk.

    Args:
        columns: Columns in the order in which their bad cells are told.
        decimal: Decimal mark of cells that are text.
        thousands: Thousands separator of cells that are text.
        missing: Remedy to name for empty cells, which are then errors; None: empty cells are allowed and become NaN.
        open_columns: Columns in which they are allowed all the same.
    """

    def __init__(
        self,
        columns: Sequence[str],
        decimal: str = ".",
        thousands: str | None = None,
        *,
        missing: str | None,
        open_columns: Collection[str] = (),
    ) -> None:
        self._columns, self._decimal, self._thousands, self._missing = columns, decimal, thousands, missing
        self._open = open_columns
        self._found: dict[tuple[str, str], Places] = {}

    def read(self, cells: pd.Series) -> NDArray[np.float64]:
        """Finite numbers of a chunk of one column, named by the series; NaN elsewhere. Shape ``(chunk,)``."""
        values = cells.to_numpy()
        if values.dtype.kind in "iuf" and np.isfinite(values).all():
            return values.astype(np.float64, copy=False)
        if cells.dtype == bool:
            cells = cells.astype(object)
        plain = pd.api.types.is_numeric_dtype(cells)
        numbers = cells if plain else _numbers_of(cells, self._decimal, self._thousands)
        values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        if (gaps := np.isnan(values)).any():
            self._sort(cells[gaps])
        if (odd := np.isinf(values)).any():
            self._add("infinite", cells[odd], [str(value) for value in values[odd]])
            values = np.where(odd, np.nan, values)
        return values

    def _sort(self, cells: pd.Series) -> None:
        """Record cells that hold no number, by what they look like."""
        position, distinct = pd.factorize(np.array([_show(cell) for cell in cells], dtype=object))
        kinds = np.array([_kind(text) for text in distinct])[position]
        for kind in np.unique(kinds):
            of_kind = kinds == kind
            if kind != "empty":
                self._add(str(kind), cells[of_kind], distinct[position[of_kind]])
            elif self._missing is not None and cells.name not in self._open:
                self._add("empty", cells[of_kind], ["empty"] * len(cells))

    def _add(self, kind: str, cells: pd.Series, texts: Sequence[str]) -> None:
        name = str(cells.name)
        self._found.setdefault((kind, name), Places()).add(cells.index.to_numpy(), name, texts)

    def _places(self, *kinds: str) -> Places:
        """Cells of some kinds, column by column and down each column."""
        places = Places()
        for name in self._columns:
            column = Places()
            for kind in kinds:
                column.extend(self._found.get((kind, name), Places()))
            column.cells.sort(key=lambda cell: cell.row or 0)
            places.extend(column)
        return places

    def report(self, report: ImportReport) -> None:
        """Record an error for each kind of bad cell that was met."""
        comma, thousands = self._places("comma"), self._places("thousands", "thousands or comma")
        if self._decimal == ",":  # then a comma is no news, and a point can only separate thousands
            thousands.extend(comma)
        elif comma.count:  # then 1,250 is one and a quarter
            comma.extend(self._places("thousands or comma"))
            thousands = self._places("thousands")
            report.add(
                "decimal-comma", "error", f"{comma.count} cells are written with a decimal comma",
                "Read the file with --decimal , (and --thousands . if it has them)", comma,
            )  # fmt: skip
        if thousands.count:
            report.add(
                "thousands", "error", f"{thousands.count} cells are written with thousands separators",
                "Read the file with --thousands and the separator, e.g. --thousands "
                f"{_thousands_mark(thousands.cells[0].value)}", thousands,
            )  # fmt: skip
        for kind, what, remedy in (
            ("text", "of number columns hold text", "Write a number there"),
            ("infinite", "are infinite", "Write a finite number there"),
        ):
            if (places := self._places(kind)).count:
                report.add(kind, "error", f"{places.count} cells {what}", f"{remedy}, {SKIP}", places)
        if self._missing is not None and (empty := self._places("empty")).count:
            report.add("missing", "error", f"{empty.count} cells are empty", self._missing, empty)


class CodeReader:
    """Reads one column of codes chunk by chunk.

    Args:
        block: The column and its codes.
        decimal: Decimal mark of cells that are text, for codes that are numbers.
        thousands: Thousands separator of cells that are text, for codes that are numbers.
        missing: As for `NumberReader`.
    """

    def __init__(
        self, block: Category, decimal: str = ".", thousands: str | None = None, *, missing: str | None
    ) -> None:
        self._block, self._missing = block, missing
        self._number: Callable[[Any], Any] = _number_text(decimal, thousands)
        self._by_text = {str(code): code for code in block.codes}
        self._by_number = {float(code): code for code in block.codes if isinstance(code, int)}
        self._unknown, self._empty = Places(), Places()

    def read(self, cells: pd.Series) -> NDArray[np.object_]:
        """Codes of a chunk, NaN where there is none of the schema's. Shape ``(chunk,)``."""
        position, distinct = pd.factorize(cells)  # an empty cell has position -1
        meant = np.array([*map(self._code, distinct), np.nan], dtype=object)
        unknown = np.array([code is _UNKNOWN for code in meant])
        meant[unknown] = np.nan
        codes, wrong = meant[position], unknown[position]
        rows = cells.index.to_numpy()
        if wrong.any():
            self._unknown.add(rows[wrong], self._block.column, map(_show_code, distinct[position[wrong]]))
        if self._missing is not None and (empty := pd.isna(codes) & ~wrong).any():
            self._empty.add(rows[empty], self._block.column, ["empty"] * len(rows))
        return codes

    def _code(self, cell: Any) -> Any:
        text = _show_code(cell).strip()
        if text in self._by_text:
            return self._by_text[text]
        if text.lower() in MISSING:
            return np.nan
        # 7 may be written 7.0, or 07.
        return self._by_number.get(pd.to_numeric(self._number(text), errors="coerce"), _UNKNOWN)

    def report(self, report: ImportReport) -> None:
        """Record an error for cells that hold no code, and one for cells that are empty."""
        if self._unknown.count:
            report.add(
                "code-unknown", "error",
                f"{self._unknown.count} cells of {self._block.column!r} hold a code that the schema lacks",
                f"Codes are {', '.join(self._by_text)}. Correct the cells or add the code to the schema, {SKIP}",
                self._unknown,
            )  # fmt: skip
        if self._missing is not None and self._empty.count:
            report.add("missing", "error", f"{self._empty.count} cells are empty", self._missing, self._empty)


def _number_text(decimal: str, thousands: str | None) -> Callable[[Any], Any]:
    """A function that writes a cell as pandas reads numbers; what can be none comes out as it is, or as no number."""

    def read(cell: Any) -> Any:
        if isinstance(cell, str):
            text = cell.strip()
            if thousands is not None:
                text = text.replace(thousands, "")
            if decimal == ",":
                text = "not a number" if "." in text else text.replace(",", ".")
            return text
        return np.nan if isinstance(cell, bool | date | timedelta) else cell  # pandas would count a date's ticks

    return read


def _numbers_of(cells: pd.Series, decimal: str, thousands: str | None) -> pd.Series:
    """Numbers of a column that holds some text, cell by cell: pandas gives up on the column as a whole."""
    return pd.to_numeric(cells.astype(object).map(_number_text(decimal, thousands)), errors="coerce")


def _kind(text: str) -> str:
    if text.strip().lower() in MISSING:
        return "empty"
    if _THOUSANDS.match(text):
        return "thousands or comma" if text.count(",") == 1 and "." not in text else "thousands"
    return "comma" if _POINT_THOUSANDS.match(text) or DECIMAL_COMMA.match(text) else "text"


def _thousands_mark(text: str) -> str:
    return "." if "." in text and not _THOUSANDS.match(text) else ","


def _show(cell: object) -> str:
    text = "" if cell is None or cell is pd.NA else str(cell)
    # pandas does not keep how a truth value was written if a whole chunk of a column holds some.
    return text.capitalize() if text in ("TRUE", "true", "FALSE", "false") else text


def _show_code(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float | np.floating) and cell.is_integer() else str(cell)
