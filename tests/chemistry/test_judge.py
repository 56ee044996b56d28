"""Verdicts: what the rules of a schema say of recipes, in words and in numbers."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.chemistry.rules import feasibility_rules, judge
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from tests.laboratories import TINY_TOML, tiny_frame, tiny_table

RULES = """
[[rules]]
name = "cool X"
kind = "range"
columns = ["Red T", "T"]
maximum = 600.0
where = [{ columns = ["X"] }]
reason = "X falls apart."
source = "a book"

[[rules]]
name = "cooler X"
kind = "range"
severity = "strong warning"
columns = ["T"]
maximum = 650.0
where = [{ columns = ["X"] }]

[[rules]]
name = "little metal"
kind = "sum"
columns = ["A", "B", "C"]
maximum = 5.0
advice = true

[[rules]]
name = "sintering"
kind = "sintering"
columns = ["A", "B"]
temperatures = ["T"]
melting_points_k = { B = 1000.0 }

[[rules]]
name = "as observed"
kind = "observed"
columns = ["X", "Y", "Z"]
numbers = ["T"]
minimum_rows = 2
"""
SCHEMA = RecipeSchema.from_toml(TINY_TOML + RULES)


def recipes(*changes: dict[str, object]) -> pd.DataFrame:
    """2 wt% A on X, not reduced, used at 500 degC, with changes."""
    usual = dict.fromkeys("ABCYZ", 0.0) | {"A": 2.0, "X": 1.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0, "T": 500.0}
    return pd.DataFrame([usual | change for change in changes], index=range(7, 7 + len(changes)))


def test_each_recipe_is_told_what_it_breaks_and_by_which_numbers() -> None:
    frame = recipes(
        {}, {"T": 660.0}, {"A": 4.0, "B": 2.5}, {"X": 0.6, "Red H2": 5.0}, {"A": 0.0, "B": 1.0, "X": 0.0, "Y": 1.0, "T": 700.0}
    )  # fmt: skip
    verdicts = judge(frame, SCHEMA)
    found = verdicts.findings()
    assert list(zip(found["recipe"], found["severity"], found["evidence"], strict=True)) == [
        (8, "strong warning", "T 660 degC is above 650 degC, with X 1 fraction"),
        (8, "warning", "T 660 degC is above 600 degC, with X 1 fraction"),
        (9, "warning", "A 4 wt%, B 2.5 wt%: sum 6.5 wt% is above 5"),
        (9, "note", "B at 500 degC is 273 K above 0.5 Tm, 227 degC"),
        (
            10,
            "hard",
            "supports: wrong sum (X 0.6 fraction); reduction: settings of a step that was not done (Red H2 5 %)",
        ),
        (11, "note", "B at 700 degC is 473 K above 0.5 Tm, 227 degC"),
    ]
    assert found[found["rule"] == "cool X"][["reason", "source"]].to_numpy().tolist() == [["X falls apart.", "a book"]]
    assert verdicts.hard.tolist() == [False, False, False, True, False]
    np.testing.assert_allclose(verdicts.score, [0, 3 + 1, 1 + 0.25 * 2.7315, 0, 0.25 * 4.7315])
    assert verdicts.words()[0] == ""
    assert verdicts.words()[1].endswith(" | warning: T 660 degC is above 600 degC, with X 1 fraction. X falls apart.")
    assert [rule.name for rule in verdicts.rules] == list(verdicts.broken.columns)
    assert verdicts.broken.index.equals(frame.index)
    assert verdicts.broken.loc[8].to_dict() == {
        "valid recipe of the schema": False, "cooler X": True, "cool X": True, "little metal": False, "sintering": False,
    }  # fmt: skip


def test_a_table_lends_what_was_observed() -> None:
    table = recipes({"T": 500.0}, {"T": 550.0}, {"X": 0.0, "Y": 1.0})
    asked = recipes({"T": 560.0}, {"T": 550.0}, {"X": 0.0, "Y": 1.0, "T": 900.0})
    verdicts = judge(asked, SCHEMA, table)
    assert verdicts.broken["as observed"].tolist() == [True, False, False]
    assert verdicts.words()[0].startswith("warning: T 560 degC was not observed: 500 to 550 in the 2 rows with X")
    assert "as observed" not in judge(asked, SCHEMA).broken


def test_melting_points_come_from_the_table_of_components() -> None:
    toml = TINY_TOML.replace('["A", "B", "C"]', '["Ni (wt%)", "Cu", "Q"]') + RULES.replace('["A", "B", "C"]', '["Cu"]')
    toml = toml.replace('columns = ["A", "B"]', 'columns = ["Ni (wt%)", "Cu", "Q"]').replace(
        "{ B = 1000.0 }", "{ Cu = 9.0 }"
    )
    (rule,) = (r for r in feasibility_rules(RecipeSchema.from_toml(toml)) if r.name == "sintering")
    assert rule.model_dump()["melting_points_k"] == {"Ni (wt%)": 1728.0, "Cu": 9.0}


def test_rows_of_a_table_keep_what_they_were_fitted_on() -> None:
    table = tiny_table(200, seed=3)
    verdicts = judge(table.frame, SCHEMA, table.frame)
    assert not verdicts.hard.any()
    assert not verdicts.broken["as observed"].any()
    assert verdicts.broken["cool X"].any()
    assert (verdicts.score[verdicts.broken["cooler X"]] >= 4).all()


def test_without_rules_only_the_structure_is_judged() -> None:
    frame = tiny_table(5).frame
    verdicts = judge(frame.assign(**{"A": -1.0}), RecipeSchema.from_toml(TINY_TOML))
    assert verdicts.hard.all()
    assert not verdicts.score.any()
    assert all(text.startswith("hard: metals: negative") for text in verdicts.words())
    assert judge(frame, RecipeSchema.from_toml(TINY_TOML)).words() == [""] * len(frame)


def test_conditions_that_lack_are_named() -> None:
    with pytest.raises(InputError, match=r"lack the columns T: rule 'cooler X' needs 'T'"):
        judge(recipes({}).drop(columns="T"), SCHEMA)
    with pytest.raises(InputError, match="share an index"):
        judge(tiny_frame().set_index(np.zeros(120, int)), SCHEMA)


@pytest.mark.drm
@pytest.mark.slow
@pytest.mark.skipif("PYRO_HCVAE_DRM_CSV" not in os.environ, reason="PYRO_HCVAE_DRM_CSV is not set")
def test_the_literature_table() -> None:
    table = RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm"))
    verdicts = judge(table.frame, table.schema, table.frame)
    assert verdicts.hard.sum() == 31  # 25 rows with an unknown reduction time, 6 without any component
    assert 0.8 < verdicts.broken["metals below their Tammann temperature"].mean() < 0.9
    strong = [rule.name for rule in verdicts.rules if rule.severity == "strong warning"]
    unsupported = verdicts.broken["a support, if metals are given in wt%"]
    assert unsupported.sum() == 50
    inactive = verdicts.broken["a metal of groups 8 to 10"]
    assert len(np.unique(table.recipe_ids()[inactive])) == 5
    assert (verdicts.broken[strong].any(axis=1) & ~unsupported & ~inactive).mean() < 0.001
