"""Ranks are uniform where the posterior is exact, and tell what is wrong where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.evaluation.simulation_calibration import FIT, guide_ranks, observe_recipes, prior_ranks
from pyro_hcvae.evaluation.uniformity import holm, uniformity
from tests.laboratories import tiny_model

ROWS, LATENTS, OBSERVED, NOISE = 400, 3, 2, 0.7


@dataclass(frozen=True)
class LinearGaussian:
    """``z ~ N(W c, 1)``, ``x ~ N(V z, NOISE)``: the posterior is a Gaussian that is known exactly.

    Attributes:
        shift: Added to the posterior's mean, in its standard deviations.
        stretch: Factor of the posterior's standard deviation.
        blind: Whether the guide is the prior instead.
        moved: Added to the model's prior; the guide does not know.
    """

    shift: float = 0.0
    stretch: float = 1.0
    blind: bool = False
    moved: float = 0.0

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(LATENTS, 2, generator=generator), torch.randn(OBSERVED, LATENTS, generator=generator)

    def model(self, batch: RecipeBatch) -> None:
        w, v = self.weights
        with pyro.plate("members", batch.shape[0], dim=-2), pyro.plate("rows", batch.shape[1], dim=-1):
            z = pyro.sample("z", dist.Normal(batch.conditions @ w.T + self.moved, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ v.T, NOISE).to_event(1), obs=batch.values.get("x"))

    def guide(self, batch: RecipeBatch) -> None:
        w, v = self.weights
        prior = batch.conditions @ w.T
        covariance = torch.linalg.inv(torch.eye(LATENTS) + v.T @ v / NOISE**2)
        scale = torch.linalg.cholesky(covariance)
        loc = prior
        if "x" in batch.values:
            loc = prior + (batch.values["x"] - prior @ v.T) @ v @ covariance / NOISE**2
        if self.blind:
            loc, scale = prior, torch.eye(LATENTS)
        loc = loc + self.shift * covariance.diagonal().sqrt()
        with pyro.plate("members", batch.shape[0], dim=-2), pyro.plate("rows", batch.shape[1], dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=self.stretch * scale))


def observe(batch: RecipeBatch, values: Mapping[str, Tensor]) -> RecipeBatch:
    return replace(batch, values=dict(values), known={name: torch.ones_like(x) > 0 for name, x in values.items()})


def conditions() -> RecipeBatch:
    c = torch.randn(2, ROWS, 2, generator=torch.Generator().manual_seed(0))
    return RecipeBatch(c, torch.ones_like(c) > 0, {}, {})


def ranked(programs: LinearGaussian) -> tuple[pd.DataFrame, pd.DataFrame]:
    ranks = guide_ranks(programs, conditions(), observe, draws=50, proposals=300, seed=0)
    assert len(ranks.guide) == 2 * ROWS
    return uniformity(ranks.guide), uniformity(ranks.resampled)


def test_the_exact_posterior_has_uniform_ranks() -> None:
    ranks = guide_ranks(LinearGaussian(), conditions(), observe, draws=50, proposals=300, seed=0)
    assert list(ranks.guide.columns) == ["z[0]", "z[1]", "z[2]", FIT]
    for table in (uniformity(ranks.guide), uniformity(ranks.resampled)):
        assert (table["p Holm"] > 0.05).all()
        assert table["spread"].between(0.93, 1.07).all()
    # All weights of an exact posterior are alike.
    np.testing.assert_allclose(ranks.effective, 300, rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "column", "spread"),
    [
        (LinearGaussian(shift=0.4), "z[0]", None),
        (LinearGaussian(stretch=1.5), "z[0]", "narrow"),
        (LinearGaussian(stretch=0.6), "z[1]", "wide"),
        (LinearGaussian(blind=True), FIT, None),
    ],
    ids=["moved", "too wide", "too narrow", "blind"],
)
def test_a_wrong_posterior_is_found(wrong: LinearGaussian, column: str, spread: str | None) -> None:
    table, _ = ranked(wrong)
    assert table.loc[column, "p Holm"] < 0.001
    if spread is not None:
        assert (table.loc[column, "spread"] < 0.95) == (spread == "narrow")


def test_only_the_fit_tells_a_guide_that_ignores_the_data() -> None:
    table, _ = ranked(LinearGaussian(blind=True))
    assert (table["p Holm"].drop(FIT) > 0.05).all()


def test_weights_mend_a_guide_that_is_too_wide() -> None:
    _, resampled = ranked(LinearGaussian(stretch=1.5))
    assert (resampled["p Holm"] > 0.05).all()


def test_the_prior_is_the_aggregate_posterior_where_the_model_is_true() -> None:
    w, v = LinearGaussian().weights
    batch, generator = conditions(), torch.Generator().manual_seed(5)
    z = batch.conditions @ w.T + torch.randn(2, ROWS, LATENTS, generator=generator)
    x = z @ v.T + NOISE * torch.randn(2, ROWS, OBSERVED, generator=generator)
    right, moved = (
        uniformity(prior_ranks(programs, observe(batch, {"x": x})))
        for programs in (LinearGaussian(), LinearGaussian(moved=0.5))
    )
    assert (right["p Holm"] > 0.05).all()
    assert (moved["p Holm"] < 0.001).all()
    assert (moved["mean"] < 0.45).all()


def test_recipes_are_observed_as_the_model_drew_them() -> None:
    model, batch, _ = tiny_model(stir=0.3)
    ranks = guide_ranks(model, batch, observe_recipes(model), draws=20, proposals=40, seed=0)
    latents = sum(model.latent_dims.values())
    assert ranks.guide.shape == ranks.resampled.shape == (24, latents + 1)
    assert ranks.guide.to_numpy().min() >= 0
    assert ranks.guide.to_numpy().max() <= 1
    assert (ranks.effective > 1).all()
    assert prior_ranks(model, batch).shape == (24, latents)

    with torch.no_grad():
        drawn = model.model(batch.conditions_only())
    values = {name: drawn[name] for name in sites.observed(model.schema)}
    seen = observe_recipes(model)(batch.conditions_only(), values)
    assert (seen.known["metals.amount"] == (values["metals.presence"] > 0.5)).all()
    # The first support is the one that shares are relative to.
    supports = values["supports.presence"].sum(-1)
    assert (seen.known["supports.ratio"].sum(-1) == (supports - 1).clamp(min=0)).all()


def test_holm_is_the_published_procedure() -> None:
    # Holm (1979): smallest times n, next times n - 1, never falling.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])


def test_uniformity_says_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    u = rng.random(2000)
    table = uniformity(
        pd.DataFrame({"good": u, "wide": 0.25 + u / 2, "shifted": u**2, "some": np.where(u > 0.5, u, np.nan)})
    )
    assert table.loc["good", "p Holm"] > 0.05
    assert table.loc["wide", "spread"] == pytest.approx(0.5, abs=0.02)
    assert table.loc["shifted", "mean"] == pytest.approx(1 / 3, abs=0.02)
    assert table.loc["some", "n"] == np.isfinite(u[u > 0.5]).sum()
    assert (table.loc[["wide", "shifted", "some"], "p Holm"] < 1e-6).all()
