"""Latents given whole stages of a recipe, by NUTS: slow and exact in the limit, what quick completions are checked against."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.conditional import StandardisedLatents
from pyro_hcvae.posterior.predictive import drawing_scope


def known_part(model: HierarchicalCVAE, batch: RecipeBatch) -> None:
    r"""``p(epsilon) p(x_known | z(epsilon), c)`` as a Pyro program, for any of Pyro's samplers.

    .. math:: \epsilon_l \sim N(0, 1), \qquad z_l = \mu_l(z_{<l}, c) + \sigma_l(z_{<l}, c)\,\epsilon_l

    In the noise the prior has one scale in all directions, wherever the latents above stand. What is open is masked: it hangs on
    the latents alone, hence sums out to 1.

    Args:
        model: One member or several.
        batch: Recipes of which whole blocks are known; see `sample_latents`.
    """
    noise = {}
    for site, size in model.latent_dims.items():
        standard = dist.Normal(batch.conditions.new_zeros(()), 1.0).expand([*batch.shape, size]).to_event(3)
        noise[site] = pyro.sample(f"{site}.noise", standard)
    # The latents themselves follow from the noise, whose density stands above: hidden, they are not counted twice.
    with poutine.block(hide=list(noise)), StandardisedLatents(noise):
        model.model(batch)


def sample_latents(
    model: HierarchicalCVAE, batch: RecipeBatch, *, draws: int, warmup: int, seed: int, compiled: bool = True
) -> dict[str, Tensor]:
    """Draw the standardised latents given what is known of each recipe.

    Rows of a batch are independent, so that copies of one row are chains: they start apart, and share step and trajectory
    lengths. ``batch.repeat_rows(32)`` makes 32 chains at hardly more than the cost of one.

    Args:
        model: Trained members; their parameters are left alone.
        batch: Recipes, shape ``(M, B)``.
        draws: Kept states of the chains.
        warmup: States before, in which step sizes and scales are found.
        seed: Fixes the chains; random numbers elsewhere go on as if nothing had been drawn.
        compiled: Whether torch traces the log density once; halves the time.

    Returns:
        By latent site, noise of shape ``(S, M, B, D)``; `draw_open` turns it into recipes.

    Raises:
        ValueError: If a block is known in part, or stands after an open one that it is chained to: then the density of what is
            known is not a product of those at the sites.

    References:
        Hoffman & Gelman (2014), The No-U-Turn Sampler, arXiv:1111.4246
    """
    _refuse_gaps(model, batch)
    frozen = copy.deepcopy(model).requires_grad_(False)  # gradients are of the noise alone
    with drawing_scope(seed, batch.conditions.device), torch.enable_grad(), warnings.catch_warnings():
        # What Pyro compiles with, and torch wants to replace.
        warnings.filterwarnings("ignore", message=".*torch.jit.trace.*", category=DeprecationWarning)
        kernel = NUTS(known_part, jit_compile=compiled, ignore_jit_warnings=True)
        chains = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        chains.run(frozen, batch)
        found = chains.get_samples()
    return {site: found[f"{site}.noise"].detach() for site in model.latent_dims}


def draw_open(
    model: HierarchicalCVAE, batch: RecipeBatch, noise: Mapping[str, Tensor], *, seed: int
) -> dict[str, Tensor]:
    """Draw stages that are open as a whole from the model at given latents, and keep the others.

    Args:
        model: Trained members.
        batch: What `sample_latents` was given.
        noise: Its draws, shape ``(S, M, B, D)``.
        seed: Fixes what is drawn.

    Returns:
        Value of every observed site, shape ``(S, M, B, ...)``.
    """
    stages = [list(sites.of_stage(stage)) for stage in model.schema.stages]
    given = [name for names in stages for name in names if any(batch.known[name].any() for name in names)]
    shown = replace(
        batch,
        values={name: batch.values[name] for name in given},
        known={name: batch.known[name] for name in given},
    )
    draws = len(next(iter(noise.values())))
    members, rows = batch.shape
    with drawing_scope(seed, batch.conditions.device):
        # All draws at once: the rows of the batch as often as there are draws.
        flat = {site: x.permute(1, 2, 0, 3).flatten(1, 2) for site, x in noise.items()}
        with StandardisedLatents(flat):
            values = model.model(shown.repeat_rows(draws))
    names = sites.observed(model.schema)
    shape = (members, rows, draws)
    return {name: values[name].view(*shape, *values[name].shape[2:]).movedim(2, 0) for name in names}


def _refuse_gaps(model: HierarchicalCVAE, batch: RecipeBatch) -> None:
    for part in model.stages:
        opened = ""
        for block in part.blocks:
            name, known = block.block.name, batch.known[block.structure_site]
            if known.any() and not known.all():
                raise ValueError(f"{name!r} is known in part: give whole blocks, the same in every row")
            if not known.any():
                opened = opened or name
            elif opened and model.config.chained == "stage":
                raise ValueError(f"{name!r} is known and hangs on {opened!r}, which is open: give whole stages")
            elif block.numbers_site is not None:
                exists = block.applies(batch.values[block.structure_site])
                if not batch.known[block.numbers_site][exists].all():
                    raise ValueError(f"some numbers of {name!r} are open: give whole blocks")
