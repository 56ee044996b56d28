"""Draws as broken generators write them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_hcvae.data.report import ImportReport
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.data.table import RecipeTable


def broken_draws(frame: pd.DataFrame, schema: RecipeSchema, seed: int) -> pd.DataFrame:
    """Recipes with NaN, infinite, negative and tiny numbers and unknown codes in half of their cells."""
    rng = np.random.default_rng(seed)
    codes = {block.column for block in schema.blocks if isinstance(block, Category)}
    out = frame.copy()
    for name in schema.recipe_columns:
        wrong = ["?", np.nan, -1, 2.4, None] if name in codes else [np.nan, np.inf, -np.inf, -3.0, 1e-9, 1e30]
        cells = [wrong[rng.integers(len(wrong))] if rng.random() < 0.5 else x for x in frame[name]]
        out[name] = pd.Series(cells, index=frame.index, dtype=object if name in codes else np.float64)
    return out


def table_of(frame: pd.DataFrame, schema: RecipeSchema) -> RecipeTable:
    """Canonical rows as a table."""
    return RecipeTable(schema, frame, tuple(frame.columns), ImportReport("test"))
