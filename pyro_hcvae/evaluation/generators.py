"""What the harness asks of anything that generates recipes."""

from __future__ import annotations

from typing import Protocol, Self

import pandas as pd

from pyro_hcvae.data.table import RecipeTable


class Generator(Protocol):
    """Fitted on training rows; draws recipes for given conditions and a wanted performance.

    Attributes:
        name: What the command line and tables of scores call it.
    """

    name: str

    def fit(self, table: RecipeTable, *, seed: int) -> Self:
        """Learn from training rows.

        Args:
            table: Training rows.
            seed: Fixes whatever is random in the fit.
        """
        ...

    def sample(self, conditions: pd.DataFrame, draws_per_row: int, *, seed: int) -> pd.DataFrame:
        """Draw recipes, as they come: nothing is repaired.

        Args:
            conditions: Condition columns and the performance column (what is wanted), ``B`` rows.
            draws_per_row: Draws for each row, at least 1.
            seed: Fixes the draws.

        Returns:
            ``B * draws_per_row`` rows with the columns ``schema.columns``. The index is the label of the row of ``conditions``
            that a draw belongs to; draws of one row are adjacent, in the order of the rows.
        """
        ...
