"""Recipes in the words of a laboratory, from any schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Step


def composition(record: Mapping[Any, Any], schema: RecipeSchema) -> str:
    """What a recipe consists of: ``5 wt% Ni, 1 wt% La on 0.8 Al2O3 + 0.2 CeO2``."""
    metals, supports = [], []
    for block in schema.blocks:
        if isinstance(block, Amounts):
            metals += [_quantity(record[c], block.unit, c) for c in block.columns if record[c] > 0]
        elif isinstance(block, Fractions):
            present = [c for c in block.columns if record[c] > 0]
            whole = len(present) == 1
            supports += [c if whole else f"{record[c]:g} {c}" for c in present]
    return f"{', '.join(metals) or 'no metal'} on {' + '.join(supports) or 'no support'}"


def treatment(block: Block, record: Mapping[Any, Any]) -> str:
    """How a recipe is prepared or treated, by one block: ``calcination: Calcination T 500 degC``; empty for components."""
    match block:
        case Category():
            code = record[block.column]
            if pd.isna(code):
                return f"{block.name}: not given"
            label = block.labels.get(str(code))
            return f"{block.name}: {label}" if label else f"{block.column}: {code}"
        case Step():
            lead = record[block.columns[0].name]
            if pd.isna(lead):
                return f"{block.name}: not given"
            if block.optional and lead == block.absent:
                return f"{block.name}: none"
            parts = []
            for column in block.columns:
                value = record[column.name]
                if pd.isna(value):
                    parts.append(f"{column.name} not given")
                elif value == 0 and column.zero_means is not None:
                    parts.append(f"{column.name} 0: {column.zero_means}")
                else:
                    parts.append(f"{column.name} {_quantity(value, column.unit, column.name, last=True)}")
            return f"{block.name}: {', '.join(parts)}"
    return ""


def _quantity(value: float, unit: str, name: str, *, last: bool = False) -> str:
    """A number with its unit, unless the column's name has it already, and with the name behind it unless that stands before."""
    words = [f"{value:g}", *([unit] if unit and unit not in name else []), *([] if last else [name])]
    return " ".join(words)
