"""What breaks a rule of the schema is learned less, unless the settings or the rule say otherwise."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from tests.laboratories import SMALL, TINY_TOML, tiny_frame

RULE = """
[[rules]]
name = "no A"
kind = "range"
columns = ["A"]
maximum = 0.0
advice = {}
reason = "For this test."
source = "none"
"""
"""Two of five tiny recipes break it."""


@cache
def share_with_a(weight: float, rule: str = RULE.format("false")) -> float:
    """Share of A in the draws of a short training."""
    table = RecipeTable.from_frame(tiny_frame(), RecipeSchema.from_toml(TINY_TOML + rule), source="tiny")
    train = TrainConfig(
        members=2, steps=150, batch_size=32, learning_rate=5e-3, broken_rule_weight=weight, refit=False, compile="never"
    )
    designer = RecipeDesigner(table.schema, model=SMALL, train=train).fit(table)
    draws = pd.concat(designer.sample(table.frame.iloc[::3], 40, seed=0))
    return float((draws["A"] > 0).mean())


def test_what_breaks_a_rule_is_drawn_as_often_as_it_counts() -> None:
    real = np.mean(tiny_frame()["A"] > 0)
    # Those that keep it count ten times as much.
    wanted = 0.1 * real / (0.1 * real + 1 - real)
    assert share_with_a(1.0) == pytest.approx(real, abs=0.1)
    assert share_with_a(0.1) == pytest.approx(wanted, abs=0.05)


def test_a_weight_of_1_advice_and_no_rule_change_nothing() -> None:
    assert share_with_a(1.0) == share_with_a(0.1, RULE.format("true")) == share_with_a(0.1, "")
