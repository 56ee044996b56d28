"""The independent predictor: honest errors, calibrated intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.posterior.performance import PerformancePredictor
from tests.laboratories import tiny_table

TABLE = tiny_table(recipes=120, rows_per_recipe=4)
PREDICTOR = PerformancePredictor.fit(TABLE.schema, TABLE.frame, TABLE.recipe_ids())


def test_errors_are_those_of_unseen_recipes() -> None:
    assert PREDICTOR.r2 > 0.8
    seen = (
        PREDICTOR.predict(TABLE.frame.drop(columns=["T", "Yield"]), TABLE.frame[["T"]])["mean"]
        - TABLE.frame["Yield"].to_numpy()
    )
    assert PREDICTOR.mae > np.abs(seen).mean()


def test_intervals_hold_on_recipes_from_the_same_laboratory() -> None:
    fresh = tiny_table(recipes=150, rows_per_recipe=2, seed=8).frame
    predicted = PREDICTOR.predict(fresh.drop(columns=["T", "Yield"]), fresh[["T"]], level=0.9)
    y = fresh["Yield"].to_numpy()
    inside = (y >= predicted["low"].to_numpy()) & (y <= predicted["high"].to_numpy())
    assert 0.84 <= inside.mean() <= 0.97


def at(mean: float) -> pd.DataFrame:
    return pd.DataFrame({"mean": [mean]})


def test_probability_to_reach_a_target() -> None:
    assert PREDICTOR.probability_of(at(90.0), 10.0)[0] == pytest.approx(1.0)
    assert PREDICTOR.probability_of(at(10.0), 90.0)[0] == pytest.approx(0.0)
    middle = PREDICTOR.probability_of(at(50.0), 50.0)[0]
    assert 0.2 < middle < 0.8
    fewer = TABLE.schema.model_copy(
        update={"performance": TABLE.schema.performance.model_copy(update={"higher_is_better": False})}
    )
    lower = PerformancePredictor(fewer, PREDICTOR.forest, PREDICTOR.residuals, 0.0, 0.0)
    assert lower.probability_of(at(50.0), 50.0)[0] == pytest.approx(1 - middle, abs=0.02)
