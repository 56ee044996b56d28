"""Verdicts: levels, remedies that work, and schemas that declare their reaction or do not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import RecipeSchema, RecipeTable
from pyro_hcvae.chemistry.equilibrium import INERT, equilibrium
from pyro_hcvae.chemistry.verdicts import judge, verdict
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.errors import InputError
from tests.laboratories import tiny_frame, tiny_schema

EQUIMOLAR = {"CH4": 1.0, "CO2": 1.0}


def test_levels_stand_at_the_two_equilibria():
    free, limited = (100 * equilibrium(700, EQUIMOLAR, carbon=carbon).conversion() for carbon in (False, True))
    asked = [1.0, free - 0.01, free + 0.01, limited - 0.01, limited + 1.99, limited + 2.01, 100.0]
    found = verdict(asked, 700, EQUIMOLAR)
    assert [v.level for v in found] == ["green", "green", "amber", "amber", "amber", "red", "red"]
    assert [v.without_carbon_pct for v in found] == pytest.approx([72.8] * 7, abs=0.1)
    assert [v.with_carbon_pct for v in found] == pytest.approx([91.0] * 7, abs=0.1)
    assert "within the equilibrium of 72.8 %" in found[0].reason
    assert "needs net carbon formation" in found[2].reason
    assert "2 points" in found[4].reason
    assert "no catalyst" in found[5].reason
    assert "no temperature from 200 to 1000 degC" in found[6].reason
    assert np.isnan(found[6].reachable_c)


def test_where_carbon_cannot_form_there_is_one_equilibrium():
    [close, far] = verdict([49.0, 60.0], 700, {"CH4": 1, "H2O": 3}, 20.0)
    assert (close.level, far.level) == ("amber", "red")
    assert "carbon" not in close.reason.split(".")[0]
    assert "even with" not in far.reason
    assert close.carbon_activity < 1
    assert close.carbon_risk == far.carbon_risk == ""
    assert np.isnan([close.carbon_free_c, close.carbon_free_ratio]).all()


def test_the_temperature_that_is_named_reaches_the_target():
    temperatures = [500.0, 600.0, 700.0]
    for found in verdict(80.0, temperatures, EQUIMOLAR, 3.0):
        at = 100 * equilibrium(found.reachable_c, EQUIMOLAR, 3.0, carbon=False).conversion()
        assert at == pytest.approx(80.0, abs=0.01)
        assert f"reachable at {np.ceil(found.reachable_c):.0f} degC" in found.reason


def test_remedies_remove_the_risk_and_nothing_less_does():
    feed = {"CH4": 30.0, "CO2": 45.0, INERT: 25.0}
    [found] = verdict(80.0, 650.0, feed)
    assert found.carbon_activity > 1

    def activity(temperature, ratio):
        changed = {"CH4": 75 / (1 + ratio), "CO2": 75 * ratio / (1 + ratio), INERT: 25.0}
        return float(equilibrium(temperature, changed, carbon=False).carbon_activity)

    assert activity(found.carbon_free_c, 1.5) <= 1 < activity(found.carbon_free_c - 1, 1.5)
    assert activity(650, found.carbon_free_ratio) <= 1 < activity(650, found.carbon_free_ratio - 0.01)
    assert f"{np.ceil(found.carbon_free_c):.0f} degC" in found.carbon_risk
    assert "CO2/CH4" in found.carbon_risk
    [hopeless] = verdict(30.0, 500.0, EQUIMOLAR)
    assert np.isnan([hopeless.carbon_free_c, hopeless.carbon_free_ratio]).all()
    assert "Neither" in hopeless.carbon_risk


def test_pure_methane_has_an_infinite_activity():
    [found] = verdict(50.0, 700.0, {"CH4": 1.0})
    assert found.level == "amber"
    assert "infinite" in found.carbon_risk
    assert found.carbon_free_ratio > 1


def test_many_rows_are_judged_like_single_ones():
    rng = np.random.default_rng(0)
    t, x, p = rng.uniform(400, 900, 8), rng.uniform(1, 99, 8), rng.uniform(0.5, 20, 8)
    feed = {"CH4": rng.uniform(0.1, 1, 8), "CO2": rng.uniform(0.1, 1, 8), INERT: rng.uniform(0, 5, 8)}
    together = verdict(x, t, feed, p)
    alone = [verdict(x[i], t[i], {k: v[i] for k, v in feed.items()}, p[i])[0] for i in range(8)]
    assert [v.reason for v in together] == [v.reason for v in alone]
    assert [v.carbon_risk for v in together] == [v.carbon_risk for v in alone]


def test_a_schema_that_declares_its_reaction_is_judged():
    schema = RecipeSchema.load("drm")
    table = RecipeTable.from_frame(VirtualLab().experiments(recipes=10, seed=0), schema, source="virtual")
    measured = table.frame[schema.performance.name]
    found = judge(schema, table.frame, measured)
    assert found is not None
    assert len(found) == len(table.frame)
    assert [v.target_pct for v in found] == measured.tolist()
    assert np.mean([v.level == "red" for v in found]) < 0.05
    asked = judge(schema, table.frame.head(1), 70.0)
    assert asked is not None
    assert asked[0].without_carbon_pct == pytest.approx(found[0].without_carbon_pct)


def test_other_schemas_are_not_judged():
    assert judge(tiny_schema(), tiny_frame(), 50.0) is None


STEAM = """
name = "reforming"
[[stages]]
name = "metal"
blocks = [{ kind = "amounts", name = "metals", columns = ["Ni"] }]
[[conditions]]
name = "T"
unit = "°C"
[[conditions]]
name = "p"
unit = "bar"
[feed]
reactants = ["methane", "steam"]
diluents = ["N2"]
ratios = ["S/C"]
[performance]
name = "X"
unit = "%"
[reaction]
temperature = "T"
species = { CH4 = "methane", H2O = "steam" }
inert = ["N2"]
pressure = "p"
"""


def test_pressure_may_be_a_column_in_bar():
    schema = RecipeSchema.from_toml(STEAM)
    frame = pd.DataFrame({"T": [750.0, 800.0], "p": [1.01325, 20.265], "methane": 20.0, "steam": 60.0, "N2": 20.0})
    found = judge(schema, frame, 80.0)
    state = equilibrium([750, 800], {"CH4": 2, "H2O": 6, INERT: 2}, [1.0, 20.0], carbon=False)
    assert found is not None
    assert [v.without_carbon_pct for v in found] == pytest.approx(list(100 * state.conversion()))
    with pytest.raises(InputError, match="'p'"):
        judge(schema, frame.drop(columns="p"), 80.0)
    with pytest.raises(InputError, match="row 2 of 2: temperature 2000 degC"):
        judge(schema, frame.assign(T=[750.0, 2000.0]), 80.0)


@pytest.mark.drm
@pytest.mark.skipif("PYRO_HCVAE_DRM_CSV" not in os.environ, reason="PYRO_HCVAE_DRM_CSV does not name the table")
def test_the_literature_table_is_as_it_was_found():
    schema = RecipeSchema.load("drm")
    frame = RecipeTable.read(Path(os.environ["PYRO_HCVAE_DRM_CSV"]), schema).frame
    feed = {"CH4": frame["Reaction CH4"], "CO2": frame["Reaction CO2"]}
    feed[INERT] = frame[["Reaction Ar", "Reaction N2", "Reaction He"]].sum(axis=1)
    free, limited = (equilibrium(frame["Reaction T"], feed, carbon=carbon) for carbon in (False, True))
    measured = frame["CH4 Conversion"].to_numpy() / 100
    assert (measured > free.conversion()).mean() == pytest.approx(0.258, abs=5e-4)
    assert (measured > limited.conversion()).mean() == pytest.approx(0.027, abs=5e-4)
    assert (measured > limited.conversion() + 0.05).sum() == 2
    assert (free.carbon_activity > 1).mean() == pytest.approx(0.993, abs=5e-4)
    some = frame.iloc[::50]
    found = judge(schema, some, some["CH4 Conversion"])
    assert found is not None
    assert [v.level == "green" for v in found] == (measured <= free.conversion())[::50].tolist()
