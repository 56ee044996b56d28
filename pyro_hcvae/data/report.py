"""`ImportReport`: every problem found in a table, by row, column and value, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.errors import InputError

Severity = Literal["error", "warning", "info"]
KEPT_CELLS = 10_000
"""Cells that a finding names one by one. The others are counted, and their rows are known."""


class TableError(InputError):
    """A table that cannot be used, with the whole report of what was found.

    Attributes:
        report: All findings, errors and others.
    """

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


class Cell(NamedTuple):
    """One place in the file."""

    row: int | None
    """Row as a spreadsheet shows it: the header is row 1. None: the whole column."""
    column: str | None
    """None: the whole row."""
    value: str

    def __str__(self) -> str:
        places = [f"row {self.row}"] if self.row is not None else []
        places += [f"column {self.column!r}"] if self.column is not None else []
        return ", ".join(places) + (f": {self.value}" if self.value else "")


class Places:
    """Cells that show one problem, gathered in pieces.

    Attributes:
        cells: The first of them, at most `KEPT_CELLS`.
        count: How many there are.
    """

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self.cells = list(cells)
        self.count = len(self.cells)
        self._rows = [np.array([cell.row for cell in self.cells if cell.row is not None], dtype=np.int64)]

    def add(self, rows: NDArray[np.int64], column: str | None, texts: Iterable[str]) -> None:
        """Add cells of one column: their rows, shape ``(cells,)``, and what to show of each."""
        room = KEPT_CELLS - len(self.cells)
        self.cells += [Cell(int(row), column, text) for row, text in zip(rows[:room], texts, strict=False)]
        self.count += len(rows)
        self._rows.append(rows)

    def extend(self, other: Places) -> None:
        """Add the cells of another after these."""
        self.cells += other.cells[: KEPT_CELLS - len(self.cells)]
        self.count += other.count
        self._rows += other._rows

    @property
    def rows(self) -> NDArray[np.int64]:
        """Distinct rows of the file that are concerned, ascending."""
        return np.unique(np.concatenate(self._rows))


@dataclass(frozen=True)
class Finding:
    """One kind of problem, with the cells that show it."""

    code: str
    """Short stable name of the kind, for scripts."""
    severity: Severity
    message: str
    action: str
    """What was done, or what the user can do."""
    cells: tuple[Cell, ...] = ()
    """The first `KEPT_CELLS` of them."""
    cell_count: int = 0
    """How many there are."""
    row_numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False)
    """`rows` as an array: a table of millions of rows may have a problem in each."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Distinct rows of the file that are concerned, ascending."""
        return tuple(self.row_numbers.tolist())

    def __str__(self) -> str:
        return f"{self.severity}: {self.message} -> {self.action}"


@dataclass
class ImportReport:
    """What the import of one table found and did."""

    source: str
    rows_read: int = 0
    rows_kept: int = 0
    facts: dict[str, int] = field(default_factory=dict)
    """Counts that describe the table: recipes, laboratories, component sets."""
    findings: list[Finding] = field(default_factory=list)

    def add(
        self, code: str, severity: Severity, message: str, action: str, cells: Places | Iterable[Cell] = ()
    ) -> None:
        """Record a problem."""
        places = cells if isinstance(cells, Places) else Places(cells)
        found = Finding(code, severity, message, action, tuple(places.cells), places.count, places.rows)
        self.findings.append(found)

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop the import."""
        return [f for f in self.findings if f.severity == "error"]

    def find(self, code: str) -> list[Finding]:
        """All findings of one kind."""
        return [f for f in self.findings if f.code == code]

    def to_frame(self) -> pd.DataFrame:
        """One row a cell, at most `KEPT_CELLS` a finding: code, severity, row, column, value, message, action."""
        records = [
            (f.code, f.severity, cell.row, cell.column, cell.value, f.message, f.action)
            for f in self.findings
            for cell in (f.cells or (Cell(None, None, ""),))
        ]
        frame = pd.DataFrame(records, columns=["code", "severity", "row", "column", "value", "message", "action"])
        return frame.astype({"row": "Int64"})

    def to_text(self, *, examples: int = 3) -> str:
        """Readable summary.

        Args:
            examples: How many cells to name for each finding.
        """
        lines = [f"{self.source}: {self.rows_read} rows read, {self.rows_kept} kept"]
        if self.facts:
            lines.append("  " + ", ".join(f"{count} {what}" for what, count in self.facts.items()))
        for finding in self.findings:
            lines.append(f"- {finding.severity} [{finding.code}] {finding.message}")
            lines.append(f"    {finding.action}")
            if finding.cells:
                lines.append("    " + _some(finding, examples))
        if not self.findings:
            lines.append("- no problem found")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON, with at most 1000 cells a finding."""
        return {
            "source": self.source,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "facts": dict(self.facts),
            "findings": [
                {
                    "code": f.code,
                    "severity": f.severity,
                    "message": f.message,
                    "action": f.action,
                    "row_count": len(f.row_numbers),
                    "cells": [cell._asdict() for cell in f.cells[:1000]],
                }
                for f in self.findings
            ],
        }

    def raise_errors(self) -> None:
        """Stop if the table cannot be used.

        Raises:
            TableError: Names every kind of error with its first cells and the remedy.
        """
        if not self.errors:
            return
        lines = [f"{self.source} cannot be used as it is:"]
        for finding in self.errors:
            lines.append(f"- {finding.message}" + (f" ({_some(finding, 5)})" if finding.cells else ""))
            lines.append(f"  {finding.action}")
        raise TableError("\n".join(lines), self)


def _some(finding: Finding, count: int) -> str:
    shown = "; ".join(str(cell) for cell in finding.cells[:count])
    return shown + (f"; and {finding.cell_count - count} more cells" if finding.cell_count > count else "")
