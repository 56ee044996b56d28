"""Target-directed search: draws of recipes in proportion to what is wanted of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from pyro.ops.stats import effective_sample_size as chain_effective_sample_size
from scipy.stats import chi2
from torch import Tensor

from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.conditional import Draws, Given, Pack, draw_from_guide, draw_from_noise
from pyro_hcvae.posterior.importance import effective_sample_size, systematic
from pyro_hcvae.posterior.predictive import drawing_scope

Weigh = Callable[[Tensor], Tensor]
"""Packed rows ``(N, W)`` -> log weights ``(N,)``, at most 0, ``-inf`` for what is not allowed."""
_ACCEPTANCE = 0.25
"""Share of accepted moves that the length of the moves is brought to."""
_SMALLEST_STEP = 0.02
_SHORTEST = 4
"""States of a chain from which an effective sample size can be told."""


@dataclass(frozen=True)
class SearchConfig:
    """How much is searched.

    Attributes:
        proposals: Draws that the chains start from, over all members.
        chains: Over all members.
        moves: Of each chain; 0: importance resampling alone.
        trust: Probability of the trust region under the prior, of each layer.
    """

    proposals: int = 4000
    chains: int = 500
    moves: int = 40
    trust: float = 0.99

    def __post_init__(self) -> None:
        if min(self.proposals, self.chains) < 1 or self.moves < 0:
            raise InputError("a search takes at least one proposal and one chain, and no less than 0 moves")
        if not 0 < self.trust <= 1:
            raise InputError(f"trust is a probability above 0 and at most 1, got {self.trust:g}")


@dataclass(frozen=True)
class Search:
    """How the search went.

    Attributes:
        packed: Draws of the distribution that was searched: the last states of the chains that have found something allowed,
            members by their evidence, shape ``(N, W)``. Proposals are chosen from everything that was met, not from these alone.
        drawn: Whole recipes drawn.
        effective_start: Effective sample size of the importance weights that the chains start from.
        proposed_start: Number of these.
        effective_chains: Effective sample size of the second half of the chains, over all chains; NaN if they were too short.
        acceptance: Share of moves accepted in the second half; NaN if the chains never ran.
        step: Length of the moves at the end, between 0 and 1.
    """

    packed: Tensor
    drawn: int
    effective_start: float
    proposed_start: int
    effective_chains: float
    acceptance: float
    step: float


def search(
    model: HierarchicalCVAE,
    given: Given,
    pack: Pack,
    weigh: Weigh,
    config: SearchConfig,
    *,
    seed: int,
) -> Search:
    r"""Sample recipes from what the model holds for plausible and the weights for good.

    .. math:: \pi(z, x) \propto p(z, x \mid c)\; w(x)\; 1[\lVert\epsilon_l\rVert^2 \le \chi^2_{D_l}(t) \;\forall l]

    The chains start from importance resampling of draws ``z ~ q(z | x_known, c)``, and then move by the preconditioned
    Crank-Nicolson rule in the standardised latents, :math:`\epsilon' = \sqrt{1 - s^2}\,\epsilon + s\,\xi`, with the recipe drawn
    anew: a move that leaves ``p(z, x | c)`` as it is, so that the weights alone decide whether it is taken, for any black box
    that weighs. The trust region keeps latents where training has put some.

    Args:
        model: Trained members, which count as equally likely a priori.
        given: Conditions and what is known of the recipe, shape ``(1, 1)``.
        pack: Sampled sites and conditions -> packed rows.
        weigh: Log weight of recipes; called once for the start and once a move.
        config: How much is searched; :math:`t` is its ``trust``.
        seed: Fixes everything.

    References:
        Cotter et al. (2013), MCMC Methods for Functions, Statistical Science 28(3)
    """
    members, moves = model.members, config.moves
    radius = {site: float(chi2.ppf(config.trust, size)) for site, size in model.latent_dims.items()}
    each = -(-config.chains // members)
    with drawing_scope(seed, given.batch.conditions.device, rows=members * each):
        start = draw_from_guide(model, given.expand(members, -(-config.proposals // members)), pack)
        judged = _judged(start, weigh, radius)
        log_weight = start.log_weight + judged
        found = torch.isfinite(log_weight)
        effective = float(effective_sample_size(log_weight.flatten())) if found.any() else 0.0
        evidence = log_weight.logsumexp(dim=1)
        chosen = torch.stack([_resampled(weights, each) for weights in log_weight])
        noise = {name: _rows(x, chosen) for name, x in start.noise.items()}
        packed = _rows(start.packed, chosen)
        judged, known = judged.gather(1, chosen), start.log_known.gather(1, chosen)
        many = given.expand(members, each)
        step, accepted, scores = 0.5, [], []
        for move in range(moves):
            proposed = {name: math.sqrt(1 - step**2) * x + step * torch.randn_like(x) for name, x in noise.items()}
            drawn = draw_from_noise(model, many, proposed, pack)
            new = _judged(drawn, weigh, radius)
            # A chain that stands on nothing allowed takes every move, and wanders under the prior until it finds something.
            lost = torch.isinf(judged + known)
            taken = lost | (torch.rand_like(new).log() < (new + drawn.log_known) - (judged + known))
            noise = {name: torch.where(taken.unsqueeze(-1), proposed[name], x) for name, x in noise.items()}
            packed = torch.where(taken.unsqueeze(-1), drawn.packed, packed)
            judged, known = torch.where(taken, new, judged), torch.where(taken, drawn.log_known, known)
            share = float((taken & ~lost).float().mean())
            if move < moves // 2:  # the length must not depend on the chains that are kept
                step = min(1.0, max(_SMALLEST_STEP, step * math.exp(0.5 * (share - _ACCEPTANCE))))
            else:
                accepted.append(share)
                scores.append(judged.exp())
        allowed = torch.isfinite(judged)
        last = _by_evidence(packed, allowed, evidence)
    return Search(
        packed=last.cpu(),
        drawn=found.numel() + moves * members * each,
        effective_start=effective,
        proposed_start=found.numel(),
        effective_chains=_effective(torch.stack(scores)) if len(scores) >= _SHORTEST else math.nan,
        acceptance=sum(accepted) / len(accepted) if accepted else math.nan,
        step=step,
    )


def _judged(drawn: Draws, weigh: Weigh, radius: Mapping[str, float]) -> Tensor:
    """Log weights ``(M, B)``; ``-inf`` outside of the trust region, where nothing is weighed."""
    inside = torch.stack([(x**2).sum(-1) <= radius[name] for name, x in drawn.noise.items()]).all(0)
    judged = torch.full(inside.shape, -torch.inf, device=inside.device, dtype=drawn.packed.dtype)
    if inside.any():
        judged[inside] = weigh(drawn.packed[inside]).to(judged)
    return judged


def _resampled(log_weight: Tensor, count: int) -> Tensor:
    """Positions of ``count`` draws in proportion to their weights ``(N,)``; any draws where none has a weight."""
    if not torch.isfinite(log_weight).any():
        return torch.arange(count, device=log_weight.device) % len(log_weight)
    return systematic(torch.softmax(log_weight, 0), count)


def _rows(x: Tensor, chosen: Tensor) -> Tensor:
    """Rows of ``(M, B, F)`` at positions ``(M, C)``."""
    return x.gather(1, chosen.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _by_evidence(packed: Tensor, allowed: Tensor, evidence: Tensor) -> Tensor:
    """States ``(M, C, W)`` as draws of the mixture of the members, each in proportion to its evidence ``(M,)``."""
    evidence = torch.where(torch.isnan(evidence), -torch.inf, evidence)
    weights = evidence.unsqueeze(-1).expand(allowed.shape) - allowed.sum(-1, keepdim=True).log()
    weights = torch.where(allowed, weights, -torch.inf).flatten()
    if not torch.isfinite(weights).any():
        return packed.flatten(0, 1)[allowed.flatten()]
    return packed.flatten(0, 1)[systematic(torch.softmax(weights, 0), len(weights))]


def _effective(scores: Tensor) -> float:
    """Effective sample size of traces ``(S, M, C)``, summed over members, none of which can turn into another.

    Chains that found nothing count nothing. Chains that stand still count once for each place at which some stand.
    """
    total = 0.0
    for member in scores.unbind(1):
        moving = member.std(0) > 0
        if moving.any():
            total += float(chain_effective_sample_size(member[:, moving].double(), sample_dim=0, chain_dim=1))
        places = member[0, ~moving]
        total += len(set(places[places > 0].tolist()))
    return min(total, float(scores.numel()))
