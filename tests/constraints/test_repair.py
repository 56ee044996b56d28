"""Every repaired recipe satisfies its constraints to the last digit, and is the one that was there if that would do."""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.constraints import feasibility
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.program import Problem, Terms, TimeLimitError
from pyro_hcvae.constraints.repair import changes, pick_shared, repair
from pyro_hcvae.constraints.scale import RecipeScale
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.errors import InputError
from tests.laboratories import TINY_TOML, tiny_schema, tiny_table
from tests.strategies import QUICK, schemas_with_frames

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_constraints.py"
TINY = tiny_schema()
RECIPES = tiny_table().frame[list(TINY.recipe_columns)].drop_duplicates().reset_index(drop=True)
SCALE = RecipeScale.fit(TINY, RECIPES)


def row(**cells: object) -> pd.DataFrame:
    recipe = {
        "A": 5.0,
        "B": 0.0,
        "C": 0.0,
        "X": 1.0,
        "Y": 0.0,
        "Z": 0.0,
        "Method": "wet",
        "Red T": 500.0,
        "Red H2": 50.0,
    }
    return pd.DataFrame([recipe | cells])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "drm"])
def test_random_sets_hold_or_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "_SECONDS", 60.0)  # a loaded machine is no failure
    script = runpy.run_path(str(SCRIPT))
    if name == "tiny":
        outcome = script["check"](TINY, RECIPES, 60, 1)
    else:
        schema = RecipeSchema.load("drm")
        table = RecipeTable.from_frame(VirtualLab().experiments(recipes=60, seed=0), schema)
        outcome = script["check"](schema, table.frame[list(schema.recipe_columns)], 30, 2)
    assert outcome.failures == []
    assert 0 < outcome.infeasible < outcome.sets
    assert np.max(outcome.distances) > 0


def test_the_script_says_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(feasibility, "_SECONDS", 60.0)
    runpy.run_path(str(SCRIPT))["main"](["--sets", "3"])
    printed = capsys.readouterr().out
    assert "3 sets in" in printed
    assert "failures: 0" in printed


@given(schemas_with_frames(max_rows=2), st.randoms(use_true_random=False))
@QUICK
def test_any_schema(case, random) -> None:  # type: ignore[no-untyped-def]
    schema, frame = case
    columns = list(schema.recipe_columns)
    row = frame.iloc[0]
    texts = [f"{'require' if row[c] > 0 else 'exclude'} {_quoted(c)}" for c in schema.component_columns]
    constraints = Constraints.from_texts(random.sample(texts, min(len(texts), 2)), schema)
    if constraints.satisfied(frame[columns])[0]:
        assert feasible(constraints) is None
    try:
        repaired, _ = repair(frame[columns], constraints)
    except InputError:
        assert feasible(constraints) is not None
        return
    assert constraints.satisfied(pd.read_csv(io.StringIO(repaired.to_csv(index=False)), keep_default_na=False)).all()


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


CASES = [
    (["A 2..3"], row(), "A 5 -> 3"),
    (["A = 2.03"], row(), "A 5 -> 2.03"),
    (["exclude A"], row(B=2.0), "A 5 -> 0"),
    (["A+B <= 4"], row(B=1.0), "A 5 -> 3"),
    (["no reduction"], row(), "Red T 500 -> 0; Red H2 50 -> 0"),
    (["Red H2 = 0"], row(), "Red H2 50 -> 0"),
    (["Red T <= 410"], row(), "Red T 500 -> 410"),
    (["Method = dry"], row(), "Method wet -> dry"),
    (["X = 0.65", "require Y", "exclude Z"], row(Y=0.3, X=0.7), "X 0.7 -> 0.65; Y 0.3 -> 0.35"),
    (["X <= 0.5", "supports at most 2"], row(X=0.7, Z=0.3), "X 0.7 -> 0.5; Z 0.3 -> 0.5"),
    (["metals at most 1"], row(B=0.5), "B 0.5 -> 0"),
    (["A >= 2", "supports in X"], row(), ""),
]


@pytest.mark.parametrize(("texts", "start", "words"), CASES, ids=["; ".join(c[0]) for c in CASES])
def test_no_more_is_changed_than_must_be(texts: list[str], start: pd.DataFrame, words: str) -> None:
    constraints = Constraints.from_texts(texts, TINY)
    repaired, distance = repair(start, constraints, scale=SCALE)
    assert changes(start, repaired) == [words]
    assert constraints.satisfied(repaired).all()
    assert (distance[0] > 0) == bool(words)


def test_what_is_added_is_typical_and_what_is_usual_comes_first() -> None:
    repaired, _ = repair(row(A=0.0), Constraints.from_texts(["metals at least 1"], TINY), scale=SCALE)
    (added,) = (c for c in "ABC" if repaired[c].iloc[0] > 0)
    assert SCALE.frequency[added, True] == max(SCALE.frequency[c, True] for c in "ABC")
    assert repaired[added].iloc[0] == pytest.approx(SCALE.typical[added], abs=0.25)
    only = Constraints.from_texts(["exclude X"], TINY)
    replaced, _ = repair(row(), only, scale=SCALE)  # the only support: another one, and not none
    assert replaced[["Y", "Z"]].to_numpy().sum() == pytest.approx(1.0)


def test_rows_and_other_columns_stay_in_place() -> None:
    frame = pd.concat([RECIPES.head(6).assign(T=700.0, note="mine")] * 2).set_index(pd.Index(range(30, 42)))
    constraints = Constraints.from_texts(["A = 2.03", "Method = dry"], TINY)
    before = frame.copy()
    repaired, distance = repair(frame, constraints)
    pd.testing.assert_frame_equal(frame, before)
    assert list(repaired.index) == list(range(30, 42))
    assert list(repaired.columns) == list(frame.columns)
    assert (repaired["note"] == "mine").all()
    assert distance.shape == (12,)
    again, none = repair(repaired, constraints)
    pd.testing.assert_frame_equal(again, repaired)
    assert not none.any()
    empty, nothing = repair(frame.iloc[:0], constraints)
    assert len(empty) == len(nothing) == 0


def test_what_cannot_be_repaired_is_said() -> None:
    with pytest.raises(InputError, match="contradicts"):
        repair(row(), Constraints.from_texts(["require A", "exclude A"], TINY))
    with pytest.raises(InputError, match="row 0, column 'B'.*whole recipes"):
        repair(row(B=np.nan), Constraints(TINY))
    with pytest.raises(InputError, match="no column 'B'"):
        repair(row().drop(columns="B"), Constraints(TINY))


WHERE = """
[[rules]]
name = "Z is not heated"
kind = "range"
severity = "hard"
columns = ["Red T"]
maximum = 600.0
where = [{ columns = ["Z"] }]
"""


def test_a_rule_for_some_recipes_is_no_reason_to_change_the_others() -> None:
    schema = RecipeSchema.from_toml(TINY_TOML + WHERE)
    frame = pd.concat([row(B=2.0, **{"Red T": 800.0}), row(B=2.0, X=0.0, Z=1.0, **{"Red T": 800.0})], ignore_index=True)
    repaired, distance = repair(frame, Constraints.from_texts(["exclude A"], schema), scale=SCALE)
    assert changes(frame, repaired) == ["A 5 -> 0", ""]  # the second breaks the rule: it is returned as it was
    assert np.isnan(distance).tolist() == [False, True]


def test_one_recipe_without_an_answer_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = Problem.solve

    def solving(self: Problem, *, deviations: Sequence[tuple[Terms, float]] = (), **options: Any) -> Any:
        solving.calls += bool(deviations)  # type: ignore[attr-defined]
        if deviations and solving.calls == 2:  # type: ignore[attr-defined]
            raise TimeLimitError
        return solve(self, deviations=deviations, **options)

    solving.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Problem, "solve", solving)
    frame = pd.concat([row(), row(A=6.03), row(A=7.0)]).set_index(pd.Index([7, 8, 9]))
    repaired, distance = repair(frame, Constraints.from_texts(["A 2..3"], TINY), scale=SCALE)
    assert repaired["A"].tolist() == [3.0, 6.03, 3.0]
    assert np.isnan(distance).tolist() == [False, True, False]
    assert list(repaired.index) == [7, 8, 9]


def test_a_batch_takes_its_shared_value_from_a_recipe_that_can_be_repaired() -> None:
    schema = RecipeSchema.from_toml(TINY_TOML + WHERE)
    constraints = Constraints.from_texts(["same Red T", "Red T >= 700", "require reduction"], schema)
    cold, refused = row(), row(X=0.0, Z=1.0)
    frame = pd.concat([refused, cold, cold], ignore_index=True)
    repaired, distance = repair(frame, constraints, scale=SCALE)
    assert repaired["Red T"].tolist() == [500.0, 700.0, 700.0]
    assert np.isnan(distance).tolist() == [True, False, False]
    alone, none = repair(refused, constraints, scale=SCALE)
    pd.testing.assert_frame_equal(alone, refused)
    assert np.isnan(none).all()


def test_a_batch_shares_the_value_of_most_candidates() -> None:
    frame = pd.concat(
        [row(**{"Red T": t, "A": a}) for t, a in [(500.0, 5.0), (500.0, 4.0), (600.0, 2.0), (700.0, 9.0)]]
    )
    frame = frame.reset_index(drop=True)
    assert pick_shared(frame, Constraints.from_texts(["same Red T"], TINY)) == {"Red T": 500.0}
    low = Constraints.from_texts(["same Red T", "A <= 3", "novelty >= 1"], TINY)
    assert pick_shared(frame, low) == {"Red T": 600.0}  # the only one with little A
    assert pick_shared(frame, Constraints.from_texts(["same Red T", "Red T >= 690"], TINY)) == {"Red T": 700.0}
    hot = Constraints.from_texts(["same Red T, Method", "Red T >= 800", "require reduction"], TINY)
    assert pick_shared(frame, hot) == {"Method": "wet"}
    repaired, _ = repair(frame, hot)
    assert repaired["Red T"].min() == repaired["Red T"].max() >= 800
    assert hot.satisfied(repaired).all()


def test_novelty_is_a_filter() -> None:
    known = round_to_grid(RECIPES, TINY)
    constraints = Constraints(
        TINY, Constraints.from_texts(["novelty >= 0.5"], TINY).items, distance=SCALE.nearest(known)
    )
    far = known.head(3).assign(**{"Red T": 890.0, "Red H2": 99.0})
    frame = pd.concat([known.head(3), far], ignore_index=True)
    assert constraints.satisfied(frame).tolist() == [False] * 3 + [True] * 3
    repaired, distance = repair(frame, constraints)
    assert not distance.any()
    assert not constraints.satisfied(repaired)[:3].any()
    with pytest.raises(InputError, match="no known recipes"):
        Constraints.from_texts(["novelty >= 0.5"], TINY).satisfied(frame)


def test_distances_are_those_of_the_definition() -> None:
    apart = SCALE.nearest(row())
    spread = SCALE.spread
    assert apart(row())[0] == 0
    assert apart(row(A=6.0))[0] == pytest.approx(1 / spread["A"])
    assert apart(row(B=1.0))[0] == pytest.approx(1 + 1 / spread["B"])
    assert apart(row(Method="dry"))[0] == pytest.approx(1)
    assert apart(row(**{"Red T": 600.0}))[0] == pytest.approx(100 / spread["Red T"])
    assert apart(row(X=0.0, Y=1.0))[0] == pytest.approx(2 + 1 / spread["X"] + 1 / spread["Y"])
