"""Cost of the metals: linear in wt%, dated, and never silently zero."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeSchema
from pyro_hcvae.chemistry.component_tables import weight_columns
from pyro_hcvae.chemistry.prices import cost_per_wt_percent, load_prices, metal_cost
from tests.laboratories import tiny_schema

DRM = RecipeSchema.load("drm")


def recipes(*rows: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(weight_columns(DRM))).fillna(0.0)


def own(folder: Path, text: str) -> Path:
    path = folder / "prices.csv"
    path.write_text(text)
    return path


def test_every_metal_of_the_built_in_schema_has_a_dated_price() -> None:
    prices = load_prices()
    for column in weight_columns(DRM):
        price = prices.of(column)
        assert price is not None
        assert price.usd_per_kg > 0
        assert re.fullmatch(r"\d{4}-\d\d", price.date)
        assert price.source


def test_cost_is_the_sum_of_price_times_share() -> None:
    cost = metal_cost(recipes({"Ni": 10.0}, {"Ni": 5.0, "Ru": 0.5}, {}), DRM, load_prices())
    assert cost == pytest.approx([1.39, 0.695 + 52.0, 0.0])


def test_weights_give_the_same_cost_as_a_linear_form() -> None:
    frame = recipes({"Co": 3.0, "Pt": 1.0}, {"La": 2.0, "Rh": 0.25})
    weights = cost_per_wt_percent(DRM, load_prices())
    assert list(weights) == list(weight_columns(DRM))
    by_hand = sum(weights[c] * frame[c].to_numpy() for c in weights)
    assert metal_cost(frame, DRM, load_prices()) == pytest.approx(by_hand)


def test_a_component_without_price_is_an_error_only_where_it_is_present(tmp_path: Path) -> None:
    schema = tiny_schema()
    path = own(tmp_path, "component,price_usd_per_kg,date,source\nA,50,2026-03,list\nB,0,2026-03-31,given\n")
    prices = load_prices(path)
    weights = cost_per_wt_percent(schema, prices)
    assert (weights["A"], weights["B"]) == (0.5, 0.0)
    assert np.isnan(weights["C"])
    frame = pd.DataFrame({"A": [2.0, 4.0], "B": [1.0, 0.0], "C": [0.0, 0.0]})
    assert metal_cost(frame, schema, prices) == pytest.approx([1.0, 2.0])
    with pytest.raises(InputError, match="no price for C") as error:
        metal_cost(frame.assign(C=[0.0, 0.1]), schema, prices)
    assert "--prices" in str(error.value)


def test_own_prices_replace_rows_and_keep_the_others(tmp_path: Path) -> None:
    path = own(tmp_path, "component;price_usd_per_kg;date;source\nNi;15.2;2026-03-31;exchange\n")
    prices = load_prices(path)
    nickel = prices.of("Ni")
    assert nickel is not None
    assert (nickel.usd_per_kg, nickel.source) == (15.2, "exchange")
    assert prices.of("Ru") == load_prices().of("Ru")
    assert prices.dates(["Ni", "Ru", "nothing"]) == "2024-12, 2026-03-31"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Ni,cheap,2026,me", ["row 2", "'price_usd_per_kg'", "'cheap'"]),
        ("Ni,-1,2026,me", ["row 2", "'price_usd_per_kg'", "'-1'"]),
        ("Ni,nan,2026,me", ["row 2", "'price_usd_per_kg'", "'nan'"]),
        ("Ni,1,31.3.2026,me", ["row 2", "'date'", "'31.3.2026'", "2026-03-31"]),
        ("Ni,1,2026-13,me", ["row 2", "'date'", "'2026-13'"]),
        ("Ni,1,2026,", ["row 2", "'source'", "may not be empty"]),
        (",1,2026,me", ["row 2", "'component'", "may not be empty"]),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, words: list[str]) -> None:
    path = own(tmp_path, f"component,price_usd_per_kg,date,source\n{row}\n")
    with pytest.raises(InputError) as error:
        load_prices(path)
    for word in [str(path), *words]:
        assert word in str(error.value)
