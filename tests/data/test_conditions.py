"""Conditions by name: what is asked for, what is assumed, and what is refused."""

from __future__ import annotations

import pandas as pd
import pytest

from pyro_hcvae.data.conditions import resolve_conditions
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError

DRM = RecipeSchema.load("drm")
EXPERIMENTS = pd.DataFrame(
    {
        "Reaction T": [600.0, 700.0, 800.0],
        "GHSV": [2.0, 4.0, 8.0],
        "Time on stream": [60.0, 120.0, 600.0],
        "Reaction CH4": [50.0, 20.0, 10.0],
        "Reaction CO2": [50.0, 20.0, 20.0],
        "Reaction Ar": [0.0, 60.0, 0.0],
        "Reaction N2": [0.0, 0.0, 0.0],
        "Reaction He": [0.0, 0.0, 70.0],
        "CH4 Conversion": [30.0, 60.0, 90.0],
    }
)


def resolve(target: float = 80.0, **settings: float):  # type: ignore[no-untyped-def]
    return resolve_conditions(DRM, EXPERIMENTS, settings, target)


def test_what_is_not_asked_for_is_typical_and_said_so() -> None:
    found = resolve(**{"Reaction T": 650.0})
    assert found.row["Reaction T"] == 650
    assert found.row["GHSV"] == 4
    assert found.row["CH4 Conversion"] == 80
    assert found.assumed == {"GHSV": 4.0, "Time on stream": 120.0, "CO2/CH4": 1.0, "Diluent": 60.0}
    assert sum(found.row[c] for c in DRM.feed.names()) == pytest.approx(100)  # type: ignore[union-attr]
    assert not found.warnings
    assert list(found.frame().columns) == [*DRM.condition_columns, "CH4 Conversion"]


def test_a_ratio_and_a_diluted_share_make_the_feed() -> None:
    row = resolve(**{"CO2/CH4": 3.0, "Diluent": 20.0}).row
    assert (row["Reaction CH4"], row["Reaction CO2"]) == pytest.approx((20.0, 60.0))
    assert row["Reaction Ar"] + row["Reaction N2"] + row["Reaction He"] == pytest.approx(20)


def test_a_diluent_by_name() -> None:
    row = resolve(**{"CO2/CH4": 1.0, "Reaction N2": 40.0}).row
    assert (row["Reaction CH4"], row["Reaction CO2"], row["Reaction N2"]) == pytest.approx((30.0, 30.0, 40.0))
    assert row["Reaction Ar"] == row["Reaction He"] == 0


def test_reactants_by_share_leave_the_rest_to_the_usual_diluent() -> None:
    row = resolve(**{"Reaction CH4": 10.0, "Reaction CO2": 10.0, "Reaction He": 30.0}).row
    assert row["Reaction He"] == 30
    assert row["Reaction Ar"] == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Reaction Temp": 700.0}, "did you mean 'Reaction T'"),
        ({"CH4 Conversion": 80.0}, "--target"),
        ({"Reaction T": float("nan")}, "not a finite number"),
        ({"Reaction T": 5000.0}, "must lie within 100 to 1400"),
        ({"GHSV": 0.0}, "GHSV"),
        ({"CO2/CH4": -1.0}, "above 0"),
        ({"CO2/CH4": 1.0, "Reaction CH4": 20.0}, "not both"),
        ({"Reaction CH4": 20.0}, "set Reaction CO2 too"),
        ({"Reaction CH4": 80.0, "Reaction CO2": 80.0}, "sums to 160"),
        ({"Diluent": 100.0}, "no room"),
        ({"Diluent": 10.0, "Reaction Ar": 30.0}, "less than the diluents"),
    ],
)
def test_what_is_impossible_is_refused_with_a_remedy(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(**settings)


def test_an_impossible_target_is_refused() -> None:
    with pytest.raises(InputError, match="CH4 Conversion = 120"):
        resolve(120.0)


def test_values_outside_of_the_table_are_named() -> None:
    found = resolve(**{"Reaction T": 900.0})
    assert found.warnings == ("Reaction T = 900 lies outside of the table (600 to 800)",)
