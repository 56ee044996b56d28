"""Marginal likelihoods against exact values and against plain Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from pyro import poutine

from pyro_hcvae.posterior.importance import effective_sample_size, log_marginal, log_marginal_by_stage
from tests.laboratories import tiny_model


def test_agrees_with_plain_monte_carlo_from_the_prior() -> None:
    """log mean p(x | z) over z ~ p(z | c) needs no guide: two estimators of one number."""
    model, batch, _ = tiny_model(stir=0.08)
    estimate = log_marginal(model, batch, draws=20_000, seed=0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        trace = poutine.trace(model.model).get_trace(batch.repeat_rows(1000))
        log_p = sum(trace.nodes[n]["fn"].log_prob(trace.nodes[n]["value"]) for n in batch.values)
        total = log_p.view(2, 12, 1000).logsumexp(dim=-1)
    difference = estimate - (total - math.log(1000))
    assert difference.abs().max() < 0.3
    assert difference.mean().abs() < 0.05


def test_rises_with_the_number_of_draws_and_bounds_from_below() -> None:
    model, batch, _ = tiny_model(stir=0.3)
    few = torch.stack([log_marginal(model, batch, draws=1, seed=s) for s in range(60)]).mean()
    some = torch.stack([log_marginal(model, batch, draws=10, seed=s) for s in range(30)]).mean()
    many = log_marginal(model, batch, draws=5000, seed=0).mean()
    assert few < some - 0.05
    assert some < many + 0.02


def test_stages_sum_to_the_whole() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    by_stage = log_marginal_by_stage(model, batch, draws=64, seed=0)
    assert list(by_stage) == ["metal", "support", "treatment"]
    assert torch.allclose(sum(by_stage.values()), log_marginal(model, batch, draws=64, seed=0), atol=1e-4)


def test_chunks_do_not_change_the_shape_and_the_seed_fixes_the_result() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    first = log_marginal(model, batch, draws=2000, seed=3)
    assert first.shape == (2, 12)
    assert torch.equal(first, log_marginal(model, batch, draws=2000, seed=3))


def test_no_draw_is_refused() -> None:
    model, batch, _ = tiny_model()
    with pytest.raises(ValueError, match="at least 1"):
        log_marginal(model, batch, draws=0)


def test_effective_sample_size() -> None:
    assert effective_sample_size(torch.zeros(50)).item() == pytest.approx(50)
    assert effective_sample_size(torch.tensor([0.0, -1e9, -1e9])).item() == pytest.approx(1)
    assert effective_sample_size(torch.tensor([0.0, math.log(0.5)])).item() == pytest.approx(1.5**2 / 1.25)
