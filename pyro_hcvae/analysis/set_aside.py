"""Draws for recipes by those members alone that had set them aside: what a run can say of itself without being trained again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.splits import groups_of, hold_out
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.evaluation.reconstruction import one_row_per_recipe


@dataclass(frozen=True)
class SetAside:
    """Recipes with what members said that were not trained on them.

    Each member keeps some groups of rows (recipes, unless the settings say otherwise) out of its training, and stops by how well
    it does on them; it is asked here as it was then, before it was trained anew on all rows. That makes these draws nearly those
    of a held-out test, and slightly optimistic; `pyro-hcvae evaluate` trains anew for each fold and is the full test.

    Attributes:
        table: One row a recipe that at least one member had set aside.
        members: Which members had, shape ``(M, B)``.
        draws: Recipe columns with the conditions that they were drawn for, ``S`` a row, indexed by its label in the table.
        all_recipes: Number of recipes of the run, set aside or not.
    """

    table: RecipeTable
    members: NDArray[np.bool_]
    draws: pd.DataFrame
    all_recipes: int


def set_aside_by(designer: RecipeDesigner) -> NDArray[np.bool_]:
    """Which rows of its table each member of a fitted designer set aside, shape ``(M, N)``."""
    config = designer.config.train
    groups = groups_of(designer.table, config.validation_group)
    out = np.zeros((config.members, len(groups)), dtype=bool)
    for member, seed in enumerate(config.seeds):
        out[member, hold_out(groups, config.validation_fraction, seed=seed)[1]] = True
    return out


def set_aside(designer: RecipeDesigner, draws_per_row: int = 50, *, seed: int = 0) -> SetAside:
    """Draw for one row of each recipe that a member had set aside, by that member, or by all such members alike.

    Args:
        designer: Fitted.
        draws_per_row: Draws for each row, ``S``.
        seed: Chooses the row of each recipe, and fixes the draws.

    Raises:
        InputError: If ``draws_per_row < 1``.
    """
    members, recipes = set_aside_by(designer), designer.table.recipe_ids()
    out = members.any(axis=0)
    held = one_row_per_recipe(designer.table.select(np.flatnonzero(out)), seed=seed)
    chosen = members[:, designer.table.frame.index.get_indexer(held.frame.index)]
    # Draws go round the members: draw j is of member j modulo M. Enough for rows that a single member had set aside.
    count = len(members)
    draws = designer.before_refit().sample(held.frame, draws_per_row * count, as_drawn=True, seed=seed)
    drawn = pd.concat(draws)
    of_member = np.arange(len(drawn)) % count
    row = np.repeat(np.arange(len(held.frame)), draws_per_row * count)
    counts = chosen[of_member, row]
    # Of the draws that count, the first S of each row, in the order in which members take turns.
    rank = counts.reshape(len(held.frame), -1).cumsum(axis=1).ravel()
    return SetAside(held, chosen, drawn[counts & (rank <= draws_per_row)], len(np.unique(recipes)))
