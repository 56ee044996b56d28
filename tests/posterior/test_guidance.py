"""Guidance keeps draws in proportion to how well they fit, each at most once, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pyro_hcvae import InputError, RecipeDesigner, TrainConfig
from pyro_hcvae.posterior.guidance import guided
from pyro_hcvae.posterior.performance import PerformancePredictor
from tests.laboratories import SMALL, tiny_schema, tiny_table

pytestmark = pytest.mark.usefixtures("full_predictors")


@dataclass
class TenTimesA:
    """A predictor that is known: ten times the amount of A, with an error of fixed size."""

    scale: float
    schema = tiny_schema()

    def predict(self, recipes: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
        assert len(recipes) == len(conditions)
        return pd.DataFrame({"mean": 10 * recipes["A"].to_numpy(), "scale": self.scale})


def draws(amounts: list[float], wanted: float, label: int = 0) -> pd.DataFrame:
    frame = tiny_table().frame.iloc[np.zeros(len(amounts), dtype=int)]
    return frame.assign(A=amounts, Yield=wanted).set_index(pd.Index([label] * len(amounts)))


def choose(
    frame: pd.DataFrame, one_of: int, scale: float = 1.0, seed: int = 0, kinds: NDArray[np.bool_] | None = None
) -> pd.DataFrame:
    predictor = cast("PerformancePredictor", TenTimesA(scale))
    kinds = np.zeros(len(frame), dtype=bool) if kinds is None else kinds
    return guided(frame, predictor, one_of, rows=frame.index.nunique(), kinds=kinds, seed=seed)


def test_with_a_sure_predictor_the_best_are_kept_row_by_row() -> None:
    both = pd.concat([draws([1.0, 2.0, 3.0, 4.0], 39.0, label=7), draws([4.0, 3.0, 2.0, 1.0], 11.0, label=3)])
    kept = choose(both, 2, scale=0.1)
    assert kept.index.tolist() == [7, 7, 3, 3]
    assert set(kept.loc[7, "A"]) == {3.0, 4.0}
    assert set(kept.loc[3, "A"]) == {1.0, 2.0}


def test_draws_are_kept_in_proportion_to_their_likelihood() -> None:
    scale = 10 / np.sqrt(np.pi / 2)  # a standard deviation of 10
    frame = draws([5.0, 6.0] * 4000, 50.0).set_index(np.repeat(np.arange(4000), 2))
    share = float((choose(frame, 2, scale=float(scale))["A"] == 5.0).mean())
    assert share == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.025)


def test_of_each_kind_the_same_share_is_kept() -> None:
    both = pd.concat([draws([1.0, 2.0, 3.0, 4.0], 40.0, label=7), draws([4.0, 3.0, 2.0, 1.0], 40.0, label=3)])
    kinds = np.array([False, False, True, True, True, True, True, True])
    kept = choose(both, 2, scale=0.1, kinds=kinds)
    assert kept.index.tolist() == [7, 7, 3, 3]
    assert set(kept.loc[7, "A"]) == {2.0, 4.0}
    assert set(kept.loc[3, "A"]) == {4.0, 3.0}


def test_no_draw_comes_twice_and_an_unknown_wish_guides_nothing() -> None:
    frame = draws([1.0, 2.0, 3.0, 4.0], np.nan)
    counts = np.zeros(5)
    for seed in range(400):
        kept = choose(frame, 2, scale=0.1, seed=seed)["A"]
        assert kept.is_unique
        counts[kept.astype(int)] += 1
    assert counts[1:].min() > 150


def test_guided_samples_come_nearer_to_what_is_wanted() -> None:
    train = TrainConfig(members=2, steps=150, batch_size=16, compile="never")
    designer = RecipeDesigner(tiny_schema(), model=SMALL, train=train).fit(tiny_table())
    asked = tiny_table(seed=1).frame.iloc[:40]

    def error(**options: Any) -> float:
        drawn = pd.concat(designer.sample(asked, 5, **options))
        assert drawn.index.tolist() == [label for label in asked.index for _ in range(5)]
        schema = designer.schema
        recipes, conditions = drawn[list(schema.recipe_columns)], drawn[list(schema.condition_columns)]
        predicted = designer.predictor.predict(recipes, conditions)["mean"].to_numpy()
        return float(np.abs(predicted - drawn["Yield"].to_numpy()).mean())

    assert error(guidance=4) < 0.9 * error()
    # Rows of one label are rows of their own.
    twice = asked.iloc[[0, 0, 1]].set_axis([0, 0, 1])
    assert pd.concat(designer.sample(twice, guidance=4, borrowed=0.5)).index.tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="guidance"):
        next(designer.sample(asked, guidance=0))
