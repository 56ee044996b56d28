"""Given shares weigh by how much of each component there is, as rejection from the prior says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.likelihoods import Numbers
from pyro_hcvae.posterior.partial import complete_rows
from pyro_hcvae.posterior.predictive import draw_recipes
from pyro_hcvae.posterior.shares import OpenShares
from tests.laboratories import tiny_model, tiny_schema

SHARES = ["X", "Y", "Z"]


@pytest.fixture(scope="module")
def laboratory() -> tuple[HierarchicalCVAE, RecipeCodec, pd.DataFrame]:
    """A model in which the shares say which components they are and what the method is; valid draws from its prior."""
    model, _, codec = tiny_model((0,), stir=0.2)
    stages = list(model.stages)
    loc = torch.tensor([[-1.0, 1.0], [-1.5, 0.0], [0.0, 1.5]])
    heads = next(stages[1].blocks).numbers_head
    heads.start_at(Levels(torch.zeros(3, 2), loc, torch.full((3, 2), 0.35)))
    with torch.no_grad():  # shares, and what is decided after them, hang on the latents
        heads.head.weight *= 3.0
        stages[2].decoder.layers[0].weight *= 2.0
    condition = codec.encode(pd.DataFrame([{"T": 600.0, "Yield": 50.0}]))
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, condition, 120_000, seed=9)])
    prior = codec.decode(drawn)
    return model, codec, prior[is_valid(prior, tiny_schema())]


@pytest.mark.parametrize("given", [{"X": 0.35}, {"Y": 0.4}, {"Z": 0.8}])
def test_given_shares_weigh_their_values(
    laboratory: tuple[HierarchicalCVAE, RecipeCodec, pd.DataFrame], given: dict[str, float]
) -> None:
    model, codec, prior = laboratory
    ((name, value),) = given.items()
    beside = prior[(prior[name] > 0) & (prior[name] < 1)]
    # What is known of the whole is the log ratio of the given share to what it leaves: prior draws in a window around it.
    kept = beside[(np.log(beside[name] / (1 - beside[name])) - np.log(value / (1 - value))).abs() < 0.2]
    assert len(kept) > 1000

    frame = pd.DataFrame([{"T": 600.0, "Yield": 50.0, **given}])
    partial = RecipeTable.from_frame(frame, tiny_schema(), purpose="partial")
    done = next(complete_rows(model, codec, partial, 4000, proposals=40_000, seed=0, written=None))
    assert (done.frame[name] == value).all()
    assert np.allclose(done.frame[SHARES].sum(axis=1), 1.0)
    assert done.effective > 1000
    error = 4 * np.sqrt(0.25 / 4000 + 0.25 / len(kept))
    others = [other for other in "ABCXYZ" if other != name]
    expected = (kept[others] > 0).mean()
    assert (done.frame[others] > 0).mean().to_numpy() == pytest.approx(expected.to_numpy(), abs=error)
    assert done.frame[SHARES].mean().to_numpy() == pytest.approx(kept[SHARES].mean().to_numpy(), abs=0.03)
    # How much of it there is says more than that it is there.
    assert ((beside[others] > 0).mean() - expected).abs().max() > 1.5 * error


GIVEN = [{0: 0.35}, {1: 0.4}, {2: 0.1}, {0: 0.3, 1: 0.5}, {1: 0.3, 2: 0.3}, {0: 0.2, 2: 0.6}]


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_weights_are_the_density_of_the_given_shares(given: dict[int, float]) -> None:
    """Three present components: the mean weight is the model's density integrated over the open ratio, by quadrature."""
    draws = 40_000
    known, parts = torch.zeros(3, dtype=torch.bool), torch.zeros(3)
    for place, value in given.items():
        known[place], parts[place] = True, value
    loc, scale = torch.tensor([0.3, -0.2, 0.4]), torch.tensor([0.7, 0.9, 1.3])
    shares = OpenShares("", parts, known, loc, scale)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        hidden = torch.randn(1, 1, 16)
        _, weight = shares.complete(ratios(hidden, draws), torch.ones(1, draws, 3))
        assert torch.isfinite(weight).any()

        left, (first, *rest) = 1 - sum(given.values()), [i for i in range(3) if i not in given]
        v = torch.linspace(-14.0, 14.0, 20_001)[: 20_001 if rest else 1]
        x = parts.expand(len(v), 3).clone()
        x[:, first] = left * torch.sigmoid(v) if rest else left
        for place in rest:
            x[:, place] = left * torch.sigmoid(-v)
        ratio = (x / x[:, :1]).log()
        density = ratios(hidden, len(v)).log_prob(((ratio - loc) / scale)[None])[0].exp() / (scale[1] * scale[2])
        exact = torch.trapezoid(density, v).item() if rest else density.item()
    found = weight.exp()
    error = (found.std() / draws**0.5).item()
    assert found.mean().item() == pytest.approx(exact, rel=1e-4, abs=5 * error)
    assert error < 0.05 * exact


def ratios(hidden: torch.Tensor, rows: int) -> Numbers:
    """Distribution of two log ratios to the first of three components, the same in every row."""
    model, _, _ = tiny_model((0,), stir=0.3)
    likelihood = next(list(model.stages)[1].blocks)
    present = torch.ones(1, rows, 3)
    numbers = likelihood.numbers(hidden.expand(1, rows, -1), present, likelihood.applies(present))
    assert isinstance(numbers, Numbers)
    return numbers


def test_shares_that_nothing_can_complete_have_no_weight() -> None:
    shares = OpenShares(
        "", torch.tensor([0.4, 0.0, 0.0]), torch.tensor([True, True, False]), torch.zeros(3), torch.ones(3)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        numbers = ratios(torch.zeros(1, 1, 16), 4)
        _, weight = shares.complete(numbers, torch.tensor([[[1.0, 0.0, 0.0]] * 4]))
    assert (weight == -torch.inf).all()
