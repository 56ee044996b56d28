"""The table that the run was fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_hcvae.analysis.report.page import Listing, Section
from pyro_hcvae.data.schema import Amounts, Fractions, RecipeSchema
from pyro_hcvae.data.table import RecipeTable


def data_section(table: RecipeTable, import_report: str) -> Section:
    """What was read, what was found odd, and what the columns hold."""
    listings = [
        Listing.of("Numbers", _ranges(table)),
        Listing.of("Components", _components(table), folded=True),
    ]
    return Section(
        "data",
        "Data",
        [
            f"Fitted on {len(table)} rows of {table.schema.title or table.schema.name}. Nothing was repaired in "
            "silence: what the "
            "import changed or found odd stands in its report.",
        ],
        listings=listings,
        texts=[("Report of the import", import_report)],
    )


def _ranges(table: RecipeTable) -> pd.DataFrame:
    rows = []
    for column in table.schema.numeric():
        values = table.frame[column.name].dropna()
        low, middle, high = values.quantile((0.0, 0.5, 1.0)) if len(values) else (np.nan,) * 3
        rows.append(
            {
                "column": column.name, "unit": column.unit, "known": len(values), "different values": values.nunique(),
                "smallest": low, "median": middle, "largest": high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _components(table: RecipeTable) -> pd.DataFrame:
    """How many recipes hold each component that occurs, and how much."""
    schema: RecipeSchema = table.schema
    recipes = table.frame[list(schema.recipe_columns)].drop_duplicates()
    rows = []
    for block in schema.blocks:
        if isinstance(block, Amounts | Fractions):
            for name in block.columns:
                values = recipes[name][recipes[name] > 0]
                if len(values):
                    low, middle, high = values.quantile((0.0, 0.5, 1.0))
                    rows.append(
                        {
                            "block": block.name, "component": name, "recipes": len(values), "unit": block.unit,
                            "smallest": low, "median": middle, "largest": high,
                        }
                    )  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.sort_values(["block", "recipes"], ascending=[True, False], kind="stable") if len(frame) else frame
