"""`draft_schema`: sensible guesses, each with its reason, in a file that reads as it is."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.draft import draft_schema
from pyro_hcvae.data.reading import read_frame
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK

ROWS = 40


def mixed_oxides():
    """An invented laboratory: Mo-V-Nb-Te-W oxides, activated in a gas, for propane oxidation; in K, mol% and bar."""
    random = np.random.default_rng(0)
    hot = random.choice([0.0, 673.0, 773.0, 873.0], ROWS)
    return pd.DataFrame({
        "Sample": [f"MV-{i}" for i in range(ROWS)],
        "Prepared by": random.choice(["Ana", "Bo"], ROWS),
        "Date": pd.date_range("2021-01-01", periods=ROWS),
        "V (mol%)": random.uniform(10, 30, ROWS).round(1),
        "Mo (mol%)": random.uniform(40, 60, ROWS).round(1),
        "Nb (mol%)": random.choice([0.0, 5.0, 10.0], ROWS),
        "Te (mol%)": random.choice([0.0, 8.0, 12.5], ROWS),
        "W (mol%)": random.choice([0.0, 0.0, 3.0], ROWS),
        "Activation gas": random.choice(["air", "N2", "none"], ROWS),
        "Activation T / K": hot,
        "Activation time [h]": np.where(hot > 0, random.choice([1.0, 2.0, 6.5], ROWS), 0.0),
        "BET surface / m2/g": random.uniform(2, 40, ROWS),
        "Pressure / bar": random.choice([1.0, 2.0, 5.0], ROWS),
        "Temperature (K)": random.choice([600.0, 623.0, 650.0], ROWS),
        "GHSV / mL/(g h)": random.choice([5000.0, 10000.0], ROWS),
        "Propane conversion / %": random.uniform(5, 50, ROWS),
        "Acrolein yield / %": random.uniform(0, 20, ROWS),
        "Remark": [None] * ROWS,
    })  # fmt: skip


def draft(frame, name="mine"):
    return RecipeSchema.from_toml(draft_schema(frame, name=name))


def block_of(schema, column):
    (block,) = [b for b in schema.blocks if column in b.names()]
    return block


def numeric(schema, name):
    (column,) = [c for c in schema.numeric() if c.name == name]
    return column


def frame_of(**columns):
    """Columns named, beside a conversion and a metal that make any table draftable."""
    rows = max(len(values) for values in columns.values())
    base = {"Ni": np.linspace(0.5, 9.7, rows), **columns, "Conversion": np.linspace(10.3, 87.1, rows)}
    return pd.DataFrame(base)


def test_another_laboratory():
    frame = mixed_oxides()
    schema = draft(frame, name="acrolein")
    assert schema.name == "acrolein"
    assert [stage.name for stage in schema.stages] == ["composition", "pretreatment"]
    metals = block_of(schema, "V (mol%)")
    assert isinstance(metals, Amounts)
    assert metals.columns == ("V (mol%)", "Mo (mol%)", "Nb (mol%)", "Te (mol%)", "W (mol%)")
    assert (metals.unit, metals.max_present) == ("mol%", 5)
    gas = block_of(schema, "Activation gas")
    assert isinstance(gas, Category)
    assert set(gas.codes) == {"air", "N2", "none"}
    step = block_of(schema, "Activation T / K")
    assert isinstance(step, Step)
    assert step.optional
    assert [(c.name, c.unit, c.transform) for c in step.columns] == [
        ("Activation T / K", "K", "linear"), ("Activation time [h]", "h", "log"),
    ]  # fmt: skip
    assert [(c.name, c.unit) for c in schema.conditions] == [
        ("Pressure / bar", "bar"), ("Temperature (K)", "K"), ("GHSV / mL/(g h)", "mL/(g h)"),
    ]  # fmt: skip
    assert schema.feed is None
    assert (schema.performance.name, schema.performance.unit) == ("Acrolein yield / %", "%")
    assert schema.performance.bounds == (0.0, 100.0)
    others = {"Sample", "Date", "BET surface / m2/g", "Propane conversion / %", "Remark"}
    assert others <= set(schema.identifiers)
    assert schema.laboratory == ("GHSV / mL/(g h)",)


def test_a_draft_reads_its_own_table(tmp_path):
    path = tmp_path / "lab.csv"
    mixed_oxides().to_csv(path, index=False)
    frame = read_frame(path)
    table = RecipeTable.from_frame(frame, draft(frame))
    assert len(table) == ROWS
    assert table.report.errors == []


def test_every_guess_is_explained():
    text = draft_schema(mixed_oxides(), name="mine")
    for part in (
        f"guessed from {ROWS} rows and 18 columns",
        '"Date",  # guess: ',
        '"Propane conversion / %",  # guess: another result',
        '"BET surface / m2/g",  # guess: named like a measured property',
        '"Remark",  # guess: empty',
        "# guess: 3 texts",
        "# guess: columns named like activation",
        "# guess: 673 to 873 in the file",
        "# guess: columns named like elements",
        "optional = true  # guess: 0 in ",
    ):
        assert part in text, part
    assert "fill in" in draft_schema(frame_of(T=[300.0, 400.0]), name="x")  # a unit that nobody wrote


def test_shares_are_found_by_their_sum():
    random = np.random.default_rng(1)
    shares = random.dirichlet([0.3] * 3, 30)
    shares[:, 0] = np.where(random.random(30) < 0.2, 0.0, shares[:, 0])
    shares /= shares.sum(axis=1, keepdims=True)
    columns = {"Pt": random.choice([0, 0.5], 30), **dict(zip(["Al2O3", "C", "MCM-41"], shares.T, strict=True))}
    schema = draft(frame_of(**columns))
    support = block_of(schema, "C")
    assert isinstance(support, Fractions)
    assert support.columns == ("Al2O3", "C", "MCM-41")  # carbon is no metal here
    assert (support.total, support.may_be_empty) == (1.0, False)
    assert block_of(schema, "Pt").columns == ("Ni", "Pt")
    percent = {name: 100 * np.asarray(x) if name != "Pt" else x for name, x in columns.items()}
    assert block_of(draft(frame_of(**percent)), "C").total == 100.0
    bulk = {name: np.where(np.arange(30) < 5, 0.0, x) for name, x in columns.items()}
    assert block_of(draft(frame_of(**bulk)), "C").may_be_empty


def test_one_of_several_is_a_set_of_shares_with_one_member():
    kinds = np.eye(3)[np.random.default_rng(2).integers(0, 3, 30)]
    schema = draft(frame_of(wet=kinds[:, 0], dry_mix=kinds[:, 1], sol=kinds[:, 2]).rename(columns={"dry_mix": "mix"}))
    block = block_of(schema, "sol")
    assert isinstance(block, Fractions)
    assert block.max_present == 1


def test_a_feed_that_sums_to_a_whole():
    random = np.random.default_rng(3)
    ch4, co2 = random.uniform(10, 30, (2, 30))
    n2 = random.choice([0.0, 10.0], 30)
    frame = frame_of(
        **{"Feed CH4 (%)": ch4, "Feed CO2 (%)": co2, "Feed N2 (%)": n2, "Feed He (%)": 100 - ch4 - co2 - n2}
    )
    schema = draft(frame)
    assert schema.feed is not None
    assert schema.feed.reactants == ("Feed CH4 (%)", "Feed CO2 (%)")
    assert schema.feed.diluents == ("Feed N2 (%)", "Feed He (%)")
    assert schema.feed.ratios == ("CO2/CH4",)
    assert schema.feed.total == 100.0
    frame["Feed He (%)"] += random.uniform(0, 50, 30)
    open_feed = draft(frame)
    assert open_feed.feed is None
    assert {"Feed CH4 (%)", "Feed He (%)"} <= set(open_feed.condition_columns)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("Calcination T / K", "K"), ("Calcination T/K", "K"), ("Calcination T [degC]", "degC"),
        ("Calcination T (°C)", "°C"), ("Calcination T", ""), ("Calcination T (oven)", ""),
        ("Calcination rate / K min-1", "K min-1"), ("Calcination T / (K)", "K"),
    ],
)  # fmt: skip
def test_units_in_names(name, unit):
    schema = draft(frame_of(**{name: [300.5, 450.0, 500.0]}))
    assert numeric(schema, name).unit == unit
    assert isinstance(block_of(schema, name), Step)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("Preparation", [1, 2, 3, 1, 2], Category),
        ("Method", ["IWI", "SG", "IWI", "SG", "CP"], Category),
        ("Support", ["Al2O3", "SiO2", "SiO2", "Al2O3", "SiO2"], Category),
        ("Reduced", [True, False, True, False, True], Category),
        ("Drying t / h", [1, 2, 3, 1, 2], Step),
        ("Stirring speed", [100.0, 250.0, 300.0, 250.0, 120.0], Step),
        ("Pt (wt%)", [0, 1, 2, 1, 0], Amounts),
        ("Nickel loading (wt%)", [0, 1, 2, 1, 0], Amounts),
        ("K2O", [0, 0, 0, 1.5, 0], Amounts),
    ],
)
def test_kinds_of_recipe_columns(name, values, kind):
    schema = draft(frame_of(**{name: values}))
    assert isinstance(block_of(schema, name), kind)
    carrier = [s.name for s in schema.stages for b in s.blocks if name in b.names()]
    assert carrier == [{"Support": "support", "Preparation": "pretreatment"}.get(name, carrier[0])]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("GHSV", [1.5, 2, 3, 4, 5]), ("Reaction T", [500, 600, 700, 500, 500]), ("T", [500, 600, 700, 1, 2]),
        ("Time on stream", [0, 1, 2, 3, 4]), ("W/F (g h/mol)", [1, 2, 3, 4.5, 5]), ("p / bar", [1, 2, 3, 1, 1]),
        ("Catalyst mass / g", [1, 2, 3, 1, 1]), ("CO", [5, 10, 15, 5, 5]), ("Steam", [5, 10, 15, 5, 5]),
    ],
)  # fmt: skip
def test_conditions_by_name(name, values):
    assert name in draft(frame_of(**{name: values})).condition_columns


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("No.", [3, 1, 2, 9, 5]), ("Reference", [1, 1, 2, 2, 3]), ("DOI", list("aabbc")), ("Catalyst", list("aabbc")),
        ("Paper id", [1, 1, 2, 2, 3]), ("Year", [1999, 2000, 2001, 2002, 2002]), ("Anything", list("abcde")),
        ("Empty", [None] * 5), ("Dash", ["-", "NA", "", "?", None]), ("CO selectivity", [5, 10, 15, 5, 5]),
        ("Start", ["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-02", "2020-01-02"]),
        ("Reactor", ["A", "B", "A", "B", "A"]),
    ],
)  # fmt: skip
def test_identifiers(name, values):
    assert name in draft(frame_of(**{name: values})).identifiers


def test_a_column_that_counts_the_rows_is_no_setting():
    schema = draft(frame_of(**{"#": np.arange(1, 31)}))
    assert "#" in schema.identifiers


def test_zeros_in_a_step():
    t = [0.0, 700.0, 700.0, 800.0, 750.0]
    hours, hydrogen = [0.0, 0.0, 2.0, 3.0, 1.0], [0.0, 10.0, 0.0, 5.0, 5.0]
    frame = frame_of(**{"Reduction H2 / %": hydrogen, "Reduction time / h": hours, "Reduction T / K": t})
    text = draft_schema(frame, name="x")
    step = block_of(RecipeSchema.from_toml(text), "Reduction T / K")
    assert step.optional
    assert [c.name for c in step.columns] == ["Reduction T / K", "Reduction time / h", "Reduction H2 / %"]
    assert [c.zero_means for c in step.columns] == [None, None, "no H2"]
    assert "not recorded?" in text
    mandatory = draft(frame_of(**{"Drying T / K": [350.0, 360.0, 400.5], "Drying time / h": [0.0, 1.0, 2.0]}))
    assert not block_of(mandatory, "Drying T / K").optional


@pytest.mark.parametrize(
    ("columns", "target"),
    [
        (("Yield", "Conversion", "Cost"), "Conversion"),
        (("CO2 conversion", "Carbon"), "CO2 conversion"),
        (("x1", "x2"), "x2"),
        (("Activity (mmol/g)", "Note"), "Activity (mmol/g)"),
    ],
)
def test_which_column_is_the_performance(columns, target):
    random = np.random.default_rng(4)
    frame = pd.DataFrame({"Ni": random.uniform(0, 9, 9), **{c: random.uniform(0, 80, 9) for c in columns}})
    assert draft(frame).performance.name == target


@pytest.mark.parametrize(
    ("name", "values", "maximum"),
    [
        ("Yield", [5.5, 80.0], 100.0), ("Yield / %", [5.5, 80.0], 100.0), ("Yield", [0.055, 0.8], None),
        ("Yield", [5.5, 180.0], None), ("Yield", [-5.5, 80.0], None), ("Yield / mmol/g", [5.5, 80.0], None),
    ],
)  # fmt: skip
def test_a_percentage_gets_its_limits(name, values, maximum):
    assert draft(pd.DataFrame({"Ni": [1.0, 2.0], name: values})).performance.maximum == maximum


@pytest.mark.parametrize(
    ("frame", "remedy"),
    [
        (pd.DataFrame({"Catalyst": ["a", "b"], "Remark": ["x", "y"]}), "--decimal ,"),
        (pd.DataFrame({"Ni": ["1,5", "2,5"], "Yield": ["1,5", "2,5"]}), "--decimal ,"),
        (pd.DataFrame({"Yield": [1.0, 2.0]}), "element or formula"),
        (pd.DataFrame({"Reaction T": [500.0, 600.0], "Yield": [1.0, 2.0]}), "element or formula"),
        (pd.DataFrame({"No.": [1, 2, 3]}), "no column holds measured numbers"),
        (pd.DataFrame({"Ni": []}), "no column holds measured numbers"),
        (pd.DataFrame([[1.0, 2.0]], columns=["Ni", "Ni"]), "rename"),
    ],
)
def test_nothing_to_guess_from(frame, remedy):
    with pytest.raises(InputError) as caught:
        draft_schema(frame, name="x")
    assert remedy in str(caught.value)


WORDS = st.sampled_from([
    "Ni", "Al2O3", "MgO", "Calcination", "Reduction", "T", "time", "H2", "CH4", "CO2", "N2", "Feed", "GHSV", "pressure",
    "(wt%)", "/ K", "[h]", "Yield", "id", "Support", "Method", "x", "amounts", "shares", "Diluent", "é", '"', "\n", "#", "\\",
])  # fmt: skip
CELLS = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 50.0, 100.0, None, np.nan, np.inf, -1.0]),
    st.floats(0, 900),
    st.sampled_from(["a", "b", "none", "NA", "1,5", "7", "", True, pd.Timestamp("2020-01-01")]),
)
NUMBERS = st.sampled_from([0.0, 0.5, 1.0, 3.7, 50.0, 100.0, 700.0])


@QUICK
@given(st.data())
def test_any_table_gives_a_schema_that_places_each_column_once_or_an_input_error(data):
    headers = data.draw(
        st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=9, unique_by=str.strip)
    )
    rows = data.draw(st.integers(1, 6))
    cells = st.lists(NUMBERS, min_size=rows, max_size=rows) | st.lists(CELLS, min_size=rows, max_size=rows)
    frame = pd.DataFrame({h.strip() or "x": data.draw(cells) for h in headers})
    try:
        schema = draft(frame, name=data.draw(WORDS))
    except InputError as error:
        assert str(error).startswith("cannot draft a schema")
        return
    placed = [*schema.columns, *schema.identifiers]
    assert sorted(placed) == sorted(frame.columns)
    # What the import finds wrong are cells: it never misses a column.
    try:
        table = RecipeTable.from_frame(frame, schema)
    except InputError as error:
        assert "is not in" not in str(error)
    else:
        assert len(table) == rows


@pytest.mark.drm
def test_the_real_table():
    path = os.environ.get("PYRO_HCVAE_DRM_CSV")
    if path is None:
        pytest.skip("PYRO_HCVAE_DRM_CSV does not name the real table")
    frame, drm = read_frame(path), RecipeSchema.load("drm")
    schema = draft(frame)
    assert schema.recipe_columns == drm.recipe_columns
    assert schema.identifiers == drm.identifiers
    assert schema.laboratory == drm.laboratory
    assert set(schema.condition_columns) == set(drm.condition_columns)
    assert schema.performance.name == drm.performance.name
    assert [type(b) for b in schema.blocks] == [type(b) for b in drm.blocks]
    assert [s.name for s in schema.stages] == [s.name for s in drm.stages]
    ours, theirs = schema.blocks, drm.blocks
    assert (ours[0].max_present, ours[1].max_present) == (theirs[0].max_present, theirs[1].max_present)
    assert ours[1].may_be_empty
    assert ours[2].codes == theirs[2].codes
    assert [b.optional for b in ours[3:]] == [b.optional for b in theirs[3:]]
    assert [c.transform for b in ours[3:] for c in b.columns] == [c.transform for b in theirs[3:] for c in b.columns]
    assert (schema.feed.reactants, schema.feed.diluents) == (drm.feed.reactants, drm.feed.diluents)
    assert schema.feed.ratios == drm.feed.ratios
    assert [c.transform for c in schema.conditions] == [c.transform for c in drm.conditions]
    table = RecipeTable.from_frame(frame, schema)
    assert (len(table), table.report.facts["recipes"]) == (5908, 610)
