"""Checks of the columns of a table, which also bring them to one form. Each finding says what was done.

They work on one column at a time and in place, since a table may have millions of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hcvae.data.cells import SKIP
from pyro_hcvae.data.columns import Columns
from pyro_hcvae.data.report import KEPT_CELLS, Cell, ImportReport, Places
from pyro_hcvae.data.schema import Amounts, Block, Column, Feed, Fractions, RecipeSchema, Step

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def _row_places(columns: Columns, where: Mask, name: str, values: NDArray[Any]) -> Places:
    """Cells of some rows under one name."""
    places = Places()
    places.add(columns.rows[where], name, (f"{value:g}" for value in values[where]))
    return places


def _places(columns: Columns, masks: dict[str, Mask]) -> Places:
    """Cells of several columns, row by row."""
    names = list(masks)
    found = [np.flatnonzero(mask) for mask in masks.values()]
    row, column = np.concatenate(found), np.repeat(np.arange(len(names)), [len(at) for at in found])
    order = np.lexsort((column, row))
    places = Places(
        Cell(int(columns.rows[i]), names[j], f"{columns[names[j]][i]:g}")
        for i, j in zip(row[order[:KEPT_CELLS]], column[order[:KEPT_CELLS]], strict=True)
    )
    places.add(columns.rows[row[order[KEPT_CELLS:]]], None, ())
    return places


def _sum(columns: Columns, names: Sequence[str]) -> Floats:
    """Sum of some columns, shape ``(rows,)``; NaN where a cell is open."""
    total = np.zeros(len(columns))
    for name in names:
        total += columns[name]
    return total


def _check_components(columns: Columns, block: Amounts | Fractions, report: ImportReport) -> None:
    negative = {name: mask for name in block.columns if (mask := columns[name] < 0).any()}
    if negative:
        places = _places(columns, negative)
        report.add(
            "negative", "error", f"{places.count} cells of {block.name!r} are negative",
            f"Amounts are zero or positive: correct them, {SKIP}", places,
        )  # fmt: skip
    count = np.zeros(len(columns), dtype=np.int64)
    for name in block.columns:
        count += columns[name] > 0
    most = block.set_sizes[-1]
    if (over := count > most).any():
        report.add(
            "too-many", "error", f"{over.sum()} rows have more than {most} components in {block.name!r}",
            f"Raise max_present of {block.name!r} in the schema, {SKIP}",
            _row_places(columns, over, f"number of {block.name}", count),
        )  # fmt: skip


def _normalise_amounts(columns: Columns, block: Amounts, report: ImportReport) -> None:
    _check_components(columns, block, report)
    if block.max_total is not None:
        total = np.zeros(len(columns))
        for name in block.columns:
            total += np.nan_to_num(columns[name])
        if (over := total > block.max_total * (1 + 1e-9)).any():
            report.add(
                "total-high", "warning", f"{over.sum()} rows have more than {block.max_total:g} {block.unit} in sum",
                "Kept as they are", _row_places(columns, over, f"sum of {block.name}", total),
            )  # fmt: skip


def _normalise_fractions(columns: Columns, block: Fractions, report: ImportReport) -> None:
    _check_components(columns, block, report)
    total = _sum(columns, block.columns)  # NaN where a cell is open: such rows are left alone
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
            _row_places(columns, off, f"sum of {block.name}", total),
        )  # fmt: skip
    if slight.any():
        report.add(
            "fraction-rounding", "info",
            f"{slight.sum()} rows of {block.name!r} miss {block.total:g} by a rounding error",
            "Shares were divided by their sum", _row_places(columns, slight, f"sum of {block.name}", total),
        )  # fmt: skip
    if (empty := total == 0).any():
        places = _row_places(columns, empty, f"sum of {block.name}", total)
        message = f"{empty.sum()} rows have no component in {block.name!r} (sum 0)"
        if block.may_be_empty:
            report.add("fraction-none", "warning", message, "Kept as bulk recipes, without that stage", places)
        else:
            report.add("fraction-none", "error", message, f"Fill them in, {SKIP}", places)
    for name in block.columns:
        values = columns[name]
        values *= scale


def _normalise_step(columns: Columns, block: Step, report: ImportReport) -> None:
    lead, *others = block.names()
    done = np.ones(len(columns), dtype=bool)
    if block.optional:
        done = columns[lead] != block.absent  # NaN: open, hence neither
        rest = {n: ~done & (columns[n] != block.absent) & ~np.isnan(columns[n]) for n in others}
        contradiction = ~done & (sum(rest.values()) > 0)
        if contradiction.any():
            report.add(
                "step-contradiction", "warning",
                f"{contradiction.sum()} rows have {lead} = {block.absent:g} (not done), yet other settings of "
                f"{block.name!r}",
                "Read as not done: the other settings were set aside",
                _places(columns, {lead: contradiction} | rest),
            )  # fmt: skip
        for name in others:
            columns[name][~done] = block.absent
    for i, column in enumerate(block.columns):
        values = columns[column.name]
        zero = done & (values == 0)
        if column.zero_means is not None:
            if zero.any():
                places = Places()
                for name in (lead, column.name):
                    places.extend(_row_places(columns, zero, name, columns[name]))
                report.add(
                    "step-zero", "warning", f"{zero.sum()} rows have {lead} > 0 but {column.name} = 0",
                    f"Read as {block.name} in {column.zero_means}", places,
                )  # fmt: skip
        elif zero.any() and i == 0 and (column.bounds[0] > 0 or column.transform == "log"):
            report.add(
                "step-absent", "error", f"{zero.sum()} rows have {lead} = 0, but step {block.name!r} is not optional",
                f"Set 'optional = true' for {block.name!r} in the schema if 0 means that it was not carried out; "
                f"else correct them, {SKIP}", _row_places(columns, zero, lead, values),
            )  # fmt: skip
        elif zero.any() and i > 0 and _never_zero(column, block):
            report.add(
                "step-unknown", "warning", f"{zero.sum()} rows have {lead} > 0 but {column.name} = 0",
                f"Read as {column.name} not recorded: the model learns nothing from that cell",
                _row_places(columns, zero, column.name, values),
            )  # fmt: skip
            values[zero] = np.nan
        _check_bounds(columns, column, done & (values != 0), report)


def _never_zero(column: Column, block: Step) -> bool:
    # Whether a 0 can only stand for a number that nobody wrote down.
    low = column.bounds[0]
    return low > 0 or column.transform == "log" or (block.optional and low >= 0)


def _check_bounds(columns: Columns, column: Column, where: Mask, report: ImportReport) -> None:
    values, (low, high) = columns[column.name], column.bounds
    outside = where & ((values < low) | (values > high) | ((values == 0) & (column.transform == "log")))
    unit = f" {column.unit}" if column.unit else ""
    if outside.any():
        limits = "above 0" if column.transform == "log" and low == 0 else f"within {low:g} to {high:g}{unit}"
        report.add(
            "out-of-bounds", "error", f"{outside.sum()} cells of {column.name!r} are not {limits}",
            f"Correct them, {SKIP}", _row_places(columns, outside, column.name, values),
        )  # fmt: skip
    if column.typical is None:
        return
    low, high = column.typical
    suspect = where & ~outside & ((values < low) | (values > high))
    if suspect.any():
        report.add(
            "suspect", "warning",
            f"{suspect.sum()} cells of {column.name!r} lie outside the usual {low:g} to {high:g}{unit}",
            "Kept as they are", _row_places(columns, suspect, column.name, values),
        )  # fmt: skip


def normalise_block(columns: Columns, block: Block, report: ImportReport) -> None:
    """Check one block's columns and normalise them in place; codes were checked when they were read.

    Args:
        columns: Rows whose columns include all of the block's.
        block: What the columns mean.
        report: Receives the findings.
    """
    match block:
        case Amounts():
            _normalise_amounts(columns, block, report)
        case Fractions():
            _normalise_fractions(columns, block, report)
        case Step():
            _normalise_step(columns, block, report)


def check_conditions(columns: Columns, schema: RecipeSchema, report: ImportReport) -> None:
    """Check conditions, performance and feed, as far as they are there."""
    for column in (*schema.conditions, schema.performance):
        if column.name in columns:
            _check_bounds(columns, column, ~np.isnan(columns[column.name]), report)
    if schema.feed is not None and all(name in columns for name in schema.feed.names()):
        _check_feed(columns, schema.feed, report)


def _check_feed(columns: Columns, feed: Feed, report: ImportReport) -> None:
    wrong = {name: columns[name] <= 0 for name in feed.reactants} | {name: columns[name] < 0 for name in feed.diluents}
    if any(mask.any() for mask in wrong.values()):
        places = _places(columns, wrong)
        report.add(
            "feed", "error", f"{places.count} cells of the feed are negative, or a reactant is missing",
            f"Reactants must be above 0 and diluents not below: correct them, {SKIP}", places,
        )  # fmt: skip
    total = _sum(columns, feed.names())
    if (off := np.abs(total - feed.total) > feed.tolerance).any():
        report.add(
            "feed-sum", "warning", f"{off.sum()} rows have a feed that does not sum to {feed.total:g} {feed.unit}",
            "Kept: the model sees ratios of the reactants and the diluted share of the sum",
            _row_places(columns, off, "sum of the feed", total),
        )  # fmt: skip


def describe_components(columns: Columns, block: Amounts | Fractions, report: ImportReport) -> None:
    """Report components that never occur, and columns that look like copies of each other."""
    counts = {name: int((columns[name] > 0).sum()) for name in block.columns}
    if never := [name for name, count in counts.items() if count == 0]:
        report.add(
            "never-occurs", "warning",
            f"{len(never)} of {len(counts)} components of {block.name!r} never occur: {', '.join(never)}",
            "Kept: the model learns that they are absent", [Cell(None, name, "0 in every row") for name in never],
        )  # fmt: skip
    for i, a in enumerate(block.columns):
        first, held = columns[a], np.flatnonzero(columns[a] > 0)
        for b in block.columns[i + 1 :]:
            # Two columns that hold the same numbers wherever either holds one are most likely one column copied.
            fewer, more = sorted((counts[a], counts[b]))
            if fewer < 10 or more > 1.1 * fewer:
                continue
            second = columns[b]
            if (np.abs(first[held] - second[held]) > 1e-9).sum() > 0.05 * (counts[a] + counts[b]):
                continue  # what follows looks at every row: most pairs can be told apart without it
            either = (first > 0) | (second > 0)
            differ = np.abs(first - second) > 1e-9
            levels = len(np.unique(first[either]))
            if differ.sum() <= 0.05 * either.sum() and levels > 2:
                places = Places()
                pairs = zip(first[differ], second[differ], strict=True)
                places.add(columns.rows[differ], a, (f"{x:g} ({b}: {y:g})" for x, y in pairs))
                report.add(
                    "columns-equal", "warning",
                    f"column {a!r} equals column {b!r} in {100 * (1 - differ.mean()):.1f} % of the rows "
                    f"({differ.sum()} of {len(columns)} differ; {counts[a]} have {a} and {counts[b]} have {b})",
                    f"Almost surely copied in error; kept. Leave the wrong one out, e.g. with --drop-column {a}", places,
                )  # fmt: skip


def _counts(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    levels, counts = np.unique(np.round(values, 3), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    return [(float(levels[i]), int(counts[i])) for i in order]
