"""What draws add to the training table: novelty, memorisation, and whether they find recipes that were held out.

Draws and known recipes are compared after `Repair`, so that a copy with noise on it counts as a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pyro_hcvae.data.columns import row_chunks
from pyro_hcvae.data.features import RecipeFeatures, indicators
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema
from pyro_hcvae.data.table import row_groups
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.evaluation.repair import Repair

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
ROUNDING = 0.1
"""Relative difference up to which two numbers count as the same: 5 and 5.5 wt%, but not 5 and 6."""


def novelty(repair: Repair, seen: pd.DataFrame, draws: pd.DataFrame) -> dict[str, float]:
    """Shares of all draws that are new, distinct, valid, and all of it together.

    Args:
        repair: Fitted on the training rows.
        seen: Training rows.
        draws: Draws as they came.

    Returns:
        ``novel``: not a training recipe after repair. ``unique``: distinct recipes after repair, over draws. ``novel, valid and
        unique``: distinct new recipes among the draws that are valid as they came, over draws; and among those that are valid
        after repair. ``novel beyond rounding``: no training recipe of the same components, codes and states has all numbers
        within 10 %. ``new set``: components that no training recipe has together, by block and in all blocks.
    """
    schema = repair.schema
    if not len(draws):
        return {}
    recipes = list(schema.recipe_columns)
    known, drawn = repair(seen[recipes].drop_duplicates()), repair(draws[recipes])
    ids = row_groups(pd.concat([known, drawn], ignore_index=True), recipes)
    ids, known_ids = ids[len(known) :], ids[: len(known)]
    novel = ~np.isin(ids, known_ids)
    out = {"novel": float(novel.mean()), "unique": len(np.unique(ids)) / len(ids)}
    for name, valid in (("", is_valid(draws, schema)), (", repaired", is_valid(drawn, schema))):
        out[f"novel, valid and unique{name}"] = len(np.unique(ids[novel & valid])) / len(ids)
    out["novel beyond rounding"] = float(_beyond_rounding(schema, known, drawn).mean())
    for name, columns in component_sets(schema):
        sets = row_groups(pd.concat([known[columns] > 0, drawn[columns] > 0], ignore_index=True), columns)
        out[f"new set, {name}"] = float((~np.isin(sets[len(known) :], sets[: len(known)])).mean())
    return out


def component_sets(schema: RecipeSchema) -> Iterator[tuple[str, list[str]]]:
    """Name and columns of each block of components; with several blocks, of all of them together as ``jointly``."""
    blocks = [block for block in schema.blocks if isinstance(block, Amounts | Fractions)]
    for block in blocks:
        yield block.name, list(block.columns)
    if len(blocks) > 1:
        yield "jointly", list(schema.component_columns)


def _beyond_rounding(schema: RecipeSchema, known: pd.DataFrame, drawn: pd.DataFrame) -> Mask:
    """Whether each draw differs by more than rounding from all known recipes of its structure, shape ``(draws,)``."""
    structures = np.unique(
        np.concatenate([indicators(schema, known), indicators(schema, drawn)]), axis=0, return_inverse=True
    )[1].ravel()
    codes = {block.column for block in schema.blocks if isinstance(block, Category)}
    numbers = [name for name in schema.recipe_columns if name not in codes]
    x, y = drawn[numbers].to_numpy(np.float64), known[numbers].to_numpy(np.float64)
    of_known, of_drawn = structures[: len(known)], structures[len(known) :]
    beyond = np.ones(len(drawn), dtype=bool)
    for i in np.flatnonzero(np.isin(of_drawn, of_known)):
        others = y[of_known == of_drawn[i]]
        gap = np.abs(x[i] - others) - ROUNDING * np.maximum(np.abs(x[i]), np.abs(others))
        beyond[i] = (gap > 1e-9).any(axis=1).all()  # a number that is not known makes no difference
    return beyond


def memorisation(
    features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame, seen: pd.DataFrame
) -> dict[str, float]:
    """Distance of draws to the nearest training recipe, beside that of held-out recipes.

    A draw counts as memorised when it is nearer to a training recipe than half the distance that a held-out recipe has to its own
    nearest one (in the median). Held-out recipes are the measure because they are new by the split at hand.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: Draws as they came.
        seen: Training rows.

    Returns:
        Mean distances in the space of `RecipeFeatures.recipe`, and the share of memorised ones, of draws and of held-out recipes.
    """
    known = np.unique(features.recipe(seen), axis=0)
    real, drawn = (_nearest(features.recipe(frame), known) for frame in (held, draws))
    close = float(np.median(real)) / 2 if len(real) else float("nan")
    out = {}
    for name, distances in (("", drawn), (", held-out recipes", real)):
        if len(distances):
            out[f"distance to the nearest known recipe{name}"] = float(distances.mean())
            out[f"memorised{name}"] = float((distances < close).mean())
    return out


def _nearest(points: Floats, known: Floats) -> Floats:
    parts = [cdist(points[rows], known).min(axis=1) for rows in row_chunks(len(points))]
    return np.concatenate([np.empty(0), *parts])


def set_recovery(repair: Repair, held: pd.DataFrame, draws: pd.DataFrame) -> dict[str, float]:
    """Whether draws for the conditions of a held-out recipe hit its exact set of components.

    Args:
        repair: Fitted on the training rows; applied to the draws, so that a trace is not a component.
        held: Held-out rows, one a recipe.
        draws: Draws for these rows, indexed by the label of the row.

    Returns:
        By block and jointly, mean over held-out rows: the probability that one draw hits, and the share of rows that some draw
        of theirs hits. A row without a draw is not hit.
    """
    draws = draws[draws.index.isin(held.index)]
    if not len(draws):
        return {}
    drawn, count = repair(draws), int(draws.index.value_counts().max())
    row = held.index.get_indexer(draws.index)
    tries = np.maximum(np.bincount(row, minlength=len(held)), 1)
    out = {}
    for name, columns in component_sets(repair.schema):
        wanted = held[columns].to_numpy(np.float64) > 0
        hit = ((drawn[columns].to_numpy(np.float64) > 0) == wanted[row]).all(axis=1)
        hits = np.bincount(row, weights=hit, minlength=len(held))
        out[f"hit {name}, 1 draw"] = float((hits / tries).mean())
        out[f"hit {name}, {count} draws"] = float((hits > 0).mean())
    return out
