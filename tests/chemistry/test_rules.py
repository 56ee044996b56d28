"""Feasibility rules, each on rows on either side of its limit."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.chemistry.rules import FeasibilityRule, broken_rules, feasibility_rules
from pyro_hcvae.data.rules import Count, Ordering, Range, Sum
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable

NAN = float("nan")
CASES: list[tuple[FeasibilityRule, list[tuple[float, float]], list[bool]]] = [
    (
        Range(name="cap", columns=("a", "b"), maximum=20.0),
        [(20.0, 20.0), (20.1, 0.0), (0.0, 21.0), (NAN, 1.0), (NAN, 21.0), (-5.0, np.inf)],
        [False, True, True, False, True, True],
    ),
    (
        Range(name="smallest loading", columns=("a", "b"), minimum=0.05, unless=0.0),
        [(0.05, 0.0), (0.0, 0.0), (0.04, 1.0), (1.0, 1e-9)],
        [False, False, True, True],
    ),
    (
        Range(name="window", columns=("a",), minimum=0.5, maximum=12.0),
        [(0.5, 0.0), (12.0, 0.0), (0.4, 0.0), (12.1, 0.0), (0.0, 0.0)],
        [False, False, True, True, True],
    ),
    (
        Sum(name="sum", columns=("a", "b"), maximum=0.3),
        [(0.1, 0.2), (0.3, 0.01), (NAN, 1.0)],  # 0.1 + 0.2 is above 0.3 in binary fractions only
        [False, True, False],
    ),
    (
        Count(name="one", columns=("a", "b"), maximum=1),
        [(1.0, 0.0), (0.0, 0.0), (1.0, 1e-3), (NAN, 1.0)],
        [False, False, True, False],
    ),
    (
        Ordering(name="order", lower="a", upper="b", offset=100.0),
        [(600.0, 500.0), (601.0, 500.0), (0.0, -101.0), (NAN, 1.0), (500.0, NAN)],
        [False, True, True, False, False],
    ),
    (
        Ordering(name="order unless absent", lower="a", upper="b", unless=0.0),
        [(600.0, 500.0), (600.0, 0.0), (0.0, -5.0)],
        [True, False, False],
    ),
]


@pytest.mark.parametrize(("rule", "rows", "broken"), CASES, ids=[rule.name for rule, *_ in CASES])
def test_each_kind(rule: FeasibilityRule, rows: list[tuple[float, float]], broken: list[bool]) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b"], index=pd.RangeIndex(5, 5 + len(rows)))
    assert rule.broken(frame).tolist() == broken
    assert rule.broken(frame).dtype == np.bool_
    found = broken_rules(frame, [rule])
    assert found.index.equals(frame.index)
    assert found[rule.name].tolist() == broken


def test_without_any_rule_nothing_is_broken() -> None:
    found = broken_rules(pd.DataFrame({"a": [1.0, 2.0]}), [])
    assert found.shape == (2, 0)
    assert not found.any(axis=1).any()


def recipe(**columns: float) -> pd.DataFrame:
    """10 wt% Ni, calcined at 700 degC for 4 h, not reduced, used at 700 degC, and what is said besides."""
    schema = RecipeSchema.load("drm")
    usual = {"Ni": 10.0, "Calcination T": 700.0, "Calcination time": 4.0, "Reaction T": 700.0}
    return pd.DataFrame([dict.fromkeys(schema.columns, 0.0) | usual | columns])


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({}, []),
        ({"Ni": 25.0}, ["Ni and Co at most 20 wt%"]),
        ({"Rh": 3.0, "Pt": 3.0}, ["noble metals at most 5 wt% in all", "at most one noble metal", "at most two active metals"]),
        ({"Pt": 1.0, "Ag": 1.0}, []),
        ({"Ce": 0.01}, ["each loading at least 0.05 wt%"]),
        ({"K": 4.0, "Li": 2.0}, ["K and Li at most 5 wt% in all"]),
        ({"Reduction T": 250.0, "Reduction time": 1.0}, ["reduction at 300 degC or above"]),
        ({"Reduction T": 960.0, "Reduction time": 20.0},
         ["reduction for at most 12 h", "reduction at most 250 K above the reaction"]),
        ({"Calcination T": 1050.0, "Calcination time": 0.1},
         ["calcination for 0.5 to 12 h", "calcination at most 300 K above the reaction"]),
        ({"Reduction T": 900.0, "Calcination T": 400.0}, ["reduction at most 450 K above calcination"]),
    ],
)  # fmt: skip
def test_rules_of_dry_reforming(columns: dict[str, float], names: list[str]) -> None:
    broken = broken_rules(recipe(**columns), feasibility_rules(RecipeSchema.load("drm")))
    assert broken.columns[broken.iloc[0]].tolist() == names


def test_every_built_in_rule_says_why_and_whence() -> None:
    for rule in feasibility_rules(RecipeSchema.load("drm")):
        assert rule.reason.endswith(".")
        assert rule.source
        assert rule.severity == "warning"


@pytest.mark.drm
@pytest.mark.slow
@pytest.mark.skipif("PYRO_HCVAE_DRM_CSV" not in os.environ, reason="PYRO_HCVAE_DRM_CSV is not set")
def test_rows_of_the_literature_table_keep_the_rules() -> None:
    table = RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm"))
    broken = broken_rules(table.frame, feasibility_rules(table.schema))
    assert (broken.mean() < 0.01).all()
    assert 0.96 <= 1 - broken.any(axis=1).mean() <= 0.97
