"""Completion of partial recipes by the amortised posterior with importance resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.conditional import Given, Pack, draw_from_guide
from pyro_hcvae.posterior.importance import effective_sample_size, systematic
from pyro_hcvae.posterior.predictive import drawing_scope


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
    given: Given,
    pack: Pack,
    accept: Callable[[Tensor], Tensor],
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
        given: The known part, shape ``(1, 1)``.
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
    with drawing_scope(seed, given.batch.conditions.device):
        drawn = draw_from_guide(model, given.expand(members, each), pack)
        packed, log_weight = drawn.packed.flatten(0, 1), drawn.log_weight.flatten()
        log_weight = torch.where(accept(packed), log_weight, -torch.inf)
        if not torch.isfinite(log_weight).any():
            return Completions(packed[:0], 0.0, len(packed))
        weights = torch.softmax(log_weight, 0)
        chosen = systematic(weights, draws)
        return Completions(packed[chosen].cpu(), float(effective_sample_size(log_weight)), len(packed))
