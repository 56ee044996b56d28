"""Uncertainty of given recipes: their density under the model, presence probabilities and credible intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import Amounts, Category, Fractions
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.importance import log_marginal
from pyro_hcvae.posterior.predictive import explain

LEVEL = 0.9
"""Probability that intervals hold."""
_DRAWS = 100


def log_density(model: HierarchicalCVAE, batch: RecipeBatch, seed: int) -> NDArray[np.float64]:
    """Log density of each recipe under the mixture of the members, in nats, shape ``(B,)``."""
    each = log_marginal(model, batch.expand_members(model.members), draws=128, seed=seed).double()
    mixed: NDArray[np.float64] = (torch.logsumexp(each, 0) - math.log(model.members)).cpu().numpy()
    return mixed


def intervals(
    model: HierarchicalCVAE, codec: RecipeCodec, recipes: pd.DataFrame, batch: RecipeBatch, seed: int
) -> tuple[list[str], pd.DataFrame]:
    """Presence probabilities in words, and the long table of probabilities and intervals."""
    schema = codec.schema
    free, given = explain(model, batch, _DRAWS, seed=seed)
    numbers = _decoded(codec, given, batch)
    records: list[dict[str, object]] = []
    words: list[str] = []
    units = schema.units()
    tail = (1 - LEVEL) / 2
    for row in range(len(recipes)):
        parts: list[str] = []
        mine, recipe = numbers[row], dict(recipes.iloc[row])
        for block in schema.blocks:
            structure = next(iter(sites.of_block(block)))
            draws = free[structure][:, :, row]
            if isinstance(block, Amounts | Fractions):
                probability = dict(zip(block.columns, draws.mean(dim=(0, 1)).tolist(), strict=True))
                shown = [c for c in block.columns if recipe[c] > 0]
                parts += [f"{c} {probability[c]:.2f}" for c in shown]
            elif isinstance(block, Category):
                code = recipe[block.column]
                share = (draws == block.codes.index(code)).float().mean().item()
                records.append(
                    {"rank": row + 1, "column": block.column, "value": code, "unit": "", "probability": share}
                )
                parts.append(f"{block.column}={code} {share:.2f}")
                continue
            else:
                own = batch.values[structure][0, row]
                share = (draws == own).float().mean().item()
                probability = dict.fromkeys(block.names(), share)
                shown = [c for c, on in zip(block.names(), block.applies()[int(own)], strict=True) if on]
                parts.append(f"{block.name} {block.states[int(own)]} {share:.2f}")
            for column in shown:
                low, middle, high = np.quantile(mine[column].to_numpy(np.float64), [tail, 0.5, 1 - tail])
                records.append(
                    {
                        "rank": row + 1,
                        "column": column,
                        "value": recipe[column],
                        "unit": units[column],
                        "probability": probability[column],
                        "low": low,
                        "median": middle,
                        "high": high,
                    }
                )
        words.append("; ".join(parts))
    return words, pd.DataFrame(records)


def _decoded(codec: RecipeCodec, draws: dict[str, Tensor], batch: RecipeBatch) -> list[pd.DataFrame]:
    """Draws ``(S, M, B, ...)`` -> for each recipe, its draws as rows of the table."""
    count, members = next(iter(draws.values())).shape[:2]
    conditions = batch.conditions.expand(count, members, *batch.conditions.shape[1:])
    packed = codec.layout.pack(draws, conditions).flatten(0, 1)
    return [codec.decode(packed[:, row]) for row in range(packed.shape[1])]


def in_words(table: pd.DataFrame, count: int) -> list[str]:
    """Credible intervals of each of ``count`` recipes as one line of text, from the table of `intervals`."""
    words = []
    for rank in range(1, count + 1):
        mine = table[(table["rank"] == rank) & table["low"].notna()]
        words.append("; ".join(f"{r.column} {r.low:.3g}-{r.high:.3g} {r.unit}".rstrip() for r in mine.itertuples()))
    return words
