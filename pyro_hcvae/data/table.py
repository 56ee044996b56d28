"""`RecipeTable`: rows of a laboratory's table, checked against the schema and brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.reading import MISSING, ReadOptions, file_row, read_frame, to_numbers
from pyro_hcvae.data.report import Cell, ImportReport
from pyro_hcvae.data.schema import Amounts, Block, Category, Column, Feed, Fractions, RecipeSchema, Step
from pyro_hcvae.errors import InputError

PROPOSAL_PREFIX = "proposal: "
"""Columns that an export adds to the table's own; an import passes over them."""
_SKIP = "or leave such rows out with --skip-bad-rows"
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
        raw = read_frame(path, options)
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
        report = ImportReport(source, rows_read=len(raw))
        wanted = _wanted_columns(raw, schema, purpose, dropped, report)
        report.raise_errors()
        missing = None if purpose == "partial" else f"Fill them in, {_SKIP}"
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
                _NORMALISE[type(block)](frame, block, report)
        _check_conditions(frame, schema, report)
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
            f"Codes are {', '.join(known)}. Correct the cells or add the code to the schema, {_SKIP}",
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


def _cells(frame: pd.DataFrame, mask: NDArray[np.bool_], columns: Sequence[str]) -> list[Cell]:
    values = frame[list(columns)].to_numpy()
    return [Cell(file_row(frame, i), columns[j], f"{values[i, j]:g}") for i, j in zip(*np.nonzero(mask), strict=True)]


def _row_cells(frame: pd.DataFrame, rows: NDArray[np.bool_], column: str, values: NDArray[Any]) -> list[Cell]:
    return [Cell(file_row(frame, i), column, f"{values[i]:g}") for i in np.flatnonzero(rows)]


def _check_components(frame: pd.DataFrame, block: Amounts | Fractions, report: ImportReport) -> NDArray[np.float64]:
    columns = list(block.columns)
    values = frame[columns].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        negative = values < 0
    if negative.any():
        report.add(
            "negative", "error", f"{negative.sum()} cells of {block.name!r} are negative",
            f"Amounts are zero or positive: correct them, {_SKIP}", _cells(frame, negative, columns),
        )  # fmt: skip
    count = (values > 0).sum(axis=1)
    most = block.set_sizes[-1]
    if (over := count > most).any():
        report.add(
            "too-many", "error", f"{over.sum()} rows have more than {most} components in {block.name!r}",
            f"Raise max_present of {block.name!r} in the schema, {_SKIP}",
            _row_cells(frame, over, f"number of {block.name}", count),
        )  # fmt: skip
    return values


def _normalise_amounts(frame: pd.DataFrame, block: Block, report: ImportReport) -> None:
    assert isinstance(block, Amounts)
    values = _check_components(frame, block, report)
    if block.max_total is not None:
        total = np.nansum(values, axis=1)
        if (over := total > block.max_total * (1 + 1e-9)).any():
            report.add(
                "total-high", "warning", f"{over.sum()} rows have more than {block.max_total:g} {block.unit} in sum",
                "Kept as they are", _row_cells(frame, over, f"sum of {block.name}", total),
            )  # fmt: skip


def _normalise_fractions(frame: pd.DataFrame, block: Block, report: ImportReport) -> None:
    assert isinstance(block, Fractions)
    values = _check_components(frame, block, report)
    total = values.sum(axis=1)  # NaN where a cell is open: such rows are left alone
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = total / block.total
        off = (np.abs(ratio - 1) > block.tolerance) & (total > 0)
        slight = (np.abs(ratio - 1) > 1e-9) & ~off & (total > 0)
        scale = np.where(total > 0, 1 / ratio, 1.0)
    if off.any():
        kinds = ", ".join(f"{v:g} ({n} rows)" for v, n in _counts(total[off]))
        report.add(
            "fraction-sum", "warning", f"{off.sum()} rows of {block.name!r} do not sum to {block.total:g}: {kinds}",
            f"Shares were divided by their sum, so that they are parts of {block.total:g}",
            _row_cells(frame, off, f"sum of {block.name}", total),
        )  # fmt: skip
    if slight.any():
        report.add(
            "fraction-rounding", "info",
            f"{slight.sum()} rows of {block.name!r} miss {block.total:g} by a rounding error",
            "Shares were divided by their sum", _row_cells(frame, slight, f"sum of {block.name}", total),
        )  # fmt: skip
    if (empty := total == 0).any():
        cells = _row_cells(frame, empty, f"sum of {block.name}", total)
        message = f"{empty.sum()} rows have no component in {block.name!r} (sum 0)"
        if block.may_be_empty:
            report.add("fraction-none", "warning", message, "Kept as bulk recipes, without that stage", cells)
        else:
            report.add("fraction-none", "error", message, f"Fill them in, {_SKIP}", cells)
    frame[list(block.columns)] = values * scale[:, None]


def _normalise_step(frame: pd.DataFrame, block: Block, report: ImportReport) -> None:
    assert isinstance(block, Step)
    names = list(block.names())
    values = frame[names].to_numpy(dtype=np.float64).copy()
    lead, done = names[0], np.ones(len(frame), dtype=bool)
    if block.optional:
        done = values[:, 0] != block.absent  # NaN: open, hence neither
        rest = (values[:, 1:] != block.absent) & ~np.isnan(values[:, 1:])
        contradiction = ~done & rest.any(axis=1)
        if contradiction.any():
            report.add(
                "step-contradiction", "warning",
                f"{contradiction.sum()} rows have {lead} = {block.absent:g} (not done), yet other settings of "
                f"{block.name!r}",
                "Read as not done: the other settings were set aside",
                _cells(frame, np.column_stack([contradiction, rest & contradiction[:, None]]), names),
            )  # fmt: skip
        values[~done, 1:] = block.absent
    for i, column in enumerate(block.columns):
        zero = done & (values[:, i] == 0)
        if column.zero_means is not None:
            if zero.any():
                report.add(
                    "step-zero", "warning", f"{zero.sum()} rows have {lead} > 0 but {column.name} = 0",
                    f"Read as {block.name} in {column.zero_means}",
                    [cell for n in (lead, column.name)
                     for cell in _row_cells(frame, zero, n, values[:, names.index(n)])],
                )  # fmt: skip
        elif zero.any() and i == 0 and (column.bounds[0] > 0 or column.transform == "log"):
            report.add(
                "step-absent", "error", f"{zero.sum()} rows have {lead} = 0, but step {block.name!r} is not optional",
                f"Set 'optional = true' for {block.name!r} in the schema if 0 means that it was not carried out; "
                f"else correct them, {_SKIP}", _row_cells(frame, zero, lead, values[:, 0]),
            )  # fmt: skip
        elif zero.any() and i > 0 and _never_zero(column, block):
            report.add(
                "step-unknown", "warning", f"{zero.sum()} rows have {lead} > 0 but {column.name} = 0",
                f"Read as {column.name} not recorded: the model learns nothing from that cell",
                _row_cells(frame, zero, column.name, values[:, i]),
            )  # fmt: skip
            values[zero, i] = np.nan
        _check_bounds(frame, column, values[:, i], done & (values[:, i] != 0), report)
    frame[names] = values


def _never_zero(column: Column, block: Step) -> bool:
    # Whether a 0 can only stand for a number that nobody wrote down.
    low = column.bounds[0]
    return low > 0 or column.transform == "log" or (block.optional and low >= 0)


def _check_bounds(
    frame: pd.DataFrame, column: Column, values: NDArray[np.float64], where: NDArray[np.bool_], report: ImportReport
) -> None:
    low, high = column.bounds
    with np.errstate(invalid="ignore"):
        outside = where & ((values < low) | (values > high) | ((values == 0) & (column.transform == "log")))
        suspect = np.zeros_like(where)
        if column.typical is not None:
            suspect = where & ~outside & ((values < column.typical[0]) | (values > column.typical[1]))
    unit = f" {column.unit}" if column.unit else ""
    if outside.any():
        limits = "above 0" if column.transform == "log" and low == 0 else f"within {low:g} to {high:g}{unit}"
        report.add(
            "out-of-bounds", "error", f"{outside.sum()} cells of {column.name!r} are not {limits}",
            f"Correct them, {_SKIP}", _row_cells(frame, outside, column.name, values),
        )  # fmt: skip
    if suspect.any() and column.typical is not None:
        low, high = column.typical
        report.add(
            "suspect", "warning",
            f"{suspect.sum()} cells of {column.name!r} lie outside the usual {low:g} to {high:g}{unit}",
            "Kept as they are", _row_cells(frame, suspect, column.name, values),
        )  # fmt: skip


def _normalise_category(frame: pd.DataFrame, block: Block, report: ImportReport) -> None:
    """Codes were checked when they were read."""


_NORMALISE = {
    Amounts: _normalise_amounts,
    Fractions: _normalise_fractions,
    Step: _normalise_step,
    Category: _normalise_category,
}


def _check_conditions(frame: pd.DataFrame, schema: RecipeSchema, report: ImportReport) -> None:
    for column in (*schema.conditions, schema.performance):
        if column.name in frame.columns:
            values = frame[column.name].to_numpy(dtype=np.float64)
            _check_bounds(frame, column, values, ~np.isnan(values), report)
    if schema.feed is not None and set(schema.feed.names()) <= set(frame.columns):
        _check_feed(frame, schema.feed, report)


def _check_feed(frame: pd.DataFrame, feed: Feed, report: ImportReport) -> None:
    names = list(feed.names())
    values = frame[names].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        wrong = values < 0
        wrong[:, : len(feed.reactants)] |= values[:, : len(feed.reactants)] == 0
        total = values.sum(axis=1)
        off = np.abs(total - feed.total) > feed.tolerance
    if wrong.any():
        report.add(
            "feed", "error", f"{wrong.sum()} cells of the feed are negative, or a reactant is missing",
            f"Reactants must be above 0 and diluents not below: correct them, {_SKIP}", _cells(frame, wrong, names),
        )  # fmt: skip
    if off.any():
        report.add(
            "feed-sum", "warning", f"{off.sum()} rows have a feed that does not sum to {feed.total:g} {feed.unit}",
            "Kept: the model sees ratios of the reactants and the diluted share of the sum",
            _row_cells(frame, off, "sum of the feed", total),
        )  # fmt: skip


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
            _describe_components(frame, block, report)
            report.facts[f"sets of {block.name}"] = len(
                np.unique(row_groups(frame[list(block.columns)] > 0, block.columns))
            )
    report.facts = {
        "recipes": len(np.unique(table.recipe_ids())),
        "laboratories": len(np.unique(table.laboratory_ids())),
    } | report.facts


def _describe_components(frame: pd.DataFrame, block: Amounts | Fractions, report: ImportReport) -> None:
    values = frame[list(block.columns)].to_numpy(dtype=np.float64)
    present = values > 0
    counts = present.sum(axis=0)
    if never := [name for name, count in zip(block.columns, counts, strict=True) if count == 0]:
        report.add(
            "never-occurs", "warning",
            f"{len(never)} of {len(counts)} components of {block.name!r} never occur: {', '.join(never)}",
            "Kept: the model learns that they are absent", [Cell(None, name, "0 in every row") for name in never],
        )  # fmt: skip
    for i, j in combinations(range(len(block.columns)), 2):
        # Two columns that hold the same numbers wherever either holds one are most likely one column copied.
        if min(counts[i], counts[j]) < 10 or max(counts[i], counts[j]) > 1.1 * min(counts[i], counts[j]):
            continue
        either = present[:, i] | present[:, j]
        differ = np.abs(values[:, i] - values[:, j]) > 1e-9
        levels = len(np.unique(values[either, i]))
        if differ.sum() <= 0.05 * either.sum() and levels > 2:
            a, b = block.columns[i], block.columns[j]
            report.add(
                "columns-equal", "warning",
                f"column {a!r} equals column {b!r} in {100 * (1 - differ.mean()):.1f} % of the rows "
                f"({differ.sum()} of {len(frame)} differ; {counts[i]} have {a} and {counts[j]} have {b})",
                f"Almost surely copied in error; kept. Leave the wrong one out, e.g. with --drop-column {a}",
                [Cell(file_row(frame, r), a, f"{values[r, i]:g} ({b}: {values[r, j]:g})")
                 for r in np.flatnonzero(differ)],
            )  # fmt: skip


def _counts(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    levels, counts = np.unique(np.round(values, 3), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    return [(float(levels[i]), int(counts[i])) for i in order]
