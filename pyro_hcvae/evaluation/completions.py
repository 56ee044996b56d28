"""Completions beside NUTS: whether importance resampling finds the posterior that a sampler of chains finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.conditional import draw_from_guide
from pyro_hcvae.posterior.nuts import draw_open, sample_latents
from pyro_hcvae.posterior.partial import given_part
from pyro_hcvae.posterior.predictive import drawing_scope

Floats = NDArray[np.float64]
_REPEATS = 10
"""Recipes for each state of a chain."""
_RARE = 0.05
"""Share of the recipes in which a number must exist for its mean to be compared."""


@dataclass(frozen=True)
class Agreement:
    """Completions of one partial recipe beside NUTS.

    Attributes:
        frame: One row a quantity: its ``kind``, its estimates by ``nuts`` and by ``completions``, the standard ``error`` of their
            difference, and ``deviation``, the difference in such errors.
        r_hat: Largest split R-hat of the latents.
        effective_chains: Smallest effective sample size of a latent, over all chains.
        effective: Effective sample size of the completions' importance weights.
        proposed: Number of weighted draws behind them.
    """

    frame: pd.DataFrame
    r_hat: float
    effective_chains: float
    effective: float
    proposed: int


def compare_with_nuts(
    designer: RecipeDesigner,
    partial: RecipeTable,
    *,
    chains: int = 32,
    draws: int = 200,
    warmup: int = 150,
    proposals: int = 20_000,
    seed: int = 0,
) -> Agreement:
    """Complete a recipe of which whole stages are given, by importance resampling and by NUTS.

    Compared are means and variances of the standardised latents, and, among valid recipes as drawn, probabilities of open
    components, codes and states, and means of open numbers.

    Args:
        designer: A fitted one, of one member: chains do not go from one to another.
        partial: One row.
        chains: Of NUTS.
        draws: Of each chain.
        warmup: Of each chain, before its draws.
        proposals: Weighted draws, and completions.
        seed: Fixes everything.

    Raises:
        InputError: If there is more than one member or row.
        ValueError: If the row gives parts of stages.
    """
    model, codec, schema = designer.network, designer.codec, designer.schema
    if model.members != 1 or len(partial) != 1:
        raise InputError(f"one member and one row are compared, got {model.members} and {len(partial)}")
    given = given_part(codec, partial.frame)
    many = given.expand(1, chains)
    noise = sample_latents(model, many.batch, draws=draws, warmup=warmup, seed=seed)
    latents = torch.cat(list(noise.values()), dim=-1)[:, 0].double()  # (S, chains, D)
    sizes = effective_sample_size(latents, sample_dim=0, chain_dim=1)

    with drawing_scope(seed + 1):
        drawn = draw_from_guide(model, given.expand(1, proposals), codec.layout.pack)
    weights = torch.softmax(drawn.log_weight[0].double(), 0).numpy()
    weighted = torch.cat([drawn.noise[site][0] for site in noise], dim=-1).double().numpy()
    names = [f"{site}[{i}]" for site, x in noise.items() for i in range(x.shape[-1])]
    records = []
    for i, name in enumerate(names):
        mean = weights @ weighted[:, i]
        for kind, centre, power in (("latent mean", 0.0, 1), ("latent variance", mean, 2)):
            chain = (latents[..., i].numpy() - centre) ** power
            other = (weighted[:, i] - centre) ** power
            estimate = weights @ other
            error = np.hypot(_error(chain), np.sqrt(weights**2 @ (other - estimate) ** 2))
            records.append((kind, name, chain.mean(), estimate, error))

    # Several recipes for each state of a chain: what is drawn after the latents shall not be what limits the comparison.
    repeated = {site: x.repeat_interleave(_REPEATS, dim=0) for site, x in noise.items()}
    values = draw_open(model, many.batch, repeated, seed=seed + 2)
    conditions = many.batch.conditions.expand(draws * _REPEATS, 1, chains, -1)
    by_nuts = codec.decode(codec.layout.pack(values, conditions).flatten(0, 2))
    (completion,) = designer.complete(partial, proposals, proposals=proposals, seed=seed + 3, as_drawn=True)
    independent = 1 / (1 / completion.effective + 1 / proposals)
    valid = is_valid(by_nuts, schema)
    completed = {(kind, name): x for kind, name, x in _quantities(completion.frame, schema, partial.frame)}
    for kind, name, x in _quantities(by_nuts, schema, partial.frame):
        mine, other = valid & np.isfinite(x), completed[kind, name]
        theirs = np.isfinite(other)
        if min(mine.mean(), theirs.mean()) < _RARE:
            continue
        mean = x[mine].mean()
        # Recipes that do not count stand at the mean, and add nothing to the spread.
        spread = (np.where(mine, x - mean, 0.0) / mine.mean()).reshape(draws, _REPEATS, chains).mean(axis=1)
        error = np.hypot(_error(spread), other[theirs].std() / np.sqrt(independent * theirs.mean()))
        if kind != "number":  # what neither has seen may still have a probability of one draw in all
            error = max(error, 1 / independent)
        records.append((kind, name, mean, other[theirs].mean(), error))
    frame = pd.DataFrame(records, columns=["kind", "quantity", "nuts", "completions", "error"])
    frame["deviation"] = (frame["completions"] - frame["nuts"]) / frame["error"]
    r_hat = float(split_gelman_rubin(latents, sample_dim=0, chain_dim=1).max())
    return Agreement(frame, r_hat, float(sizes.min()), completion.effective, completion.proposed)


def _quantities(recipes: pd.DataFrame, schema: RecipeSchema, given: pd.DataFrame) -> Iterator[tuple[str, str, Floats]]:
    """What is compared of each recipe, shape ``(rows,)``; NaN where it does not exist."""
    for block in schema.blocks:
        if not given[list(block.names())].isna().any(axis=None):
            continue
        match block:
            case Amounts() | Fractions():
                present = recipes[list(block.columns)].to_numpy(np.float64) > 0
                for i, name in enumerate(block.columns):
                    yield "presence", name, present[:, i].astype(np.float64)
                if isinstance(block, Amounts):
                    yield (
                        "number",
                        f"sum of {block.name}",
                        recipes[list(block.columns)].sum(axis=1).to_numpy(np.float64),
                    )
            case Category():
                for code in block.codes:
                    yield "code", f"{block.column} {code}", np.where(recipes[block.column] == code, 1.0, 0.0)
            case _:
                done = np.ones(len(recipes), dtype=bool)
                if block.optional:
                    done = recipes[block.columns[0].name].to_numpy(np.float64) != block.absent
                    yield "state", f"{block.name} done", done.astype(np.float64)
                for column in block.columns:
                    values = recipes[column.name].to_numpy(np.float64)
                    yield "number", column.name, np.where(done, values, np.nan)


def _error(chains: Floats) -> float:
    """Standard error of the mean of chains ``(S, C)``."""
    spread = chains.std()
    if spread == 0:
        return 0.0
    x: Tensor = torch.from_numpy(chains)
    size = effective_sample_size(x[:, x.std(0) > 0], sample_dim=0, chain_dim=1)
    # Chains that turn back at each step count for more than their draws, and short ones for less than one: neither is believed.
    return float(spread / np.sqrt(np.clip(float(size), 1.0, x.numel())))
