"""Draws from the model with part of a recipe given: the step that completion and search share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

Pack = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Sampled sites and conditions -> packed rows (`Layout.pack`)."""


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


@dataclass(frozen=True)
class Given:
    """The part of a recipe that is given, and the conditions.

    Attributes:
        batch: Values, and which of them are known, shape ``(M, B)``.
        possible: For code and state sites, positions that agree with what is known, shape ``(M, B, positions)``.
    """

    batch: RecipeBatch
    possible: Mapping[str, Tensor]

    def expand(self, members: int, rows: int) -> Given:
        """Many copies ``(M, B)`` of what was given as one row, shape ``(1, 1)``."""
        possible = {name: x.expand(members, rows, -1) for name, x in self.possible.items()}
        return Given(self.batch.expand_members(members).repeat_rows(rows), possible)


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
    r"""Draw ``z ~ q(z | x_known, c)``, then what is open.

    .. math:: w = p(x_{known} \mid z, c)\, p(z \mid c) / q(z \mid x_{known}, c)

    The guide sees the blocks that are known as a whole; the weights make up for the others. With nothing known it is the prior,
    and all weights are 1.
    """
    guide_trace = poutine.trace(model.guide).get_trace(_whole_blocks(model, given.batch))
    handler = Complete(given.batch, given.possible)
    with handler:
        replayed = poutine.replay(model.model, trace=guide_trace)
        trace = poutine.trace(replayed).get_trace(given.batch.conditions_only())
    log_weight, noise = handler.log_weight.clone(), {}
    for name in sites.latents(model.schema):
        prior, posterior = trace.nodes[name]["fn"], guide_trace.nodes[name]["fn"]
        z = guide_trace.nodes[name]["value"]
        log_weight += prior.log_prob(z) - posterior.log_prob(z)
        noise[name] = (z - prior.loc) / prior.scale
    return Draws(noise, _packed(model, trace, given, pack), handler.log_weight, log_weight)


def draw_from_noise(model: HierarchicalCVAE, given: Given, noise: Mapping[str, Tensor], pack: Pack) -> Draws:
    """Draw what is open at the latents that belong to some noise; the weight is that of the known part."""
    handler = Complete(given.batch, given.possible)
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
