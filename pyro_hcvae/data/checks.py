"""Checks of the columns of a table, which also bring them to one form. Each finding says what was done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.reading import file_row
from pyro_hcvae.data.report import Cell, ImportReport
from pyro_hcvae.data.schema import Amounts, Block, Column, Feed, Fractions, RecipeSchema, Step

SKIP = "or leave such rows out with --skip-bad-rows"


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
            f"Amounts are zero or positive: correct them, {SKIP}", _cells(frame, negative, columns),
        )  # fmt: skip
    count = (values > 0).sum(axis=1)
    most = block.set_sizes[-1]
    if (over := count > most).any():
        report.add(
            "too-many", "error", f"{over.sum()} rows have more than {most} components in {block.name!r}",
            f"Raise max_present of {block.name!r} in the schema, {SKIP}",
            _row_cells(frame, over, f"number of {block.name}", count),
        )  # fmt: skip
    return values


def _normalise_amounts(frame: pd.DataFrame, block: Amounts, report: ImportReport) -> None:
    values = _check_components(frame, block, report)
    if block.max_total is not None:
        total = np.nansum(values, axis=1)
        if (over := total > block.max_total * (1 + 1e-9)).any():
            report.add(
                "total-high", "warning", f"{over.sum()} rows have more than {block.max_total:g} {block.unit} in sum",
                "Kept as they are", _row_cells(frame, over, f"sum of {block.name}", total),
            )  # fmt: skip


def _normalise_fractions(frame: pd.DataFrame, block: Fractions, report: ImportReport) -> None:
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
            report.add("fraction-none", "error", message, f"Fill them in, {SKIP}", cells)
    frame[list(block.columns)] = values * scale[:, None]


def _normalise_step(frame: pd.DataFrame, block: Step, report: ImportReport) -> None:
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
                f"else correct them, {SKIP}", _row_cells(frame, zero, lead, values[:, 0]),
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
            f"Correct them, {SKIP}", _row_cells(frame, outside, column.name, values),
        )  # fmt: skip
    if suspect.any() and column.typical is not None:
        low, high = column.typical
        report.add(
            "suspect", "warning",
            f"{suspect.sum()} cells of {column.name!r} lie outside the usual {low:g} to {high:g}{unit}",
            "Kept as they are", _row_cells(frame, suspect, column.name, values),
        )  # fmt: skip


def normalise_block(frame: pd.DataFrame, block: Block, report: ImportReport) -> None:
    """Check one block's columns and normalise them in place; codes were checked when they were read.

    Args:
        frame: Rows whose columns include all of the block's.
        block: What the columns mean.
        report: Receives the findings.
    """
    match block:
        case Amounts():
            _normalise_amounts(frame, block, report)
        case Fractions():
            _normalise_fractions(frame, block, report)
        case Step():
            _normalise_step(frame, block, report)


def check_conditions(frame: pd.DataFrame, schema: RecipeSchema, report: ImportReport) -> None:
    """Check conditions, performance and feed, as far as they are there."""
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
            f"Reactants must be above 0 and diluents not below: correct them, {SKIP}", _cells(frame, wrong, names),
        )  # fmt: skip
    if off.any():
        report.add(
            "feed-sum", "warning", f"{off.sum()} rows have a feed that does not sum to {feed.total:g} {feed.unit}",
            "Kept: the model sees ratios of the reactants and the diluted share of the sum",
            _row_cells(frame, off, "sum of the feed", total),
        )  # fmt: skip


def describe_components(frame: pd.DataFrame, block: Amounts | Fractions, report: ImportReport) -> None:
    """Report components that never occur, and columns that look like copies of each other."""
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
