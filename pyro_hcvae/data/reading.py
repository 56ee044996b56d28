"""Files -> frames of numbers. CSV, Excel and Parquet, with errors that say what is wrong with the file."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_hcvae.data.report import Cell, ImportReport
from pyro_hcvae.errors import InputError

_POINT_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$")
_DECIMAL_COMMA = re.compile(r"^[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+$")
_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$|^[+-]?\d{1,3}([  ']\d{3})+([.,]\d+)?$")
MISSING = {"", "na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "none", "-", "--", "?", "<na>", "nat"}
"""Cells that hold no number, in lower case. A column of codes may use them as codes."""
FIRST_DATA_ROW = 2
"""Row of the first record, counted as a spreadsheet does."""


@dataclass(frozen=True)
class ReadOptions:
    """How the numbers of a file are written.

    Attributes:
        decimal: Decimal mark of a text file.
        thousands: Thousands separator of a text file, if any.
        encoding: Encoding of a text file.
        sheet: Sheet of a workbook, by name; None: the first.
    """

    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8-sig"
    sheet: str | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise InputError(f"--decimal {self.decimal!r}: a decimal mark is '.' or ','")
        if self.thousands is not None and (len(self.thousands) != 1 or self.thousands == self.decimal):
            raise InputError(f"--thousands {self.thousands!r}: must be one character and differ from --decimal")


def read_frame(path: str | Path, options: ReadOptions | None = None, *, as_text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with its header, cells as they are.

    Args:
        path: A ``.csv``, ``.tsv``, ``.txt``, ``.xlsx`` or ``.parquet`` file.
        options: How numbers are written in it.
        as_text: Columns of a text file that hold words even where they look like numbers (codes such as ``01`` or ``TRUE``).

    Returns:
        One row a record in file order; numeric columns parsed, others as objects. The index holds the row as a
        spreadsheet shows it.

    Raises:
        InputError: If the file is missing, empty, of an unknown kind or broken.
    """
    path, options = Path(path), options or ReadOptions()
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a table")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: a table needs a header line and at least one row")
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv", ".txt"):
            frame = _read_text(path, options, as_text)
        elif suffix in (".xlsx", ".xlsm"):
            frame = _read_workbook(path, options.sheet)
        elif suffix in (".parquet", ".pq"):
            frame = _read_parquet(path)
        else:
            raise InputError(f"{path}: cannot read {suffix or 'a file without ending'}; use .csv, .xlsx or .parquet")
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except UnicodeDecodeError as error:
        raise InputError(_encoding_message(path, options.encoding, error)) from None
    _check_header(path, list(frame.columns))
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    frame.index = pd.RangeIndex(FIRST_DATA_ROW, FIRST_DATA_ROW + len(frame))
    frame = frame.loc[~_blank(frame)]
    if frame.empty:
        raise InputError(f"{path} has a header but no row of data")
    return frame


def refuse_decimal_commas(frame: pd.DataFrame, source: str) -> None:
    """Stop where a text column is one of numbers with decimal commas.

    Raises:
        InputError: Names the column and the remedy.
    """
    for name in frame.select_dtypes(exclude="number"):
        cells = [str(cell).strip() for cell in frame[name].dropna()]
        if sum(bool(_DECIMAL_COMMA.match(cell)) for cell in cells) > 0.5 * max(1, len(cells)):
            raise InputError(
                f"{source}: column {name!r} is written with decimal commas: read the file with --decimal ,"
            )


def _blank(frame: pd.DataFrame) -> pd.Series:
    # Looking at the first column first spares a pass over the whole table in the usual case.
    first = frame.iloc[:, 0].isna()
    return frame.isna().all(axis=1) if first.any() else first


def _read_text(path: Path, options: ReadOptions, as_text: Sequence[str]) -> pd.DataFrame:
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and not options.encoding.lower().startswith("utf-16"):
        raise InputError(f"{path} is written in UTF-16. Save it as 'CSV UTF-8', or pass --encoding utf-16")
    if head == b"PK\x03\x04":
        raise InputError(f"{path} is an Excel workbook or zip file with the ending {path.suffix}. Rename it to .xlsx")
    try:
        separator, header = _separator(path, options.encoding)
    except LookupError:
        raise InputError(f"--encoding {options.encoding}: no such encoding") from None
    if any("\0" in name for name in header):
        raise InputError(f"{path} is not a text file")
    _check_header(path, header)
    width = len(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                decimal=options.decimal,
                thousands=options.thousands,
                encoding=options.encoding,
                skip_blank_lines=False,
                skipinitialspace=True,
                keep_default_na=False,  # "None" and "NA" may be codes
                na_values=[""],
                low_memory=False,
                index_col=False,
                dtype={column: str for column in header if column.strip() in as_text},
            )
            frame.attrs = {"decimal": options.decimal, "thousands": options.thousands}
            return frame
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty: a table needs a header line and at least one row") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        found = _first_ragged_line(path, options.encoding, separator, width)
        if found is None:
            raise InputError(f"{path}: not a readable table: {error}") from None
        row, cells = found
        hint = " Decimal commas inside a comma-separated file look like that: export with ';' or with decimal points."
        raise InputError(
            f"{path}: row {row} has {cells} cells, but the header has {width}.{hint if separator == ',' else ''}"
        ) from None
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise InputError(f"{path}: not a readable table: {error}") from None


def _separator(path: Path, encoding: str) -> tuple[str, list[str]]:
    """The separator under which header and first row have most cells, and the header's cells."""
    found: list[tuple[int, int, str, list[str]]] = []
    for separator in ",;\t":
        with path.open(encoding=encoding, newline="") as file:
            records = csv.reader(file, delimiter=separator, skipinitialspace=True)
            header: list[str] = []
            try:
                header = next(records, [])
                row = next(records, [])
            except csv.Error:  # a quotation mark that is never closed: the parser will say so
                row = header
        found.append((min(len(header), len(row)), len(header), separator, header))
    best = max(found, key=lambda x: x[:2])
    return best[2], best[3]


def _check_header(path: Path, names: Sequence[Any]) -> None:
    titles = [str(name).strip() for name in names if pd.notna(name)]
    if not any(titles):
        raise InputError(f"{path}: the first line is empty, but the header must stand there")
    if repeated := sorted({t for t in titles if t and titles.count(t) > 1}):
        raise InputError(
            f"{path}: columns that stand twice in the header: {', '.join(repeated)}. Rename or remove one."
        )


def _first_ragged_line(path: Path, encoding: str, separator: str, width: int) -> tuple[int, int] | None:
    with path.open(encoding=encoding, newline="") as file:
        try:
            for row, cells in enumerate(csv.reader(file, delimiter=separator), start=1):
                if len(cells) > width:
                    return row, len(cells)
        except csv.Error:
            pass
    return None


def _read_workbook(path: Path, sheet: str | None) -> pd.DataFrame:
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            names = [str(n) for n in book.sheet_names]
            if sheet is not None and sheet not in names:
                raise InputError(f"{path} has no sheet {sheet!r}; it has {', '.join(names)}")
            wanted = sheet if sheet is not None else names[0]
            # pandas renames columns that stand twice: look at the header itself.
            header = pd.read_excel(book, wanted, header=None, nrows=1)
            _check_header(path, header.iloc[0].tolist() if len(header) else [])
            return pd.read_excel(book, wanted, keep_default_na=False, na_values=[""])
    except InputError:
        raise
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise InputError(f"{path}: not a readable Excel workbook: {error}") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'pyro-hcvae[parquet]'") from None
    except Exception as error:  # pyarrow raises its own kinds, and OSError, for a broken file
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None


def _encoding_message(path: Path, encoding: str, error: UnicodeDecodeError) -> str:
    data = path.read_bytes()
    found = re.search(rb"[\x80-\xff]", data) if encoding.startswith("utf-8") else None
    start = error.start
    if found is not None:  # the codec reports a place inside its buffer: find the first offending line
        for number, line in enumerate(data.split(b"\n"), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as inner:
                bad = line[inner.start]
                return (
                    f"{path}: row {number} is not written in UTF-8 (byte 0x{bad:02x}). "
                    "Save the file as 'CSV UTF-8', or say how it is written, e.g. --encoding cp1252"
                )
    return f"{path}: not written in {encoding} (byte {start}). Say how it is written with --encoding"


def to_numbers(
    frame: pd.DataFrame, columns: Sequence[str], report: ImportReport, *, missing: str | None
) -> pd.DataFrame:
    """Parse columns as finite numbers and record every cell that is none.

    Args:
        frame: Cells as read, indexed by file row.
        columns: Columns to parse; they are in the frame.
        report: Receives an error for each kind of bad cell.
        missing: Remedy to name for empty cells, which are then errors; None: empty cells are allowed and become NaN.

    Returns:
        float64 columns with the same index; cells that are no number are NaN.
    """
    parsed: dict[str, np.ndarray[Any, Any]] = {}
    text: list[Cell] = []
    comma: list[Cell] = []
    thousands: list[Cell] = []
    empty: list[Cell] = []
    infinite: list[Cell] = []
    for name in columns:
        cells = frame[name]
        if cells.dtype == bool:
            cells = cells.astype(object)
        numbers = cells if pd.api.types.is_numeric_dtype(cells) else _numbers_of(cells, *_marks(frame))
        values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        if (gaps := np.isnan(values)).any():
            raw = cells.to_numpy(dtype=object)
            for position in np.flatnonzero(gaps):
                _sort_gap(Cell(file_row(frame, position), name, _show(raw[position])), text, comma, thousands, empty)
        if (odd := np.isinf(values)).any():
            infinite += [Cell(file_row(frame, i), name, str(values[i])) for i in np.flatnonzero(odd)]
            values = np.where(odd, np.nan, values)
        parsed[name] = values
    if _marks(frame)[0] == ",":  # then a comma is no news, and a point can only separate thousands
        thousands += comma
        comma = []
    if comma:  # then 1,250 is one and a quarter
        comma += [cell for cell in thousands if cell.value.count(",") == 1 and "." not in cell.value]
        thousands = [cell for cell in thousands if cell not in comma]
        report.add(
            "decimal-comma", "error", f"{len(comma)} cells are written with a decimal comma",
            "Read the file with --decimal , (and --thousands . if it has them)", comma,
        )  # fmt: skip
    if thousands:
        report.add(
            "thousands", "error", f"{len(thousands)} cells are written with thousands separators",
            f"Read the file with --thousands and the separator, e.g. --thousands {_thousands_mark(thousands)}", thousands,
        )  # fmt: skip
    if text:
        report.add(
            "text", "error", f"{len(text)} cells of number columns hold text",
            "Write a number there, or leave such rows out with --skip-bad-rows", text,
        )  # fmt: skip
    if infinite:
        report.add(
            "infinite", "error", f"{len(infinite)} cells are infinite",
            "Write a finite number there, or leave such rows out with --skip-bad-rows", infinite,
        )  # fmt: skip
    if empty and missing is not None:
        report.add("missing", "error", f"{len(empty)} cells are empty", missing, empty)
    return pd.DataFrame(parsed, index=frame.index)


def _marks(frame: pd.DataFrame) -> tuple[str, str | None]:
    """Decimal mark and thousands separator of the text file that a frame was read from."""
    return str(frame.attrs.get("decimal", ".")), frame.attrs.get("thousands")


def _thousands_mark(cells: Sequence[Cell]) -> str:
    return "." if "." in cells[0].value and not _THOUSANDS.match(cells[0].value) else ","


def _numbers_of(cells: pd.Series, decimal: str = ".", thousands: str | None = None) -> pd.Series:
    """Numbers of a column that holds some text, cell by cell: pandas gives up on the column as a whole."""

    def read(cell: Any) -> Any:
        if isinstance(cell, str):
            text = cell.strip()
            if thousands is not None:
                text = text.replace(thousands, "")
            if decimal == ",":
                text = "not a number" if "." in text else text.replace(",", ".")
            return text
        return np.nan if isinstance(cell, bool | date | timedelta) else cell  # pandas would count a date's ticks

    return pd.to_numeric(cells.astype(object).map(read), errors="coerce")


def _sort_gap(cell: Cell, text: list[Cell], comma: list[Cell], thousands: list[Cell], empty: list[Cell]) -> None:
    if cell.value.strip().lower() in MISSING:
        empty.append(Cell(cell.row, cell.column, "empty"))
    elif _THOUSANDS.match(cell.value):
        thousands.append(cell)
    elif _POINT_THOUSANDS.match(cell.value) or _DECIMAL_COMMA.match(cell.value):
        comma.append(cell)
    else:
        text.append(cell)


def _show(value: object) -> str:
    return "" if value is None or value is pd.NA else str(value)


def file_row(frame: pd.DataFrame, position: int | np.integer[Any]) -> int:
    """Row of the file, as a spreadsheet shows it, of the record at a position of the frame."""
    return int(frame.index.to_numpy()[position])
