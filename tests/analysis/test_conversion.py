"""Equilibrium curves of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import RecipeSchema
from pyro_hcvae.analysis.conversion import equilibrium_curves
from tests.laboratories import tiny_table


def conditions(rows: int, **changed: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "Reaction T": np.linspace(500.0, 900.0, rows), "Reaction CH4": 50.0, "Reaction CO2": 50.0,
            "Reaction Ar": 0.0, "Reaction N2": 0.0, "Reaction He": 0.0,
        }
    )  # fmt: skip
    return frame.assign(**changed)


def test_curves_are_the_equilibrium_of_the_feed() -> None:
    curves = equilibrium_curves(RecipeSchema.load("drm"), conditions(300))
    assert curves is not None
    assert (curves["temperature"].iloc[0], curves["temperature"].iloc[-1]) == (500, 900)  # whichever rows are taken
    at = curves.iloc[(curves["temperature"] - 700).abs().argmin()]
    assert at["without carbon"] == pytest.approx(72.8, abs=0.1)
    assert at["with graphite"] == pytest.approx(91.0, abs=0.1)
    assert at["without carbon low"] == pytest.approx(at["without carbon high"])  # one feed only


def test_other_feeds_make_a_band() -> None:
    curves = equilibrium_curves(
        RecipeSchema.load("drm"), conditions(100, **{"Reaction CO2": np.tile([25.0, 150.0], 50)})
    )
    assert curves is not None
    assert (curves["without carbon high"] > curves["without carbon low"] + 5).any()


def test_without_a_reaction_there_is_no_curve() -> None:
    table = tiny_table()
    assert equilibrium_curves(table.schema, table.frame) is None
    assert equilibrium_curves(RecipeSchema.load("drm"), conditions(3).iloc[:0]) is None
    nothing = conditions(3, **{"Reaction CH4": 0.0, "Reaction CO2": 0.0, "Reaction Ar": 100.0})
    assert equilibrium_curves(RecipeSchema.load("drm"), nothing) is None
