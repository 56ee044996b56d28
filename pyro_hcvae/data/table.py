"""`RecipeTable`: rows of a laboratory's table, checked against the schema and brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.checks import SKIP, check_conditions, describe_components, normalise_block
from pyro_hcvae.data.reading import MISSING, ReadOptions, file_row, read_frame, to_numbers
from pyro_hcvae.data.report import Cell, ImportReport
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema
from pyro_hcvae.errors import InputError

PROPOSAL_PREFIX = "proposal: "
"""Columns that an export adds to the table's own; an import passes over them."""
Purpose = Literal["training", "conditions", "partial"]


@dataclass(frozen=True)
class RecipeTable:
    """Validated rows in the schema's columns.

    In `frame`, shares sum exactly to their total, an optional step that was not carried out holds ``absent`` in all its
    columns, and NaN stands for a number that is not known.

    Attributes:
        schema: Meaning of the columns.
        frame: One row an experiment, columns in schema order, indexed by the row of the file.
        header: Columns of the file in file order, for exports that can be appended to it.
        report: What the import found.
    """

    schema: RecipeSchema
    frame: pd.DataFrame
    header: tuple[str, ...]
    report: ImportReport

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def read(
        cls,
        path: str | Path,
        schema: RecipeSchema,
        *,
        purpose: Purpose = "training",
        options: ReadOptions | None = None,
        drop_columns: Iterable[str] = (),
        skip_bad_rows: bool = False,
    ) -> RecipeTable:
        """Read, check and normalise a file.

        Args:
            path: CSV, Excel or Parquet file.
            schema: Meaning of its columns.
            purpose: ``training`` needs every modelled column and cell; ``conditions`` needs the condition and
                performance columns and looks at no other; ``partial`` lets any cell be empty and any column lack.
            options: How the file writes its numbers.
            drop_columns: Components to leave out of the model, or columns of the file to pass over.
            skip_bad_rows: Leave rows with errors out (they stay in the report) instead of stopping.

        Raises:
            InputError: If the file cannot be used; names rows, columns, values and the remedy.
        """
        words = [
            b.column for b in schema.blocks if isinstance(b, Category) and any(isinstance(c, str) for c in b.codes)
        ]
        raw = read_frame(path, options, as_text=words)
        return cls.from_frame(
            raw, schema, source=str(path), purpose=purpose, drop_columns=drop_columns, skip_bad_rows=skip_bad_rows
        )

    @classmethod
    def from_frame(
        cls,
        raw: pd.DataFrame,
        schema: RecipeSchema,
        *,
        source: str = "table",
        purpose: Purpose = "training",
        drop_columns: Iterable[str] = (),
        skip_bad_rows: bool = False,
    ) -> RecipeTable:
        """Check and normalise a frame. Arguments and errors as for `read`; the index names the rows."""
        if not (raw.index.is_unique and pd.api.types.is_integer_dtype(raw.index)):
            raise InputError(f"{source}: the frame's index must number the rows, each once; call reset_index first")
        raw = raw.rename(columns=str)
        if not raw.columns.is_unique:
            raise InputError(f"{source}: some columns of the frame have the same name")
        dropped = tuple(drop_columns)
        for name in dropped:
            if name not in raw.columns and name not in schema.columns:
                known = tuple(str(c) for c in raw.columns)
                raise InputError(f"cannot drop column {name!r}: {schema.did_you_mean(name, known)}")
        schema = schema.without(*(name for name in dropped if name in schema.columns))
        passed_over = tuple(name for name in dropped if name not in schema.identifiers)
        schema = schema.model_copy(update={"identifiers": (*schema.identifiers, *passed_over)})
        report = ImportReport(source, rows_read=len(raw))
        wanted = _wanted_columns(raw, schema, purpose, dropped, report)
        report.raise_errors()
        missing = None if purpose == "partial" else f"Fill them in (0 where a component is absent), {SKIP}"
        codes = {block.column: block for block in schema.blocks if isinstance(block, Category)}
        frame = to_numbers(raw, [c for c in wanted if c not in codes], report, missing=missing)
        for name in set(wanted) & set(codes):
            frame[name] = _codes(raw, codes[name], report, missing=missing)
        for name in schema.columns:
            if name not in frame.columns and (purpose == "partial" or name in schema.condition_columns):
                frame[name] = pd.Series(np.nan, index=frame.index, dtype=object if name in codes else float)
        frame = frame[[c for c in schema.columns if c in frame.columns]].copy()
        for block in schema.blocks:
            if set(block.names()) <= set(frame.columns):
                normalise_block(frame, block, report)
        check_conditions(frame, schema, report)
        bad = {cell.row for finding in report.errors for cell in finding.cells}
        if report.errors and skip_bad_rows and None not in bad:
            report.findings = [
                replace(f, severity="warning", action="These rows were left out") if f.severity == "error" else f
                for f in report.findings
            ]
            frame = frame.loc[~frame.index.isin(sorted(r for r in bad if r is not None))]
            if frame.empty:
                raise InputError(f"{source}: every row has an error; nothing is left")
        report.raise_errors()
        report.rows_kept = len(frame)
        table = cls(schema, frame, tuple(str(c) for c in raw.columns), report)
        if purpose == "training":
            _describe(table, raw.loc[frame.index])
        return table

    def recipe_ids(self) -> NDArray[np.int64]:
        """Number of the recipe of each row: rows of one recipe agree in all stage columns. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.recipe_columns)

    def laboratory_ids(self) -> NDArray[np.int64]:
        """Number of the laboratory of each row, by the schema's ``laboratory`` columns. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.laboratory or self.schema.condition_columns)

    def composition_ids(self) -> NDArray[np.int64]:
        """Number of the composition (all components, no processing) of each row. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.component_columns or self.schema.recipe_columns)

    def select(self, positions: NDArray[np.int64]) -> RecipeTable:
        """The rows at some positions, in that order."""
        return replace(self, frame=self.frame.iloc[positions])


def row_groups(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Number rows so that equal rows share a number; numbers follow first appearance. Shape ``(rows,)``."""
    subset = frame[list(columns)]
    numeric = subset.select_dtypes("number").round(9) + 0.0  # -0.0 and 0.0 are one value
    subset = pd.concat([numeric, subset.drop(columns=numeric.columns)], axis=1)
    hashed = pd.util.hash_pandas_object(subset, index=False)
    groups: NDArray[np.int64] = pd.factorize(hashed)[0].astype(np.int64)
    return groups


def _wanted_columns(
    raw: pd.DataFrame, schema: RecipeSchema, purpose: Purpose, dropped: Sequence[str], report: ImportReport
) -> list[str]:
    present = set(raw.columns)
    known = {*schema.columns, *schema.identifiers, *dropped}
    if purpose == "conditions":
        needed: tuple[str, ...] = (*schema.condition_columns, schema.performance.name)
        wanted = list(needed)
    else:
        needed = schema.columns if purpose == "training" else ()
        wanted = list(schema.columns)
    unknown = [c for c in raw.columns if c not in known and not c.startswith(PROPOSAL_PREFIX)]
    lacking = [c for c in needed if c not in present]
    if len(lacking) > 0.5 * len(needed):
        report.add(
            "other-table", "error",
            f"this table does not look like schema {schema.name!r}: {len(lacking)} of its {len(needed)} columns are not in "
            f"the file ({', '.join(lacking[:5])}, ...)",
            "Name the schema that describes it with --schema FILE, or draft one with: pyro-hcvae schema init TABLE",
        )  # fmt: skip
        return []
    for name in lacking:
        close = RecipeSchema.did_you_mean(name, tuple(unknown)) if unknown else "the file has no column left to match"
        report.add(
            "column-missing", "error", f"column {name!r} of schema {schema.name!r} is not in the file",
            f"Add it, or rename the column that holds it ({close})", [Cell(None, name, "")],
        )  # fmt: skip
    # A table of conditions may be the whole table: its recipe columns are of no concern there.
    if purpose != "conditions":
        for name in unknown:
            report.add(
                "column-unknown", "error", f"column {name!r} is not in schema {schema.name!r}",
                f"Leave it out with --drop-column {name!r}, or add it to the schema "
                f"({schema.did_you_mean(name, tuple(lacking) or schema.columns)})",
                [Cell(None, name, "")],
            )  # fmt: skip
    return [c for c in wanted if c in present]


def _codes(frame: pd.DataFrame, block: Category, report: ImportReport, *, missing: str | None) -> pd.Series:
    cells = frame[block.column]
    known: dict[str, Any] = {str(code): code for code in block.codes}

    def read(value: Any) -> Any:
        if value is None or value is pd.NA:
            return np.nan
        whole = isinstance(value, float | np.floating) and value.is_integer()
        text = str(int(value)) if whole else str(value).strip()
        return known.get(text, np.nan if text.lower() in MISSING else _UNKNOWN)

    distinct = {value: read(value) for value in cells.unique()}
    values = cells.map(lambda v: distinct.get(v, np.nan), na_action=None).astype(object)
    wrong = values.map(lambda v: v is _UNKNOWN).to_numpy(dtype=bool)
    if wrong.any():
        report.add(
            "code-unknown", "error", f"{wrong.sum()} cells of {block.column!r} hold a code that the schema lacks",
            f"Codes are {', '.join(known)}. Correct the cells or add the code to the schema, {SKIP}",
            [Cell(file_row(frame, i), block.column, str(cells.iloc[i])) for i in np.flatnonzero(wrong)],
        )  # fmt: skip
        values = values.where(~wrong, np.nan)
    empty = values.isna().to_numpy() & ~wrong
    if missing is not None and empty.any():
        report.add(
            "missing", "error", f"{empty.sum()} cells are empty", missing,
            [Cell(file_row(frame, i), block.column, "empty") for i in np.flatnonzero(empty)],
        )  # fmt: skip
    return values


_UNKNOWN = object()


def _describe(table: RecipeTable, raw: pd.DataFrame) -> None:
    """Findings about the table as a whole, and its facts."""
    schema, frame, report = table.schema, table.frame, table.report
    repeats = row_groups(raw, schema.columns)
    _, first = np.unique(repeats, return_index=True)
    duplicate = np.ones(len(raw), dtype=bool)
    duplicate[first] = False
    if duplicate.any():
        report.add(
            "duplicate", "warning", f"{duplicate.sum()} rows repeat an earlier row in every modelled column",
            "Kept: training draws one row per recipe, so repeats do not weigh more",
            [Cell(int(r), None, "") for r in frame.index[duplicate]],
        )  # fmt: skip
    for block in schema.blocks:
        if isinstance(block, Amounts | Fractions):
            describe_components(frame, block, report)
            report.facts[f"sets of {block.name}"] = len(
                np.unique(row_groups(frame[list(block.columns)] > 0, block.columns))
            )
    report.facts = {
        "recipes": len(np.unique(table.recipe_ids())),
        "laboratories": len(np.unique(table.laboratory_ids())),
    } | report.facts
