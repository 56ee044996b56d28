"""Scores of a fitted designer on held-out rows: densities by stage, rates and active units, reconstruction."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from pyro import poutine
from sklearn.metrics import r2_score
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pyro_hcvae.data import sites
from pyro_hcvae.data.schema import Amounts, Fractions
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.inference.objective import ScaledELBO
from pyro_hcvae.posterior.importance import log_marginal, log_marginal_by_stage
from pyro_hcvae.posterior.predictive import drawing_scope

ONE_MEMBER = "one member"
ACTIVE = 0.1
"""KL in nats from which a latent unit counts as active (Vahdat & Kautz, 2020, NVAE)."""


def one_row_per_recipe(table: RecipeTable, *, seed: int) -> RecipeTable:
    """One random row of each recipe, so that much-measured recipes do not count more."""
    order = np.random.default_rng(seed).permutation(len(table))
    _, first = np.unique(table.recipe_ids()[order], return_index=True)
    return table.select(np.sort(order[first]))


def log_density(designer: RecipeDesigner, table: RecipeTable, *, draws: int = 256, seed: int = 0) -> dict[str, Tensor]:
    r"""Importance-weighted log likelihood of each recipe, split along the stages.

    Draws come from all members alike, so that the designer's density is their mean:

    .. math:: \log p(x \mid c) = \log \tfrac1M \sum_m p_m(x \mid c)

    Args:
        designer: Fitted without these rows.
        table: Rows.
        draws: Importance draws K of each member.
        seed: Fixes the draws.

    Returns:
        For each stage, nats given the stages before it, shape ``(rows,)``; their sum is that of the recipe. ``one member``: mean
        over members of what each says of the whole recipe alone.
    """
    members = designer.network.members
    so_far, before, out = torch.zeros(members, len(table)), torch.zeros(len(table)), {}
    for name, nats in log_marginal_by_stage(designer.network, _batch(designer, table), draws=draws, seed=seed).items():
        so_far = so_far + nats
        together = torch.logsumexp(so_far, dim=0) - math.log(members)
        out[name] = together - before
        before = together
    return out | {ONE_MEMBER: so_far.mean(dim=0)}


def held_out_density(
    designer: RecipeDesigner, table: RecipeTable, *, draws: int = 256, seed: int = 0
) -> dict[str, float]:
    """Mean of `log_density` over rows, in nats per recipe, by stage and in all; arguments as there."""
    nats = log_density(designer, table, draws=draws, seed=seed)
    alone = nats.pop(ONE_MEMBER)
    scores = {f"log p {name} [nats]": float(x.mean()) for name, x in nats.items()}
    return scores | {
        "log p recipe [nats]": sum(scores.values()),
        "log p recipe, one member [nats]": float(alone.mean()),
    }


def rates(designer: RecipeDesigner, table: RecipeTable, *, seed: int = 0) -> dict[str, float]:
    """KL of each layer on these rows, in nats, and how many of its units are active (a KL above 0.1 nats); means over members."""
    batch = _batch(designer, table)
    network = designer.network
    out = {}
    with drawing_scope(seed):
        guide = poutine.trace(network.guide).get_trace(batch)
        model = poutine.trace(poutine.replay(network.model, trace=guide)).get_trace(batch)
        for name in sites.latents(network.schema):
            q, p = guide.nodes[name]["fn"], model.nodes[name]["fn"]
            each = kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).mean(dim=1)
            out[f"rate {name} [nats]"] = float(each.sum(dim=-1).mean())
            out[f"active units {name}"] = float((each > ACTIVE).sum(dim=-1).double().mean())
    return out


def rate_distortion(
    designer: RecipeDesigner, table: RecipeTable, *, posterior_draws: int = 20, draws: int = 256, seed: int = 0
) -> pd.DataFrame:
    r"""Where each member stands between compressing and reproducing, on held-out recipes.

    .. math:: R = E_q \sum_l KL(q(z_l) \,\|\, p(z_l)), \qquad D = -E_q \log p(x \mid z, c)

    R + D is the negative bound, whatever beta the member was trained with.

    Args:
        designer: Members, e.g. trained with different ``final_beta``.
        table: Held-out rows, one a recipe.
        posterior_draws: Draws behind R and D.
        draws: Importance draws of the log likelihood.
        seed: Fixes the draws.

    Returns:
        One row a member, in nats per recipe: ``beta``, the rate of each layer, ``rate``, ``distortion``, ``log p recipe``.

    References:
        Alemi et al. (2018), Fixing a Broken ELBO, arXiv:1711.00464
    """
    batch, network = _batch(designer, table), designer.network
    names = sites.latents(network.schema)
    rate = {name: torch.zeros(network.members) for name in names}
    distortion = torch.zeros(network.members)
    with drawing_scope(seed):
        for _ in range(posterior_draws):
            terms = ScaledELBO().terms(network.model, network.guide, batch)
            for name in names:
                rate[name] += terms.rate[name].mean(dim=1) / posterior_draws
            distortion -= sum(x.mean(dim=1) for x in terms.log_likelihood.values()) / posterior_draws
    nats = log_marginal(network, batch, draws=draws, seed=seed).mean(dim=1)
    return pd.DataFrame(
        {
            "beta": designer.config.train.each("final_beta"),
            **{f"rate {name}": x.numpy() for name, x in rate.items()},
            "rate": torch.stack(list(rate.values())).sum(dim=0).numpy(),
            "distortion": distortion.numpy(),
            "log p recipe": nats.numpy(),
        }
    )


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


def _batch(designer: RecipeDesigner, table: RecipeTable):  # type: ignore[no-untyped-def]
    packed = designer.codec.encode(table.frame)[None]
    return designer.codec.layout.unpack(packed).expand_members(designer.network.members)
