"""Files -> cells, in chunks of rows. CSV, Excel and Parquet, with errors that say what is wrong with the file."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_hcvae.data import columns
from pyro_hcvae.data.cells import DECIMAL_COMMA
from pyro_hcvae.errors import InputError

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


@dataclass(frozen=True)
class RawTable:
    """Cells of a table as they are, in chunks that are read when they are asked for, once.

    Attributes:
        header: Columns in the order of the file.
        capacity: No fewer than the rows to come.
        chunks: Rows in file order, blank ones left out. Numeric columns are parsed, others hold objects; the index is the
            row as a spreadsheet shows it. Asking for one raises `InputError` if the file is broken there.
        options: How the numbers of cells that are text are written.
    """

    header: tuple[str, ...]
    capacity: int
    chunks: Iterator[pd.DataFrame]
    options: ReadOptions


def open_table(path: str | Path, options: ReadOptions | None = None, *, as_text: Sequence[str] = ()) -> RawTable:
    """Open a table with its header.

    Args:
        path: A ``.csv``, ``.tsv``, ``.txt``, ``.xlsx`` or ``.parquet`` file.
        options: How numbers are written in it.
        as_text: Columns of words, even where these look like numbers (``01``, ``TRUE``): read from a text file as text, from a
            workbook as its cells are.

    Raises:
        InputError: If the file is missing, empty, of an unknown kind or broken.
    """
    return _open(Path(path), options or ReadOptions(), as_text, columns.CHUNK_ROWS)


def read_frame(path: str | Path, options: ReadOptions | None = None) -> pd.DataFrame:
    """Read a table at once, cells as they are, as a chunk of `RawTable`. Arguments and errors as for `open_table`."""
    (frame,) = _open(Path(path), options or ReadOptions(), (), None).chunks
    return frame


def _open(path: Path, options: ReadOptions, as_text: Sequence[str], chunk_rows: int | None) -> RawTable:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a table")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: a table needs a header line and at least one row")
    suffix = path.suffix.lower()
    with _explained(path, options):
        if suffix in (".csv", ".tsv", ".txt"):
            capacity, frames = _open_text(path, options, as_text, chunk_rows)
        elif suffix in (".xlsx", ".xlsm"):
            frame = _read_workbook(path, options.sheet, as_text)
            capacity, frames = len(frame), iter([frame])
        elif suffix in (".parquet", ".pq"):
            capacity, frames = _open_parquet(path, chunk_rows)
        else:
            raise InputError(f"{path}: cannot read {suffix or 'a file without ending'}; use .csv, .xlsx or .parquet")
        first = next(frames)
    _check_header(path, list(first.columns))
    header = tuple(str(name).strip() for name in first.columns)
    chunks = _numbered(path, options, header, capacity, chain([first], frames))
    return RawTable(header, capacity, chunks, options)


def _numbered(
    path: Path, options: ReadOptions, header: tuple[str, ...], capacity: int, frames: Iterator[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    start, found = FIRST_DATA_ROW, False
    with _explained(path, options):
        for frame in frames:
            frame.columns = pd.Index(header)
            frame.index = pd.RangeIndex(start, start + len(frame))
            start += len(frame)
            if start > FIRST_DATA_ROW + capacity:
                raise InputError(f"{path} grew while it was read: read it again when it is complete")
            filled = ~_blank(frame)
            if filled.any():
                found = True
                yield frame if filled.all() else frame.loc[filled]
    if not found:
        raise InputError(f"{path} has a header but no row of data")


@contextmanager
def _explained(path: Path, options: ReadOptions) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except UnicodeDecodeError as error:
        raise InputError(_encoding_message(path, options.encoding, error)) from None


def refuse_decimal_commas(frame: pd.DataFrame, source: str) -> None:
    """Stop where a text column is one of numbers with decimal commas.

    Raises:
        InputError: Names the column and the remedy.
    """
    for name in frame.select_dtypes(exclude="number"):
        cells = [str(cell).strip() for cell in frame[name].dropna()]
        if sum(bool(DECIMAL_COMMA.match(cell)) for cell in cells) > 0.5 * max(1, len(cells)):
            raise InputError(
                f"{source}: column {name!r} is written with decimal commas: read the file with --decimal ,"
            )


def _blank(frame: pd.DataFrame) -> pd.Series:
    # Looking at the first column first spares a pass over the whole table in the usual case.
    first = frame.iloc[:, 0].isna()
    return frame.isna().all(axis=1) if first.any() else first


def _open_text(
    path: Path, options: ReadOptions, as_text: Sequence[str], chunk_rows: int | None
) -> tuple[int, Iterator[pd.DataFrame]]:
    """Most rows that the file can have, and its chunks."""
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
    lines, plain = 0, True  # a quoted cell may hold several lines
    with path.open(encoding=options.encoding) as file:
        for line in file:
            lines += 1
            plain = plain and '"' not in line and line.count(separator) < len(header)
    if not plain:  # pandas before 3 cuts off the first line of a chunk without a word
        _refuse_ragged_line(path, options.encoding, separator, len(header))
    return lines, _read_text(path, options, separator, header, as_text, chunk_rows)


def _read_text(
    path: Path,
    options: ReadOptions,
    separator: str,
    header: Sequence[str],
    as_text: Sequence[str],
    chunk_rows: int | None,
) -> Iterator[pd.DataFrame]:
    try:
        with pd.read_csv(
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
            iterator=True,
        ) as reader:
            while True:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    try:
                        frame = reader.get_chunk(chunk_rows)
                    except StopIteration:
                        return
                yield frame
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty: a table needs a header line and at least one row") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        _refuse_ragged_line(path, options.encoding, separator, len(header))
        raise InputError(f"{path}: not a readable table: {error}") from None
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


def _refuse_ragged_line(path: Path, encoding: str, separator: str, width: int) -> None:
    """Stop at a row with more cells than the header has."""
    with path.open(encoding=encoding, newline="") as file:
        records = csv.reader(file, delimiter=separator, skipinitialspace=True)
        try:
            row, cells = next((i, len(record)) for i, record in enumerate(records, 1) if len(record) > width)
        except (csv.Error, StopIteration):  # the parser knows better what is wrong, if anything
            return
    hint = " Decimal commas inside a comma-separated file look like that: export with ';' or with decimal points."
    raise InputError(
        f"{path}: row {row} has {cells} cells, but the header has {width}.{hint if separator == ',' else ''}"
    ) from None


def _read_workbook(path: Path, sheet: str | None, as_text: Sequence[str]) -> pd.DataFrame:
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            names = [str(n) for n in book.sheet_names]
            if sheet is not None and sheet not in names:
                raise InputError(f"{path} has no sheet {sheet!r}; it has {', '.join(names)}")
            wanted = sheet if sheet is not None else names[0]
            # pandas renames columns that stand twice: look at the header itself.
            header = pd.read_excel(book, wanted, header=None, nrows=1)
            titles = header.iloc[0].tolist() if len(header) else []
            _check_header(path, titles)
            # Else pandas makes a number of a cell of text that looks like one.
            as_they_are = {name: object for name in titles if str(name).strip() in as_text}
            return pd.read_excel(book, wanted, keep_default_na=False, na_values=[""], dtype=as_they_are)
    except InputError:
        raise
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise InputError(f"{path}: not a readable Excel workbook: {error}") from None


def _open_parquet(path: Path, chunk_rows: int | None) -> tuple[int, Iterator[pd.DataFrame]]:
    """Number of rows of the file, and its chunks."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'pyro-hcvae[parquet]'") from None

    try:
        # With a buffer: else pyarrow holds all columns of a row group, which may be the whole file.
        file = parquet.ParquetFile(path, buffer_size=2**14)
    except Exception as error:  # pyarrow raises its own kinds, and OSError, for a broken file
        raise _broken_parquet(path, error) from None

    def chunks() -> Iterator[pd.DataFrame]:
        try:
            with file:
                if chunk_rows is None or not file.metadata.num_rows:
                    yield file.read().to_pandas()
                else:
                    # Half as many rows, since pyarrow needs room for several times that.
                    for batch in file.iter_batches(batch_size=max(1, chunk_rows // 2), use_threads=False):
                        yield batch.to_pandas(use_threads=False, split_blocks=True)
        except Exception as error:
            raise _broken_parquet(path, error) from None

    return int(file.metadata.num_rows), chunks()


def _broken_parquet(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable Parquet file: {error}")


def _encoding_message(path: Path, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding.startswith("utf-8"):  # the codec reports a place inside its buffer: find the first offending line
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as inner:
                    return (
                        f"{path}: row {number} is not written in UTF-8 (byte 0x{line[inner.start]:02x}). "
                        "Save the file as 'CSV UTF-8', or say how it is written, e.g. --encoding cp1252"
                    )
    return f"{path}: not written in {encoding} (byte {error.start}). Say how it is written with --encoding"
