"""The designer as a generator, and the scores that only it has."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_hcvae.evaluation.cross_validation import split_folds
from pyro_hcvae.evaluation.fold import Fold
from pyro_hcvae.evaluation.generators import Designer, Fits
from pyro_hcvae.evaluation.reconstruction import ONE_MEMBER, held_out_density, log_density
from pyro_hcvae.inference.config import RunConfig, TrainConfig
from tests.laboratories import SMALL, tiny_table

CONFIG = RunConfig(model=SMALL, train=TrainConfig(members=3, steps=60, batch_size=16, compile="never", seed=7))


@pytest.fixture(scope="module")
def fold() -> Fold:
    _, _, first = next(split_folds(tiny_table(), "recipe", 3, (0,)))
    return first


@pytest.fixture(scope="module")
def generator(fold: Fold) -> Designer:
    return Designer(Fits(CONFIG), draws=16).fit(fold.train, seed=5)


def test_it_is_fitted_with_the_seed_of_the_fold_on_the_training_rows(fold: Fold, generator: Designer) -> None:
    assert generator.designer.config == CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"seed": 5})})
    assert generator.designer.table.frame.equals(fold.train.frame)


def test_generators_that_only_draw_differently_share_a_fit(fold: Fold) -> None:
    train = CONFIG.train.model_copy(update={"members": 1, "steps": 5})
    fits = Fits(CONFIG.model_copy(update={"train": train}))
    plain, guided = Designer(fits), Designer(fits, guidance=2, name="guided")
    assert plain.fit(fold.train, seed=1).designer is guided.fit(fold.train, seed=1).designer
    assert plain.fit(fold.train, seed=2).designer is not guided.designer
    again = fold.train.select(np.arange(len(fold.train)))
    assert guided.fit(again, seed=2).designer is not plain.designer


def test_draws_lie_beside_the_conditions_that_they_were_asked_for(fold: Fold, generator: Designer) -> None:
    draws = generator.sample(fold.conditions, 4, seed=1)
    assert list(draws.columns) == list(fold.train.schema.columns)
    assert draws.index.equals(fold.conditions.index.repeat(4))
    pd.testing.assert_frame_equal(draws[list(fold.conditions)], fold.conditions.loc[draws.index])
    pd.testing.assert_frame_equal(draws, generator.sample(fold.conditions, 4, seed=1))


def test_own_scores(fold: Fold, generator: Designer) -> None:
    scores = generator.own_scores(fold)
    stages = ["metal", "support", "treatment"]
    expected = {f"log p {name} [nats]" for name in [*stages, "recipe", "recipe, one member", "recipe, training"]}
    expected |= {f"log p drop, {name} permuted [nats]" for name in ("conditions and performance", "performance")}
    expected |= {
        f"{score} z_{stage}{unit}" for stage in stages for score, unit in (("rate", " [nats]"), ("active units", ""))
    }
    expected |= {f"R2 {block}, {way}" for block in ("metals", "supports") for way in ("one draw", "mean of draws")}
    assert set(scores) == expected
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["log p recipe [nats]"] == pytest.approx(sum(scores[f"log p {stage} [nats]"] for stage in stages))
    for stage in stages:
        assert scores[f"rate z_{stage} [nats]"] >= 0
        assert 0 <= scores[f"active units z_{stage}"] <= 3


def test_draws_that_are_chosen_or_borrow_have_no_density(fold: Fold) -> None:
    assert Designer(Fits(CONFIG), guidance=2, name="guided").own_scores(fold) == {}
    assert Designer(Fits(CONFIG), borrowed=0.5, name="borrowing").own_scores(fold) == {}


def test_a_generator_borrows_as_the_designer_does(fold: Fold, generator: Designer) -> None:
    borrowing = Designer(generator._fits, borrowed=0.5, name="borrowing").fit(fold.train, seed=5)
    assert borrowing.designer is generator.designer
    draws = borrowing.sample(fold.conditions, 4, seed=1)
    expected = pd.concat(generator.designer.sample(fold.conditions, 4, borrowed=0.5, seed=1))
    pd.testing.assert_frame_equal(draws, expected)
    assert not draws.equals(generator.sample(fold.conditions, 4, seed=1))


def test_members_together_say_at_least_as_much_as_one_on_average(fold: Fold, generator: Designer) -> None:
    """The log of a mean is no less than the mean of logs (Jensen)."""
    nats = log_density(generator.designer, fold.held, draws=8, seed=0)
    alone = nats.pop(ONE_MEMBER)
    together = torch.stack(list(nats.values())).sum(dim=0)
    assert (together >= alone - 1e-4).all()
    assert (together - alone).max() > 0.01
    scores = held_out_density(generator.designer, fold.held, draws=8, seed=0)
    assert scores["log p recipe [nats]"] == pytest.approx(float(together.mean()), abs=1e-4)
    assert scores["log p recipe, one member [nats]"] == pytest.approx(float(alone.mean()), abs=1e-4)


def test_one_member_alone_is_the_ensemble(fold: Fold) -> None:
    train = CONFIG.train.model_copy(update={"members": 1, "steps": 20})
    generator = Designer(Fits(CONFIG.model_copy(update={"train": train}))).fit(fold.train, seed=0)
    nats = log_density(generator.designer, fold.held, draws=4, seed=0)
    alone = nats.pop(ONE_MEMBER)
    assert torch.allclose(torch.stack(list(nats.values())).sum(dim=0), alone, atol=1e-4)


def test_its_density_is_a_density_of_the_held_out_rows_alone(fold: Fold, generator: Designer) -> None:
    """A row's density does not depend on the rows beside it, but for the noise of importance sampling."""
    rows = np.arange(0, len(fold.held), 2)
    whole = log_density(generator.designer, fold.held, draws=400, seed=0)
    part = log_density(generator.designer, fold.held.select(rows), draws=400, seed=0)
    for stage, nats in part.items():
        assert torch.allclose(nats, whole[stage][rows], atol=0.5), stage
