"""Marginal likelihoods by importance sampling, always of the unweighted model."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from pyro import poutine
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.predictive import drawing_scope

_CHUNK = 16384
"""Members x rows x draws of one pass."""


def log_marginal(model: HierarchicalCVAE, batch: RecipeBatch, *, draws: int = 256, seed: int = 0) -> Tensor:
    r"""Estimate the log marginal likelihood of the known part of each recipe.

    .. math:: \log \tfrac1K \sum_k p(x, z_k \mid c) / q(z_k \mid x, c), \qquad z_k \sim q

    With chained stages, a block that stands after an unknown one in its stage is scored as one that is told so: a density of
    its own, and not the joint one with the unknown block summed out.

    Args:
        model: Trained members.
        batch: Encoded recipes, shape ``(M, B)``.
        draws: Number of importance draws :math:`K`, at least 1.
        seed: Fixes the draws.

    Returns:
        Natural-log densities in nats, shape ``(M, B)``, of standardised numbers. Never weighted.

    Raises:
        ValueError: If ``draws < 1``.

    References:
        Burda et al. (2016), Importance Weighted Autoencoders, arXiv:1509.00519
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    members, rows = batch.shape
    step = max(1, _CHUNK // (members * draws))
    parts = []
    with drawing_scope(seed, batch.conditions.device):
        for start in range(0, rows, step):
            many = batch.rows(start, start + step).repeat_rows(draws)
            weights = log_weights(model, many).view(members, -1, draws)
            parts.append(torch.logsumexp(weights, dim=-1) - math.log(draws))
    return torch.cat(parts, dim=1)


def log_weights(model: HierarchicalCVAE, batch: RecipeBatch) -> Tensor:
    """One importance weight ``log p(x, z | c) - log q(z | x, c)`` a row, shape ``(M, B)``, in nats."""
    guide_trace = poutine.trace(model.guide).get_trace(batch)
    model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(batch)
    return _log_prob(model_trace) - _log_prob(guide_trace)


def log_marginal_by_stage(
    model: HierarchicalCVAE, batch: RecipeBatch, *, draws: int = 256, seed: int = 0
) -> dict[str, Tensor]:
    r"""Split the log marginal along the hierarchy by the chain rule.

    .. math:: \log p(x \mid c) = \sum_l \log p(x_l \mid x_{<l}, c)

    Each term is the difference of two estimates with the later stages hidden from the guide and summed out of the model.

    Returns:
        For each stage, nats of shape ``(M, B)``; their sum is `log_marginal` of the whole recipe.
    """
    stages = model.schema.stages
    out: dict[str, Tensor] = {}
    before: Tensor | float = 0.0
    for position, stage in enumerate(stages):
        later = {name for other in stages[position + 1 :] for name in sites.of_stage(other)}
        total = log_marginal(model, hide_sites(batch, later), draws=draws, seed=seed)
        out[stage.name] = total - before
        before = total
    return out


def hide_sites(batch: RecipeBatch, names: Collection[str]) -> RecipeBatch:
    """The batch with some sites unknown in every row."""
    everywhere = torch.ones(batch.shape, dtype=torch.bool, device=batch.conditions.device)
    return batch.hide(dict.fromkeys(names, everywhere))


def effective_sample_size(log_weight: Tensor) -> Tensor:
    r"""Kish's effective sample size :math:`(\sum w)^2 / \sum w^2` over the last axis."""
    return torch.exp(2 * torch.logsumexp(log_weight, -1) - torch.logsumexp(2 * log_weight, -1))


def systematic(weights: Tensor, count: int) -> Tensor:
    """Positions of ``count`` draws in proportion to weights ``(N,)`` that sum to 1, by systematic resampling, in random order.

    References:
        Douc et al. (2005), Comparison of resampling schemes for particle filtering, arXiv:cs/0507025
    """
    points = (torch.arange(count, device=weights.device) + torch.rand(1, device=weights.device)) / count
    chosen = torch.searchsorted(weights.cumsum(0), points).clamp(max=len(weights) - 1)
    # Systematic draws come in the order of what they are from (the members): shuffled, any first n are fair.
    return chosen[torch.randperm(count).to(chosen.device)]


def _log_prob(trace: poutine.Trace) -> Tensor:
    trace.compute_log_prob()
    return torch.stack(
        [
            site["log_prob"]
            for site in trace.nodes.values()
            if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
        ]
    ).sum(0)
