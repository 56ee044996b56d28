"""Cross-validation: what a fit may see, which rows are scored, and how scores are summed up."""

from __future__ import annotations

import math
from functools import partial
from typing import Self

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.splits import Grouping, groups_of
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines import BASELINES, MarginalBootstrap, choose
from pyro_hcvae.evaluation.cross_validation import REAL, cross_validate, split_folds, summarise
from pyro_hcvae.evaluation.generators import Designer, Fits
from pyro_hcvae.inference.config import RunConfig, TrainConfig
from tests.laboratories import SMALL, tiny_frame, tiny_schema, tiny_table

pytestmark = pytest.mark.usefixtures("small_forests")


class Spy(MarginalBootstrap):
    """A generator that remembers what it was given."""

    name = "spy"

    def __init__(self, seen: list[tuple[RecipeTable, int, pd.DataFrame]]) -> None:
        self.seen = seen

    def fit(self, table: RecipeTable, *, seed: int) -> Self:
        self.given, self.seed = table, seed
        return super().fit(table, seed=seed)

    def sample(self, conditions: pd.DataFrame, draws_per_row: int, *, seed: int) -> pd.DataFrame:
        self.seen.append((self.given, self.seed, conditions))
        return super().sample(conditions, draws_per_row, seed=seed)


@pytest.mark.parametrize("by", ["recipe", "composition"])
def test_held_out_rows_never_reach_a_fit(by: Grouping) -> None:
    # Every yield is unlike all others, so that a row is known by it.
    frame = tiny_frame(24)
    table = RecipeTable.from_frame(frame.assign(Yield=np.linspace(0, 100, len(frame))), tiny_schema(), source="tiny")
    groups = pd.Series(groups_of(table, by), index=table.frame["Yield"])
    seen: list[tuple[RecipeTable, int, pd.DataFrame]] = []
    spy = {"spy": partial(Spy, seen)}
    scores = list(cross_validate(table, spy, by=by, folds_count=2, seeds=(0, 1), draws_per_row=2))
    assert [row["generator"] for row in scores] == [REAL, "spy"] * 4
    assert len(seen) == 4
    assert [seed for _, seed, _ in seen] == [0, 0, 1000, 1000]
    for given, _, conditions in seen:
        assert not set(groups[given.frame["Yield"]]) & set(groups[conditions["Yield"]])
        assert list(conditions) == ["T", "Yield"]  # nothing of the held-out recipes
    for first, second in (seen[:2], seen[2:]):  # the folds of one seed share no row, and have all
        assert not set(first[0].frame["Yield"]) & set(second[0].frame["Yield"])
        assert len(first[0]) + len(second[0]) == len(table)


def test_scores_say_whose_they_are() -> None:
    generators = {name: BASELINES[name] for name in ("nearest", "marginal")}
    scores = list(cross_validate(tiny_table(24), generators, folds_count=2, seeds=(3,), draws_per_row=2))
    assert [(row["generator"], row["seed"], row["fold"]) for row in scores] == [
        (name, 3, fold) for fold in (0, 1) for name in (REAL, "nearest", "marginal")
    ]
    for row in scores:
        assert all(math.isfinite(value) for name, value in row.items() if name != "generator")
        assert ("fit [s of one core]" in row) == (row["generator"] != REAL)


def test_without_draws_there_is_what_a_density_says_alone() -> None:
    seen: list[tuple[RecipeTable, int, pd.DataFrame]] = []
    config = RunConfig(model=SMALL, train=TrainConfig(members=1, steps=2, batch_size=8, compile="never"))
    generators = {"spy": partial(Spy, seen), "hcvae": partial(Designer, Fits(config), draws=4)}
    scores = list(cross_validate(tiny_table(24), generators, folds_count=2, draws_per_row=0))
    assert [row["generator"] for row in scores] == ["spy", "hcvae"] * 2
    assert not seen
    for spy, own in zip(scores[::2], scores[1::2], strict=True):
        assert spy.keys() == {"generator", "seed", "fold", "fit [s of one core]"}
        assert math.isfinite(own["log p recipe [nats]"])
        assert not any("C2ST" in name for name in own)


def test_parts_are_disjoint_and_cover_all_rows_that_are_tested() -> None:
    table = tiny_table()
    for by in ("recipe", "composition"):
        everything = list(split_folds(table, by, 3, (0, 1)))
        parted = [list(split_folds(table, by, 3, (0, 1), part)) for part in ("development", "reserve")]
        for (_, _, whole), (_, _, development), (_, _, reserve) in zip(everything, *parted, strict=True):
            rows = [set(fold.test.frame.index) for fold in (development, reserve, whole)]
            assert not rows[0] & rows[1]
            assert rows[0] | rows[1] == rows[2]
            # Both parts are trained on, but for the fold that is held out.
            for fold in (development, reserve):
                assert fold.train.frame.equals(whole.train.frame)
                assert fold.seed == whole.seed
    tested = [set(fold.test.frame.index) for _, _, fold in split_folds(table, "recipe", 3, (0,), "reserve")]
    others = [set(fold.test.frame.index) for _, _, fold in split_folds(table, "recipe", 3, (1,), "reserve")]
    assert set().union(*tested) == set().union(*others)  # the same rows, whatever the seed


def test_a_part_with_too_little_to_score_is_refused() -> None:
    with pytest.raises(InputError, match="too few to score"):
        list(split_folds(tiny_table(6, 1), "recipe", 6, (0,), "development"))


def test_unknown_generators_are_named_beside_those_that_there_are() -> None:
    own = {"mine": MarginalBootstrap}
    with pytest.raises(InputError, match="unknown generator 'markov': choose from all, mine, marginal"):
        choose(["mine", "markov"], own)
    assert list(choose(["nearest", "mine"], own)) == ["nearest", "mine"]
    assert list(choose(["all"], own)) == ["mine", *BASELINES]


def test_summary() -> None:
    scores = pd.DataFrame(
        [
            {"generator": "b", "seed": 0, "fold": 0, "good": 1.0, "broken: sum": 0.5, "only sometimes": 4.0},
            {"generator": "a", "seed": 0, "fold": 0, "good": 5.0},
            {"generator": "b", "seed": 0, "fold": 1, "good": 3.0},
            {"generator": "a", "seed": 0, "fold": 1, "good": 5.0},
        ]
    )
    summary = summarise(scores)
    assert list(summary.index.unique("generator")) == ["b", "a"]
    assert summary.loc[("b", "good")].tolist() == pytest.approx([2.0, math.sqrt(2)])
    assert summary.loc[("a", "good")].tolist() == [5.0, 0.0]
    # What a fold does not break counts as 0; what it does not have is left out.
    assert summary.loc[("b", "broken: sum"), "mean"] == 0.25
    assert summary.loc[("b", "only sometimes"), "mean"] == 4.0
    assert ("a", "only sometimes") not in summary.index
    assert "seed" not in summary.index.get_level_values("score")
