"""`RecipeSpace`: the recipes that a laboratory could make, and steps through them by recombination and mutation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry.rules import broken_rules, rules_that_count
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Step
from pyro_hcvae.data.validity import is_valid

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
_RESCALE = 0.3
"""Relative change of a number in a mutation, on the log scale."""
_NEW_STATE = 0.2
"""Share of a step's mutations that take the whole step from another recipe, done or not."""


@dataclass(frozen=True)
class RecipeSpace:
    """What may be proposed: structurally valid recipes on the grid that break no feasibility rule of the schema.

    Rules of severity ``warning`` count too, unless they are advice: they are the habits of the field, and who searches without
    them finds a catalyst of 30 wt% rhodium.

    Attributes:
        schema: Meaning of the columns.
        conditions: Condition columns at which the recipes are to work: some rules compare the two.
    """

    schema: RecipeSchema
    conditions: dict[str, float]

    @property
    def columns(self) -> list[str]:
        """Recipe columns."""
        return list(self.schema.recipe_columns)

    def is_feasible(self, recipes: pd.DataFrame) -> Mask:
        """Whether each recipe belongs to the space, shape ``(rows,)``; one that does not stand on the grid does not."""
        valid = is_valid(recipes, self.schema)
        kept = recipes.loc[valid, self.columns]
        numbers = [c for c in self.columns if not self._is_code(c)]
        rounded = round_to_grid(kept, self.schema)
        on_grid = np.isclose(rounded[numbers].to_numpy(np.float64), kept[numbers].to_numpy(np.float64)).all(axis=1)
        habits = rules_that_count(self.schema)
        broken = broken_rules(self.at_conditions(kept), habits)
        valid[valid] = on_grid & ~broken.to_numpy(dtype=bool).any(axis=1)
        return valid

    def at_conditions(self, recipes: pd.DataFrame) -> pd.DataFrame:
        """The recipe columns beside the conditions, index from 0."""
        return recipes[self.columns].reset_index(drop=True).assign(**self.conditions)

    def new(self, recipes: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
        """Rounded, distinct and feasible ones of some valid recipes that are not among the known ones, in their order."""
        rounded = round_to_grid(recipes[self.columns], self.schema)
        rounded = rounded[self.is_feasible(rounded)].reset_index(drop=True)
        seen = row_hashes(round_to_grid(known[self.columns], self.schema), self.columns)
        hashes = row_hashes(rounded, self.columns)
        fresh = ~np.isin(hashes, seen) & ~pd.Series(hashes).duplicated().to_numpy()
        return rounded[fresh].reset_index(drop=True)

    def recombine(self, parents: pd.DataFrame, count: int, rng: np.random.Generator) -> pd.DataFrame:
        """Children each of whose blocks comes from a random parent: what a laboratory does, in other combinations."""
        donors = {block.name: rng.integers(len(parents), size=count) for block in self.schema.blocks}
        parts = [
            parents[list(block.names())].iloc[donors[block.name]].reset_index(drop=True) for block in self.schema.blocks
        ]
        return pd.concat(parts, axis=1)[self.columns]

    def mutate(
        self, parents: pd.DataFrame, count: int, rng: np.random.Generator, *, like: pd.DataFrame
    ) -> pd.DataFrame:
        """Children that differ from a random parent in one place, half of them in two, a quarter in three, and so on.

        A place is a component taken in, left out, exchanged or changed in its amount, a code, or a setting of a step. Any
        component of the schema may be taken in, whether or not it was ever used.

        Args:
            parents: Valid recipes.
            count: Number of children.
            rng: Source of randomness.
            like: Recipes whose amounts and settings show what is usual.
        """
        children = parents[self.columns].iloc[rng.integers(len(parents), size=count)].reset_index(drop=True)
        places = rng.geometric(0.5, size=count)
        blocks = self.schema.blocks
        weights = np.array([np.sqrt(len(block.names())) for block in blocks])
        for turn in range(int(places.max())):
            chosen = np.where(places > turn, rng.choice(len(blocks), size=count, p=weights / weights.sum()), -1)
            for i, block in enumerate(blocks):
                rows = np.flatnonzero(chosen == i)
                if len(rows):
                    names = list(block.names())
                    children.loc[rows, names] = _mutated(block, children.loc[rows, names], like[names], rng)
        return children

    def _is_code(self, column: str) -> bool:
        return any(isinstance(block, Category) and block.column == column for block in self.schema.blocks)


def _mutated(block: Block, rows: pd.DataFrame, like: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame | Floats:
    """New values of one block, shape ``(rows, columns)``."""
    if isinstance(block, Category):
        codes = np.array(block.codes, dtype=object)
        return pd.DataFrame({block.column: codes[rng.integers(len(codes), size=len(rows))]}, index=rows.index).astype(
            rows.dtypes
        )
    values, usual = rows.to_numpy(np.float64), like.to_numpy(np.float64)
    if isinstance(block, Step):
        return _settings(block, values, usual, rng)
    return _components(block, values, usual, rng)


def _settings(block: Step, values: Floats, usual: Floats, rng: np.random.Generator) -> Floats:
    """One setting a row rescaled, or the step as another recipe has it."""
    count, width = values.shape
    scaled = np.zeros((count, width))
    scaled[np.arange(count), rng.integers(width, size=count)] = _RESCALE * rng.standard_normal(count)
    out = values * np.exp(scaled)
    low, high = np.array([column.bounds for column in block.columns]).T
    out = np.where(values == 0, values, np.clip(out, low, high))
    if block.optional:
        out = np.where(values[:, :1] == block.absent, values, out)
        taken = (rng.random(count) < _NEW_STATE) | (values[:, 0] == block.absent)
    else:
        taken = rng.random(count) < _NEW_STATE
    return np.where(taken[:, None], usual[rng.integers(len(usual), size=count)], out)


def _components(block: Amounts | Fractions, values: Floats, usual: Floats, rng: np.random.Generator) -> Floats:
    """One component a row taken in, left out, exchanged or changed in its amount."""
    out = values.copy()
    amounts = usual[usual > 0]
    if not len(amounts):  # the block was never used: nothing says how much is usual
        return out
    for row in range(len(out)):
        own = out[row]
        present, absent = np.flatnonzero(own > 0), np.flatnonzero(own == 0)
        moves = ["take in"] if len(absent) and len(present) < block.set_sizes[-1] else []
        moves += ["leave out", "rescale"] if len(present) else []
        moves += ["exchange"] if len(present) and len(absent) else []
        match rng.choice(moves):
            case "take in":
                column = rng.choice(absent)
                column_amounts = usual[usual[:, column] > 0, column]
                own[column] = rng.choice(column_amounts if len(column_amounts) else amounts)
            case "leave out":
                own[rng.choice(present)] = 0.0
            case "rescale":
                own[rng.choice(present)] *= np.exp(_RESCALE * rng.standard_normal())
            case _:
                old, column = rng.choice(present), rng.choice(absent)
                own[column], own[old] = own[old], 0.0
    if isinstance(block, Fractions):
        total = out.sum(axis=1, keepdims=True)
        out *= block.total / np.where(total > 0, total, 1.0)
    return out
