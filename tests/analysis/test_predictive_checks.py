"""Statistics of replicated tables, with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError
from pyro_hcvae.analysis.predictive_checks import predictive_checks
from tests.laboratories import tiny_table

TABLE = tiny_table()
SCHEMA = TABLE.schema
OBSERVED = TABLE.frame.drop_duplicates(list(SCHEMA.recipe_columns))


def resampled(copies: int, seed: int = 0) -> pd.DataFrame:
    """Tables of recipes drawn from the observed ones with replacement: what a perfect model would give."""
    rng = np.random.default_rng(seed)
    parts = [
        OBSERVED.iloc[rng.integers(len(OBSERVED), size=len(OBSERVED))].set_axis(OBSERVED.index, axis=0)
        for _ in range(copies)
    ]
    return pd.concat(parts).sort_index(kind="stable")


def check(found: pd.DataFrame, name: str, item: str) -> pd.Series:
    return found[(found["check"] == name) & (found["item"] == item)].iloc[0]


def test_statistics_are_those_of_the_table() -> None:
    found = predictive_checks(SCHEMA, OBSERVED, resampled(10))
    metals = OBSERVED[["A", "B", "C"]]
    assert check(found, "number of metals", "1")["observed"] == pytest.approx(((metals > 0).sum(axis=1) == 1).mean())
    assert check(found, "total metals", "50 % quantile")["observed"] == pytest.approx(metals.sum(axis=1).median())
    assert check(found, "total metals", "50 % quantile")["unit"] == "wt%"
    assert check(found, "metals: present", "A")["observed"] == pytest.approx((metals["A"] > 0).mean())
    pair = check(found, "metals: pairs", "A + B")
    assert pair["observed"] == pytest.approx(((metals["A"] > 0) & (metals["B"] > 0)).mean())
    assert check(found, "method", "wet")["observed"] == pytest.approx((OBSERVED["Method"] == "wet").mean())
    assert check(found, "reduction", "not done")["observed"] == pytest.approx((OBSERVED["Red T"] == 0).mean())
    done = OBSERVED["Red T"][OBSERVED["Red T"] > 0]
    assert check(found, "Red T", "90 % quantile")["observed"] == pytest.approx(done.quantile(0.9))
    assert not found.duplicated(["check", "item"]).any()


def test_a_perfect_model_passes_and_a_wrong_one_is_seen() -> None:
    good = predictive_checks(SCHEMA, OBSERVED, resampled(60))
    inside = (good["observed"] >= good["low 5 %"]) & (good["observed"] <= good["high 95 %"])
    assert inside.mean() > 0.85
    assert good["z"].abs().max() < 4
    wrong = resampled(60)
    wrong["A"] += 10.0 * (wrong["A"] > 0)
    found = predictive_checks(SCHEMA, OBSERVED, wrong)
    median = check(found, "metals: median where present", "A")
    assert median["p"] == pytest.approx(1 / 61)  # as small as 60 tables can show
    assert median["z"] < -4
    assert check(found, "method", "wet")["p"] > 0.05


def test_p_of_ties_is_not_small() -> None:
    same = pd.concat([OBSERVED] * 5).sort_index(kind="stable")
    found = predictive_checks(SCHEMA, OBSERVED, same)
    assert (found["p"] == 1).all()
    assert (found["mean"] - found["observed"]).abs().max() < 1e-12
    assert found["z"].isna().all()


def test_performance_is_predicted_of_draws_and_measured_of_the_table() -> None:
    found = predictive_checks(SCHEMA, OBSERVED, resampled(4), predict=lambda rows: np.full(len(rows), 7.0))
    rows = found[found["check"] == "mean Yield against T"]
    assert len(rows) >= 2
    assert (rows["mean"] == 7).all()
    assert rows["unit"].eq("%").all()
    warmest = OBSERVED["T"] >= float(rows["item"].iloc[-1].split()[1])
    assert rows["observed"].iloc[-1] == pytest.approx(OBSERVED["Yield"][warmest].mean())


def test_uneven_draws_are_refused() -> None:
    with pytest.raises(InputError, match="as many draws"):
        predictive_checks(SCHEMA, OBSERVED, resampled(3).iloc[:-1])
    with pytest.raises(InputError, match="at least two"):
        predictive_checks(SCHEMA, OBSERVED, OBSERVED)
