r"""`ScaledELBO`: the annealed and balanced evidence lower bound.

.. math::

    L = E_q[\log p(x \mid z, c)] - \beta \sum_l \gamma_l \,
        E_q[KL(q(z_l \mid z_{<l}, x, c) \,\|\, p(z_l \mid z_{<l}, c))]

The weights :math:`\beta \gamma_l` enter through ``poutine.scale``, site by site, on the model *and* the guide: weighting one
of them alone gives a different objective in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor
from torch.distributions import kl_divergence

Weight = float | Tensor


class SiteScale(ScaleMessenger):  # type: ignore[misc]
    """``poutine.scale`` for chosen sites.

    Args:
        weights: Positive factor of each named site; a tensor must broadcast to the site's plates, e.g. ``(M, 1)``.

    Raises:
        ValueError: On leaving the context, if a named site was never met: a mistyped name would otherwise do nothing.

    Example:
        >>> import pyro, torch
        >>> from pyro import distributions as dist, poutine
        >>> def program():
        ...     return pyro.sample("z", dist.Normal(torch.tensor(0.0), torch.tensor(1.0)))
        >>> trace = poutine.trace(SiteScale({"z": 0.5})(program)).get_trace()
        >>> trace.nodes["z"]["scale"]
        0.5
    """

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        super().__init__(scale=1.0)
        self.weights = weights
        self._met: set[str] = set()

    def __enter__(self) -> SiteScale:
        self._met = set()
        entered: SiteScale = super().__enter__()
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        result = super().__exit__(kind, value, traceback)
        if kind is None and (missed := set(self.weights) - self._met):
            raise ValueError(
                f"no sample site is called {', '.join(sorted(map(repr, missed)))}; its weight had no effect"
            )
        return result

    def _process_message(self, msg: Any) -> None:
        if msg["type"] == "sample" and msg["name"] in self.weights:
            self._met.add(msg["name"])
            msg["scale"] = self.weights[msg["name"]] * msg["scale"]


class GivenNoise(poutine.messenger.Messenger):  # type: ignore[misc]
    """Sample Gaussian latents as ``loc + scale * noise`` with noise that is handed in.

    Noise as an input makes a step a pure function: each member keeps its own stream of random numbers, and a member trained in
    a crowd equals the same member trained alone.

    Args:
        noise: Standard normal numbers by site name, shape ``(M, B, D)``.
    """

    def __init__(self, noise: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Any) -> None:
        noise = self.noise.get(msg["name"])
        if noise is not None and not msg["is_observed"]:
            gaussian = getattr(msg["fn"], "base_dist", msg["fn"])  # a Normal(...).to_event(1), or a DiagonalGaussian
            msg["value"] = gaussian.loc + gaussian.scale * noise
            msg["done"] = True


@dataclass(frozen=True)
class ElboTerms:
    """One evaluation of the objective.

    Attributes:
        loss: Weighted negative bound, summed over members and rows; differentiable, a scalar.
        log_likelihood: Unweighted ``log p`` of each observed site, shape ``(M, B)``, in nats.
        rate: Unweighted KL (or its one-draw estimate) of each latent site, shape ``(M, B)``, in nats.
    """

    loss: Tensor
    log_likelihood: Mapping[str, Tensor]
    rate: Mapping[str, Tensor]

    @property
    def elbo(self) -> Tensor:
        """Unweighted bound, shape ``(M, B)``, in nats."""
        return torch.stack(list(self.log_likelihood.values())).sum(0) - torch.stack(list(self.rate.values())).sum(0)


class ScaledELBO(ELBO):  # type: ignore[misc]
    """Evidence lower bound with a weight on the KL of each named latent.

    It goes wherever a Pyro ELBO goes (``SVI(model, guide, optimizer, ScaledELBO(...))``); `terms` gives the training loop all it
    needs from a single run of guide and model. With all weights at 1 it is Pyro's own bound.

    Args:
        weights: ``beta * gamma_l`` of each latent site. May be replaced between steps (``elbo.weights = ...``).
        row_weights: Factor on everything in a row, model and guide, e.g. ``1 / B``; positive, broadcasts to ``(M, B)``.
        analytic_kl: Closed-form KL (as ``TraceMeanField_ELBO``), or its one-draw estimate (as ``Trace_ELBO``).
    """

    def __init__(
        self,
        weights: Mapping[str, Weight] | None = None,
        *,
        row_weights: Weight = 1.0,
        analytic_kl: bool = True,
    ) -> None:
        super().__init__()
        self.weights: Mapping[str, Weight] = weights or {}
        self.row_weights = row_weights
        self.analytic_kl = analytic_kl

    def terms(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> ElboTerms:
        """Run guide and model once.

        Returns:
            The weighted loss, and unweighted likelihoods and rates by site.

        Raises:
            ValueError: If a weight names no site, if a site of the guide is not in the model, or if a latent of the model
                is not in the guide.
            NotImplementedError: If a latent of the guide is not reparameterised.
        """
        model_trace, guide_trace = self._get_trace(model, guide, args, kwargs)
        latents = {name: site for name, site in _sites(guide_trace) if not site["is_observed"]}
        for name, site in latents.items():
            if not site["fn"].has_rsample:
                raise NotImplementedError(
                    f"site {name!r} of the guide has no reparameterised draws: its gradient would be wrong"
                )
        loss: Tensor | float = 0.0
        log_likelihood, rate = {}, {}
        for name, site in _sites(model_trace):
            fn, value = site["fn"], site["value"]
            if site["is_observed"]:
                log_likelihood[name] = term = fn.log_prob(value)
                loss = loss - scale_and_mask(term, site["scale"], site["mask"]).sum()
            elif name in latents:
                other = latents.pop(name)
                if self.analytic_kl:
                    rate[name] = term = kl_divergence(other["fn"], fn)
                else:
                    rate[name] = term = other["fn"].log_prob(value) - fn.log_prob(value)
                loss = loss + scale_and_mask(term, other["scale"], other["mask"]).sum()
            else:
                raise ValueError(f"latent site {name!r} of the model is not in the guide")
        if latents:
            raise ValueError(f"sites of the guide that are not in the model: {', '.join(sorted(latents))}")
        return ElboTerms(torch.as_tensor(loss), log_likelihood, rate)

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        with self._scaled():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        with self._scaled():
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return model_trace, guide_trace

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Weighted negative bound, a scalar with gradients."""
        return self.terms(model, guide, *args, **kwargs).loss

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Weighted negative bound as a number."""
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Weighted negative bound as a number; its gradients are added to the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    @contextmanager
    def _scaled(self) -> Iterator[None]:
        with poutine.scale(scale=self.row_weights), SiteScale(self.weights):
            yield


def _sites(trace: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sample sites of a trace without the plates."""
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site):
            yield name, site
