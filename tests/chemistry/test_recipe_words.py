"""Recipes in words: a composition, a treatment, and a stage in brief."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae.chemistry.recipe_words import brief, composition, treatment
from pyro_hcvae.data.schema import RecipeSchema
from tests.laboratories import tiny_schema

RECIPE = dict.fromkeys("ABCXYZ", 0.0) | {"A": 5.0, "C": 0.25, "X": 0.8, "Y": 0.2, "Method": "wet"}
REDUCED = {"Red T": 500.0, "Red H2": 10.0}
NOT_REDUCED = {"Red T": 0.0, "Red H2": 0.0}
STAGES = tiny_schema().stages


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ["5 wt% A, 0.25 wt% C", "0.8 X + 0.2 Y", "Method wet; reduction 500 degC, 10 %"]),
        ({"A": 0.0, "C": 0.0}, ["no metals", "0.8 X + 0.2 Y", "Method wet; reduction 500 degC, 10 %"]),
        ({"X": 0.0, "Y": 1.0}, ["5 wt% A, 0.25 wt% C", "Y", "Method wet; reduction 500 degC, 10 %"]),
        ({"X": 0.0, "Y": 0.0}, ["5 wt% A, 0.25 wt% C", "no supports", "Method wet; reduction 500 degC, 10 %"]),
        ({"Red H2": 0.0}, ["5 wt% A, 0.25 wt% C", "0.8 X + 0.2 Y", "Method wet; reduction 500 degC, in inert gas"]),
        (NOT_REDUCED, ["5 wt% A, 0.25 wt% C", "0.8 X + 0.2 Y", "Method wet; no reduction"]),
    ],
)
def test_a_stage_in_brief(changed: dict[str, float], words: list[str]) -> None:
    assert [brief(stage, {**RECIPE, **REDUCED, **changed}) for stage in STAGES] == words


def test_codes_are_named_where_the_schema_names_them() -> None:
    preparation = RecipeSchema.load("drm").blocks[2]
    labelled = preparation.model_copy(update={"labels": {"7": "incipient wetness"}})
    assert treatment(labelled, {preparation.column: 7}) == f"{preparation.name}: incipient wetness"
    assert treatment(preparation.model_copy(update={"labels": {}}), {preparation.column: 7}).endswith(": 7")


def test_composition_and_treatment() -> None:
    schema = tiny_schema()
    assert composition(RECIPE, schema) == "5 wt% A, 0.25 wt% C on 0.8 X + 0.2 Y"
    assert composition(dict.fromkeys("ABCXYZ", 0.0), schema) == "no metal on no support"
    reduction = schema.blocks[-1]
    assert treatment(reduction, REDUCED) == "reduction: Red T 500 degC, Red H2 10 %"
    assert treatment(reduction, NOT_REDUCED) == "reduction: none"
    assert treatment(reduction, {"Red T": 500.0, "Red H2": np.nan}) == "reduction: Red T 500 degC, Red H2 not given"
    assert treatment(reduction, {"Red T": np.nan}) == "reduction: not given"
    assert treatment(schema.blocks[0], RECIPE) == ""
