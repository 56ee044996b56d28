"""Latent layers: one evaluation of the prior, and Gaussians that behave as torch's own."""

from __future__ import annotations

import pytest
import torch
from pyro import poutine
from torch.distributions import kl_divergence

from pyro_hcvae.inference.objective import ScaledELBO
from pyro_hcvae.model.latents import DiagonalGaussian, Latent
from pyro_hcvae.model.networks import reset_members
from tests.laboratories import tiny_model


def gaussian(loc: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(lambda: (loc, scale), loc.shape, (loc, scale))


def test_it_is_torchs_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    (a, b), scales = torch.randn(2, 3, 4, generator=generator), torch.rand(2, 3, 4, generator=generator) + 0.5
    ours, other = gaussian(a, scales[0]), gaussian(b, scales[1])
    torchs, torchs_other = (
        torch.distributions.Independent(torch.distributions.Normal(*x), 1) for x in ((a, scales[0]), (b, scales[1]))
    )
    assert torch.allclose(ours.log_prob(b), torchs.log_prob(b))
    assert torch.allclose(kl_divergence(ours, other), kl_divergence(torchs, torchs_other))
    assert torch.equal(ours.mean, torchs.mean)
    assert torch.allclose(ours.variance, torchs.variance)
    assert ours.expand((2, 3)).log_prob(b).shape == (2, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = ours.rsample((50_000,))
    assert torch.allclose(draws.mean(0), a, atol=0.05)
    assert torch.allclose(draws.std(0), scales[0], rtol=0.03)


def test_a_draw_without_gradients_takes_none_from_a_later_density() -> None:
    loc = torch.zeros(2, requires_grad=True)
    fn = DiagonalGaussian(lambda: (2 * loc, torch.ones(2)), loc.shape, (loc,))
    value = fn.sample()
    assert not value.requires_grad
    (gradient,) = torch.autograd.grad(fn.log_prob(torch.ones(2)), loc)
    assert torch.equal(gradient, torch.full((2,), 2.0))


def test_the_prior_is_evaluated_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, _ = tiny_model(stir=0.1)
    calls: list[int] = []
    for part in model.stages:
        part.latent.prior_network.register_forward_hook(lambda *_: calls.append(1))
    ScaledELBO().terms(model.model, model.guide, batch)
    assert len(calls) == len(model.latent_dims)


def test_the_shared_prior_gives_the_kl_and_the_gradient_of_a_prior_of_its_own() -> None:
    latent = Latent(2, 3, 5, 4, (8,))
    reset_members(latent, (0, 1))
    with torch.no_grad():
        for i, p in enumerate(latent.parameters()):
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    above, context, known = torch.randn(2, 6, 3), torch.randn(2, 6, 5), torch.ones(2, 6, 1)
    q = latent.posterior((above,), context, known)
    shared, own = latent.prior(above), latent.prior(above.clone())
    assert q.prior is not None
    assert q.prior.is_same(shared)
    assert not q.prior.is_same(own)
    other = latent.prior(above + 1)
    assert not q.prior.is_same(other)
    assert (kl_divergence(q, other) - kl_divergence(q, shared)).abs().max() > 1e-3
    parameters = list(latent.parameters())
    ours = torch.autograd.grad(kl_divergence(q, shared).sum(), parameters, retain_graph=True)
    reference = torch.autograd.grad(kl_divergence(q, own).sum(), parameters)
    for a, b in zip(ours, reference, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_other_conditions_are_another_prior() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    guide = poutine.trace(model.guide).get_trace(batch)
    again = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(batch)
    blurred = batch.blur(torch.ones_like(batch.conditions), torch.ones_like(batch.conditions_known))
    elsewhere = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(blurred)
    for name in model.latent_dims:
        q = guide.nodes[name]["fn"]
        assert q.prior.is_same(again.nodes[name]["fn"])
        assert not q.prior.is_same(elsewhere.nodes[name]["fn"])
