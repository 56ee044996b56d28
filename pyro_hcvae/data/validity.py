"""Structural validity: whether a row is a recipe at all under its schema."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step

ROUNDING = 1e-6
"""What a sum or a limit may be off by, as a share of it."""


def structural_problems(frame: pd.DataFrame, schema: RecipeSchema) -> pd.DataFrame:
    """Check rows against what the schema says of any recipe.

    Args:
        frame: Recipe columns of the table.
        schema: Meaning of the columns.

    Returns:
        One row a recipe, one bool column a rule, True where the rule is broken. Rules: numbers are finite; amounts are not
        negative, not too many and not above their cap in sum; shares are not negative, sum to their total, and are as many as
        the schema allows; there is at least one component; codes exist; a step that was not done has no settings, and one
        that was done has all of them within their limits.
    """
    return pd.DataFrame(_problems(frame, schema), index=frame.index)


def is_valid(frame: pd.DataFrame, schema: RecipeSchema) -> NDArray[np.bool_]:
    """Whether each row breaks no rule of `structural_problems`, shape ``(rows,)``."""
    valid = np.ones(len(frame), dtype=np.bool_)
    for broken in _problems(frame, schema).values():
        valid &= ~broken
    return valid


def _problems(frame: pd.DataFrame, schema: RecipeSchema) -> dict[str, NDArray[np.bool_]]:
    broken: dict[str, NDArray[np.bool_]] = {}
    components = np.zeros(len(frame), dtype=bool)
    for block in schema.blocks:
        match block:
            case Category():
                broken[f"{block.name}: unknown code"] = ~frame[block.column].isin(list(block.codes)).to_numpy(
                    dtype=bool
                )
                continue
            case Step():
                broken |= _step_problems(frame, block)
                continue
            case _:
                values = frame[list(block.columns)].to_numpy(np.float64)
        count = (values > 0).sum(axis=1)
        with np.errstate(invalid="ignore"):  # infinities of both signs have no sum
            total = values.sum(axis=1)
        components |= count > 0
        broken[f"{block.name}: not finite"] = ~np.isfinite(values).all(axis=1)
        broken[f"{block.name}: negative"] = np.asarray((values < 0).any(axis=1))
        broken[f"{block.name}: wrong number"] = ~np.isin(count, list(block.set_sizes))
        if isinstance(block, Fractions):
            off = np.abs(total / block.total - 1) > max(block.tolerance, ROUNDING)
            broken[f"{block.name}: wrong sum"] = off & ~((count == 0) & block.may_be_empty)
        elif block.max_total is not None:
            broken[f"{block.name}: sum too high"] = total > block.max_total * (1 + ROUNDING)
    if any(isinstance(block, Amounts | Fractions) for block in schema.blocks):
        broken["no component"] = ~components
    return broken


def _step_problems(frame: pd.DataFrame, block: Step) -> dict[str, NDArray[np.bool_]]:
    values = frame[list(block.names())].to_numpy(np.float64)
    absent = values == block.absent if block.optional else np.zeros_like(values, dtype=bool)
    done = ~absent[:, 0]
    outside = np.zeros(len(frame), dtype=bool)
    for i, column in enumerate(block.columns):
        low, high = column.bounds
        good = (values[:, i] >= low * (1 - ROUNDING)) & (values[:, i] <= high * (1 + ROUNDING))
        if column.zero_means is not None:
            good |= values[:, i] == 0
        elif column.transform == "log":
            good &= values[:, i] > 0
        outside |= done & ~good
    return {
        f"{block.name}: outside its limits": outside,
        f"{block.name}: settings of a step that was not done": ~done & ~absent.all(axis=1),
    }
