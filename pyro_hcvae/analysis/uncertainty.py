"""Where the uncertainty of each number and of each choice comes from: around given recipes, or for conditions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.analysis.decomposition import PARTS, split_entropy, split_variance
from pyro_hcvae.analysis.rows import decoded, encoded
from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.nested import NestedDraws, nested_draws
from pyro_hcvae.posterior.predictive import mixed_seed

Floats = NDArray[np.float64]
_AT_ONCE = 200_000
"""Draws that are decoded at once."""


@dataclass(frozen=True)
class Uncertainty:
    """Parts of the uncertainty of the generator, in long tables.

    Attributes:
        numbers: One row a recipe and number that exists and varies: ``recipe`` (label of the row), ``column``, ``unit``,
            ``value`` (of the given recipe; NaN where none was given), ``mean`` and ``sd`` of the draws, ``variance`` and its
            parts ``aleatoric``, ``latent``, ``epistemic`` in that unit squared.
        structures: One row a recipe and choice: ``recipe``, ``block``, ``column`` (the component; for a code its column, for a
            step its name), ``value`` (what the given recipe has), ``probability`` of it (where no recipe was given: of
            presence, or of the most probable code or state, which is then the value), ``entropy`` and its parts in nats.
    """

    numbers: pd.DataFrame
    structures: pd.DataFrame


def uncertainty(
    designer: RecipeDesigner, rows: pd.DataFrame, *, draws: int = 100, repeats: int = 5, seed: int = 0
) -> Uncertainty:
    """Split the uncertainty of every number and every choice.

    Around a given recipe: ``z ~ q(z | x, c)``, then recipes for these latents; numbers are those of recipes with its own
    structure, so that an amount is one given presence. For conditions alone: ``z ~ p(z | c)``; an absent component then counts as
    an amount of 0, and a setting of a step is one among the draws that have it.

    Args:
        designer: A fitted one.
        rows: Recipe, condition and performance columns, one row a recipe, labels that differ. All recipe cells are given, or
            all of them are NaN: then the conditions alone are asked.
        draws: Draws of the latents for each member, at least 2.
        repeats: Recipes for each of them, at least 2.
        seed: Fixes the draws.

    Raises:
        InputError: If a recipe is given in part, or if there are too few draws.
    """
    if min(draws, repeats) < 2:
        raise InputError("at least 2 draws and 2 repeats are needed to tell the parts of a variance apart")
    network, codec = designer.network, designer.codec
    size = max(1, _AT_ONCE // (draws * repeats * network.members))
    numbers: list[pd.DataFrame] = []
    structures: list[pd.DataFrame] = []
    batch, given = encoded(codec, rows)
    for start in range(0, len(rows), size):
        some, part = rows.iloc[start : start + size], batch.rows(start, start + size)
        # A seed of its own for each chunk, so that recipes in the same place of two chunks do not share their noise.
        found = nested_draws(network, part, draws, repeats, seed=mixed_seed(seed, start))
        numbers.append(_numbers(codec, some, part, found, given=given))
        structures.append(_structures(designer.schema, some, part, found, given=given))
    return Uncertainty(pd.concat(numbers, ignore_index=True), pd.concat(structures, ignore_index=True))


def _numbers(
    codec: RecipeCodec, rows: pd.DataFrame, batch: RecipeBatch, found: NestedDraws, *, given: bool
) -> pd.DataFrame:
    units, records = codec.schema.units(), []
    for column, drawn in decoded(codec, found.own if given else found.free, batch).items():
        parts = split_variance(drawn)
        some = np.isfinite(drawn).any(axis=(0, 1, 2))
        mean = np.where(some, np.nanmean(np.where(some, drawn, 0.0), axis=(0, 1, 2)), np.nan)
        for i, row in enumerate(rows.index):
            # A number that does not exist in this recipe, or cannot vary (a single support is the whole), says nothing.
            if parts["variance"][i] > 0:
                records.append(
                    {"place": i, "recipe": row, "column": column, "unit": units[column]}
                    | {"value": float(rows[column].iloc[i]) if given else np.nan}
                    | {"mean": mean[i], "sd": np.sqrt(parts["variance"][i])}
                    | {name: parts[name][i] for name in ("variance", *PARTS)}
                )
    return _in_order(records, ["recipe", "column", "unit", "value", "mean", "sd", "variance", *PARTS])


def _structures(
    schema: RecipeSchema, rows: pd.DataFrame, batch: RecipeBatch, found: NestedDraws, *, given: bool
) -> pd.DataFrame:
    records: list[dict[str, object]] = []
    for block in schema.blocks:
        site = next(iter(sites.of_block(block)))
        # Blocks that stand later in their stage know the earlier ones: averaged over the repeats, that is summed out.
        p = found.probabilities[site].double().numpy().mean(axis=1)
        own = batch.values[site][0].numpy()
        if isinstance(block, Amounts | Fractions):
            parts = split_entropy(np.stack([1 - p, p], axis=-1))
            names: tuple[str, ...] = block.columns
            present = p.mean(axis=(0, 1))
            values = [["present" if x > 0.5 else "absent" for x in row] for row in own]
            chance = np.where(own > 0.5, present, 1 - present) if given else present
            if not given:
                values = [["present"] * len(names)] * len(rows)
        else:
            parts = {name: x[:, None] for name, x in split_entropy(p).items()}
            names = (block.column,) if isinstance(block, Category) else (block.name,)
            mean = p.mean(axis=(0, 1))
            chosen = own.astype(np.int64) if given else mean.argmax(-1)
            outcomes = _outcomes(block)
            values = [[outcomes[k]] for k in chosen]
            chance = np.take_along_axis(mean, chosen[:, None], axis=-1)
        for i, row in enumerate(rows.index):
            for j, name in enumerate(names):
                records.append(
                    {"place": i, "recipe": row, "block": block.name, "column": name}
                    | {"value": values[i][j], "probability": float(np.clip(chance[i, j], 0, 1))}
                    | {part: parts[part][i, j] for part in ("entropy", *PARTS)}
                )
    return _in_order(records, ["recipe", "block", "column", "value", "probability", "entropy", *PARTS])


def _outcomes(block: Block) -> tuple[str, ...]:
    return tuple(map(str, block.codes)) if isinstance(block, Category) else block.states  # type: ignore[union-attr]


def _in_order(records: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    """Records as a frame, recipe by recipe, in the order of the rows."""
    frame = pd.DataFrame(records, columns=["place", *columns])
    return frame.sort_values("place", kind="stable", ignore_index=True)[columns]
