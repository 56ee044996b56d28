"""Scores of a fitted designer on held-out rows: densities by stage, rates, reconstruction, validity of draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from pyro import poutine
from sklearn.metrics import r2_score

from pyro_hcvae.data import sites
from pyro_hcvae.data.schema import Amounts, Fractions
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import structural_problems
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.posterior.importance import log_marginal_by_stage
from pyro_hcvae.posterior.predictive import drawing_scope


def one_row_per_recipe(table: RecipeTable, *, seed: int) -> RecipeTable:
    """One random row of each recipe, so that much-measured recipes do not count more."""
    order = np.random.default_rng(seed).permutation(len(table))
    _, first = np.unique(table.recipe_ids()[order], return_index=True)
    return table.select(np.sort(order[first]))


def held_out_density(
    designer: RecipeDesigner, table: RecipeTable, *, draws: int = 256, seed: int = 0
) -> dict[str, float]:
    """Importance-weighted log likelihood by stage and in all, in nats per recipe, mean over rows and members.

    Args:
        designer: Fitted without these rows.
        table: Held-out rows, one a recipe.
        draws: Importance draws K.
        seed: Fixes the draws.
    """
    batch = _batch(designer, table)
    by_stage = log_marginal_by_stage(designer.network, batch, draws=draws, seed=seed)
    scores = {f"log p {name} [nats]": float(nats.mean()) for name, nats in by_stage.items()}
    return scores | {"log p recipe [nats]": sum(scores.values())}


def rates(designer: RecipeDesigner, table: RecipeTable, *, seed: int = 0) -> dict[str, float]:
    """KL of each layer on these rows, in nats, mean over rows and members."""
    batch = _batch(designer, table)
    network = designer.network
    out = {}
    with drawing_scope(seed):
        guide = poutine.trace(network.guide).get_trace(batch)
        model = poutine.trace(poutine.replay(network.model, trace=guide)).get_trace(batch)
        for name in sites.latents(network.schema):
            kl = torch.distributions.kl_divergence(guide.nodes[name]["fn"], model.nodes[name]["fn"])
            out[f"rate {name} [nats]"] = float(kl.mean())
    return out


def reconstruction_r2(
    designer: RecipeDesigner, table: RecipeTable, *, draws: int = 50, seed: int = 0
) -> dict[str, float]:
    """R2 of amounts and shares, flattened over components, from ``z ~ q(z | x, c)`` and ``x' ~ p(x | z, c)``.

    ``one draw`` is the published metric; ``mean`` compares with the mean of ``draws`` draws of every member.
    """
    network, codec = designer.network, designer.codec
    batch = _batch(designer, table)
    frames: list[pd.DataFrame] = []
    with drawing_scope(seed):
        for _ in range(draws):
            guide = poutine.trace(network.guide).get_trace(batch)
            values = poutine.replay(network.model, trace=guide)(batch.conditions_only())
            packed = codec.layout.pack(values, batch.conditions)
            frames.append(codec.decode(packed.flatten(0, 1)))
    out = {}
    for block in designer.schema.blocks:
        if isinstance(block, Amounts | Fractions):
            columns = list(block.columns)
            true = table.frame[columns].to_numpy(np.float64)
            shape = (draws, network.members, len(table), len(columns))
            drawn = np.stack([f[columns].to_numpy(np.float64) for f in frames]).reshape(shape)
            single = [r2_score(true.ravel(), x.ravel()) for x in drawn[0]]
            out[f"R2 {block.name}, one draw"] = float(np.mean(single))
            out[f"R2 {block.name}, mean of draws"] = float(r2_score(true.ravel(), drawn.mean(axis=(0, 1)).ravel()))
    return out


def validity_of_draws(
    designer: RecipeDesigner, table: RecipeTable, *, draws: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Share of unfiltered draws at these rows' conditions that are structurally valid, and what breaks the others.

    Bulk recipes (no component in a block that may be empty) are valid where the schema knows them; their share is given too.
    """
    each = -(-draws // len(table))
    drawn = pd.concat(designer.sample(table.frame, each, seed=seed), ignore_index=True)
    broken = structural_problems(drawn, designer.schema)
    out = {"valid draws": float(1 - broken.any(axis=1).mean())}
    for block in designer.schema.blocks:
        if isinstance(block, Fractions) and block.may_be_empty:
            out[f"draws without {block.name}"] = float((drawn[list(block.columns)].sum(axis=1) == 0).mean())
    return out | {f"broken: {rule}": float(share) for rule, share in broken.mean().items() if share > 0}


def _batch(designer: RecipeDesigner, table: RecipeTable):  # type: ignore[no-untyped-def]
    packed = designer.codec.encode(table.frame)[None]
    return designer.codec.layout.unpack(packed).expand_members(designer.network.members)
