"""Feasibility rules, each on rows on either side of its limit."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.chemistry.rules import FeasibilityRule, broken_rules, feasibility_rules
from pyro_hcvae.data.rule_base import Where
from pyro_hcvae.data.rules import Caps, Count, Ordering, Range, Sum
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.tabled_rules import Observed, Sintering

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
    (
        Caps(name="own caps", limits={"a": 15.6, "b": 3.3}),
        [(15.6, 3.3), (15.7, 0.0), (0.0, 3.4), (NAN, 3.0), (NAN, 4.0)],
        [False, True, True, False, True],
    ),
    (
        Range(name="heat where b is present", columns=("a",), maximum=900.0, where=(Where(columns=("b",)),)),
        [(900.0, 1.0), (905.0, 0.01), (905.0, 0.0), (905.0, NAN), (NAN, 1.0)],
        [False, True, False, False, False],
    ),
    (
        Range(
            name="cold where hot and b",
            columns=("a",),
            minimum=750.0,
            where=(Where(columns=("b",)), Where(columns=("a", "b"), above=700.0)),
        ),
        [(720.0, 1.0), (700.0, 1.0), (720.0, 0.0), (750.0, 1.0), (0.0, 800.0)],
        [True, False, False, False, True],
    ),
    (
        Sintering(name="half of 1728 K", columns=("a",), temperatures=("b",), melting_points_k={"a": 1728.0}),
        [(5.0, 590.0), (5.0, 591.0), (0.0, 800.0), (NAN, 800.0), (5.0, NAN)],
        [False, True, False, False, False],
    ),
    (
        Observed(
            name="range of a", columns=("a",), numbers=("b",), unless=0.0, ranges={"a": {"b": (500.0, 700.0, 12)}}
        ),
        [(1.0, 500.0), (1.0, 700.0), (1.0, 499.0), (0.1, 705.0), (0.0, 900.0), (1.0, 0.0), (1.0, NAN)],
        [False, False, True, True, False, False, False],
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


def test_sintering_speaks_of_metals_with_a_melting_point_and_counts_kelvin() -> None:
    rule = Sintering(
        name="s", columns=("Cu", "Ni", "X"), temperatures=("red", "T"), melting_points_k={"Cu": 1357.77, "Ni": 1728.0}
    )
    frame = pd.DataFrame(
        [(0, 5, 0, 0, 750), (1, 5, 0, 800, 750), (0, 0, 9, 800, 900), (0, 5, 0, 0, 500), (0, 5, 0, NAN, 750)],
        columns=["Cu", "Ni", "X", "red", "T"],
    )
    assert rule.severity == "note"
    assert rule.broken(frame).tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(rule.degree(frame), [1.5915, 3.94265, 0, 0, 1.5915], rtol=1e-9)
    assert rule.evidence(frame[:2], {}) == [
        "Ni at 750 degC is 159 K above 0.5 Tm, 591 degC",
        "Cu at 800 degC is 394 K above 0.5 Tm, 406 degC; Ni at 800 degC is 209 K above 0.5 Tm, 591 degC",
    ]
    kelvin = rule.model_copy(update={"unit": "K"})
    assert kelvin.broken(frame.add([0, 0, 0, 273.15, 273.15])).tolist() == [True, True, False, False, True]
    assert not rule.model_copy(update={"melting_points_k": {}}).broken(frame).any()


def test_what_was_observed_is_read_from_a_table() -> None:
    rule = Observed(name="o", columns=("X", "Y"), numbers=("T", "red"), minimum_rows=3, unless=0.0)
    table = pd.DataFrame(
        [(1, 0, 500, 0), (0.2, 0.8, 700, 400), (1, 0, 600, 0), (0, 1, 900, 450), (1, 0, NAN, 400)],
        columns=["X", "Y", "T", "red"],
    )
    fitted = rule.fit(table)
    assert fitted.ranges == {"X": {"T": (500.0, 700.0, 3)}}  # Y: two rows; red: done in two rows with X
    assert not fitted.broken(table).any()
    assert not rule.broken(table).any()
    hot = pd.DataFrame([(0.5, 0.5, 705, 999)], columns=["X", "Y", "T", "red"])
    assert fitted.evidence(hot, {"T": "degC"}) == ["T 705 degC was not observed: 500 to 700 in the 3 rows with X"]


def test_dropped_columns_leave_the_rules() -> None:
    heat = Range(name="r", columns=("T",), maximum=1.0, where=(Where(columns=("X", "Y")), Where(columns=("Ni",))))
    assert heat.names() == ("T", "X", "Y", "Ni")
    less = heat.without({"X"})
    assert less is not None and less.names() == ("T", "Y", "Ni")
    assert heat.without({"Ni"}) is None
    caps = Caps(name="c", limits={"Ni": 1.0, "Co": 2.0})
    assert caps.without({"Ni"}) == Caps(name="c", limits={"Co": 2.0})
    assert caps.without({"Ni", "Co"}) is None


def recipe(**columns: float) -> pd.DataFrame:
    """10 wt% Ni on MgO, calcined at 700 degC for 4 h, not reduced, used at 700 degC, and what is said besides."""
    schema = RecipeSchema.load("drm")
    usual = {"Ni": 10.0, "MgO": 1.0, "Calcination T": 700.0, "Calcination time": 4.0, "Reaction T": 700.0}
    reduced = {"Reduction H2": 10.0} if "Reduction T" in columns else {}
    return pd.DataFrame([dict.fromkeys(schema.columns, 0.0) | usual | reduced | columns])


def counted() -> list[FeasibilityRule]:
    """Rules that count where it is measured how many recipes keep them."""
    return [rule for rule in feasibility_rules(RecipeSchema.load("drm")) if not rule.advice]


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
    broken = broken_rules(recipe(**columns), counted())
    assert broken.columns[broken.iloc[0]].tolist() == names


def test_every_built_in_rule_says_why_and_whence() -> None:
    for rule in feasibility_rules(RecipeSchema.load("drm")):
        assert rule.reason.endswith(".")
        assert rule.source
        assert rule.severity != "hard"


@pytest.mark.drm
@pytest.mark.slow
@pytest.mark.skipif("PYRO_HCVAE_DRM_CSV" not in os.environ, reason="PYRO_HCVAE_DRM_CSV is not set")
def test_rows_of_the_literature_table_keep_the_rules() -> None:
    table = RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm"))
    broken = broken_rules(table.frame, counted())
    assert (broken.mean() < 0.01).all()
    assert 0.96 <= 1 - broken.any(axis=1).mean() <= 0.97


@pytest.mark.drm
@pytest.mark.skipif("PYRO_HCVAE_DRM_CSV" not in os.environ, reason="PYRO_HCVAE_DRM_CSV is not set")
def test_caps_are_those_of_the_literature_table() -> None:
    table = RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm"))
    recipes = table.frame[~pd.Series(table.recipe_ids()).duplicated().to_numpy()]
    usual, largest = (rule for rule in table.schema.rules if isinstance(rule, Caps))
    assert usual.limits.keys() == largest.limits.keys()
    for metal, limit in usual.limits.items():
        amounts = recipes[metal][recipes[metal] > 0]
        assert limit == pytest.approx(amounts.quantile(0.95), abs=0.051)
        assert amounts.max() <= largest.limits[metal] <= amounts.max() + 0.051


ADVICE = "metals below their Tammann temperature"
INACTIVE = "a metal of groups 8 to 10"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"Reaction T": 590.0}, []),
        ({}, [ADVICE]),
        ({"Ni": 15.7}, ["each metal within 95 % of the recipes with it", ADVICE]),
        ({"Ni": 0.0, "La": 14.6},
         [INACTIVE, "each metal within 95 % of the recipes with it", "each metal within all recipes with it"]),
        ({"Zr": 10.5}, ["metals at most 20 wt% in all", ADVICE]),
        ({"Ni": 0.0, "Pt": 1.0, "Rh": 1.1}, ["noble metals at most 2 wt% in all"]),
        ({"Al2O3_Gamma": 1.0, "Reaction T": 905.0}, ["gamma-alumina at most at 900 degC", ADVICE]),
        ({"Al2O3_Alpha": 1.0, "Reaction T": 1105.0}, [ADVICE]),
        ({"Al2O3_Gamma": 0.1, "Ni": 0.0, "Reduction T": 1105.0},
         [INACTIVE, "gamma-alumina at most at 900 degC", "gamma-alumina at most at 1100 degC"]),
        ({"Al2O3_Gamma": 1.0, "Calcination T": 705.0}, ["nickel aluminate reduced at 750 degC or above", ADVICE]),
        ({"Al2O3_Gamma": 1.0, "Calcination T": 705.0, "Reduction T": 750.0}, [ADVICE]),
        ({"Al2O3_Gamma": 1.0, "Calcination T": 700.0}, [ADVICE]),
        ({"MgO": 1.0, "Calcination T": 900.0}, [ADVICE]),
        ({"TiO2": 1.0, "Ni": 0.0}, [INACTIVE, "titania at most at 600 degC"]),
        ({"TiO2": 1.0, "Ni": 0.0, "Calcination T": 600.0, "Reaction T": 600.0}, [INACTIVE]),
        ({"SBA-15": 1.0, "Ni": 0.0, "Calcination T": 805.0}, [INACTIVE, "mesoporous silica at most at 800 degC"]),
        ({"MCM-41": 1.0, "Ni": 0.0, "Reduction T": 805.0}, [INACTIVE, "mesoporous silica at most at 800 degC"]),
        ({"ZSM-5": 1.0, "Ni": 0.0, "Reaction T": 850.0}, [INACTIVE]),
        ({"H-ZSM-5": 1.0, "Ni": 0.0, "Reaction T": 855.0}, [INACTIVE, "zeolites at most at 850 degC"]),
        ({"Ni": 0.0, "Ag": 1.0}, [INACTIVE]),
        ({"Ni": 0.0, "Cu": 1.0, "Reaction T": 400.0}, [INACTIVE]),
        ({"Ni": 0.0, "Ce": 1.0, "CoOx": 1.0, "MgO": 0.0}, []),
        ({"Ni": 0.0, "LaNi0.8Zn0.2O3": 1.0, "MgO": 0.0}, []),
        ({"Ni": 0.0, "LaMnO3": 1.0, "MgO": 0.0}, [INACTIVE]),
        ({"Ni": 0.0, "Ru": 1.0, "Reaction T": 1029.0}, []),
        ({"Ni": 0.0, "Rh": 1.0, "MgO": 0.0}, ["a support, if metals are given in wt%"]),
        ({"Ni": 0.0, "Rh": 1.0, "Reduction T": 700.0, "Reduction H2": 0.0}, ["reduction in hydrogen"]),
    ],
)  # fmt: skip
def test_advice_on_dry_reforming(columns: dict[str, float], names: list[str]) -> None:
    schema = RecipeSchema.load("drm")
    broken = broken_rules(recipe(**columns), [rule for rule in feasibility_rules(schema) if rule.advice])
    assert sorted(broken.columns[broken.iloc[0]]) == sorted(names)
