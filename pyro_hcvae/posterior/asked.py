"""`Asked`: conditions and constraints as what is given of a recipe, so that the model is conditioned on both at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.known import Known
from pyro_hcvae.data import sites
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import join_rows
from pyro_hcvae.data.conditions import Conditions
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Amounts, Fractions, Step
from pyro_hcvae.data.written import WrittenValues
from pyro_hcvae.posterior.conditional import Given
from pyro_hcvae.posterior.partial import close_shares, given_part, keep_given

_EXACT = 1e-9
"""Constraints are meant to the last digit; only the noise of binary fractions is passed over."""


@dataclass(frozen=True)
class Asked:
    """What is asked for, and what of it pins cells of the recipe.

    Attributes:
        codec: Table <-> tensors.
        conditions: One complete set of conditions with the target.
        constraints: What every proposal must satisfy.
        written: The values to which what is drawn is brought; None: numbers stay as drawn until they are rounded.
    """

    codec: RecipeCodec
    conditions: Conditions
    constraints: Constraints
    written: WrittenValues | None = None

    @cached_property
    def pinned(self) -> Mapping[str, Known]:
        """What the constraints say for certain of single columns."""
        return self.constraints.known_part()

    @cached_property
    def row(self) -> pd.DataFrame:
        """One row in the schema's columns: conditions, absent components and fixed values; NaN where open."""
        schema = self.codec.schema
        cells: dict[str, object] = {**dict.fromkeys(schema.recipe_columns, np.nan), **self.conditions.row}
        for block in schema.blocks:
            for name in block.names():
                if (value := self.pinned[name].value) is not None:
                    cells[name] = value
        row = pd.DataFrame([cells], columns=list(schema.columns))
        for block in schema.blocks:
            if isinstance(block, Fractions):
                close_shares(row, block, "constraints", tolerance=_EXACT)
        return row

    def given(self) -> Given:
        """The same for the model, shape ``(1, 1)``; a component that must be there counts as present with an open amount."""
        given = given_part(self.codec, self.row)
        batch, possible = given.batch, dict(given.possible)
        values, known = dict(batch.values), dict(batch.known)
        for block in self.codec.schema.blocks:
            needed = [self.pinned[name].present is True for name in block.names()]
            site = next(iter(sites.of_block(block)))
            if isinstance(block, Amounts | Fractions):
                there = torch.tensor(needed).expand(known[site].shape)
                values[site] = torch.where(there, 1.0, values[site])
                known[site] = known[site] | there
            elif isinstance(block, Step) and block.optional and any(needed):
                done = torch.arange(possible[site].shape[-1]) > 0
                possible[site] = possible[site] & done
        return replace(given, batch=replace(batch, values=values, known=known), possible=possible)

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Recipe columns that hold a given value."""
        return tuple(name for name in self.codec.schema.recipe_columns if not pd.isna(self.row[name].iloc[0]))

    def on_grid(self, recipes: pd.DataFrame) -> pd.DataFrame:
        """Recipes with fixed cells in place and everything else on the grid."""
        schema = self.codec.schema
        return round_to_grid(keep_given(recipes, self.row, schema), schema, self.fixed)

    def settle(self, recipes: pd.DataFrame) -> pd.DataFrame:
        """Recipes as a laboratory would make them: `on_grid`, at usual values wherever these make a recipe that is asked for."""
        if self.written is None:
            return self.on_grid(recipes)
        usual = self.on_grid(self.written(recipes))
        good = self.constraints.satisfied(usual)
        return usual if good.all() else join_rows(good, usual[good], self.on_grid(recipes[~good]))
