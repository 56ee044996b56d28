r"""Latent layers: a learned prior, and a posterior that is described relative to it (Vahdat & Kautz, 2020, NVAE).

.. math::

    p(z_l \mid \cdot) = N(\mu, \sigma), \qquad q(z_l \mid \cdot) = N(\mu + \Delta\mu, \sigma\,\Delta\sigma)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor, nn
from torch.distributions import register_kl

from pyro_hcvae.model.distributions import HALF_LOG_2PI
from pyro_hcvae.model.networks import MLP, soft_clamp

Result = TypeVar("Result")
_SCALE_FLOOR = 0.01
"""Added to every latent scale, as in NVAE."""


class DiagonalGaussian(TorchDistribution):  # type: ignore[misc]
    """Gaussian with a diagonal covariance, whose parameters are computed when they are first asked for.

    A guide that is described relative to the prior has evaluated the prior; the model, replayed on its draws, names the same
    prior again. Computed on demand, the prior's network runs once a step instead of twice. Asked for after the network has
    changed, they are those of the changed network.

    Args:
        parameters: Gives loc and scale, each of shape ``(*batch, D)``.
        shape: That shape.
        inputs: What they are computed from: two Gaussians of the very same inputs are one.
        prior: The prior that they are relative to.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        parameters: Callable[[], tuple[Tensor, Tensor]],
        shape: Size,
        inputs: tuple[object, ...],
        prior: DiagonalGaussian | None = None,
    ) -> None:
        self._compute, self._inputs, self.prior = _by_mode(parameters), inputs, prior
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def loc(self) -> Tensor:
        """Mean, shape ``(*batch, D)``."""
        return self._compute()[0]

    @property
    def scale(self) -> Tensor:
        """Standard deviation, shape ``(*batch, D)``."""
        return self._compute()[1]

    @property
    def mean(self) -> Tensor:
        """Mean, shape ``(*batch, D)``."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variance, shape ``(*batch, D)``."""
        return self.scale**2

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalGaussian:
        """Broadcast to a batch shape."""
        shape = Size(batch_shape)
        if shape == self.batch_shape:
            return self
        whole = shape + self.event_shape
        return DiagonalGaussian(lambda: (self.loc.expand(whole), self.scale.expand(whole)), whole, (self, whole))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws with gradients, shape ``(*sample_shape, *batch, D)``."""
        shape = self._extended_shape(Size(sample_shape))
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values ``(..., D)``, shape ``(...)``."""
        standardised = (value - self.loc) / self.scale
        return (-0.5 * standardised**2 - self.scale.log() - HALF_LOG_2PI).sum(dim=-1)

    def is_same(self, other: DiagonalGaussian) -> bool:
        """Whether both are computed from the very same inputs."""
        pairs = zip(self._inputs, other._inputs, strict=False)
        return len(self._inputs) == len(other._inputs) and all(a is b for a, b in pairs)


def _by_mode(function: Callable[[], Result]) -> Callable[[], Result]:
    """Compute once with gradients and once without: what was computed without must not serve where they are wanted."""
    kept: dict[bool, Result] = {}

    def cached() -> Result:
        mode = torch.is_grad_enabled()
        if mode not in kept:
            kept[mode] = function()
        return kept[mode]

    return cached


@register_kl(DiagonalGaussian, DiagonalGaussian)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    if q.prior is not None and q.prior.is_same(p):
        p = q.prior  # which the guide has evaluated
    variance = (q.scale / p.scale) ** 2
    shift = ((q.loc - p.loc) / p.scale) ** 2
    return 0.5 * (variance + shift - 1 - variance.log()).sum(dim=-1)


class Latent(nn.Module):
    """Prior and posterior of one latent layer, batch shape ``(M, B)``, event ``(D,)``."""

    def __init__(self, members: int, above: int, context: int, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.prior_network = MLP(members, above, hidden, 2 * size, zero_head=True)
        self.residual_network = MLP(members, above + context + 2 * size, hidden, 2 * size, zero_head=True)

    def prior(self, *above: Tensor) -> DiagonalGaussian:
        """``p(z_l | z_<l, c)`` given conditions and latents above, each ``(M, B, A)``; N(0, 1) at the start of training."""
        return self._prior(above)[0]

    def _prior(self, above: tuple[Tensor, ...]) -> tuple[DiagonalGaussian, Callable[[], Tensor]]:
        network = _by_mode(lambda: cast("Tensor", self.prior_network(torch.cat(above, dim=-1))))
        shape = Size((*above[0].shape[:-1], self.size))
        return DiagonalGaussian(lambda: _clamped(network()), shape, (self, *above)), network

    def posterior(self, above: tuple[Tensor, ...], context: Tensor, anything_known: Tensor) -> DiagonalGaussian:
        """``q(z_l | z_<l, x, c)``: the prior, moved by what the recipe shows.

        Args:
            above: Conditions and latents above, each of shape ``(M, B, A)``.
            context: Summary of the known part of the recipe, shape ``(M, B, H)``.
            anything_known: 1 where some block of the recipe is known, else 0: then the posterior is the prior; ``(M, B, 1)``.
        """
        prior, network = self._prior(above)
        raw = network()
        residual = self.residual_network(torch.cat([*above, context, raw], dim=-1)) * anything_known
        shape = Size((*above[0].shape[:-1], self.size))
        return DiagonalGaussian(lambda: _clamped(raw + residual), shape, (self, *above, context), prior)


def _clamped(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Output of a network ``(..., 2 D)`` -> loc and scale."""
    loc, log_scale = soft_clamp(raw).chunk(2, dim=-1)
    return loc, log_scale.exp() + _SCALE_FLOOR
