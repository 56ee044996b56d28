r"""The default model and its training step for the built-in ``drm`` schema and one member, in plain PyTorch.

Written as one would who needs this model only, does not know Pyro, and wants it fast: ``nn.Linear`` layers, closed-form
terms, one gather a minibatch, nothing computed that the loss does not need.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from pyro_hcvae import HierarchicalCVAE
from references.handwritten_numbers import HIDDEN, Numbers, existing
from references.problem import LATENT_DIMS, Draws, Problem, max_error, our_linears, our_tables
from references.rows import Minibatch, Rows

STEPS, WARMUP_STEPS, BETA_STEPS, PEAK, CLIP_NORM = 3000, 100, 900, 2e-3, 5.0
HIDE, JITTER, DROPOUT = 0.25, 0.1, 0.1
STRUCTURE_BLOCK = torch.tensor([0, 1, 2, 4])
PREPARATION, CALCINATION = slice(136, 143), slice(143, 146)
NUMBERS_BLOCK = torch.tensor([0] * 23 + [1] * 45 + [3] * 2 + [4] * 3)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
Layer = TypeVar("Layer", bound=nn.Module)


def mlp(inputs: int, outputs: int | None = None) -> nn.Sequential:
    """Two hidden layers with SiLU, and a head if there are outputs."""
    layers = [nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()]
    return nn.Sequential(*layers, *([] if outputs is None else [nn.Linear(HIDDEN, outputs)]))


def joint(inputs: int) -> nn.Sequential:
    """The hidden state joined with what a block sees of the blocks before it."""
    return nn.Sequential(nn.Linear(HIDDEN + inputs, HIDDEN), nn.SiLU())


def gaussian(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Loc and scale, log scale kept within 5."""
    loc, log_scale = (5 * torch.tanh(raw / 5)).chunk(2, dim=1)
    return loc, log_scale.exp() + 0.01


class Latent(nn.Module):
    """One latent with its learned prior, its posterior relative to it, and the decoder below."""

    def __init__(self, above: int, size: int) -> None:
        super().__init__()
        self.prior = mlp(above, 2 * size)
        self.posterior = mlp(above + HIDDEN + 2 * size, 2 * size)
        self.decoder = mlp(above + size)

    def forward(self, above: Tensor, context: Tensor, anything: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents so far ``(B, A + D)``, hidden state ``(B, H)`` and mean KL."""
        prior = self.prior(above)
        shift = self.posterior(torch.cat([above, context, prior], dim=1))
        (p_loc, p_scale), (q_loc, q_scale) = gaussian(prior), gaussian(prior + shift * anything)
        ratio = q_scale / p_scale
        kl = 0.5 * (ratio.square() + ((q_loc - p_loc) / p_scale).square() - 1).sum() - ratio.log().sum()
        above = torch.cat([above, q_loc + q_scale * noise], dim=1)
        return above, self.decoder(above), kl / len(above)


def mixture_log_prob(logits: Tensor, loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """Log density of mixtures of Gaussians, log weights, means and scales ``(N, 24)``, at values ``(N,)``."""
    each = logits - scale.log() - 0.5 * ((value.unsqueeze(1) - loc) / scale).square()
    return each.logsumexp(1) - logits.logsumexp(1) - HALF_LOG_2PI


class Components(nn.Module):
    """A subset of components, at most ``largest``, and the numbers of all but some reference ones."""

    before: Tensor

    def __init__(self, features: int, largest: int, references: int = 0) -> None:
        super().__init__()
        self.largest = largest
        self.presence_head = nn.Linear(HIDDEN, features)
        self.size_head = nn.Linear(HIDDEN, largest + 1)
        self.numbers = Numbers(features, features, largest - references)
        self.register_buffer("before", torch.ones(features, features).triu(1))

    def structure(self, hidden: Tensor, presence: Tensor, size: Tensor) -> Tensor:
        r"""Log probability of a subset: :math:`\pi_{|S|} w_S / e_{|S|}(w)`, shape ``(B,)``."""
        logits = 7.5 * torch.tanh(self.presence_head(hidden) / 7.5)
        log_size = self.size_head(hidden).log_softmax(1) - self.log_symmetric(logits.exp())
        return (presence * logits).sum(1) + (size * log_size).sum(1)

    def log_symmetric(self, weights: Tensor) -> Tensor:
        r"""Logs of :math:`e_0 \dots e_K`: :math:`e_k = \sum_j w_j e_{k-1}(w_1 \dots w_{j-1})`, all terms positive."""
        terms, e = weights, [torch.ones_like(weights[:, 0]), weights.sum(1)]
        for _ in range(self.largest - 1):
            terms = weights * (terms @ self.before)
            e.append(terms.sum(1))
        return torch.stack(e, dim=1).log()


class HandwrittenCVAE(nn.Module):
    """The default model for ``drm``."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        c = 2 * rows.features
        self.encoder = mlp(c + len(rows.owner) + 5)
        self.latents = nn.ModuleList(Latent(c + sum(LATENT_DIMS[:i]), size) for i, size in enumerate(LATENT_DIMS))
        self.metals, self.supports = Components(23, 4), Components(45, 3, references=1)
        self.preparation_head = nn.Linear(HIDDEN, 7)
        self.calcination = Numbers(1, 2, 2)
        self.reduction_head = nn.Linear(HIDDEN, 3)
        self.reduction = Numbers(3, 3, 3)
        self.calcination_joint, self.reduction_joint = joint(7 + 1), joint(7 + 1 + 1 + 2 + 1)

    def forward(self, batch: Minibatch, noise: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and the mean KL of each latent ``(L,)``; ``weights`` is beta * gamma of each."""
        visible = batch.visible
        shown = batch.recipe * visible[:, self.rows.owner]
        context = self.encoder(torch.cat([batch.conditions, shown, visible], dim=1))
        anything = visible.amax(1, keepdim=True)
        above, hidden, rates = batch.conditions, [], []
        for latent, eps in zip(self.latents, noise.split(LATENT_DIMS, dim=1), strict=True):
            above, state, kl = latent(above, context, anything, eps)
            hidden.append(state)
            rates.append(kl)
        *components, treatment = hidden
        # The blocks of a stage see those before them, as the encoder does.
        prepared = torch.cat([treatment, shown[:, PREPARATION], visible[:, 2:3]], dim=1)
        for_calcination = self.calcination_joint(prepared)
        for_reduction = self.reduction_joint(torch.cat([prepared, shown[:, CALCINATION], visible[:, 3:4]], dim=1))
        metals, amounts, supports, ratios, preparation, calcined, settings, reduced, reduction = batch.recipe.split(
            (23, 23, 45, 45, 7, 1, 2, 3, 3), dim=1
        )
        metal_size, support_size = batch.sizes.split((5, 4), dim=1)
        structures = [
            self.metals.structure(components[0], metals, metal_size),
            self.supports.structure(components[1], supports, support_size),
            (preparation * self.preparation_head(treatment).log_softmax(1)).sum(1),
            (reduced * self.reduction_head(for_reduction).log_softmax(1)).sum(1),
        ]
        # Of 73 numbers a recipe has about seven: densities of the others are never computed.
        exist = (batch.exists * visible[:, NUMBERS_BLOCK]).split((23, 45, 2, 3), dim=1)
        heads = (self.metals.numbers, self.supports.numbers, self.calcination, self.reduction)
        numbers = [
            existing(values, known, head.most)
            for values, known, head in zip((amounts, ratios, settings, reduction), exist, heads, strict=True)
        ]
        states = (
            (components[0], metals),
            (components[1], supports),
            (for_calcination, calcined),
            (for_reduction, reduced),
        )
        mixtures = [head(*state, found) for head, state, found in zip(heads, states, numbers, strict=True)]
        log_likelihood = (torch.stack(structures, dim=1) * visible[:, STRUCTURE_BLOCK]).sum()
        gaussians = (torch.cat(part) for part in zip(*mixtures, strict=True))
        values = torch.cat([found.values for found in numbers])
        log_likelihood = log_likelihood + mixture_log_prob(*gaussians, values).sum()
        rate = torch.stack(rates)
        return (weights * rate).sum() - log_likelihood / len(visible), rate.detach()

    def layers(self, kind: type[Layer]) -> list[Layer]:
        """Layers of a kind in the order of our model."""
        blocks = (
            (self.metals,),
            (self.supports,),
            (
                *(self.preparation_head, self.calcination, self.reduction_head, self.reduction),
                *(self.calcination_joint, self.reduction_joint),
            ),
        )
        parts = [self.encoder]
        for latent, own in zip(self.latents, blocks, strict=True):
            parts += [latent, *own]
        return [layer for part in parts for layer in part.modules() if isinstance(layer, kind)]


def from_ours(network: HierarchicalCVAE, rows: Rows) -> HandwrittenCVAE:
    """The handwritten model with the weights of our first member."""
    model = HandwrittenCVAE(rows)
    with torch.no_grad():
        for mine, theirs in zip(model.layers(nn.Linear), our_linears(network), strict=True):
            mine.weight.copy_(theirs.weight[0].T)
            mine.bias.copy_(theirs.bias[0, 0])
        for table, ours in zip(model.layers(nn.Embedding), our_tables(network), strict=True):
            table.weight.copy_(ours[0].flatten(1))
    return model


class Loop:
    """The training loop.

    Args:
        problem: The table.
        batch_size: Rows of a minibatch.
        fused: Adam's fused kernel; otherwise its default.
    """

    def __init__(self, problem: Problem, batch_size: int, *, fused: bool | None = None) -> None:
        self.batch_size = batch_size
        self.rows = Rows(problem)
        self.model = from_ours(problem.network(), self.rows)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=PEAK, fused=fused)
        order = torch.from_numpy(problem.data.recipes).argsort(stable=True)
        counts = torch.from_numpy(problem.data.recipes).bincount()
        self.order, self.counts, self.starts = order, counts, counts.cumsum(0) - counts
        self.recipes = torch.randperm(len(counts))
        self.rates = [1.0] * len(LATENT_DIMS)
        self.position = self.step = 0

    def run(self, steps: int) -> None:
        """Take training steps."""
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        beta = min(1.0, max(self.step % STEPS / BETA_STEPS, 1e-3))
        shares = [(rate + 0.01) / size for rate, size in zip(self.rates, LATENT_DIMS, strict=True)]
        gammas = (len(shares) * share / sum(shares) * (1 - beta) + beta for share in shares)
        weights = torch.tensor([beta * gamma for gamma in gammas])
        loss, rates = self.model(self._minibatch(), torch.randn(self.batch_size, sum(LATENT_DIMS)), weights)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.rates = [0.9 * a + 0.1 * b for a, b in zip(self.rates, rates.tolist(), strict=True)]
        self.step += 1

    def _learning_rate(self) -> float:
        step = self.step % STEPS
        if step < WARMUP_STEPS:
            return PEAK * (step + 1) / WARMUP_STEPS
        progress = (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)
        return PEAK * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def _minibatch(self) -> Minibatch:
        size, features = self.batch_size, self.rows.features
        if self.position + size > len(self.recipes):
            self.recipes, self.position = torch.randperm(len(self.recipes)), 0
        chosen = self.recipes[self.position : self.position + size]
        self.position += size
        rows = self.order[self.starts[chosen] + (torch.rand(size) * self.counts[chosen]).long()]
        hidden = (torch.rand(size, 1) < HIDE) & (torch.rand(size, 5) < 0.5)
        keep = ~((torch.rand(size, 1) < DROPOUT) & (torch.rand(size, features) < 0.5))
        return self.rows.minibatch(rows, hidden, JITTER * torch.randn(size, features), keep)


def check(problem: Problem, *, batch_size: int = 64, tolerance: float = 1e-5) -> float:
    """Check that loss and gradients are those of our model at the same weights, rows and noise.

    Args:
        problem: The table.
        batch_size: Rows of the minibatch.
        tolerance: Largest relative error (`max_error`) of the loss, the rates and the gradient of any parameter.

    Returns:
        The largest relative error of the loss, the rates and the gradients.

    Raises:
        AssertionError: If they differ by more than float32 rounding.
    """
    network = problem.network(stir=0.05)
    draws, weights = next(problem.draws(batch_size)), torch.tensor([0.3, 0.7, 1.9])
    terms = problem.objective(network, draws, weights)
    terms.loss.backward()
    rows = Rows(problem)
    model = from_ours(network, rows)
    alone = Draws(*(draw[0] for draw in draws))
    batch = rows.minibatch(alone.rows, alone.hidden, alone.blur, alone.keep)
    loss, rates = model(batch, alone.noise, weights)
    loss.backward()
    pairs = [(loss, terms.loss), (rates, torch.stack([rate.mean() for rate in terms.rate.values()]))]
    for mine, ours in zip(model.layers(nn.Linear), our_linears(network), strict=True):
        pairs += [(mine.weight.grad.T, ours.weight.grad[0]), (mine.bias.grad, ours.bias.grad[0, 0])]
    for table, ours in zip(model.layers(nn.Embedding), our_tables(network), strict=True):
        pairs.append((table.weight.grad, ours.grad[0].flatten(1)))
    worst = max_error(pairs)
    if not worst <= tolerance:
        raise AssertionError(f"the handwritten loop computes something else: relative error {worst}")
    return worst
