"""Completion of partial recipes by the amortised posterior with importance resampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.schema import Amounts, Fractions
from pyro_hcvae.model.distributions import SubsetBernoulli
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.likelihoods import Numbers
from pyro_hcvae.posterior.importance import effective_sample_size
from pyro_hcvae.posterior.predictive import drawing_scope


class Complete(poutine.messenger.Messenger):  # type: ignore[misc]
    """Draw what is open at each site and keep what is known, collecting the probability of the known part.

    Runs over a model that generates. At a site with known parts it draws the rest from its conditional distribution given them,
    and adds the log probability of the known part to `log_weight`: presences by summing the open components out exactly,
    codes and states by restriction to the possible ones, numbers cell by cell.

    Args:
        batch: Values and what is known of them, ``(M, B, ...)``.
        possible: For code and state sites, which positions agree with the known cells, shape ``(M, B, positions)``.
    """

    def __init__(self, batch: RecipeBatch, possible: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.batch, self.possible = batch, possible
        self.log_weight = torch.zeros(batch.shape, device=batch.conditions.device)

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if name not in self.batch.values:
            return
        value, known = self.batch.values[name], self.batch.known[name]
        if name in self.possible:
            log_prob = torch.where(self.possible[name], fn.logits.log_softmax(-1), -torch.inf)
            self.log_weight += log_prob.logsumexp(-1)
            noise = torch.empty_like(log_prob).exponential_().clamp(min=1e-30).log()
            msg["value"] = (log_prob - noise).argmax(-1)
        elif isinstance(fn, SubsetBernoulli):
            self.log_weight += fn.log_prob_known(value, known)
            msg["value"] = fn.sample_completion(value, known)
        elif isinstance(fn, Numbers):
            msg["value"], log_weight = fn.complete(value, known)
            self.log_weight += log_weight
        else:
            self.log_weight += torch.where(known, fn.base_dist.log_prob(value), 0.0).sum(-1)
            msg["value"] = torch.where(known, value, fn.sample())
        msg["done"] = True


@dataclass(frozen=True)
class Completions:
    """Draws of whole recipes given the known part of one.

    Attributes:
        packed: Resampled recipes, shape ``(S, W)``.
        effective: Effective sample size of the importance weights, out of `proposed`.
        proposed: Number of weighted draws.
    """

    packed: Tensor
    effective: float
    proposed: int


def complete_recipe(
    model: HierarchicalCVAE,
    batch: RecipeBatch,
    possible: Mapping[str, Tensor],
    pack: Any,
    accept: Any,
    *,
    draws: int,
    proposals: int,
    seed: int,
) -> Completions:
    r"""Draw completions of one partial recipe.

    .. math:: w_k = p(x_{known} \mid z_k, c)\, p(z_k \mid c) / q(z_k \mid x_{known}, c), \qquad z_k \sim q

    then resampling in proportion to w (systematic, so that few draws are lost).

    Args:
        model: Trained members, which count as equally likely a priori.
        batch: The partial recipe, shape ``(1, 1)``.
        possible: For code and state sites, positions that agree with the known cells, shape ``(1, 1, positions)``.
        pack: Sampled sites and conditions -> packed rows (`Layout.pack`).
        accept: Packed rows ``(N, W)`` -> which of them can agree with the known cells, shape ``(N,)``.
        draws: Completions to return.
        proposals: Weighted draws to resample from, over all members.
        seed: Fixes the draws.

    Returns:
        Completions; empty if no draw agrees with the known cells.
    """
    members = model.members
    each = -(-proposals // members)
    many = batch.expand_members(members).repeat_rows(each)
    guide_batch = _whole_blocks(model, many)
    with drawing_scope(seed, many.conditions.device):
        guide_trace = poutine.trace(model.guide).get_trace(guide_batch)
        handler = Complete(many, {k: v.expand(members, each, -1) for k, v in possible.items()})
        with handler:
            trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(many.conditions_only())
        log_weight = handler.log_weight.clone()
        for name in sites.latents(model.schema):
            prior, posterior = trace.nodes[name]["fn"], guide_trace.nodes[name]["fn"]
            z = guide_trace.nodes[name]["value"]
            log_weight += prior.log_prob(z) - posterior.log_prob(z)
        values = {name: trace.nodes[name]["value"] for name in many.values}
        packed = pack(values, many.conditions).flatten(0, 1)
        log_weight = log_weight.flatten()
        log_weight = torch.where(accept(packed), log_weight, -torch.inf)
        if not torch.isfinite(log_weight).any():
            return Completions(packed[:0], 0.0, len(packed))
        weights = torch.softmax(log_weight, 0)
        points = (torch.arange(draws, device=weights.device) + torch.rand(1, device=weights.device)) / draws
        chosen = torch.searchsorted(weights.cumsum(0), points).clamp(max=len(weights) - 1)
        # Systematic draws come in the order of the members: shuffle them, so that any first n are fair.
        chosen = chosen[torch.randperm(draws).to(chosen.device)]
        return Completions(packed[chosen].cpu(), float(effective_sample_size(log_weight)), len(packed))


def _whole_blocks(model: HierarchicalCVAE, batch: RecipeBatch) -> RecipeBatch:
    """Hide blocks that are known in part: the guide was trained on whole ones; the weights make up for it."""
    hidden: dict[str, Tensor] = {}
    for block in model.schema.blocks:
        structure, *numbers = sites.of_block(block)
        known = batch.known[structure]
        whole = known.all(-1) if isinstance(block, Amounts | Fractions) else known
        hidden |= dict.fromkeys([structure, *numbers], ~whole)
    return batch.hide(hidden)
