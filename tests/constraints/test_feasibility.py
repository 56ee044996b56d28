"""Verdicts beside brute force, and conflicts that are named in full, alone, and in time."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult

from pyro_hcvae.constraints import feasibility, program
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.program import Problem, TimeLimitError
from pyro_hcvae.constraints.repair import repair
from pyro_hcvae.constraints.scale import RecipeScale
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.errors import InputError
from tests.laboratories import TINY_TOML, tiny_schema
from tests.strategies import QUICK

COARSE = RecipeSchema.from_toml(
    TINY_TOML.replace("max_total = 20.0\nresolution = 0.5", "max_total = 4.0\nresolution = 1.0")
    .replace("resolution = 0.1", "resolution = 0.25")
    .replace("maximum = 900.0, resolution = 10.0", "maximum = 300.0, resolution = 100.0")
    .replace("maximum = 100.0, resolution = 1.0", "maximum = 3.0, resolution = 1.0")
    + """
[[rules]]
name = "A needs heat"
kind = "ordering"
severity = "hard"
lower = "A"
upper = "Red T"
offset = 2.0
[[rules]]
name = "little B"
kind = "range"
severity = "hard"
columns = ["B"]
maximum = 3.0
"""
)
"""So few recipes that all of them can be written down."""
WORDS = (
    "exclude A", "exclude X, Y", "exclude supports", "require A", "require B, C", "require supports", "require reduction",
    "supports in X, Z", "metals in B", "Method in wet", "Method = dry", "A = 2", "B = 0", "X = 0.5", "X = 0.25", "Y = 1",
    "Red T = 200", "Red T = 0", "Red H2 = 0", "Red H2 = 2", "no reduction", "A 2..3", "each A, B >= 2", "B <= 1", "Red T >= 200",
    "Red H2 2..3", "X >= 0.6", "A+B <= 2", "A+C >= 3", "total metals >= 4", "X+Y 0.3..0.6", "metals at most 1",
    "metals exactly 2", "supports at least 3", "A, X at most 1", "cost <= 3", "cost <= 6",
)  # fmt: skip
PRICES = {"A": 2.0, "B": 1.5, "C": 1.0, "X": 1.0}


def every_recipe() -> pd.DataFrame:
    amounts = list(product(range(5), repeat=3))
    shares = [s for s in product(np.arange(5) / 4, repeat=3) if sum(s) in (0, 1)]
    steps = [(0.0, 0.0), *product((100.0, 200.0, 300.0), (0.0, 1.0, 2.0, 3.0))]
    rows = [(*a, *s, m, *t) for a in amounts for s in shares for m in ("wet", "dry") for t in steps]
    frame = pd.DataFrame(rows, columns=list(COARSE.recipe_columns))
    return frame[is_valid(frame, COARSE)].reset_index(drop=True)


EVERY = every_recipe()


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5, unique=True))
@QUICK
def test_verdicts_and_conflicts_agree_with_brute_force(texts: list[str]) -> None:
    def possible(some: list[str]) -> bool:
        return bool(Constraints.from_texts(some, COARSE, prices=PRICES).satisfied(EVERY).any())

    conflict = feasible(Constraints.from_texts(texts, COARSE, prices=PRICES))
    assert (conflict is None) == possible(texts)
    if conflict is not None:
        named = [str(item) for item in conflict.items]
        assert conflict.minimal
        assert not possible(named)
        assert all(possible([t for t in named if t != left]) for left in named)


def test_the_nearest_recipe_is_as_near_as_any_other() -> None:
    scale = RecipeScale.fit(COARSE, EVERY)
    constraints = Constraints.from_texts(["A+B <= 2", "Red T <= 200", "each A, B >= 1"], COARSE)
    start = EVERY[(EVERY["A"] == 3) & (EVERY["B"] == 1) & (EVERY["X"] == 0.5) & (EVERY["Red T"] == 300)].head(4)
    others = EVERY[constraints.satisfied(EVERY)]
    repaired, distance = repair(start, constraints, scale=scale)
    # Nothing has to be added or taken out here: the distance is that of `RecipeScale`.
    for row in range(len(start)):
        apart = scale.nearest(start.iloc[[row]])
        assert distance[row] == pytest.approx(apart(others).min())
        assert apart(repaired.iloc[[row]])[0] == pytest.approx(distance[row])


CONFLICTS = [
    (["exclude Pt", "require Pt", "Ni 2..10"], ["exclude Pt", "require Pt"], [], "contradicts"),
    (["Ni = 20", "Co = 15", "exclude Rh"], ["Ni = 20", "Co = 15"], ["metals sum to at most 30 wt%"], "together"),
    (["Ni 2.03..2.04", "require Ni"], ["Ni 2.03..2.04", "require Ni"], ["metals come in steps of 0.05 wt%"], "schema"),
    (["require Ni Co Pt Rh Ru"], ["require Ni, Co, Pt, Rh, Ru"], ["at most 4 metals"], "drop or loosen it"),
    (["Calcination T 1500..1600"], ["Calcination T 1500..1600"], ["Calcination T is 20 to 1400 degC"], "no recipe"),
    (["no reduction", "Reduction T = 500"], ["no reduction", "Reduction T = 500"], [], "contradicts"),
    (["MgO = 0.333", "supports at most 1"], ["MgO = 0.333", "supports at most 1"], ["supports sum to 1"], "together"),
    (["Pt+Rh >= 3", "Pt <= 1", "Rh <= 1"], ["Pt+Rh >= 3", "Pt <= 1", "Rh <= 1"], [], "one of them"),
    (["exclude metals, supports"], ["exclude metals, supports"], ["a recipe has at least one component"], "schema"),
    (["Ni = 5.03", "Ni <= 5"], ["Ni = 5.03", "Ni <= 5"], [], "contradicts"),
]


@pytest.mark.parametrize(("texts", "items", "limits", "words"), CONFLICTS, ids=[c[0][0] for c in CONFLICTS])
def test_conflicts_name_the_limits_of_the_schema(
    texts: list[str], items: list[str], limits: list[str], words: str
) -> None:
    conflict = feasible(Constraints.from_texts(texts, RecipeSchema.load("drm")))
    assert conflict is not None
    assert sorted(map(str, conflict.items)) == sorted(items)
    assert conflict.limits == tuple(limits)
    assert words in str(conflict)
    assert all(text in str(conflict) for text in (*items, *limits))


def test_a_long_list_of_contradictions_is_named_in_time() -> None:
    schema = RecipeSchema.load("drm")
    texts = [f"{name} >= 1" for name in schema.component_columns[:20]] + [f"require {n}" for n in ("Ni", "Co", "Pt")]
    texts += ["total metals <= 2", "cost <= 50", "metals at least 3", "supports exactly 2", "Preparation in 1, 3"]
    constraints = Constraints.from_texts(texts, schema, prices=dict.fromkeys(schema.component_columns, 1.0))
    began = time.process_time()
    conflict = feasible(constraints)
    assert time.process_time() - began < 2  # the search itself stops after 0.8 s
    assert conflict is not None
    assert "total metals <= 2" in map(str, conflict.items)


def test_without_time_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "_SECONDS", 0.0)
    with pytest.raises(InputError, match="could not be decided"):
        feasible(Constraints.from_texts(["require A", "exclude A"], tiny_schema()))


def test_a_schema_without_any_recipe_is_to_blame() -> None:
    schema = RecipeSchema.from_toml(
        TINY_TOML
        + """
[[rules]]
name = "much A"
kind = "range"
severity = "hard"
columns = ["A"]
minimum = 30.0
"""
    )
    conflict = feasible(Constraints(schema))
    assert conflict is not None
    assert conflict.items == ()
    assert "correct the schema" in str(conflict)
    assert conflict.limits is not None
    assert "rule of the schema: much A" in conflict.limits


def test_a_rule_for_some_recipes_leaves_the_others_alone() -> None:
    schema = RecipeSchema.from_toml(
        TINY_TOML
        + """
[[rules]]
name = "Z is not heated"
kind = "range"
severity = "hard"
columns = ["Red T"]
maximum = 600.0
where = [{ columns = ["Z"] }]
"""
    )
    assert feasible(Constraints.from_texts(["Red T = 800", "exclude Z"], schema)) is None
    hot = Constraints.from_texts(["exclude B", "Red T = 800"], schema)
    frame = EVERY[(EVERY["A"] == 1) & (EVERY["B"] == 0) & (EVERY["Red T"] == 300)].assign(**{"Red T": 800.0})
    assert (hot.satisfied(frame) == (frame["Z"] == 0)).all()
    assert hot.satisfied(frame).any()


def test_caps_take_part() -> None:
    text = '[[rules]]\nname = "little A"\nkind = "caps"\nseverity = "hard"\nlimits = { A = 3.0, Y = 0.5 }\n'
    schema = RecipeSchema.from_toml(TINY_TOML + text)
    conflict = feasible(Constraints.from_texts(["A = 4"], schema))
    assert conflict is not None
    assert conflict.limits == ("rule of the schema: little A",)
    repaired, _ = repair(EVERY[EVERY["Y"] == 1.0].head(1), Constraints(schema))
    assert repaired["Y"].tolist() == [0.5]


def cut_short(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The solver has no time left after so many answers."""
    answers = iter(range(after))
    solve = Problem.solve

    def solving(self: Problem, **options: Any) -> Any:
        if next(answers, None) is None:
            raise TimeLimitError
        return solve(self, **options)

    monkeypatch.setattr(Problem, "solve", solving)


@pytest.mark.parametrize("texts", [["A 2.1..2.2", "require A"], ["A = 20", "B = 15"], ["A = 25"]])
def test_what_was_not_narrowed_down_is_not_blamed(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = Constraints.from_texts(texts, tiny_schema())
    full = feasible(constraints)
    assert full is not None
    said = set()
    for after in range(1, 60):
        with monkeypatch.context() as patch:
            cut_short(patch, after)
            conflict = feasible(constraints)
        assert conflict is not None
        said.add((conflict.minimal, conflict.limits is None))
        assert ("among these" in str(conflict)) == (not conflict.minimal)
        assert "contradicts" not in str(conflict)
        if conflict.limits is None:
            assert "schema:" not in str(conflict)
        else:
            assert conflict == full
    assert said == {(False, True), (True, True), (True, False)}


def test_what_other_programs_take_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def starved(*arguments: Any, options: dict[str, float], **others: Any) -> Any:
        limits.append(options["time_limit"])
        if len(limits) < 3:
            return OptimizeResult(
                x=None, status=1, message="the clock on the wall has run on, and nothing was computed"
            )
        return scipy.optimize.milp(*arguments, options=options, **others)

    monkeypatch.setattr(program, "milp", starved)
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10**6, 100)).__next__)
    conflict = feasible(Constraints.from_texts(["require A", "exclude A", "require B"], tiny_schema()))
    assert limits[1] > limits[0]
    assert str(conflict) == "'require A' contradicts 'exclude A': drop or loosen one of them"
