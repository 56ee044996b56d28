"""Draws from the model with part of a recipe given: the step that completion and search share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.schema import Amounts, Fractions
from pyro_hcvae.model.distributions import SubsetBernoulli
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.latents import DiagonalGaussian
from pyro_hcvae.model.likelihoods import Numbers
from pyro_hcvae.posterior.shares import OpenShares

_FROM_PRIOR = 0.5
"""Share of the draws that come from the prior instead of the guide, ``a``."""
Pack = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Sampled sites and conditions -> packed rows (`Layout.pack`)."""


class Complete(poutine.messenger.Messenger):  # type: ignore[misc]
    """Draw what is open at each site and keep what is known, collecting the probability of the known part.

    Runs over a model that generates. At a site with known parts it draws the rest from its conditional distribution given them,
    and adds the log probability of the known part to `log_weight`: presences by summing the open components out exactly,
    codes and states by restriction to the possible ones, numbers cell by cell, shares of a whole together.

    Args:
        batch: Values and what is known of them, ``(M, B, ...)``.
        possible: For code and state sites, which positions agree with the known cells, shape ``(M, B, positions)``.
        shares: For ratio sites of wholes of which some shares are known.
    """

    def __init__(
        self, batch: RecipeBatch, possible: Mapping[str, Tensor], shares: Mapping[str, OpenShares] | None = None
    ) -> None:
        super().__init__()
        self.batch, self.possible, self.shares = batch, possible, shares or {}
        self.drawn: dict[str, Tensor] = {}
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
        elif name in self.shares:
            shares = self.shares[name]
            msg["value"], log_weight = shares.complete(fn, self.drawn[shares.presence])
            self.log_weight += log_weight
        elif isinstance(fn, Numbers):
            msg["value"], log_weight = fn.complete(value, known)
            self.log_weight += log_weight
        else:
            self.log_weight += torch.where(known, fn.base_dist.log_prob(value), 0.0).sum(-1)
            msg["value"] = torch.where(known, value, fn.sample())
        self.drawn[name] = msg["value"]
        msg["done"] = True


class StandardisedLatents(poutine.messenger.Messenger):  # type: ignore[misc]
    r"""Set each latent from standard normal noise, :math:`z_l = \mu_l(z_{<l}, c) + \sigma_l(z_{<l}, c)\,\epsilon_l`.

    Args:
        noise: By latent site, shape ``(M, B, D)``.
    """

    def __init__(self, noise: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.noise:
            prior = msg["fn"]
            msg["value"] = prior.loc + prior.scale * self.noise[msg["name"]]
            msg["done"] = True


class GuideOrPrior(poutine.messenger.Messenger):  # type: ignore[misc]
    """Draw the latents of some rows of a guide from the prior, top down, and weigh all rows by the mixture of both.

    Args:
        shape: Members and rows ``(M, B)``.
        device: Where they are drawn.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        super().__init__()
        self.from_prior = torch.rand(shape, device=device) < _FROM_PRIOR
        self._log_ratio = torch.zeros(shape, device=device)

    def _pyro_sample(self, msg: Any) -> None:
        posterior = msg["fn"]
        if isinstance(posterior, DiagonalGaussian) and posterior.prior is not None:
            prior = posterior.prior
            z = torch.where(self.from_prior.unsqueeze(-1), prior.sample(), posterior.sample())
            self._log_ratio += posterior.log_prob(z) - prior.log_prob(z)
            msg["value"], msg["done"] = z, True

    @property
    def log_weight(self) -> Tensor:
        """``log p - log((1 - a) q + a p)`` of the latents drawn, shape ``(M, B)``, in nats."""
        prior = torch.full_like(self._log_ratio, math.log(_FROM_PRIOR))
        return -torch.logaddexp(self._log_ratio + math.log(1 - _FROM_PRIOR), prior)


@dataclass(frozen=True)
class Given:
    """The part of a recipe that is given, and the conditions.

    Attributes:
        batch: Values, and which of them are known, shape ``(M, B)``.
        possible: For code and state sites, positions that agree with what is known, shape ``(M, B, positions)``.
        shares: For ratio sites of wholes of which some shares are given and others open.
    """

    batch: RecipeBatch
    possible: Mapping[str, Tensor]
    shares: Mapping[str, OpenShares] = field(default_factory=dict)

    def expand(self, members: int, rows: int) -> Given:
        """Many copies ``(M, B)`` of what was given as one row, shape ``(1, 1)``."""
        possible = {name: x.expand(members, rows, -1) for name, x in self.possible.items()}
        return Given(self.batch.expand_members(members).repeat_rows(rows), possible, self.shares)


@dataclass(frozen=True)
class Draws:
    r"""Whole recipes, drawn given a part.

    Attributes:
        noise: Standardised latents, by site, shape ``(M, B, D)``.
        packed: Recipes, shape ``(M, B, W)``.
        log_known: :math:`\log p(x_{known} \mid z, c)`, shape ``(M, B)``, in nats.
        log_weight: Importance weight of the draw, shape ``(M, B)``, in nats.
    """

    noise: Mapping[str, Tensor]
    packed: Tensor
    log_known: Tensor
    log_weight: Tensor


def draw_from_guide(model: HierarchicalCVAE, given: Given, pack: Pack) -> Draws:
    r"""Draw ``z ~ (1 - a) q(z | x_known, c) + a p(z | c)``, then what is open.

    .. math:: w = p(x_{known} \mid z, c)\, p(z \mid c) \big/ \big((1 - a)\, q(z \mid x_{known}, c) + a\, p(z \mid c)\big)

    The guide sees the blocks that are known as a whole; the weights make up for the others. Where it is narrower than the
    posterior, everything would hang on the few of its draws that reach the posterior's flanks. With some draws from the prior,
    no weight passes ``p(x_known | z, c) / a``. With nothing known the guide is the prior, and all weights are 1.

    References:
        Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions, Technometrics 37(2)
    """
    mixture = GuideOrPrior(given.batch.shape, given.batch.conditions.device)
    with mixture:
        guide_trace = poutine.trace(model.guide).get_trace(_whole_blocks(model, given.batch))
    handler = Complete(given.batch, given.possible, given.shares)
    with handler:
        replayed = poutine.replay(model.model, trace=guide_trace)
        trace = poutine.trace(replayed).get_trace(given.batch.conditions_only())
    noise = {}
    for name in sites.latents(model.schema):
        prior = trace.nodes[name]["fn"]
        noise[name] = (guide_trace.nodes[name]["value"] - prior.loc) / prior.scale
    log_weight = handler.log_weight + mixture.log_weight
    return Draws(noise, _packed(model, trace, given, pack), handler.log_weight, log_weight)


def draw_from_noise(model: HierarchicalCVAE, given: Given, noise: Mapping[str, Tensor], pack: Pack) -> Draws:
    """Draw what is open at the latents that belong to some noise; the weight is that of the known part."""
    handler = Complete(given.batch, given.possible, given.shares)
    with handler, StandardisedLatents(noise):
        trace = poutine.trace(model.model).get_trace(given.batch.conditions_only())
    return Draws(noise, _packed(model, trace, given, pack), handler.log_weight, handler.log_weight)


def _packed(model: HierarchicalCVAE, trace: Any, given: Given, pack: Pack) -> Tensor:
    values = {name: trace.nodes[name]["value"] for name in sites.observed(model.schema)}
    return pack(values, given.batch.conditions)


def _whole_blocks(model: HierarchicalCVAE, batch: RecipeBatch) -> RecipeBatch:
    """Hide blocks that are known in part: the guide was trained on whole ones; the weights make up for it."""
    hidden: dict[str, Tensor] = {}
    for block in model.schema.blocks:
        structure, *numbers = sites.of_block(block)
        known = batch.known[structure]
        whole = known.all(-1) if isinstance(block, Amounts | Fractions) else known
        hidden |= dict.fromkeys([structure, *numbers], ~whole)
    return batch.hide(hidden)
