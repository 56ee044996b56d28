"""The search samples what it says: the model's recipes, weighted; known answers from plain importance sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pyro_hcvae import InputError
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.partial import given_part
from pyro_hcvae.posterior.predictive import draw_recipes
from pyro_hcvae.posterior.search import Search, SearchConfig, Weigh, _effective, search
from tests.laboratories import tiny_model

ASKED = pd.DataFrame([{"T": 600.0, "Yield": 50.0}])


def laboratory() -> tuple[HierarchicalCVAE, RecipeCodec]:
    model, _, codec = tiny_model(stir=0.15)
    return model, codec


def run(weigh: Weigh, **settings: Any) -> Search:
    model, codec = laboratory()
    seed = settings.pop("seed", 0)
    config = SearchConfig(**{"proposals": 2000, "chains": 1000, "moves": 40, "trust": 1.0} | settings)
    return search(model, given_part(codec, ASKED), codec.layout.pack, weigh, config, seed=seed)


def rewarding(column: str, odds: float) -> Weigh:
    """Recipes with a component are wanted ``odds`` times as much as those without."""
    _, codec = laboratory()

    def weigh(packed: Tensor) -> Tensor:
        present = torch.tensor((codec.decode(packed)[column] > 0).tolist())
        return torch.where(present, 0.0, -np.log(odds))

    return weigh


def exact(column: str, odds: float) -> dict[str, float]:
    """Presence of every component under the weighted model, by weighting many draws of the model."""
    model, codec = laboratory()
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, codec.encode(ASKED), 60_000, seed=5)])
    frame = codec.decode(drawn)
    weights = np.where(frame[column] > 0, 1.0, 1 / odds)
    return {c: float(np.average(frame[c] > 0, weights=weights)) for c in "ABCXYZ"}


@pytest.mark.parametrize(("column", "odds"), [("A", 6.0), ("Z", 20.0)])
def test_chains_keep_to_the_weighted_model(column: str, odds: float) -> None:
    found = run(rewarding(column, odds), chains=3000, moves=30)
    frame = laboratory()[1].decode(found.packed)
    for name, wanted in exact(column, odds).items():
        assert (frame[name] > 0).mean() == pytest.approx(wanted, abs=0.04), name


def test_without_weights_every_move_is_taken_and_the_prior_stays() -> None:
    found = run(lambda packed: torch.zeros(len(packed)))
    assert found.acceptance == 1.0
    assert found.effective_start == pytest.approx(found.proposed_start, rel=1e-4)
    assert found.drawn == 2000 + 40 * 1000
    frame = laboratory()[1].decode(found.packed)
    for name, wanted in exact("A", 1.0).items():
        assert (frame[name] > 0).mean() == pytest.approx(wanted, abs=0.05), name


def test_chains_find_what_resampling_has_missed() -> None:
    """One draw in some hundreds is allowed: this start of 50 has none of them, the chains come to it and stay."""
    _, codec = laboratory()

    def weigh(packed: Tensor) -> Tensor:
        frame = codec.decode(packed)
        rare = (frame["A"] > 0) & (frame["Z"] > 0) & (frame["Y"] > 0) & (frame["B"] > 0) & (frame["Red T"] > 550)
        return torch.where(torch.tensor(rare.tolist()), 0.0, -torch.inf)

    start = run(weigh, proposals=50, chains=50, moves=0, seed=1)
    assert len(start.packed) == start.effective_start == 0
    assert np.isnan(start.acceptance)
    assert np.isnan(start.effective_chains)
    found = run(weigh, proposals=50, chains=200, moves=100, seed=1)
    assert len(found.packed) > 0
    assert torch.isfinite(weigh(found.packed)).all()


def test_the_trust_region_holds() -> None:
    """With a small region the search cannot leave the middle of the prior; the recipes of its rim are gone."""
    seen: list[int] = []

    def weigh(packed: Tensor) -> Tensor:
        seen.append(len(packed))
        return torch.zeros(len(packed))

    wide, narrow = run(weigh, moves=10, trust=1.0), run(weigh, moves=10, trust=0.2)
    assert narrow.effective_start < 0.2 * wide.effective_start
    assert narrow.acceptance < wide.acceptance
    assert sum(seen) < 0.7 * (wide.drawn + narrow.drawn), "what lies outside is not weighed"


def test_the_same_seed_gives_the_same_search_and_leaves_the_callers_generator_alone() -> None:
    weigh = rewarding("A", 6.0)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two, other = (run(weigh, moves=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.packed, two.packed)
    assert not torch.equal(one.packed, other.packed)


def test_sticky_chains_count_for_less() -> None:
    easy, hard = run(rewarding("A", 1.01)), run(rewarding("A", 1e6))
    assert 0 < hard.effective_chains < easy.effective_chains


def test_chains_that_find_nothing_or_stand_still_do_not_count() -> None:
    assert _effective(torch.zeros(20, 2, 250)) == 0.0
    still = torch.tensor([0.1, 0.2, 0.3]).repeat(20, 2, 80)
    assert _effective(still) == 6.0
    independent = torch.rand(400, 1, 4, generator=torch.Generator().manual_seed(0))
    assert 1200 < _effective(independent) <= 1600


@pytest.mark.parametrize("wrong", [{"proposals": 0}, {"chains": 0}, {"moves": -1}, {"trust": 0.0}, {"trust": 1.5}])
def test_a_search_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="search|trust"):
        SearchConfig(**wrong)  # type: ignore[arg-type]
