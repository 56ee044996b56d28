"""The loop itself, on a tiny laboratory whose best recipe can be computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.study.loop import COLUMNS, Floats, estimate_optimum, run_loop, summarise
from pyro_hcvae.study.space import RecipeSpace
from pyro_hcvae.study.strategies import Marginal
from tests.laboratories import tiny_schema, tiny_table

CONDITIONS = {"T": 600.0}


class TinyLaboratory:
    """Ten points a wt% of A up to 5 wt%, and 20 more for dry ones: the best is 70 %."""

    def truth(self, frame: pd.DataFrame) -> Floats:
        a = frame["A"].to_numpy(np.float64)
        return 10 * np.minimum(a, 5.0) + 20.0 * (frame["Method"] == "dry").to_numpy(np.float64)

    def measure(self, frame: pd.DataFrame, *, seed: np.random.Generator) -> Floats:
        return np.clip(self.truth(frame) + seed.normal(size=len(frame)), 0, 100)


@dataclass
class Recorder:
    """Passes on what another strategy proposes, and what it was shown."""

    strategy: Marginal
    spoil: bool = False

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        self.shown = table
        batch = self.strategy.propose(table, conditions, n, seed=seed)
        return batch.assign(A=-1.0) if self.spoil else batch


def records(strategy: Marginal | Recorder, *, rounds: int = 3, seed: int = 0, optimum: float = 70.0) -> pd.DataFrame:
    loop = run_loop(
        strategy, TinyLaboratory(), tiny_table(), CONDITIONS, rounds=rounds, batch=4, seed=seed, optimum=optimum
    )
    return pd.DataFrame(list(loop))


def test_a_record_a_round_with_the_best_so_far() -> None:
    frame = records(Marginal())
    assert list(frame.columns) == list(COLUMNS)
    assert frame["round"].tolist() == [0, 1, 2, 3]
    assert frame["experiments"].tolist() == [120, 124, 128, 132]
    start = TinyLaboratory().truth(tiny_table().frame)
    assert frame["best true"][0] == start.max()
    assert (frame["best true"][1:] == np.maximum.accumulate([start.max(), *frame["batch best true"][1:]])[1:]).all()
    assert np.allclose(frame["regret"], 70 - frame["best true"])
    assert (frame["valid"][1:] == 1).all()


def test_what_was_measured_is_shown_to_the_strategy_at_the_conditions() -> None:
    recorder = Recorder(Marginal())
    records(recorder, rounds=3)
    rows = recorder.shown.frame.iloc[120:]
    assert len(rows) == 8
    assert (rows["T"] == 600).all()
    assert np.abs(rows["Yield"] - TinyLaboratory().truth(rows)).max() < 5
    assert not rows[list(tiny_schema().recipe_columns)].duplicated().any()


def test_what_is_not_valid_is_not_measured() -> None:
    frame = records(Recorder(Marginal(), spoil=True))
    assert (frame["valid"][1:] == 0).all()
    assert (frame["experiments"] == 120).all()
    assert frame["best true"].min() == frame["best true"].max()
    assert frame["batch mean true"].isna().all()


def test_the_same_seed_gives_the_same_loop() -> None:
    first, again, other = (records(Marginal(), seed=seed).drop(columns="cpu_s") for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_where_less_is_better_the_best_is_the_smallest() -> None:
    schema = tiny_schema()
    less = schema.model_copy(update={"performance": schema.performance.model_copy(update={"higher_is_better": False})})
    start = RecipeTable.from_frame(tiny_table().frame, less)
    loop = run_loop(Marginal(), TinyLaboratory(), start, CONDITIONS, rounds=2, batch=4, seed=0, optimum=0.0)
    frame = pd.DataFrame(list(loop))
    assert frame["best true"].is_monotonic_decreasing
    assert frame["best true"][0] == TinyLaboratory().truth(start.frame).min()


def test_the_long_search_finds_the_optimum() -> None:
    space = RecipeSpace(tiny_schema(), CONDITIONS)
    poor = tiny_table().frame[lambda f: f["A"] < 1]
    assert estimate_optimum(TinyLaboratory(), space, poor, generations=15, children=100) == 70.0


def test_rounds_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="rounds is 0"):
        records(Marginal(), rounds=0)


def test_the_summary_is_of_the_last_round_and_over_seeds() -> None:
    frame = pd.concat([records(Marginal(), seed=s).assign(strategy="random", seed=s) for s in (0, 1)])
    other = frame.assign(strategy="perfect", regret=0.0)
    summary = summarise(pd.concat([frame, other]))
    assert summary.index.tolist() == ["perfect", "random"]
    assert summary.loc["random", "seeds"] == 2
    assert summary.loc["random", "best true"] == frame[frame["round"] == 3]["best true"].mean()
