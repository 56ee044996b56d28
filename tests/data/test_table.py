"""`RecipeTable`: every problem of a table is a finding that names row, column, value and remedy."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from pyro_hcvae.data.reading import ReadOptions
from pyro_hcvae.data.schema import Fractions, RecipeSchema
from pyro_hcvae.data.table import PROPOSAL_PREFIX, RecipeTable, row_groups
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK, schemas_with_frames

SCHEMA = RecipeSchema.from_toml("""
name = "lab"
identifiers = ["No."]
laboratory = ["T", "CH4"]
stages = [
  { name = "metal", blocks = [
    { kind = "amounts", name = "metals", columns = ["Ni", "Co", "Pt"], max_present = 2, max_total = 30.0 } ] },
  { name = "support", blocks = [
    { kind = "fractions", name = "supports", total = 100.0, may_be_empty = true, columns = [
      "Al2O3", "MgO", "SiO2"] } ] },
  { name = "pretreatment", blocks = [
    { kind = "category", name = "method", column = "Method", codes = [1, 2, 3] },
    { kind = "category", name = "gas", column = "Gas", codes = ["air", "N2", "None"] },
    { kind = "step", name = "calcination", columns = [
      { name = "Calc T", unit = "K", minimum = 293.0, maximum = 1700.0 }, { name = "Calc t", transform = "log" } ] },
    { kind = "step", name = "reduction", optional = true, columns = [
      { name = "Red T", unit = "K", minimum = 293.0 }, { name = "Red t", transform = "log", minimum = 0.1 },
      { name = "Red H2", minimum = 0.1, maximum = 100.0, zero_means = "inert gas" } ] } ] },
]
feed = { reactants = ["CH4", "CO2"], diluents = ["N2 feed"], ratios = ["CO2/CH4"] }
conditions = [
  { name = "T", unit = "K", minimum = 300.0, typical = [700.0, 1200.0] }, { name = "W/F", transform = "log" },
]
performance = { name = "Yield", unit = "%", minimum = 0.0, maximum = 100.0 }
""")
GOOD = {
    "No.": "a", "Ni": 5.0, "Co": 0.0, "Pt": 0.5, "Al2O3": 100.0, "MgO": 0.0, "SiO2": 0.0, "Method": 1, "Gas": "air",
    "Calc T": 773.0, "Calc t": 4.0, "Red T": 973.0, "Red t": 2.0, "Red H2": 50.0, "CH4": 20.0, "CO2": 30.0,
    "N2 feed": 50.0, "T": 973.0, "W/F": 4.0, "Yield": 55.0,
}  # fmt: skip


def rows(*changes):
    """A frame as a file gives it: the usual row, changed in some cells; rows count from 2."""
    frame = pd.DataFrame([GOOD | change for change in changes])
    frame.index = pd.RangeIndex(2, 2 + len(frame))
    return frame


def read(*changes, schema=SCHEMA, **options):
    return RecipeTable.from_frame(rows(*changes), schema, source="lab.csv", **options)


def refusal(frame, **options):
    with pytest.raises(InputError) as caught:
        RecipeTable.from_frame(frame, SCHEMA, source="lab.csv", **options)
    return str(caught.value)


def places(table, code):
    """Cells of the one finding of a kind."""
    (finding,) = table.report.find(code)
    return [(cell.row, cell.column, cell.value) for cell in finding.cells]


def test_a_clean_table_has_no_finding_but_what_never_occurs():
    table = read({}, {"Ni": 3.0})
    assert {f.code for f in table.report.findings} == {"never-occurs"}
    assert [cell.column for f in table.report.find("never-occurs") for cell in f.cells] == ["Co", "MgO", "SiO2"]
    assert tuple(table.frame.columns) == SCHEMA.columns
    assert table.header == tuple(GOOD)
    assert table.frame.index.tolist() == [2, 3]
    assert len(table) == table.report.rows_read == table.report.rows_kept == 2
    assert table.report.facts["recipes"] == 2
    assert table.report.facts["laboratories"] == 1


@pytest.mark.parametrize(
    ("column", "value", "code", "shown", "remedy"),
    [
        ("Ni", "abc", "text", "abc", "Write a number"),
        ("Ni", "", "missing", "empty", "Fill them in"),
        ("Ni", None, "missing", "empty", "Fill them in"),
        ("Ni", "1,5", "decimal-comma", "1,5", "--decimal ,"),
        ("W/F", "1,500", "thousands", "1,500", "--thousands"),
        ("Ni", np.inf, "infinite", "inf", "finite number"),
        ("Ni", -2.5, "negative", "-2.5", "zero or positive"),
        ("MgO", -1.0, "negative", "-1", "zero or positive"),
        ("Co", 1.0, "too-many", "3", "max_present of 'metals'"),
        ("Method", 9, "code-unknown", "9", "Codes are 1, 2, 3"),
        ("Method", "x", "code-unknown", "x", "Codes are 1, 2, 3"),
        ("Method", 1.5, "code-unknown", "1.5", "Codes are 1, 2, 3"),
        ("Gas", "argon", "code-unknown", "argon", "Codes are air, N2, None"),
        ("Gas", None, "missing", "empty", "Fill them in"),
        ("Gas", "-", "missing", "empty", "Fill them in"),
        ("Calc T", 200.0, "out-of-bounds", "200", "Correct them"),
        ("Calc T", 2000.0, "out-of-bounds", "2000", "Correct them"),
        ("Calc T", 0.0, "step-absent", "0", "optional = true"),
        ("Calc t", -1.0, "out-of-bounds", "-1", "Correct them"),
        ("Red T", 100.0, "out-of-bounds", "100", "Correct them"),
        ("Red H2", 101.0, "out-of-bounds", "101", "Correct them"),
        ("T", 25.0, "out-of-bounds", "25", "Correct them"),
        ("W/F", 0.0, "out-of-bounds", "0", "Correct them"),
        ("Yield", 100.5, "out-of-bounds", "100.5", "Correct them"),
        ("CH4", 0.0, "feed", "0", "Reactants must be above 0"),
        ("N2 feed", -1.0, "feed", "-1", "diluents not below"),
    ],
)
def test_errors_name_row_column_value_and_remedy(column, value, code, shown, remedy):
    frame = rows({}, {}, {column: value})
    message = refusal(frame)
    place = "number of metals" if code == "too-many" else column
    assert message.startswith("lab.csv cannot be used as it is:")
    assert f"row 4, column {place!r}: {shown}" in message
    assert remedy in message
    assert "row 2" not in message
    # The same row can be left out, and stays in the report.
    table = RecipeTable.from_frame(frame, SCHEMA, skip_bad_rows=True)
    assert table.frame.index.tolist() == [2, 3]
    assert (4, place, shown) in places(table, code)
    (finding,) = table.report.find(code)
    assert (finding.severity, finding.action) == ("warning", "These rows were left out")
    assert (table.report.rows_read, table.report.rows_kept) == (3, 2)


def test_all_kinds_of_errors_are_told_at_once():
    message = refusal(rows({"Ni": "x"}, {"Method": 8}, {"Yield": 101.0}, *[{"Co": -1.0}] * 9))
    for part in ("row 2, column 'Ni'", "row 3, column 'Method'", "row 4, column 'Yield'", "and 4 more"):
        assert part in message


def test_nothing_left():
    assert "nothing is left" in refusal(rows({"Ni": "x"}, {"Ni": -1.0}), skip_bad_rows=True)


def test_lacking_and_unknown_columns_point_at_each_other():
    message = refusal(rows({}).rename(columns={"Calc T": "Calc. T"}))
    assert "column 'Calc T' of schema 'lab' is not in the file" in message
    assert "column 'Calc. T' is not in schema 'lab'" in message
    assert "did you mean 'Calc. T'?" in message
    assert "did you mean 'Calc T'?" in message
    assert "--drop-column 'Calc. T'" in message
    assert "no column left to match" in refusal(rows({}).drop(columns="Ni"))
    # Errors of the header cannot be skipped.
    assert "'Ni'" in refusal(rows({}).drop(columns="Ni"), skip_bad_rows=True)


def test_columns_that_may_stand_in_the_file():
    frame = rows({}).drop(columns="No.").assign(**{PROPOSAL_PREFIX + "distance": 1.0})
    table = RecipeTable.from_frame(frame, SCHEMA)
    assert tuple(table.frame.columns) == SCHEMA.columns
    assert PROPOSAL_PREFIX + "distance" in table.header


def test_drop_columns():
    table = RecipeTable.from_frame(rows({}).assign(Remark="x"), SCHEMA, drop_columns=["Remark", "Pt"])
    assert "Pt" not in table.frame.columns
    assert "Pt" not in table.schema.columns
    assert "Pt" in SCHEMA.columns
    assert "did you mean 'Ni'" in refusal(rows({}), drop_columns=["ni "])
    assert "'Red T'" in refusal(rows({}), drop_columns=["Red T"])


@pytest.mark.parametrize(
    ("shares", "code", "kept"),
    [
        ((50.0, 150.0, 0.0), "fraction-sum", (25.0, 75.0, 0.0)),
        ((0.5, 0.5, 0.0), "fraction-sum", (50.0, 50.0, 0.0)),
        ((50.1, 50.1, 0.0), "fraction-rounding", (50.0, 50.0, 0.0)),
        ((0.0, 0.0, 0.0), "fraction-none", (0.0, 0.0, 0.0)),
    ],
)
def test_shares_are_rescaled_and_told(shares, code, kept):
    names = ["Al2O3", "MgO", "SiO2"]
    table = read({}, dict(zip(names, shares, strict=True)))
    np.testing.assert_allclose(table.frame.loc[3, names].to_numpy(float), kept, rtol=1e-12)
    assert places(table, code) == [(3, "sum of supports", f"{sum(shares):g}")]
    assert table.report.find(code)[0].severity in ("warning", "info")


def test_exact_shares_are_not_touched():
    thirds = {"Al2O3": 100 / 3, "MgO": 100 / 3, "SiO2": 100 / 3}
    table = read(thirds)
    assert not table.report.find("fraction-sum") + table.report.find("fraction-rounding")


def test_a_recipe_without_support_needs_leave():
    strict = SCHEMA.model_dump()
    strict["stages"][1]["blocks"][0]["may_be_empty"] = False
    with pytest.raises(InputError, match="row 3, column 'sum of supports': 0"):
        read({}, {"Al2O3": 0.0}, schema=RecipeSchema.model_validate(strict))


def test_a_large_total_is_kept_and_told():
    assert places(read({}, {"Ni": 40.0}), "total-high") == [(3, "sum of metals", "40.5")]


def test_a_step_that_was_not_done_is_set_aside_as_a_whole():
    table = read({"Red T": 0.0}, {"Red T": 0.0, "Red t": 0.0, "Red H2": 0.0})
    assert table.frame[["Red T", "Red t", "Red H2"]].to_numpy().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert places(table, "step-contradiction") == [(2, "Red T", "0"), (2, "Red t", "2"), (2, "Red H2", "50")]


def test_zeros_of_a_step_that_was_done():
    table = read({"Red H2": 0.0}, {"Red t": 0.0}, {"Calc t": 0.0})
    assert places(table, "step-zero") == [(2, "Red T", "973"), (2, "Red H2", "0")]
    assert "inert gas" in table.report.find("step-zero")[0].action
    assert table.frame.loc[2, "Red H2"] == 0.0
    unknown = [(c.row, c.column) for f in table.report.find("step-unknown") for c in f.cells]
    assert sorted(unknown) == [(3, "Red t"), (4, "Calc t")]  # the logarithm has no 0
    assert np.isnan(table.frame.loc[3, "Red t"])
    assert np.isnan(table.frame.loc[4, "Calc t"])


def test_unusual_values_are_kept_and_told():
    table = read({}, {"T": 1300.0})
    assert places(table, "suspect") == [(3, "T", "1300")]
    assert table.frame.loc[3, "T"] == 1300.0


def test_a_feed_with_another_sum_is_kept_and_told():
    table = read({}, {"CH4": 15.0}, {"CH4": 20.9})
    assert places(table, "feed-sum") == [(3, "sum of the feed", "95")]
    assert table.frame.loc[3, "CH4"] == 15.0


def test_codes_however_they_are_written():
    frame = rows({"Method": 1.0}, {"Method": "2"}, {"Method": " 3 "}, {"Gas": "None"}, {"Gas": " N2"})
    table = RecipeTable.from_frame(frame, SCHEMA)
    assert table.frame["Method"].tolist() == [1, 2, 3, 1, 1]
    assert table.frame["Gas"].tolist()[3:] == ["None", "N2"]
    for kind in ("float32", "Int64", "float64", "int8"):
        assert RecipeTable.from_frame(rows({}).astype({"Method": kind}), SCHEMA).frame["Method"].tolist() == [1]


def test_repeated_rows():
    table = read({}, {"Ni": 4.0}, {"No.": "other"}, {"Ni": 4.0}, {"Yield": 1.0})
    assert places(table, "duplicate") == [(4, None, ""), (5, None, "")]
    assert len(table) == 5
    assert table.recipe_ids().tolist() == [0, 1, 0, 1, 0]
    assert table.report.facts["recipes"] == 2


def test_a_column_that_was_copied():
    changes = [{"Ni": 0.1 * i, "Pt": 0.1 * i} for i in range(1, 30)] + [{"Ni": 1.0, "Pt": 0.0}]
    table = read(*changes)
    (finding,) = table.report.find("columns-equal")
    assert [(c.row, c.column, c.value) for c in finding.cells] == [(31, "Ni", "1 (Pt: 0)")]
    assert "96.7 %" in finding.message
    assert "--drop-column Ni" in finding.action
    independent = [{"Ni": 0.1 * i, "Pt": 0.1 * (30 - i)} for i in range(1, 30)]
    assert not read(*independent).report.find("columns-equal")


def test_groups():
    table = read({}, {"T": 900.0}, {"Calc T": 800.0}, {"CH4": 10.0, "CO2": 40.0})
    assert table.recipe_ids().tolist() == [0, 0, 1, 0]
    assert table.composition_ids().tolist() == [0, 0, 0, 0]
    assert table.laboratory_ids().tolist() == [0, 1, 0, 2]
    picked = table.select(np.array([3, 0]))
    assert picked.frame.index.tolist() == [5, 2]
    assert len(table) == 4


def test_row_groups_of_mixed_columns():
    frame = pd.DataFrame({"x": [0.0, -0.0, 0.1 + 0.2, 0.3, np.nan, np.nan], "c": [1, 1, "1", "1", None, None]})
    assert row_groups(frame, ["x"]).tolist() == [0, 0, 1, 1, 2, 2]
    assert row_groups(frame, ["x", "c"]).tolist() == [0, 0, 1, 1, 2, 2]


def test_purpose_conditions_looks_at_no_recipe():
    needed = ["CH4", "CO2", "N2 feed", "T", "W/F", "Yield"]
    table = RecipeTable.from_frame(rows({})[needed], SCHEMA, purpose="conditions")
    assert set(table.frame.columns) == set(needed)
    # A whole table will do, whatever its recipe columns hold.
    broken = rows({"Ni": "x", "Method": 77}).assign(Remark="y")
    assert set(RecipeTable.from_frame(broken, SCHEMA, purpose="conditions").frame.columns) == set(needed)
    assert "'T'" in refusal(rows({}).drop(columns="T"), purpose="conditions")
    assert "row 2, column 'Yield'" in refusal(rows({"Yield": None}), purpose="conditions")


def test_purpose_partial_leaves_cells_and_columns_open():
    frame = rows({"Ni": None, "Al2O3": None, "MgO": 40.0, "Gas": None, "Red T": None, "Red t": None, "Red H2": None})
    table = RecipeTable.from_frame(frame.drop(columns=["Co", "Method", "T", "Yield"]), SCHEMA, purpose="partial")
    assert tuple(table.frame.columns) == SCHEMA.columns
    row = table.frame.loc[2]
    open_cells = {"Ni", "Co", "Al2O3", "Method", "Gas", "Red T", "Red t", "Red H2", "T", "Yield"}
    assert set(row.index[row.isna()]) == open_cells
    assert row["MgO"] == 40.0  # not divided by a sum that nobody knows
    assert table.report.errors == []


@pytest.mark.parametrize(
    ("change", "part"), [({"Ni": "x"}, "'Ni': x"), ({"Ni": -1.0}, "'Ni': -1"), ({"Method": 9}, "'Method': 9")]
)
def test_purpose_partial_still_refuses_what_is_wrong(change, part):
    assert f"row 2, column {part}" in refusal(rows(change), purpose="partial")


def test_partial_rows_may_lack_all():
    table = RecipeTable.from_frame(rows({})[["Ni"]], SCHEMA, purpose="partial")
    assert table.frame.loc[2].drop("Ni").isna().all()
    assert "'Nickel'" in refusal(rows({})[["Ni"]].rename(columns={"Ni": "Nickel"}), purpose="partial")


def test_purpose_recipes_takes_lacking_components_as_absent_and_leaves_treatments_open():
    frame = rows({"MgO": 60.0, "Calc t": None, "Red T": 0.0, "Yield": None, "T": -5.0})
    table = RecipeTable.from_frame(frame.drop(columns=["Co", "Method", "Al2O3"]), SCHEMA, purpose="recipes")
    assert tuple(table.frame.columns) == SCHEMA.recipe_columns
    row = table.frame.loc[2]
    assert set(row.index[row.isna()]) == {"Method", "Calc t"}
    assert (row["Co"], row["Al2O3"], row["MgO"]) == (0.0, 0.0, 100.0)  # shares sum to their total
    assert (row["Red T"], row["Red H2"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "part"), [({"Ni": None}, "'Ni': empty"), ({"Ni": -1.0}, "'Ni': -1"), ({"Method": 9}, "'Method': 9")]
)
def test_purpose_recipes_refuses_open_components_and_what_is_wrong(change, part):
    assert f"row 2, column {part}" in refusal(rows(change), purpose="recipes")


def test_purpose_recipes_needs_a_component():
    frame = rows({})
    assert "no column of a component" in refusal(frame[["Method", "T"]], purpose="recipes")
    assert "'Nickel'" in refusal(frame.rename(columns={"Ni": "Nickel"}), purpose="recipes")


def test_from_frame_needs_numbered_rows():
    assert "reset_index" in refusal(rows({}, {}).set_axis([2, 2]))
    assert "reset_index" in refusal(rows({}).set_axis(["first"]))
    assert "same name" in refusal(rows({}).rename(columns={"Co": "Ni"}))
    assert "'3'" in refusal(rows({}).rename(columns={"Ni": 3}))


def test_the_frame_given_is_not_changed():
    frame = rows({"Red T": 0.0, "MgO": 100.0})
    before = frame.copy(deep=True)
    RecipeTable.from_frame(frame, SCHEMA)
    pd.testing.assert_frame_equal(frame, before)


def test_a_file_is_read_with_its_options(tmp_path):
    path = tmp_path / "lab.csv"
    text = rows({}, {"Ni": 2.5}).to_csv(index=False, sep=";", decimal=",")
    path.write_text(text, encoding="cp1252")
    table = RecipeTable.read(path, SCHEMA, options=ReadOptions(decimal=",", encoding="cp1252"))
    assert table.frame["Ni"].tolist() == [5.0, 2.5]
    assert table.report.source == str(path)
    with pytest.raises(InputError, match="--decimal ,") as caught:
        RecipeTable.read(path, SCHEMA)
    assert "row 3, column 'Ni': 2,5" in str(caught.value)


def test_report_as_text_frame_and_data():
    report = read({}, {}, {"Ni": 40.0}, {"T": 1300.0}).report
    text = report.to_text(examples=1)
    assert text.startswith("lab.csv: 4 rows read, 4 kept")
    assert "[total-high]" in text
    assert "row 4, column 'sum of metals': 40.5" in text
    frame = report.to_frame()
    assert frame.loc[frame["code"] == "suspect", ["row", "column", "value"]].to_numpy().tolist() == [[5, "T", "1300"]]
    assert frame.loc[frame["code"] == "never-occurs", "row"].isna().all()
    data = report.to_dict()
    assert data["rows_kept"] == 4
    assert {f["code"] for f in data["findings"]} == {f.code for f in report.findings}
    assert "no problem found" in type(report)("empty").to_text()


@QUICK
@given(schemas_with_frames())
def test_canonical_rows_pass_unchanged(case):
    schema, frame = case
    table = RecipeTable.from_frame(frame, schema)
    assert table.report.errors == []
    quiet = {"never-occurs", "duplicate", "suspect", "columns-equal", "step-zero", "fraction-none"}
    assert {f.code for f in table.report.findings} <= quiet
    pd.testing.assert_frame_equal(table.frame, frame, check_dtype=False, rtol=1e-12)
    again = RecipeTable.from_frame(table.frame, schema)
    pd.testing.assert_frame_equal(again.frame, table.frame, rtol=1e-12)


@QUICK
@given(schemas_with_frames(kinds=(Fractions,)))
def test_shares_of_any_scale_come_to_their_total(case):
    schema, frame = case
    scaled = frame.copy()
    scaled[list(schema.recipe_columns)] *= 3.7
    table = RecipeTable.from_frame(scaled, schema)
    np.testing.assert_allclose(table.frame[list(schema.recipe_columns)], frame[list(schema.recipe_columns)], rtol=1e-9)
    occupied = any((frame[list(block.columns)] > 0).any(axis=None) for block in schema.blocks)
    assert bool(table.report.find("fraction-sum")) == occupied


@pytest.mark.drm
def test_facts_of_the_real_table():
    path = os.environ.get("PYRO_HCVAE_DRM_CSV")
    if path is None:
        pytest.skip("PYRO_HCVAE_DRM_CSV does not name the real table")
    table = RecipeTable.read(path, RecipeSchema.load("drm"))
    report = table.report
    assert (len(table), report.rows_read, report.rows_kept) == (5908, 5908, 5908)
    assert report.facts["recipes"] == 610
    assert (report.facts["sets of metals"], report.facts["sets of supports"]) == (57, 66)
    assert len(report.find("duplicate")[0].rows) == 150
    sums = report.find("fraction-sum")[0]
    assert {cell.value: 0 for cell in sums.cells}.keys() == {"2", "3"}
    assert len(sums.rows) == 80
    assert len(report.find("fraction-none")[0].rows) == 50
    assert len(report.find("step-zero")[0].rows) == 195  # T > 0, H2 = 0
    assert len(report.find("step-unknown")[0].rows) == 25  # T > 0, time = 0
    assert not report.find("step-contradiction")
    assert [c.column for f in report.find("never-occurs") for c in f.cells] == ["LaNiCoMnO3"]
    (copied,) = report.find("columns-equal")
    assert "'Ag' equals column 'Pt' in 99.8 %" in copied.message
    assert "11 of 5908 differ; 751 have Ag" in copied.message
    supports = table.frame[list(RecipeSchema.load("drm").stages[1].blocks[0].names())].sum(axis=1)
    np.testing.assert_allclose(supports[supports > 0], 1.0, rtol=1e-12)


@pytest.mark.drm
def test_the_real_table_without_the_copied_column():
    path = os.environ.get("PYRO_HCVAE_DRM_CSV")
    if path is None:
        pytest.skip("PYRO_HCVAE_DRM_CSV does not name the real table")
    table = RecipeTable.read(path, RecipeSchema.load("drm"), drop_columns=["Ag"])
    assert not table.report.find("columns-equal")
    assert len(table) == 5908


def test_codes_that_look_like_numbers_or_truth_values_stay_words(tmp_path):
    text = 'name = "t"\n[performance]\nname = "Y"\n[[stages]]\nname = "s"\n[[stages.blocks]]\nkind = "category"\n'
    for codes, cells in (
        (("01", "02"), ["01", "02"]),
        (("TRUE", "FALSE"), ["FALSE", "TRUE"]),
        (("NA", "None"), ["None", "NA"]),
    ):
        listed = ", ".join(f'"{c}"' for c in codes)
        schema = RecipeSchema.from_toml(text + f'name = "code"\ncolumn = "C"\ncodes = [{listed}]\n')
        path = tmp_path / "t.csv"
        path.write_text("C,Y\n" + "".join(f"{c},1.5\n" for c in cells))
        assert RecipeTable.read(path, schema).frame["C"].tolist() == cells
