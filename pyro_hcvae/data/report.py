"""`ImportReport`: every problem found in a table, by row, column and value, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pandas as pd

from pyro_hcvae.errors import InputError

Severity = Literal["error", "warning", "info"]


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


@dataclass(frozen=True)
class Finding:
    """One kind of problem, with every cell that shows it."""

    code: str
    """Short stable name of the kind, for scripts."""
    severity: Severity
    message: str
    action: str
    """What was done, or what the user can do."""
    cells: tuple[Cell, ...] = ()

    @property
    def rows(self) -> tuple[int, ...]:
        """Distinct rows of the file that are concerned, ascending."""
        return tuple(sorted({cell.row for cell in self.cells if cell.row is not None}))

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

    def add(self, code: str, severity: Severity, message: str, action: str, cells: Iterable[Cell] = ()) -> None:
        """Record a problem."""
        self.findings.append(Finding(code, severity, message, action, tuple(cells)))

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop the import."""
        return [f for f in self.findings if f.severity == "error"]

    def find(self, code: str) -> list[Finding]:
        """All findings of one kind."""
        return [f for f in self.findings if f.code == code]

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: code, severity, row, column, value, message, action."""
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
                lines.append("    " + _some(finding.cells, examples))
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
                    "row_count": len(f.rows),
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
            lines.append(f"- {finding.message}" + (f" ({_some(finding.cells, 5)})" if finding.cells else ""))
            lines.append(f"  {finding.action}")
        raise TableError("\n".join(lines), self)


def _some(cells: Sequence[Cell], count: int) -> str:
    shown = "; ".join(str(cell) for cell in cells[:count])
    return shown + (f"; and {len(cells) - count} more cells" if len(cells) > count else "")
