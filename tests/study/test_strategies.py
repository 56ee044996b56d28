"""What every strategy keeps: new, distinct, feasible recipes on the grid, fixed by the seed."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.study import strategies
from pyro_hcvae.study.bayesian import BayesianOptimiser
from pyro_hcvae.study.space import RecipeSpace
from pyro_hcvae.study.strategies import Marginal, Nearest, Proposer, Strategy
from tests.laboratories import tiny_frame, tiny_schema, tiny_table

CONDITIONS = {"T": 600.0}
needs_botorch = pytest.mark.skipif(find_spec("botorch") is None, reason="BoTorch is not installed")
# gpytorch's dependency linear_operator 0.6 still scripts a function when it is imported.
scripting = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
EVERY = [
    pytest.param(Proposer(members=1, steps=30), id="hcvae"),
    pytest.param(Marginal(), id="random"),
    pytest.param(Nearest(), id="nearest"),
    pytest.param(BayesianOptimiser(pool=200, turns=1, children=50, finalists=50, samples=16), id="botorch",
                 marks=[needs_botorch, scripting]),
]  # fmt: skip


@pytest.mark.parametrize("strategy", EVERY)
def test_proposals_are_new_distinct_and_feasible(strategy: Strategy) -> None:
    table, space = tiny_table(), RecipeSpace(tiny_schema(), CONDITIONS)
    batch = strategy.propose(table, CONDITIONS, 5, seed=0)
    assert len(batch) == 5
    assert list(batch.columns) == space.columns
    pd.testing.assert_frame_equal(space.new(batch, table.frame), batch, check_dtype=False)


@pytest.mark.parametrize("strategy", EVERY)
def test_proposals_are_fixed_by_the_seed_and_leave_global_randomness_alone(strategy: Strategy) -> None:
    table, state = tiny_table(), torch.random.get_rng_state()
    first, again = (strategy.propose(table, CONDITIONS, 4, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)


@needs_botorch
@scripting
@pytest.mark.parametrize("higher", [True, False])
def test_the_bayesian_optimiser_prefers_what_the_table_shows_to_be_good(higher: bool) -> None:
    frame = tiny_frame(40, 2)
    frame["T"], frame["Yield"] = 600.0, 10 * np.minimum(frame["A"], 5.0)
    schema = tiny_schema()
    schema = schema.model_copy(
        update={"performance": schema.performance.model_copy(update={"higher_is_better": higher})}
    )
    batch = BayesianOptimiser(pool=300, turns=1, children=100, finalists=50, samples=16).propose(
        RecipeTable.from_frame(frame, schema), CONDITIONS, 4, seed=0
    )
    assert (batch["A"] > 2).mean() > 0.5 if higher else (batch["A"] < 2).all()


def test_unknown_and_missing_strategies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown strategy 'bo': choose from hcvae, hcvae-botorch, botorch"):
        strategies.choose(["bo"])
    monkeypatch.setattr(strategies, "find_spec", lambda name: None)
    assert list(strategies.choose([])) == ["hcvae", "nearest", "random"]
    with pytest.raises(InputError, match=r"pip install \"pyro-hcvae\[study\]\""):
        strategies.choose(["random", "botorch"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(strategies.choose(["random"])) == ["random"]
