"""The table of components, against the built-in schemas and known melting points."""

from __future__ import annotations

import pytest

from pyro_hcvae.chemistry.compounds import compound, compounds
from pyro_hcvae.data.schema import RecipeSchema, builtin_schemas

FAMILIES = {
    "metal", "gamma-alumina", "alumina", "silica", "mesoporous silica", "zeolite", "titania", "ceria", "zirconia",
    "perovskite", "spinel", "nitride", "other oxide",
}  # fmt: skip


@pytest.mark.parametrize("name", builtin_schemas())
def test_every_label_of_a_built_in_schema_is_known(name: str) -> None:
    assert [column for column in RecipeSchema.load(name).component_columns if compound(column) is None] == []


def test_every_row_says_what_it_is_and_how_it_is_known() -> None:
    for found in compounds().values():
        assert found.family in FAMILIES
        assert found.source
        assert (found.melting_point_k is not None) == (found.family == "metal")
        assert found.formula or "no formula" in found.source


@pytest.mark.parametrize(
    ("label", "formula", "family"),
    [
        ("Al2O3_Gamma", "Al2O3", "gamma-alumina"),
        ("SBA-15", "SiO2", "mesoporous silica"),
        ("MCM-41", "SiO2", "mesoporous silica"),
        ("ZSM-5", None, "zeolite"),
        ("H-ZSM-5", None, "zeolite"),
        ("MgAlOx", None, "other oxide"),
        ("CoOx", None, "other oxide"),
        ("MgAl2O4(nanocry)", "MgAl2O4", "spinel"),
        ("nanocrystalline_ZrO2", "ZrO2", "zirconia"),
        ("MgO_Nanocrystalline", "MgO", "other oxide"),
        ("La2Ni0.5F0.5O4", None, "perovskite"),
    ],
)
def test_labels_that_are_no_formulas(label: str, formula: str | None, family: str) -> None:
    found = compound(label)
    assert found is not None
    assert (found.formula, found.family) == (formula, family)


def test_formulas_are_formulas() -> None:
    periodictable = pytest.importorskip("periodictable")
    masses = {c.label: periodictable.formula(c.formula).mass for c in compounds().values() if c.formula}
    assert masses["Ni"] == pytest.approx(58.693, abs=0.01)
    assert masses["Al2O3_Gamma"] == masses["Al2O3_Alpha"] == pytest.approx(101.961, abs=0.01)
    assert masses["LaNi0.8Zn0.2O3"] == pytest.approx(138.905 + 0.8 * 58.693 + 0.2 * 65.38 + 3 * 15.999, abs=0.02)


@pytest.mark.parametrize(
    ("metal", "tammann_c"),
    [("Ni", 591), ("Co", 611), ("Fe", 632), ("Cu", 406), ("Pd", 641), ("Pt", 748), ("Rh", 845), ("Ru", 1030), ("Ir", 1086),
     ("Ag", 344), ("Au", 396)],
)  # fmt: skip
def test_half_of_the_melting_point(metal: str, tammann_c: float) -> None:
    found = compound(metal)
    assert found is not None and found.melting_point_k is not None
    assert round(0.5 * found.melting_point_k - 273.15) == tammann_c


@pytest.mark.parametrize(
    ("column", "label"), [("Ni (wt%)", "Ni"), ("Ni [wt%]", "Ni"), ("MgAl2O4(nanocry)", "MgAl2O4(nanocry)")]
)
def test_a_unit_may_follow_the_label(column: str, label: str) -> None:
    found = compound(column)
    assert found is not None and found.label == label


@pytest.mark.parametrize("column", ["", "Ni2", "ni", "MgAl2O4", "NiO (wt%)"])
def test_what_is_not_in_the_table_is_unknown(column: str) -> None:
    assert compound(column) is None
