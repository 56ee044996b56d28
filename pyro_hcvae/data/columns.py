"""`Columns`: the cells of a table in one block of memory, filled chunk by chunk and changed in place.

A table of millions of rows is held once. Whatever needs room besides it works on a chunk of rows or on one column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CHUNK_ROWS = 4096
"""Rows that are worked on at a time: few enough for a processor's cache, enough to make the overhead small."""


def row_chunks(rows: int) -> Iterator[slice]:
    """Slices of `CHUNK_ROWS` rows that cover all of them."""
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, rows))


class Columns:
    """Cells of a table by column: numbers as float64, codes as objects.

    ``columns[name]`` is the column itself, shape ``(rows,)``: what is written there is written into the table.

    Args:
        names: Columns in the order of the table.
        codes: Those that hold codes.
        capacity: Most rows that may be appended.
    """

    def __init__(self, names: Sequence[str], codes: Collection[str], capacity: int) -> None:
        self._names = tuple(names)
        self._number = {name: i for i, name in enumerate(n for n in names if n not in codes)}
        self._code = {name: i for i, name in enumerate(n for n in names if n in codes)}
        self._numbers = np.empty((len(self._number), capacity))
        self._codes = np.empty((len(self._code), capacity), dtype=object)
        self._rows = np.empty(capacity, dtype=np.int64)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name in self._code:
            return self._codes[self._code[name], : self._length]
        return self._numbers[self._number[name], : self._length]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of the file of each record, shape ``(rows,)``."""
        return self._rows[: self._length]

    def append(self, rows: NDArray[np.int64], cells: Mapping[str, NDArray[Any]]) -> None:
        """Add records; columns that lack in ``cells`` are open (NaN).

        Args:
            rows: Row of the file of each, shape ``(chunk,)``.
            cells: Values by column, each shape ``(chunk,)``.

        Raises:
            ValueError: If there are more records than the capacity.
        """
        new = slice(self._length, self._length + len(rows))
        self._rows[new] = rows
        self._length = new.stop
        for name in self._names:
            self[name][new] = cells.get(name, np.nan)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Drop all other records, in place. Mask of shape ``(rows,)``."""
        left = int(wanted.sum())
        for column in (self.rows, *map(self.__getitem__, self._names)):
            column[:left] = column[wanted]
        self._length = left

    def frame(self) -> pd.DataFrame:
        """The table as a frame, indexed by the row of the file; its numbers are not copied."""
        index = pd.Index(self.rows)
        frame = pd.DataFrame(self._numbers[:, : self._length].T, index=index, columns=list(self._number), copy=False)
        for position, name in enumerate(self._names):
            if name in self._code:
                frame.insert(position, name, pd.Series(self[name], index=index, dtype=object, copy=False))
        return frame


def matrix_of(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns as one matrix, shape ``(rows, columns)``."""
    return frame[list(columns)].to_numpy(dtype=np.float64)


def with_columns(frame: pd.DataFrame, new: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """A copy of a frame with other cells ``(rows,)`` in some of the columns that it has.

    All float64 columns come to lie in one memory: a frame whose columns are set one after another keeps each in its own, which
    makes both setting and reading slow.
    """
    if not new:
        return frame.copy()
    cells = {name: new[name] if name in new else frame[name] for name in frame.columns.tolist()}
    floats = {name: np.asarray(x) for name, x in cells.items() if x.dtype == np.float64}
    numbers = np.array([*floats.values()], dtype=np.float64).reshape(len(floats), len(frame))
    out = pd.DataFrame(numbers.T, index=frame.index, columns=[*floats], copy=False)
    for i, name in enumerate(cells):
        if name not in floats:
            out.insert(i, name, new[name] if name in new else frame[name].array)
    return out


def row_hashes(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each row that is the same where rows are: to nine decimals, -0 as 0. Shape ``(rows,)``."""
    hashes = np.zeros(len(frame), dtype=np.uint64)
    # Odd factors tell the columns apart; sums and products wrap around.
    factors = np.random.default_rng(0).integers(2**63, size=len(columns), dtype=np.uint64) * 2 + 1
    for name, factor in zip(columns, factors, strict=True):
        values = frame[name].to_numpy()
        for rows in row_chunks(len(frame)):
            part = values[rows]
            if part.dtype.kind in "biuf":
                part = np.round(part.astype(np.float64), 9) + 0.0
            hashes[rows] += factor * pd.util.hash_array(part)
    return hashes


def join_rows(mask: NDArray[np.bool_], where: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """Put together the rows of a table ``(rows,)`` that a mask has split, in their order."""
    rows = np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)])
    return pd.concat([where, elsewhere]).iloc[np.argsort(rows)]
