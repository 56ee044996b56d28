"""`RecipeSchema`: what a schema file may say, and what is refused with the place and the remedy."""

import pytest
from hypothesis import given
from pydantic import ValidationError

from pyro_hcvae.data.schema import (
    Amounts,
    Column,
    Feed,
    Performance,
    RecipeSchema,
    Stage,
    Step,
    StepColumn,
    builtin_schemas,
)
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK, schemas

MINIMAL = """
name = "mine"
identifiers = ["No."]
laboratory = ["T"]

[[stages]]
name = "metal"
[[stages.blocks]]
kind = "amounts"
name = "metals"
columns = ["Ni", "Co"]

[[stages]]
name = "activation"
[[stages.blocks]]
kind = "step"
name = "reduction"
optional = true
columns = [{ name = "Reduction T" }, { name = "Reduction H2", zero_means = "inert gas" }]

[[conditions]]
name = "T"
unit = "K"

[performance]
name = "Yield"
"""


@QUICK
@given(schemas())
def test_toml_round_trip(schema):
    assert RecipeSchema.from_toml(schema.to_toml()) == schema


@pytest.mark.parametrize("name", builtin_schemas())
def test_built_in_schemas_load_and_round_trip(name):
    schema = RecipeSchema.load(name)
    assert schema.name == name
    assert RecipeSchema.from_toml(schema.to_toml()) == schema


def test_a_file_is_loaded(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    schema = RecipeSchema.load(path)
    assert schema == RecipeSchema.load(str(path))
    assert schema.recipe_columns == ("Ni", "Co", "Reduction T", "Reduction H2")
    assert schema.condition_columns == ("T",)
    assert schema.columns == ("Ni", "Co", "Reduction T", "Reduction H2", "T", "Yield")
    assert schema.component_columns == ("Ni", "Co")
    assert [block.name for block in schema.blocks] == ["metals", "reduction"]
    assert schema.units()["Ni"] == "wt%"
    assert schema.units()["T"] == "K"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('unit = "K"', 'units = "K"', "conditions.0: unknown key 'units'"),
        ("optional = true", "optionel = true", "stages.1.blocks.0.step: unknown key 'optionel'"),
        (
            'zero_means = "inert gas"',
            'zero_mean = "inert gas"',
            "stages.1.blocks.0.step.columns.1: unknown key 'zero_mean'",
        ),
        ('kind = "amounts"', 'kind = "amount"', "stages.0.blocks.0"),
        ('name = "Yield"', 'name = "Yield"\ntransform = "ln"', "performance.transform"),
        ('columns = ["Ni", "Co"]', "columns = []", "stages.0.blocks.0.amounts.columns"),
        ('columns = ["Ni", "Co"]', 'columns = ["Ni", "Ni"]', "'Ni'"),
        ('columns = ["Ni", "Co"]', 'columns = ["Ni", "T"]', "'T'"),
        ('identifiers = ["No."]', 'identifiers = ["Yield"]', "'Yield'"),
        ('laboratory = ["T"]', 'laboratory = ["Ni"]', "laboratory"),
        ('name = "metal"\n', 'name = "Metal 1"\n', "stages.0.name"),
        ('name = "metals"', 'name = "reduction"', "must differ"),
        ('unit = "K"', "minimum = 5.0\nmaximum = 5.0", "minimum 5.0 is not below maximum 5.0"),
        ('unit = "K"', "resolution = 0.0", "conditions.0.resolution"),
        ('[performance]\nname = "Yield"', "", "performance"),
        *[
            ('[performance]\nname = "Yield"', f'[performance]\nname = "Yield"\n[[rules]]\nname = "r"\n{rule}', place)
            for rule, place in [
                ('kind = "range"\ncolumns = ["ni"]\nmaximum = 1', "'ni' of numbers; did you mean 'Ni'"),
                ('kind = "count"\ncolumns = ["Yield"]\nmaximum = 1', "rule 'r': no recipe or condition column 'Yield'"),
                ('kind = "ordering"\nlower = "T"\nupper = "Red T"', "did you mean 'Reduction T'"),
                ('kind = "range"\ncolumns = ["Ni"]', "rule 'r': give 'minimum', 'maximum' or both"),
                ('kind = "range"\ncolumns = ["Ni"]\nminimum = 2\nmaximum = 1', "minimum 2 is above maximum 1"),
                ('kind = "sum"\ncolumns = []\nmaximum = 1', "rules.0.sum.columns"),
                ('kind = "cap"\ncolumns = ["Ni"]', "kind = 'cap': known kinds are 'range', 'sum', 'count', 'ordering'"),
                ('kind = "count"\ncolumns = ["Ni"]\nmaximum = 1\nseverity = "fatal"', "rules.0.count.severity"),
                ('kind = "count"\ncolumns = ["Ni"]\nmaximum = 1\nunless = 0.0', "unknown key 'unless'"),
                ('kind = "caps"\nlimits = { ni = 1.0 }', "'ni' of numbers; did you mean 'Ni'"),
                ('kind = "sum"\ncolumns = ["Ni"]\nmaximum = 1\nwhere = [{ columns = ["ni"] }]', "did you mean 'Ni'"),
                (
                    'kind = "sintering"\ncolumns = ["Ni"]\ntemperatures = ["T"]',
                    "'T' is in K, the rule's 'unit' is degC",
                ),
                ('kind = "sintering"\ncolumns = ["Ni"]\ntemperatures = ["Co"]\nunit = "K"', "'Co' is in wt%"),
            ]
        ],
    ],
)
def test_a_mistake_names_its_place(old, new, place):
    assert MINIMAL.count(old) == 1
    with pytest.raises(InputError) as caught:
        RecipeSchema.from_toml(MINIMAL.replace(old, new), source="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert place in str(caught.value)


def test_a_broken_file_names_its_line():
    with pytest.raises(InputError, match=r"mine\.toml: not a TOML file: .*line 2"):
        RecipeSchema.from_toml('name = "x"\nstages = oops\n', source="mine.toml")


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes('name = "Rückfluss"'.encode("cp1252"))
    with pytest.raises(InputError, match="UTF-8"):
        RecipeSchema.load(path)


@pytest.mark.parametrize("name", ["nothing", "no/such/file.toml", "../schemas/drm"])
def test_unknown_schema_names_the_known_ones(name):
    with pytest.raises(InputError, match=r"drm.*schema init"):
        RecipeSchema.load(name)


def test_without_moves_components_to_the_identifiers():
    drm = RecipeSchema.load("drm")
    schema = drm.without("Ag", "LaNiCoMnO3")
    assert "Ag" not in schema.columns
    assert "LaNiCoMnO3" not in schema.columns
    assert set(drm.columns) - set(schema.columns) == {"Ag", "LaNiCoMnO3"}
    assert {"Ag", "LaNiCoMnO3"} <= set(schema.identifiers)
    assert "Ag" in drm.columns  # the original is as it was
    assert drm.without() == drm


RULES = """
[[rules]]
name = "little metal"
kind = "sum"
columns = ["Ni", "Co"]
maximum = 20.0

[[rules]]
name = "no cobalt"
kind = "range"
columns = ["Co"]
maximum = 0.0

[[rules]]
name = "more nickel"
kind = "ordering"
lower = "Co"
upper = "Ni"

[[rules]]
name = "hot enough"
kind = "ordering"
lower = "Reduction T"
upper = "T"
unless = 0.0
"""


def test_without_takes_columns_out_of_the_rules():
    schema = RecipeSchema.from_toml(MINIMAL + RULES)
    assert RecipeSchema.from_toml(schema.to_toml()) == schema
    less = schema.without("Co")
    assert [rule.name for rule in less.rules] == ["little metal", "hot enough"]
    assert less.rules[0].names() == ("Ni",)
    assert RecipeSchema.from_toml(less.to_toml()) == less


def test_rules_are_named_once_and_shown():
    with pytest.raises(InputError, match="'little metal' is listed twice"):
        RecipeSchema.from_toml(MINIMAL + RULES + RULES)
    text = RecipeSchema.from_toml(MINIMAL + RULES).describe()
    assert "rules\n  warning: little metal\n" in text
    assert "rules" not in RecipeSchema.from_toml(MINIMAL).describe()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Al2O3_gama", "Al2O3_Gamma"), ("ni", "'Ni'"), ("Reduction T", "known names"), ("wxyz", "known names")],
)
def test_without_refuses_what_is_no_component(name, hint):
    with pytest.raises(InputError) as caught:
        RecipeSchema.load("drm").without(name)
    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)


def test_without_the_last_component_of_a_block():
    schema = RecipeSchema.from_toml(MINIMAL)
    with pytest.raises(InputError, match="metals"):
        schema.without("Ni", "Co")


def test_bounds_follow_transform_and_limits():
    assert Column(name="a").bounds == (float("-inf"), float("inf"))
    assert Column(name="a", transform="log").bounds == (0.0, float("inf"))
    assert Column(name="a", transform="log1p", minimum=-5.0).bounds == (0.0, float("inf"))
    assert Column(name="a", transform="log", minimum=2.0, maximum=3.0).bounds == (2.0, 3.0)


def test_states_of_a_step():
    lead, gas, dew = (
        StepColumn(name="T"),
        StepColumn(name="H2", zero_means="inert"),
        StepColumn(name="w", zero_means="dry"),
    )
    plain = Step(name="s", columns=(lead,))
    assert (plain.states, plain.applies()) == (("done",), ((True,),))
    optional = Step(name="s", columns=(lead, gas), optional=True)
    assert optional.states == ("not done", "done with H2", "done, inert")
    assert optional.applies() == ((False, False), (True, True), (True, False))
    both = Step(name="s", columns=(lead, gas, dew))
    assert len(both.states) == len(set(both.states)) == 4
    assert set(both.applies()) == {(True, a, b) for a in (True, False) for b in (True, False)}


def test_set_sizes():
    assert list(Amounts(name="m", columns=("a", "b", "c")).set_sizes) == [0, 1, 2, 3]
    assert list(Amounts(name="m", columns=("a", "b", "c"), max_present=2).set_sizes) == [0, 1, 2]
    assert list(Amounts(name="m", columns=("a",), max_present=5).set_sizes) == [0, 1]


def test_a_feed_names_one_ratio_for_each_further_reactant():
    with pytest.raises(ValidationError, match="2 names"):
        Feed(reactants=("a", "b", "c"), ratios=("b/a",))


def test_schemas_are_values():
    schema = RecipeSchema.from_toml(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        schema.name = "other"
    assert hash(schema.stages[0]) == hash(RecipeSchema.from_toml(MINIMAL).stages[0])


def test_feature_names_must_differ():
    with pytest.raises(ValidationError, match="Diluent"):
        RecipeSchema(
            name="s", performance=Performance(name="X"), conditions=(Column(name="Diluent"),),
            stages=(Stage(name="m", blocks=(Amounts(name="metals", columns=("Ni",)),)),),
            feed=Feed(reactants=("a", "b"), diluents=("c",), ratios=("b/a",)),
        )  # fmt: skip


@pytest.mark.parametrize("codes", ["[1, 1]", '[1, "1"]'])
def test_codes_must_differ(codes):
    text = MINIMAL.replace('kind = "amounts"', f'kind = "category"\ncodes = {codes}\ncolumn = "Ni"')
    with pytest.raises(InputError, match="codes"):
        RecipeSchema.from_toml(text.replace('columns = ["Ni", "Co"]\n', "", 1))
