"""Formulas, assays, and what is said of a wrong table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyro_hcvae import InputError, RecipeSchema
from pyro_hcvae.chemistry.component_tables import find, is_weight_unit, weight_columns
from pyro_hcvae.chemistry.precursors import element_share, load_precursors, molar_mass

HEADER = "component,name,formula,assay_percent,assay_of,cas,element,solubility_g_per_100ml,solubility_of"


def own(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("formula", "mass"),
    [
        ("Ni(NO3)2(H2O)6", 290.79),
        ("Fe(NO3)3(H2O)9", 404.00),
        ("H2PtCl6(H2O)6", 517.89),
        ("LaNi0.5Fe0.5O3", 244.17),
        ("(NH4)6Mo7O24(H2O)4", 1235.9),
    ],
)
def test_molar_masses(formula: str, mass: float) -> None:
    assert molar_mass(formula) == pytest.approx(mass, abs=0.05)


@pytest.mark.parametrize(
    "formula",
    [
        "Ni(NO3)2.6H2O", "Ni(NO3)2·6H2O", "RuCl3.xH2O", "RuCl3.nH2O", "CuSO4*5H2O", "Ni(NO3)2 . 6 H2O", "Ni(NO3)2.(H2O)6",
        "ZrOCl2•8H2O",
    ],
)  # fmt: skip
def test_hydrate_water_behind_a_dot_is_refused(formula: str) -> None:
    # periodictable reads the first of them as 237.92 g/mol, without a word.
    with pytest.raises(InputError, match=re.escape("Ni(NO3)2(H2O)6")):
        molar_mass(formula)


@pytest.mark.parametrize("formula", ["", "Xx2O", "Ni(NO3", "RuCl3(H2O)x"])
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(formula))):
        molar_mass(formula)


def test_every_metal_of_the_built_in_schema_has_a_precursor_that_holds_it() -> None:
    columns = weight_columns(RecipeSchema.load("drm"))
    table = load_precursors()
    assert len(columns) == 23
    for column in columns:
        precursor = table.of(column)
        assert precursor is not None
        assert precursor.element == column
        assert 0 < precursor.metal_share <= element_share(precursor.formula, column) + 1e-9
        assert (precursor.solubility_g_per_100ml is None) == (not precursor.solubility_source)


def test_metal_shares() -> None:
    table = load_precursors()
    nickel, ruthenium = table.of("Ni"), table.of("Ru")
    assert nickel is not None
    assert ruthenium is not None
    assert nickel.metal_share == pytest.approx(58.6934 / 290.7914, rel=1e-4)
    assert ruthenium.metal_share == 0.40
    changed = table.with_assays({"Ni": 98, "Ru": 38})
    assert changed.precursors["Ni"].metal_share == pytest.approx(0.98 * nickel.metal_share)
    assert changed.precursors["Ru"].metal_share == 0.38
    assert changed.precursors["Ru"].assay_text == "38 % Ru"


@pytest.mark.parametrize(
    ("assays", "words"),
    [
        ({"Nii": 98.0}, "did you mean"),
        ({"Ni": 0.0}, "above 0 and at most 100"),
        ({"Ni": 101.0}, "above 0 and at most 100"),
        ({"Ru": 60.0}, "more Ru than RuCl3 can hold (48.7 %)"),
    ],
)
def test_assays_that_cannot_be(assays: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as error:
        load_precursors().with_assays(assays)
    assert "--assay" in str(error.value)


def test_own_rows_replace_and_extend_the_built_in_ones(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        "Ni,nickel(II) acetate tetrahydrate,Ni(C2H3O2)2(H2O)4,99,,6018-89-9,,,",
        "Zn (wt%),zinc nitrate hexahydrate,Zn(NO3)2(H2O)6,,,,,118,Zn(NO3)2",
        "Lanthanum,lanthanum oxide,La2O3,,,,La,,",
    )
    table = load_precursors(path)
    nickel, zinc = table.of("Ni"), table.of("Zn (wt%)")
    assert nickel is not None
    assert nickel.metal_share == pytest.approx(0.99 * 58.6934 / 248.84, rel=1e-3)
    assert zinc is not None
    assert zinc.element == "Zn"
    assert zinc.soluble_metal_g_per_ml == pytest.approx(1.18 * 65.38 / 189.39, rel=1e-3)
    assert table.precursors["Lanthanum"].element == "La"
    assert table.precursors["Co"] == load_precursors().precursors["Co"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Ni,nitrate,Ni(NO3)2.6H2O,,,,,,", ["row 2", "'formula'", "Ni(NO3)2.6H2O", "in brackets"]),
        ("Ni,nitrate,Co(NO3)2,,,,,,", ["row 2", "'formula'", "has no Ni"]),
        ("Ni,nitrate,,,,,,,", ["row 2", "'formula'", "may not be empty"]),
        ("Ni,,Ni(NO3)2,,,,,,", ["row 2", "'name'", "may not be empty"]),
        ("Nickel,nitrate,Ni(NO3)2,,,,,,", ["row 2", "'element'", "Nickel"]),
        ("Ni,nitrate,Ni(NO3)2,,,,Nn,,", ["row 2", "'element'", "'Nn'"]),
        ("Ni,nitrate,Ni(NO3)2,120,,,,,", ["row 2", "'assay_percent'", "'120'", "at most 100"]),
        ("Ni,nitrate,Ni(NO3)2,pure,,,,,", ["row 2", "'assay_percent'", "'pure'", "number"]),
        ("Ni,nitrate,Ni(NO3)2,50,metal,,,,", ["row 2", "'assay_percent'", "can hold (32.1 %)"]),
        ("Ni,nitrate,Ni(NO3)2,50,mass,,,,", ["row 2", "'assay_of'", "'mass'"]),
        ("Ni,nitrate,Ni(NO3)2,,,13478-00-8,,,", ["row 2", "'cas'", "check digit"]),
        ("Ni,nitrate,Ni(NO3)2,,,,,-4,", ["row 2", "'solubility_g_per_100ml'", "'-4'"]),
        ("Ni,nitrate,Ni(NO3)2,,,,,94,NiX", ["row 2", "'solubility_of'", "'NiX'"]),
        ("Ni,nitrate, pure,Ni(NO3)2,,,,,,", ["row 2 has 10 cells", "quotation marks"]),
        ("Ni,a,Ni(NO3)2,,,,,,\nNi,b,Ni(NO3)2,,,,,,", ["row 3", "'component'", "'Ni'", "remove one"]),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, words: list[str]) -> None:
    path = own(tmp_path, row)
    with pytest.raises(InputError) as error:
        load_precursors(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("component,name", "'formula' is missing"),
        ("component,name,formula,assay", "unknown column 'assay'; did you mean"),
        ("component,name,formula,name", "stand twice"),
        ("", "'component' is missing"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        load_precursors(own(tmp_path, header=header))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_precursors(tmp_path / "none.csv")
    with pytest.raises(InputError, match="folder"):
        load_precursors(tmp_path)
    (tmp_path / "latin.csv").write_bytes("component,name,formula\nNi,Säure,NiO".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        load_precursors(tmp_path / "latin.csv")


def test_semicolons_separate_too(tmp_path: Path) -> None:
    path = own(tmp_path, "Ni;nickel oxide, green;NiO", header="component;name;formula")
    assert load_precursors(path).precursors["Ni"].name == "nickel oxide, green"


def test_columns_are_found_by_name_or_element() -> None:
    rows = {"Ni": 1, "K2O": 2}
    assert [find(rows, c) for c in ("Ni", "Ni (wt%)", "Ni wt%", "Ni_wt%", "Ni [wt.%]", "K2O")] == [1, 1, 1, 1, 1, 2]
    assert [find(rows, c) for c in ("Ni (mol%)", "Nickel", "K", "Ni loading")] == [None] * 4
    assert [is_weight_unit(u) for u in ("wt%", "wt. %", "Mass %", "mol%", "g")] == [True, True, True, False, False]
