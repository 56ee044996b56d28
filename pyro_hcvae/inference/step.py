"""`Gradients`: what one training step differentiates, as a function of tensors alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Layout, RecipeBatch
from pyro_hcvae.inference.objective import ElboTerms, GivenNoise, ScaledELBO
from pyro_hcvae.model.hierarchical import HierarchicalCVAE


class Minibatch(NamedTuple):
    """All that varies from step to step but the parameters.

    Attributes:
        packed: Encoded rows, shape ``(M, B, W)``.
        noise: Standard normal numbers of the latents, shape ``(M, B, D)``.
        hidden: Blocks that the guide does not see, shape ``(M, B, blocks)``, bool.
        blur: Noise on the conditions, shape ``(M, B, C)``.
        keep: Conditions that stay known, shape ``(M, B, C)``, bool.
        weights: ``beta * gamma_l`` of every layer and member, shape ``(L, M)``.
    """

    packed: Tensor
    noise: Tensor
    hidden: Tensor
    blur: Tensor
    keep: Tensor
    weights: Tensor


StepFunction = Callable[..., Tensor]
"""Parameters ``(M, P)``, a buffer of that shape for the gradient, and the tensors of a `Minibatch` -> mean rates ``(L, M)``.

The buffer is the caller's because a fresh one of that size is paid for page by page, every step.
"""


class FlatParameters:
    """All parameters of a member module as one tensor ``(M, P)``; the module's own parameters become views of it.

    One buffer makes clipping per member, AdamW, copies and checkpoints a handful of operations each.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parameters = dict(module.named_parameters())
        self.values = torch.cat([p.detach().flatten(1) for p in self.parameters.values()], dim=1)
        for p, view in zip(self.parameters.values(), self.split(self.values), strict=True):
            p.data = view

    def split(self, values: Tensor) -> list[Tensor]:
        """A flat tensor ``(M, P)`` cut into the shapes of the parameters."""
        shapes = [p.shape for p in self.parameters.values()]
        parts = torch.split(values, [shape[1:].numel() for shape in shapes], dim=1)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


class _Bound(nn.Module):
    """The weighted bound of a minibatch. A module, so that its parameters can be handed in."""

    def __init__(self, model: HierarchicalCVAE, layout: Layout) -> None:
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, *tensors: Tensor) -> ElboTerms:
        batch = Minibatch(*tensors)
        recipes = self.layout.unpack(batch.packed)
        hidden = {
            name: batch.hidden[..., i]
            for i, block in enumerate(self.model.schema.blocks)
            for name in sites.of_block(block)
        }
        recipes = recipes.hide(hidden).blur(batch.blur, batch.keep)
        weights = {name: batch.weights[i][:, None] for i, name in enumerate(self.model.latent_dims)}
        elbo = ScaledELBO(weights, row_weights=1 / batch.packed.shape[1])
        return bound_terms(elbo, self.model, recipes, batch.noise)


def bound_terms(elbo: ScaledELBO, model: HierarchicalCVAE, batch: RecipeBatch, noise: Tensor) -> ElboTerms:
    """Evaluate a bound with given noise of the latents, shape ``(M, B, D)``."""
    dims = model.latent_dims
    given = dict(zip(dims, torch.split(noise, list(dims.values()), dim=-1), strict=True))
    return elbo.terms(model.model, GivenNoise(given)(model.guide), batch)


class BoundGradients:
    """Gradient of a weighted bound.

    Args:
        bound: Maps the tensors of a minibatch to `ElboTerms`; its parameters carry a leading member dimension.

    Attributes:
        flat: The members' parameters.
    """

    def __init__(self, bound: nn.Module) -> None:
        self._bound = bound
        self.flat = FlatParameters(bound)

    def __call__(self, values: Tensor, gradient: Tensor, *batch: Tensor) -> Tensor:
        """Gradient at the module's own parameters: ``values`` must be ``flat.values``. See `StepFunction`."""
        terms = self._bound(*batch)
        parts = torch.autograd.grad(terms.loss, list(self.flat.parameters.values()))
        torch.cat([part.flatten(1) for part in parts], dim=1, out=gradient)
        return _mean_rates(terms)

    def pure(self, values: Tensor, gradient: Tensor, *batch: Tensor) -> Tensor:
        """The same at any parameters, without a look at the module's own: this is what a tracer records."""
        leaves = [part.detach().requires_grad_() for part in self.flat.split(values)]
        terms = functional_call(self._bound, dict(zip(self.flat.parameters, leaves, strict=True)), batch)
        parts = torch.autograd.grad(terms.loss, leaves)
        gradient.copy_(torch.cat([part.flatten(1) for part in parts], dim=1))
        return _mean_rates(terms)


class Gradients(BoundGradients):
    """Gradient of the weighted bound of a `Minibatch` of recipes.

    Args:
        model: The members.
        layout: Where each site lies in a packed row.
    """

    def __init__(self, model: HierarchicalCVAE, layout: Layout) -> None:
        super().__init__(_Bound(model, layout))


def _mean_rates(terms: ElboTerms) -> Tensor:
    return torch.stack([rate.detach().mean(dim=1) for rate in terms.rate.values()])
