"""ScaledELBO against hand computation, analytic gradients, Pyro's own ELBOs and exact evidence."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_hcvae.data import sites
from pyro_hcvae.inference.objective import GivenNoise, ScaledELBO, SiteScale
from tests.laboratories import tiny_model

WEIGHTS = {"z_metal": 0.3, "z_support": 0.7, "z_treatment": 1.9}


def seeded(function, *args):  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return function(*args)


@pytest.mark.parametrize("analytic_kl", [True, False])
def test_equals_hand_computed_negative_likelihood_plus_weighted_kl(analytic_kl: bool) -> None:
    model, batch, _ = tiny_model(stir=0.1)
    elbo = ScaledELBO(WEIGHTS, analytic_kl=analytic_kl)
    loss = seeded(elbo.differentiable_loss, model.model, model.guide, batch)
    guide = seeded(lambda: poutine.trace(model.guide).get_trace(batch))
    trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(batch)
    expected = torch.tensor(0.0)
    for name in sites.observed(model.schema):
        expected = expected - trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"]).sum()
    for name, weight in WEIGHTS.items():
        q, p, z = guide.nodes[name]["fn"], trace.nodes[name]["fn"], guide.nodes[name]["value"]
        rate = kl_divergence(q, p) if analytic_kl else q.log_prob(z) - p.log_prob(z)
        expected = expected + weight * rate.sum()
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert rate.abs().sum() > 0.1  # the comparison is about something


@pytest.mark.parametrize(("analytic_kl", "reference"), [(True, TraceMeanField_ELBO()), (False, Trace_ELBO())])
@pytest.mark.parametrize("weights", [{}, WEIGHTS])
def test_equals_pyros_own_elbo_at_the_same_seed(analytic_kl, reference, weights) -> None:  # type: ignore[no-untyped-def]
    model, batch, _ = tiny_model(stir=0.1)
    ours = seeded(ScaledELBO(weights, analytic_kl=analytic_kl).differentiable_loss, model.model, model.guide, batch)
    scaled = [SiteScale(weights)(f) if weights else f for f in (model.model, model.guide)]
    theirs = seeded(reference.differentiable_loss, *scaled, batch)
    assert torch.allclose(ours, theirs, rtol=1e-6)
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_row_weights_scale_model_and_guide() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    plain = seeded(ScaledELBO(WEIGHTS).differentiable_loss, model.model, model.guide, batch)
    halved = seeded(ScaledELBO(WEIGHTS, row_weights=0.5).differentiable_loss, model.model, model.guide, batch)
    assert torch.allclose(halved, 0.5 * plain)
    first_only = torch.full(batch.shape, 1e-12)  # poutine.scale takes positive factors only
    first_only[:, 0] = 1.0
    single = seeded(ScaledELBO(WEIGHTS, row_weights=first_only).terms, model.model, model.guide, batch)
    expected = -sum(x[:, 0].sum() for x in single.log_likelihood.values())
    expected += sum(WEIGHTS[name] * x[:, 0].sum() for name, x in single.rate.items())
    assert torch.allclose(single.loss, expected, rtol=1e-5)


def test_terms_are_never_weighted() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    plain = seeded(ScaledELBO().terms, model.model, model.guide, batch)
    weighted = seeded(ScaledELBO(WEIGHTS, row_weights=0.1).terms, model.model, model.guide, batch)
    for name, rate in plain.rate.items():
        assert torch.equal(rate, weighted.rate[name])
    assert torch.equal(plain.elbo, weighted.elbo)
    assert torch.allclose(plain.loss, -plain.elbo.sum(), rtol=1e-5)


def test_a_weight_for_each_member() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    beta = torch.tensor([[0.25], [2.0]])
    terms = seeded(ScaledELBO({"z_support": beta}).terms, model.model, model.guide, batch)
    rate = terms.rate["z_support"]
    other = sum(x.sum() for name, x in terms.rate.items() if name != "z_support")
    likelihood = sum(x.sum() for x in terms.log_likelihood.values())
    assert torch.allclose(terms.loss, -likelihood + other + (beta * rate).sum(), rtol=1e-5)


def test_analytic_gradient_of_a_gaussian_pair() -> None:
    """L = w KL(N(m, s) || N(0, 1)) - E log N(x; z, 1): dL/dm = w m - (x - m); dL/ds = w (s - 1/s) + s."""
    x, weight = torch.tensor(1.7), 0.4
    m = torch.tensor(0.3, requires_grad=True)
    s = torch.tensor(0.8, requires_grad=True)

    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0), torch.tensor(1.0)).expand([200_000]).to_event(0))
        with pyro.plate("draws", 200_000):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.expand(200_000))

    def guide() -> None:
        pyro.sample("z", dist.Normal(m, s).expand([200_000]))

    loss = seeded(ScaledELBO({"z": weight}).differentiable_loss, model, guide) / 200_000
    dm, ds = torch.autograd.grad(loss, (m, s))
    assert torch.allclose(dm, weight * m - (x - m), atol=0.02)
    assert torch.allclose(ds, weight * (s - 1 / s) + s, atol=0.02)


def test_a_mistyped_site_name_raises() -> None:
    model, batch, _ = tiny_model()
    with pytest.raises(ValueError, match="'z_metl'"):
        ScaledELBO({"z_metl": 0.5}, row_weights=0.1).terms(model.model, model.guide, batch)
    assert not pyro.poutine.runtime._PYRO_STACK  # nothing goes on scaling what comes next


def test_a_guide_without_reparameterised_draws_raises() -> None:
    p = torch.tensor(0.3, requires_grad=True)

    def model() -> None:
        pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))

    def guide() -> None:
        pyro.sample("z", dist.Bernoulli(p))

    with pytest.raises(NotImplementedError, match="'z'"):
        ScaledELBO().terms(model, guide)


def test_latents_must_match() -> None:
    model, batch, _ = tiny_model()
    with pytest.raises(ValueError, match="'z_metal' of the model is not in the guide"):
        ScaledELBO().terms(model.model, lambda batch: None, batch)

    def chatty(batch):  # type: ignore[no-untyped-def]
        model.guide(batch)
        pyro.sample("extra", dist.Normal(torch.tensor(0.0), torch.tensor(1.0)))

    with pytest.raises(ValueError, match="not in the model: extra"):
        ScaledELBO().terms(model.model, chatty, batch)


def test_given_noise_replaces_the_random_numbers() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    noise = {name: torch.randn(2, 12, d) for name, d in model.latent_dims.items()}
    first = poutine.trace(GivenNoise(noise)(model.guide)).get_trace(batch)
    for name, eps in noise.items():
        fn = first.nodes[name]["fn"]
        assert torch.allclose(first.nodes[name]["value"], fn.loc + fn.scale * eps)


@pytest.mark.parametrize("analytic_kl", [True, False])
def test_linear_gaussian_hierarchy_with_exact_evidence_is_recovered(analytic_kl: bool) -> None:
    """z1 ~ N(0, 1), z2 | z1 ~ N(z1, 1), x | z2 ~ N(z2, 1): x ~ N(0, 3), and the bound is tight at the true posterior."""
    particles, steps = 50, 800
    x = torch.tensor([1.5, -0.5, 3.0]).repeat(particles)
    parameters = {
        "a": torch.zeros(1, requires_grad=True),  # z1 | x = a x
        "s1": torch.zeros(1, requires_grad=True),
        "b": torch.zeros(1, requires_grad=True),  # z2 | z1, x = b x + c z1
        "c": torch.zeros(1, requires_grad=True),
        "s2": torch.zeros(1, requires_grad=True),
    }

    def model() -> None:
        with pyro.plate("rows", len(x)):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(len(x)), 1.0))
            z2 = pyro.sample("z2", dist.Normal(z1, 1.0))
            pyro.sample("x", dist.Normal(z2, 1.0), obs=x)

    def guide() -> None:
        p = parameters
        with pyro.plate("rows", len(x)):
            z1 = pyro.sample("z1", dist.Normal(p["a"] * x, p["s1"].exp()))
            pyro.sample("z2", dist.Normal(p["b"] * x + p["c"] * z1, p["s2"].exp()))

    def train() -> float:
        optimizer = torch.optim.Adam(parameters.values(), lr=0.02)
        elbo = ScaledELBO({"z1": 1.0, "z2": 1.0}, analytic_kl=analytic_kl)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * (1 - step / steps)
            optimizer.zero_grad()
            (elbo.differentiable_loss(model, guide) / particles).backward()
            optimizer.step()
        with torch.no_grad():
            return -sum(elbo.differentiable_loss(model, guide).item() for _ in range(40)) / 40 / particles

    bound = seeded(train)
    evidence = dist.Normal(0.0, 3.0**0.5).log_prob(x).sum().item() / particles
    assert bound == pytest.approx(evidence, abs=0.03)
    assert bound <= evidence + 0.03
    fitted = {name: p.item() for name, p in parameters.items()}
    assert fitted["a"] == pytest.approx(1 / 3, abs=0.05)
    assert fitted["b"] == pytest.approx(1 / 2, abs=0.05)
    assert fitted["c"] == pytest.approx(1 / 2, abs=0.05)
    assert 2 * fitted["s1"] == pytest.approx(torch.tensor(2 / 3).log().item(), abs=0.1)
    assert 2 * fitted["s2"] == pytest.approx(torch.tensor(1 / 2).log().item(), abs=0.1)


def test_works_in_stock_svi_and_leaves_the_global_store_alone() -> None:
    model, batch, _ = tiny_model()
    before = set(pyro.get_param_store().keys())

    def losses() -> list[float]:
        with pyro.get_param_store().scope():

            def program(batch) -> Tensor:  # type: ignore[no-untyped-def]
                pyro.module("hcvae", model)
                return model.model(batch)

            def guide(batch) -> Tensor:  # type: ignore[no-untyped-def]
                return model.guide(batch)

            elbo = ScaledELBO(dict.fromkeys(model.latent_dims, 0.5), row_weights=1 / 12)
            svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
            return [svi.step(batch) for _ in range(60)]

    history = seeded(losses)
    assert sum(history[-10:]) < 0.8 * sum(history[:10])
    assert set(pyro.get_param_store().keys()) == before
