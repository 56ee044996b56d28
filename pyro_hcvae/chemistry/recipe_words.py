"""Recipes in the words of a laboratory, from any schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Stage, Step


def composition(record: Mapping[Any, Any], schema: RecipeSchema) -> str:
    """What a recipe consists of: ``5 wt% Ni, 1 wt% La on 0.8 Al2O3 + 0.2 CeO2``."""
    metals: list[str] = []
    supports: list[str] = []
    for block in schema.blocks:
        if isinstance(block, Amounts):
            metals += _amounts(block, record)
        elif isinstance(block, Fractions):
            supports += _shares(block, record)
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


def brief(stage: Stage, record: Mapping[Any, Any]) -> str:
    """One stage of a whole recipe in a few words, for a cell of a table: ``impregnation; calcination 500 degC, 4 h``."""
    return "; ".join(_brief(block, record) for block in stage.blocks)


def _brief(block: Block, record: Mapping[Any, Any]) -> str:
    match block:
        case Amounts():
            return ", ".join(_amounts(block, record)) or f"no {block.name}"
        case Fractions():
            return " + ".join(_shares(block, record)) or f"no {block.name}"
        case Category():
            code = record[block.column]
            return block.labels.get(str(code), f"{block.column} {code}")
        case Step():
            if block.optional and record[block.columns[0].name] == block.absent:
                return f"no {block.name}"
            settings = [
                f"in {c.zero_means}"
                if c.zero_means is not None and record[c.name] == 0
                else _quantity(record[c.name], c.unit, c.name, last=True)
                for c in block.columns
            ]
            return f"{block.name} {', '.join(settings)}"


def _amounts(block: Amounts, record: Mapping[Any, Any]) -> list[str]:
    return [_quantity(record[c], block.unit, c) for c in block.columns if record[c] > 0]


def _shares(block: Fractions, record: Mapping[Any, Any]) -> list[str]:
    present = [c for c in block.columns if record[c] > 0]
    return present if len(present) == 1 else [f"{record[c]:g} {c}" for c in present]


def _quantity(value: float, unit: str, name: str, *, last: bool = False) -> str:
    """A number with its unit, unless the column's name has it already, and with the name behind it unless that stands before."""
    words = [f"{value:g}", *([unit] if unit and unit not in name else []), *([] if last else [name])]
    return " ".join(words)
