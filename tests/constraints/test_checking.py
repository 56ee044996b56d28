"""Each kind of constraint on rows on either side of its limit, and what is known of a recipe before it is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.known import Known
from pyro_hcvae.data.schema import RecipeSchema
from tests.laboratories import TINY_TOML, tiny_schema

TINY = tiny_schema()
BASE = {"A": 5.0, "B": 1.0, "C": 0.0, "X": 0.7, "Y": 0.3, "Z": 0.0, "Method": "wet", "Red T": 500.0, "Red H2": 50.0}
OFF = {"Red T": 0.0, "Red H2": 0.0}
CASES: list[tuple[str, list[dict[str, object]], list[dict[str, object]]]] = [
    ("exclude B, Z", [{"B": 0.0}], [{}, {"B": 0.0, "Z": 0.1, "Y": 0.2}]),
    ("require A, B", [{}], [{"B": 0.0}, {"A": 0.0}]),
    ("require supports", [{}], [{"X": 0.0, "Y": 0.0}]),
    ("require reduction", [{}, {"Red H2": 0.0}], [OFF]),
    ("no reduction", [OFF], [{}, {"Red H2": 0.0}]),
    ("supports in X, Y", [{}, {"X": 0.0, "Y": 0.0}], [{"Z": 0.1, "X": 0.6}]),
    ("Method in dry", [{"Method": "dry"}], [{}]),
    ("Method = wet", [{}], [{"Method": "dry"}]),
    ("A = 5", [{}, {"A": 5.0 + 1e-12}], [{"A": 5.0 + 1e-6}, {"A": 0.0}]),
    ("Red H2 = 0", [OFF, {"Red H2": 0.0}], [{}]),
    ("A 2..5", [{}, {"A": 2.0}, {"A": 0.0}], [{"A": 5.0 + 1e-6}, {"A": 2.0 - 1e-6}]),
    ("Red H2 60..70", [OFF, {"Red H2": 0.0}, {"Red H2": 60.0}], [{}]),
    ("Red T <= 450", [OFF, {"Red T": 450.0}], [{}]),
    ("each A, B >= 1", [{}, {"B": 0.0}], [{"B": 0.5}]),
    ("A+B <= 6", [{}, {"A": 0.1, "B": 5.9}], [{"A": 5.000001}]),
    ("X+Y+Z 1..1", [{}, {"X": 0.1, "Y": 0.2, "Z": 0.7}], [{"X": 0.0, "Y": 0.0}]),
    ("total metals >= 6", [{}], [{"B": 0.5}]),
    ("metals exactly 2", [{}], [{"B": 0.0}]),
    ("A, X at most 1", [{"A": 0.0}], [{}]),
    ("cost <= 11", [{}], [{"B": 1.5}]),
    ("novelty >= 1", [{"A": 6.0}], [{}]),
]


@pytest.mark.parametrize(("text", "good", "bad"), CASES, ids=[c[0] for c in CASES])
def test_each_kind(text: str, good: list[dict[str, object]], bad: list[dict[str, object]]) -> None:
    frame = pd.DataFrame([BASE | cells for cells in good + bad], index=pd.RangeIndex(4, 4 + len(good + bad)))
    constraints = Constraints.from_texts(
        [text], TINY, prices={"A": 2.0, "B": 1.0, "C": 9.0}, distance=lambda f: np.abs(f["A"].to_numpy() - 5.0)
    )
    violations = constraints.violations(frame)
    assert list(violations.columns) == [str(constraints.items[0])]
    assert violations.iloc[:, 0].tolist() == [False] * len(good) + [True] * len(bad)
    assert violations.index.equals(frame.index)


def test_a_batch_that_does_not_share_is_marked() -> None:
    frame = pd.DataFrame([BASE, BASE, BASE | {"Red T": 510.0}])
    constraints = Constraints.from_texts(["same Red T", "exclude C"], TINY)
    assert constraints.violations(frame)["same Red T"].tolist() == [False, False, True]
    assert constraints.satisfied(frame.iloc[:2]).all()


def test_satisfied_asks_for_a_valid_recipe_too() -> None:
    schema = RecipeSchema.from_toml(
        TINY_TOML
        + '\n[[rules]]\nname = "cap"\nkind = "range"\nseverity = "hard"\ncolumns = ["A"]\nmaximum = 8.0\n'
        + '\n[[rules]]\nname = "unusual"\nkind = "range"\ncolumns = ["B"]\nmaximum = 2.0\n'
        + '\n[[rules]]\nname = "hot"\nkind = "ordering"\nseverity = "hard"\nlower = "T"\nupper = "Red T"\n'
    )
    changes: list[dict[str, object]] = [
        {}, {"B": 3.0}, {"A": 9.0}, {"A": 25.0}, {"X": 0.69}, {"Method": "moist"}, {"Red T": 0.0}, {"X": 0.0, "Y": 0.0},
    ]  # fmt: skip
    frame = pd.DataFrame([BASE | cells for cells in changes])
    assert Constraints(schema).satisfied(frame).tolist() == [True, True, False, False, False, False, False, True]


def test_rules_that_need_a_table_are_left_to_the_caller() -> None:
    schema = RecipeSchema.from_toml(
        TINY_TOML
        + '\n[[rules]]\nname = "cap"\nkind = "caps"\nseverity = "hard"\nlimits = { A = 8.0 }\n'
        + '\n[[rules]]\nname = "melts"\nkind = "sintering"\nseverity = "hard"\ncolumns = ["A"]\ntemperatures = ["Red T"]\n'
        + "melting_points_k = { A = 800.0 }\n"
        + '\n[[rules]]\nname = "seen"\nkind = "observed"\nseverity = "hard"\ncolumns = ["A"]\nnumbers = ["Red T"]\n'
    )
    constraints = Constraints(schema)
    assert [rule.name for rule in constraints.rules] == ["cap"]
    assert constraints.satisfied(pd.DataFrame([BASE, BASE | {"A": 9.0}])).tolist() == [True, False]


KNOWN = [
    ("exclude A", {"A": Known(False, 0.0)}),
    ("supports in X", {"Y": Known(False, 0.0), "Z": Known(False, 0.0), "X": Known()}),
    ("A = 2.03", {"A": Known(True, 2.03)}),
    ("A = 0", {"A": Known(False, 0.0)}),
    ("require A", {"A": Known(True)}),
    ("Method = dry", {"Method": Known(True, "dry")}),
    ("Method in dry", {"Method": Known(True, "dry")}),
    ("Method in dry, wet", {"Method": Known(True)}),
    ("no reduction", {"Red T": Known(False, 0.0), "Red H2": Known(False, 0.0)}),
    ("Red T = 0", {"Red T": Known(False, 0.0), "Red H2": Known(False, 0.0)}),
    ("Red T = 500", {"Red T": Known(True, 500.0), "Red H2": Known()}),
    ("Red H2 = 20", {"Red T": Known(True), "Red H2": Known(True, 20.0)}),
    ("Red H2 = 0", {"Red T": Known(), "Red H2": Known(None, 0.0)}),
    ("require reduction", {"Red T": Known(True), "Red H2": Known()}),
    ("A, B at most 0", {"A": Known(False, 0.0), "B": Known(False, 0.0), "C": Known()}),
    ("require A, B", {"A": Known(True), "B": Known(True), "C": Known(False, 0.0)}),  # the schema has two metals at most
    ("A, B at least 2", {"A": Known(True), "B": Known(True), "C": Known(False, 0.0)}),
    ("A 2..5", {"A": Known()}),
]


@pytest.mark.parametrize(("text", "known"), KNOWN, ids=[k[0] for k in KNOWN])
def test_what_is_certain(text: str, known: dict[str, Known]) -> None:
    part = Constraints.from_texts([text], TINY).known_part()
    assert list(part) == list(TINY.recipe_columns)
    assert {name: part[name] for name in known} == known
    named = {"Method", *known}
    assert all(part[name] == Known() for name in part if name not in named)


def test_the_last_support_is_the_whole() -> None:
    part = Constraints.from_texts(["exclude Y, Z", "require supports"], TINY).known_part()
    assert part["X"] == Known(True, 1.0)
