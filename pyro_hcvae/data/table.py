"""`RecipeTable`: rows of a laboratory's table, checked against the schema and brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.cells import SKIP, CodeReader, NumberReader
from pyro_hcvae.data.checks import check_conditions, describe_components, normalise_block
from pyro_hcvae.data.columns import Columns, row_chunks, row_hashes
from pyro_hcvae.data.reading import RawTable, ReadOptions, open_table
from pyro_hcvae.data.report import Cell, ImportReport, Places
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema
from pyro_hcvae.errors import InputError

PROPOSAL_PREFIX = "proposal: "
"""Columns that an export adds to the table's own; an import passes over them."""
Purpose = Literal["training", "conditions", "partial", "recipes"]


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
        beside: For purpose ``partial``, columns of the file that are not modelled, as they are written, in the rows of `frame`.
    """

    schema: RecipeSchema
    frame: pd.DataFrame
    header: tuple[str, ...]
    report: ImportReport
    beside: pd.DataFrame | None = None

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
                performance columns and looks at no other; ``partial`` lets any cell be empty and any column lack; ``recipes``
                looks at recipe columns alone: a component whose column lacks is absent, settings of steps may be open.
            options: How the file writes its numbers.
            drop_columns: Components to leave out of the model, or columns of the file to pass over.
            skip_bad_rows: Leave rows with errors out (they stay in the report) instead of stopping.

        Raises:
            InputError: If the file cannot be used; names rows, columns, values and the remedy.
        """
        dropped = tuple(drop_columns)
        as_text = [block.column for block in schema.blocks if isinstance(block, Category)]
        if purpose == "partial":
            as_text += [*schema.identifiers, *dropped]
        raw = open_table(path, options, as_text=as_text)
        return cls._import(raw, schema, str(path), purpose, dropped, skip_bad_rows)

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
        header = tuple(str(name) for name in raw.columns)
        if len(set(header)) < len(header):
            raise InputError(f"{source}: some columns of the frame have the same name")
        chunks = (raw.iloc[rows].set_axis(header, axis=1) for rows in row_chunks(len(raw)))
        opened = RawTable(header, len(raw), chunks, ReadOptions())
        return cls._import(opened, schema, source, purpose, tuple(drop_columns), skip_bad_rows)

    @classmethod
    def _import(
        cls,
        raw: RawTable,
        schema: RecipeSchema,
        source: str,
        purpose: Purpose,
        dropped: tuple[str, ...],
        skip_bad_rows: bool,
    ) -> RecipeTable:
        for name in dropped:
            if name not in raw.header and name not in schema.columns:
                raise InputError(f"cannot drop column {name!r}: {schema.did_you_mean(name, raw.header)}")
        schema = schema.without(*(name for name in dropped if name in schema.columns))
        passed_over = tuple(name for name in dropped if name not in schema.identifiers)
        schema = schema.model_copy(update={"identifiers": (*schema.identifiers, *passed_over)})
        report = ImportReport(source)
        wanted = _wanted_columns(raw.header, schema, purpose, dropped, report)
        if report.errors:
            report.rows_read = sum(len(chunk) for chunk in raw.chunks)
            report.raise_errors()
        others = [name for name in raw.header if name in schema.identifiers] if purpose == "partial" else []
        columns, beside = _read_columns(raw, schema, wanted, others, purpose, report)
        report.rows_read = len(columns)
        repeats = row_hashes(columns.frame(), schema.columns if purpose == "training" else ())
        for block in schema.blocks:
            if all(name in columns for name in block.names()):
                normalise_block(columns, block, report)
        check_conditions(columns, schema, report)
        if report.errors and skip_bad_rows:
            bad = np.isin(columns.rows, np.concatenate([finding.row_numbers for finding in report.errors]))
            report.findings = [
                replace(f, severity="warning", action="These rows were left out") if f.severity == "error" else f
                for f in report.findings
            ]
            if bad.all():
                raise InputError(f"{source}: every row has an error; nothing is left")
            columns.keep(~bad)
            repeats = repeats[~bad]
        report.raise_errors()
        report.rows_kept = len(columns)
        frame = columns.frame()
        table = cls(schema, frame, raw.header, report, None if beside is None else beside.loc[frame.index])
        if purpose == "training":
            _describe(table, columns, repeats)
        return table

    def recipe_ids(self) -> NDArray[np.int64]:
        """Number of the recipe of each row: rows of one recipe agree in all stage columns. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.recipe_columns)

    def recipe_weights(self) -> NDArray[np.float64]:
        """One over the number of rows of each row's recipe, so that every recipe counts once. Shape ``(rows,)``."""
        recipes = self.recipe_ids()
        weights: NDArray[np.float64] = 1.0 / np.bincount(recipes)[recipes]
        return weights

    def laboratory_ids(self) -> NDArray[np.int64]:
        """Number of the laboratory of each row, by the schema's ``laboratory`` columns. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.laboratory or self.schema.condition_columns)

    def composition_ids(self) -> NDArray[np.int64]:
        """Number of the composition (all components, no processing) of each row. Shape ``(rows,)``."""
        return row_groups(self.frame, self.schema.component_columns or self.schema.recipe_columns)

    def select(self, positions: NDArray[np.int64]) -> RecipeTable:
        """The rows at some positions, in that order."""
        beside = None if self.beside is None else self.beside.iloc[positions]
        return replace(self, frame=self.frame.iloc[positions], beside=beside)


def row_groups(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Number rows so that equal rows share a number; numbers follow first appearance. Shape ``(rows,)``."""
    groups: NDArray[np.int64] = pd.factorize(row_hashes(frame, columns))[0].astype(np.int64)
    return groups


def _wanted_columns(
    header: Sequence[str], schema: RecipeSchema, purpose: Purpose, dropped: Sequence[str], report: ImportReport
) -> list[str]:
    known = {*schema.columns, *schema.identifiers, *dropped}
    if purpose == "conditions":
        needed: tuple[str, ...] = (*schema.condition_columns, schema.performance.name)
        wanted = list(needed)
    else:
        needed = schema.columns if purpose == "training" else ()
        wanted = list(schema.recipe_columns if purpose == "recipes" else schema.columns)
    unknown = [c for c in header if c not in known and not c.startswith(PROPOSAL_PREFIX)]
    lacking = [c for c in needed if c not in header]
    if len(lacking) > 0.5 * len(needed):
        report.add(
            "other-table", "error",
            f"this table does not look like schema {schema.name!r}: {len(lacking)} of its {len(needed)} columns are not in "
            f"the file ({', '.join(lacking[:5])}, ...)",
            "Name the schema that describes it with --schema FILE, or draft one with: pyro-hcvae schema init TABLE",
        )  # fmt: skip
        return []
    if purpose == "recipes" and not set(schema.component_columns) & set(header):
        report.add(
            "other-table", "error",
            f"this table does not look like schema {schema.name!r}: it has no column of a component",
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
    return [c for c in wanted if c in header]


def _read_columns(
    raw: RawTable,
    schema: RecipeSchema,
    wanted: Sequence[str],
    others: Sequence[str],
    purpose: Purpose,
    report: ImportReport,
) -> tuple[Columns, pd.DataFrame | None]:
    """Read the wanted columns, in schema order, and keep some others as they are, if any.

    For purpose ``partial`` modelled columns that are not wanted are there too, and open; for ``recipes`` those of the recipe
    are, and components are 0.
    """
    decimal, thousands = raw.options.decimal, raw.options.thousands
    missing = None if purpose == "partial" else f"Fill them in (0 where a component is absent), {SKIP}"
    # A recipe may be written down before its treatment is settled; what it consists of may not.
    open_columns = set(schema.recipe_columns) - set(schema.component_columns) if purpose == "recipes" else set()
    blocks = [b for b in schema.blocks if isinstance(b, Category) and b.column in wanted]
    codes = {
        block.column: CodeReader(block, decimal, thousands, missing=None if block.column in open_columns else missing)
        for block in blocks
    }
    plain = [name for name in wanted if name not in codes]
    numbers = NumberReader(plain, decimal, thousands, missing=missing, open_columns=open_columns)
    absent: list[str] = []
    match purpose:
        case "partial":
            names: Sequence[str] = schema.columns
        case "recipes":
            names = schema.recipe_columns
            absent = [name for name in schema.component_columns if name not in wanted]
        case _:
            names = [name for name in schema.columns if name in wanted]
    columns = Columns(names, {b.column for b in schema.blocks if isinstance(b, Category)}, raw.capacity)
    kept: list[pd.DataFrame] = []
    for chunk in raw.chunks:
        if others:
            kept.append(chunk[list(others)])
        cells = {name: codes.get(name, numbers).read(chunk[name]) for name in wanted}
        cells |= {name: np.zeros(len(chunk)) for name in absent}
        columns.append(chunk.index.to_numpy(), cells)
    numbers.report(report)
    for code in codes.values():
        code.report(report)
    return columns, pd.concat(kept) if kept else None


def _describe(table: RecipeTable, columns: Columns, repeats: NDArray[np.uint64]) -> None:
    """Findings about the table as a whole, and its facts."""
    schema, report = table.schema, table.report
    duplicate = pd.Series(repeats).duplicated().to_numpy()
    if duplicate.any():
        places = Places()
        places.add(columns.rows[duplicate], None, repeat(""))
        report.add(
            "duplicate", "warning", f"{duplicate.sum()} rows repeat an earlier row in every modelled column",
            "Kept: training draws one row per recipe, so repeats do not weigh more", places,
        )  # fmt: skip
    report.facts = {
        "recipes": len(np.unique(table.recipe_ids())),
        "laboratories": len(np.unique(table.laboratory_ids())),
    }
    for block in schema.blocks:
        if isinstance(block, Amounts | Fractions):
            describe_components(columns, block, report)
            report.facts[f"sets of {block.name}"] = _count_sets(table.frame, block.columns)


def _count_sets(frame: pd.DataFrame, components: Sequence[str]) -> int:
    sets: set[bytes] = set()
    for rows in row_chunks(len(frame)):
        present = frame.iloc[rows][list(components)].to_numpy() > 0
        sets.update(map(bytes, np.packbits(present, axis=1)))
    return len(sets)
