"""Adherence, where the true performance is a known sum: ``y = 5 A + 0.3 T``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.evaluation.adherence import AdherenceJudge, ConditionEffect, adherence, density_drops
from tests.laboratories import tiny_table

SCHEMA = RecipeSchema.from_toml("""
name = "sum"
[[stages]]
name = "metal"
[[stages.blocks]]
kind = "amounts"
name = "metals"
columns = ["A"]
[[conditions]]
name = "T"
[performance]
name = "y"
unit = "%"
""")
NO_CONDITIONS = SCHEMA.model_copy(update={"conditions": ()})
DRAWS = 20


def rows(count: int, *, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"A": rng.uniform(1, 10, count), "T": rng.uniform(0, 100, count)})
    return frame.assign(y=5 * frame["A"] + 0.3 * frame["T"])


TRAIN, HELD = rows(1500, seed=0), rows(150, seed=1)
JUDGE = AdherenceJudge.fit(SCHEMA, TRAIN, np.arange(len(TRAIN)))
EFFECT = ConditionEffect.fit(JUDGE, TRAIN, np.arange(len(TRAIN)))
ASKED = HELD.loc[HELD.index.repeat(DRAWS)]


def test_recipes_that_reach_what_is_asked() -> None:
    scores = adherence(EFFECT, HELD, ASKED)
    assert scores["adherence MAE [%]"] < 1.0
    assert scores["adherence partial r"] > 0.98
    for name in ("adherence MAE{} [%]", "adherence partial r{}"):  # the draws are the real recipes
        assert scores[name.format("")] == pytest.approx(scores[name.format(", real recipes")])


def test_recipes_drawn_without_a_look_at_what_is_asked() -> None:
    marginal = ASKED.assign(A=np.random.default_rng(2).uniform(1, 10, len(ASKED)))
    scores = adherence(EFFECT, HELD, marginal)
    assert scores["adherence MAE [%]"] == pytest.approx(
        5 * 9 / 3, rel=0.05
    )  # E|A - A'| of a uniform is a third of its width
    assert abs(scores["adherence partial r"]) < 0.05
    # The conditions alone correlate with what is asked: that is what is taken out.
    assert np.corrcoef(marginal["y"], JUDGE.predict(marginal))[0, 1] > 0.15


def test_a_constant_miss_and_a_symmetric_one() -> None:
    inner = HELD[HELD["A"].between(2.5, 8.5)]  # where the judge has rows on both sides
    asked = inner.loc[inner.index.repeat(DRAWS)]
    shifted = adherence(EFFECT, inner, asked.assign(A=asked["A"] + 1))
    assert shifted["adherence MAE [%]"] == pytest.approx(5.0, abs=0.4)
    assert shifted["adherence MAE, mean of draws [%]"] == pytest.approx(5.0, abs=0.4)
    assert shifted["adherence partial r"] > 0.97
    signs = np.tile([1.0, -1.0], len(asked) // 2)
    spread = adherence(EFFECT, inner, asked.assign(A=asked["A"] + signs))
    assert spread["adherence MAE [%]"] == pytest.approx(5.0, abs=0.4)
    assert spread["adherence MAE, mean of draws [%]"] < 1.0
    assert spread["adherence partial r, mean of draws"] > spread["adherence partial r"]


def test_every_recipe_weighs_the_same() -> None:
    frame = pd.DataFrame({"A": 1.0, "T": 1.0, "y": [0.0] * 9 + [80.0]})
    recipes = np.array([7] * 9 + [3])
    judge = AdherenceJudge.fit(SCHEMA, frame, recipes)
    assert judge.predict(frame.iloc[:1]) == pytest.approx([40.0])
    assert ConditionEffect.fit(judge, frame, recipes)(frame.iloc[:1])[0] == pytest.approx([40.0, 40.0])


def test_judges_are_told_apart_and_the_judge_of_all_rows_knows_the_answers() -> None:
    rng = np.random.default_rng(0)
    noisy = rows(300, seed=3).assign(y=lambda f: f["y"] + rng.normal(0, 10, len(f)))
    train, held = noisy.iloc[:200], noisy.iloc[200:]
    honest = AdherenceJudge.fit(SCHEMA, train, np.arange(200))
    knowing = AdherenceJudge.fit(SCHEMA, noisy, np.arange(300), name="judge of all rows")
    scores = {
        name: value
        for judge in (honest, knowing)
        for name, value in adherence(ConditionEffect.fit(judge, train, np.arange(200)), held, held).items()
    }
    assert len(scores) == 12
    assert (
        scores["adherence MAE, real recipes, judge of all rows [%]"] < 0.7 * scores["adherence MAE, real recipes [%]"]
    )


def test_broken_draws_of_any_schema_get_a_figure() -> None:
    table = tiny_table()
    judge = AdherenceJudge.fit(table.schema, table.frame, table.recipe_ids())
    effect = ConditionEffect.fit(judge, table.frame, table.recipe_ids())
    broken = table.frame.copy()
    broken["A"], broken["B"], broken["X"] = np.nan, -np.inf, 1e300
    broken["Method"] = "damp"
    broken.loc[broken.index[0], "Red T"] = np.nan
    scores = adherence(effect, table.frame, broken)
    assert np.isfinite(list(scores.values())).all()
    assert scores["adherence MAE [%]"] > scores["adherence MAE, real recipes [%]"]


def test_a_schema_without_conditions() -> None:
    judge = AdherenceJudge.fit(NO_CONDITIONS, TRAIN, np.arange(len(TRAIN)))
    effect = ConditionEffect.fit(judge, TRAIN, np.arange(len(TRAIN)))
    assert effect(HELD)[:, 0] == pytest.approx(TRAIN["y"].mean())
    whole = 5 / np.sqrt(5**2 + 0.3**2 * 100**2 / 9**2)  # the share of A in what varies: nothing can be taken out
    assert adherence(effect, HELD, HELD)["adherence partial r"] == pytest.approx(whole, abs=0.1)
    constant = adherence(effect, HELD, HELD.assign(A=5.0))
    assert constant["adherence partial r"] == 0.0


@pytest.mark.parametrize(("uses", "both", "alone"), [("y", 8.0, 8.0), ("T", 8.0, 0.0), ("none", 0.0, 0.0)])
def test_drop_of_the_density(uses: str, both: float, alone: float) -> None:
    held = pd.DataFrame({"A": [0.0, 4.0], "T": [0.0, 4.0], "y": [0.0, 4.0]})

    def density(frame: pd.DataFrame) -> np.ndarray:  # Gaussian around one column: two rows 4 apart lose 4^2 / 2
        loc = 1.0 if uses == "none" else frame[uses]
        return -((frame["A"] - loc).to_numpy() ** 2) / 2

    drops = density_drops(density, SCHEMA, held)
    assert drops["log p drop, conditions and performance permuted [nats]"] == pytest.approx(both)
    assert drops["log p drop, performance permuted [nats]"] == pytest.approx(alone)


def test_no_row_keeps_its_own_values() -> None:
    held = rows(50, seed=4)

    def same(frame: pd.DataFrame) -> np.ndarray:
        return (frame["y"] == held["y"]).to_numpy(np.float64)

    assert set(density_drops(same, SCHEMA, held).values()) == {1.0}
