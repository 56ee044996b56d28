"""The same constraints as Python values, as short texts and in TOML; and what is said of wrong ones."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from pydantic import ValidationError

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.language import (
    Cost,
    Count,
    Exclude,
    Fix,
    Item,
    NotDone,
    Novelty,
    Only,
    Range,
    Require,
    Shared,
    Sum,
)
from pyro_hcvae.constraints.parsing import parse
from pyro_hcvae.data.schema import Amounts, Category, Fractions, Performance, RecipeSchema, Stage, Step
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK, schemas

DRM = RecipeSchema.load("drm")
FORMS: dict[str, Item] = {
    "exclude Pt Rh": Exclude(names=("Pt", "Rh")),
    "no Pt": Exclude(names=("Pt",)),
    "exclude MgAl2O4(nanocry), SBA-15 LaNi0.9Ru0.1O3": Exclude(names=("MgAl2O4(nanocry)", "SBA-15", "LaNi0.9Ru0.1O3")),
    "require Ni": Require(names=("Ni",)),
    "require supports": Require(names=("supports",)),
    "require reduction": Require(names=("reduction",)),
    "supports in Al2O3_Gamma, MgO": Only(block="supports", allowed=("Al2O3_Gamma", "MgO")),
    "Preparation in 1, 4": Only(block="Preparation", allowed=(1, 4)),
    "Ni = 5": Fix(column="Ni", value=5.0),
    "Ni=5.03 wt%": Fix(column="Ni", value=5.03),
    "Calcination T = 500 degC": Fix(column="Calcination T", value=500.0),
    "Preparation = 4": Fix(column="Preparation", value=4),
    "no reduction": NotDone(step="reduction"),
    "reduction = none": NotDone(step="reduction"),
    "Ni 2..10": Range(names=("Ni",), minimum=2.0, maximum=10.0),
    "Calcination time 2.5..4": Range(names=("Calcination time",), minimum=2.5, maximum=4.0),
    "Ni >= 2": Range(names=("Ni",), minimum=2.0),
    "Ni <= 1e1": Range(names=("Ni",), maximum=10.0),
    "Ni ..10": Range(names=("Ni",), maximum=10.0),
    "Ni..5": Range(names=("Ni",), maximum=5.0),
    "Calcination T..500 degC": Range(names=("Calcination T",), maximum=500.0),
    "each Ni, Co 2..10": Range(names=("Ni", "Co"), minimum=2.0, maximum=10.0),
    "Pt+Rh+Ru + Ir<=1": Sum(names=("Pt", "Rh", "Ru", "Ir"), maximum=1.0),
    "total metals 5..20": Sum(names=("metals",), minimum=5.0, maximum=20.0),
    "Ce+La = 3": Sum(names=("Ce", "La"), minimum=3.0, maximum=3.0),
    "metals at most 2": Count(names=("metals",), maximum=2),
    "Pt, Rh at least 1": Count(names=("Pt", "Rh"), minimum=1),
    "metals at least 1 and at most 3": Count(names=("metals",), minimum=1, maximum=3),
    "supports exactly 2": Count(names=("supports",), minimum=2, maximum=2),
    "cost <= 5": Cost(maximum=5.0),
    "novelty >= 0.5": Novelty(minimum=0.5),
    "same Calcination T": Shared(names=("Calcination T",)),
    "same Calcination T, Preparation": Shared(names=("Calcination T", "Preparation")),
    "same calcination": Shared(names=("calcination",)),
}


@pytest.mark.parametrize("text", FORMS)
def test_each_form_is_read_and_written_back(text: str) -> None:
    item = parse(text, DRM)
    assert item == FORMS[text]
    assert parse(str(item), DRM) == item
    assert str(parse(str(item), DRM)) == str(item)


def test_toml_holds_texts_and_tables(tmp_path: Path) -> None:
    every = Constraints(DRM, tuple(FORMS.values()), prices=dict.fromkeys(DRM.component_columns, 1.0))
    path = tmp_path / "wishes.toml"
    path.write_text(every.to_toml(), encoding="utf-8")
    assert Constraints.from_toml(path, DRM, prices=every.prices).items == every.items
    assert '"Pt+Rh+Ru+Ir <= 1"' in path.read_text()

    path.write_text(
        'constraints = [\n  "exclude Pt", # dear\n  {kind = "range", names = ["Ni"], minimum = 2, maximum = 10},\n'
        '  {kind = "fix", column = "Preparation", value = 4},\n]\n'
    )
    items = Constraints.from_toml(path, DRM).items
    assert items == (Exclude(names=("Pt",)), FORMS["Ni 2..10"], FORMS["Preparation = 4"])


WRONG = [
    ("exlude Pt", ["'exlude'", "'exclude'"]),
    ("exclude Ptt", ["'Ptt'", "'Pt'"]),
    ("exclude", ["missing"]),
    ("exclude reduction, Pt", ["step", "no reduction"]),
    ("require Calcination T", ["'Calcination T'", "no component"]),
    ("Calcination Temp = 500", ["'Calcination Temp'", "'Calcination T'"]),
    ("Calcination T", ["says nothing"]),
    ("Calcination T = 5", ["20 to 1400 degC"]),
    ("Calcination T = hot", ["'= hot'", "degC"]),
    ("Reaction T = 700", ["condition", "--set"]),
    ("Ni = 2,5", ["decimal point"]),
    ("Ni < 5", ["inclusive", "<="]),
    ("Ni 10..2", ["10", "above", "2"]),
    ("Ni = -1", ["negative"]),
    ("Ni = 1e400", ["1e400", "largest number"]),
    ("Ni 2..1e400", ["1e400", "largest number"]),
    ("MgO = 1.5", ["share of 1"]),
    ("metals <= 20", ["total metals"]),
    ("Preparation 1..3", ["codes", "Preparation = CODE"]),
    ("Preparation = 9", ["'9'", "1, 2, 3"]),
    ("supports in MgO, Ni", ["'Ni'", "supports"]),
    ("Ni, Co in MgO", ["one block"]),
    ("calcination in MgO", ["'calcination'", "no block of components"]),
    ("no calcination", ["not optional"]),
    ("reduction = 500", ["one of its settings", "no reduction"]),
    ("Ni+MgO <= 1", ["different units"]),
    ("Ni+Co, Pt <= 1", ["not by both"]),
    ("metals at most two", ["metals"]),
    ("metals at most 2 and at most 3", ["twice"]),
    ("metals at most 2 or 3", ["at most 2 or 3"]),
    ("cost >= 5", ["cost <= 5"]),
    ("novelty <= 5", ["novelty >= 0.5"]),
    ("same Calcinaton T", ["'Calcinaton T'", "'Calcination T'"]),
    ("same metals", ["one by one"]),
    ("Ni = 5 mg", ["'= 5 mg'", "wt%"]),
    ('exclude "P\\t"', ["unknown name"]),
    ('exclude "P\\q"', ["backslash"]),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_texts_are_quoted_with_a_remedy(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        Constraints.from_texts([text], DRM, source="--constraint", prices=dict.fromkeys(DRM.component_columns, 1.0))
    message = str(raised.value)
    assert repr(text) in message or str(parse(text, DRM)) in message
    for word in words:
        assert word in message, message

    path = tmp_path / "wishes.toml"
    path.write_text('# wishes\nconstraints = [\n  "require Ni",\n' + f"  '{text}',\n]\n")
    with pytest.raises(InputError, match=r"wishes\.toml: line 4:"):
        Constraints.from_toml(path, DRM)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("constraints = [exclude Pt]", ["not a TOML file", "quotes"]),
        ('constraint = ["exclude Pt"]', ["'constraint'", "constraints ="]),
        ("constraints = [3]", ["constraint 1", "3"]),
        ('[[constraints]]\nkind = "exclude"\nnames = ["Pt"]\n\n[[constraints]]\nkind = "exlude"', ["line 5", "exlude"]),
        ('[[constraints]]\nkind = "range"\nnames = ["Ni"]\nlow = 2', ["line 1", "'low'"]),
        ('[[constraints]]\nkind = "fix"\ncolumn = "Ni"\nvalue = nan', ["line 1", "value"]),
        ('[[constraints]]\nkind = "exclude"\nnames = ["Ptt"]', ["line 1", "'Ptt'", "'Pt'"]),
    ],
)
def test_wrong_files_are_refused(content: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "wishes.toml"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        Constraints.from_toml(path, DRM)
    for word in (str(path), *words):
        assert word in str(raised.value)
    with pytest.raises(InputError, match="no such file"):
        Constraints.from_toml(tmp_path / "none.toml", DRM)


def test_values_are_checked_when_they_are_made() -> None:
    for make in (
        lambda: Range(names=("Ni",)),
        lambda: Range(names=("Ni",), minimum=3, maximum=2),
        lambda: Range(names=(), minimum=3),
        lambda: Count(names=("Ni",)),
        lambda: Count(names=("Ni",), minimum=-1),
        lambda: Fix(column="Ni", value=float("inf")),
    ):
        with pytest.raises(ValidationError):
            make()


def test_costs_need_prices() -> None:
    with pytest.raises(InputError, match="no price for Co"):
        Constraints.from_texts(["cost <= 5"], DRM)
    some = dict.fromkeys(("Ni", "Co"), 1.0)
    Constraints.from_texts(["cost <= 5", "metals in Ni, Co"], DRM, prices=some)  # the others are never paid for
    with pytest.raises(InputError, match="not negative"):
        Constraints.from_texts(["cost <= 5", "metals in Ni, Co"], DRM, prices=some | {"Ni": -1.0})


def every_kind(schema: RecipeSchema) -> list[Item]:
    items: list[Item] = [Novelty(minimum=0.25), Cost(maximum=1e-3)]
    for block in schema.blocks:
        match block:
            case Amounts() | Fractions():
                items += [
                    Exclude(names=block.columns),
                    Require(names=(block.name,)),
                    Count(names=block.columns, maximum=1),
                ]
                items += [Only(block=block.name, allowed=block.columns[:1]), Sum(names=block.columns, minimum=0.1)]
                items += [Sum(names=(block.name,), minimum=0.1, maximum=0.75), Range(names=block.columns, maximum=1e-7)]
                items += [Fix(column=block.columns[0], value=0.5)]
            case Category():
                items += [Fix(column=block.column, value=code) for code in block.codes]
                items += [Only(block=block.column, allowed=block.codes), Shared(names=(block.column,))]
            case Step():
                items += [Range(names=block.names(), minimum=0.5, maximum=0.5), Shared(names=block.names())]
                items += [NotDone(step=block.name)] if block.optional else []
    return items


@given(schemas())
@QUICK
def test_whatever_the_names_are_toml_gives_the_items_back(schema: RecipeSchema) -> None:
    prices = dict.fromkeys(schema.component_columns, 1.0)
    constraints = Constraints(schema, tuple(every_kind(schema)), prices)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wishes.toml"
        path.write_text(constraints.to_toml(), encoding="utf-8")
        assert Constraints.from_toml(path, schema, prices=prices).items == constraints.items
    misread = sum(isinstance(item, dict) for item in tomllib.loads(constraints.to_toml())["constraints"])
    assert misread <= len(constraints.items) / 2


def test_quoted_names_may_hold_anything() -> None:
    schema = RecipeSchema(
        name="odd",
        stages=(Stage(name="only", blocks=(Amounts(name="parts", columns=("A", "A B", "in", 'x, "y"+z', "2 at")),)),),
        performance=Performance(name="P"),
    )
    item = Exclude(names=("A B", "in", 'x, "y"+z', "2 at", "A"))
    assert str(item) == 'exclude A B, "in", "x, \\"y\\"+z", "2 at", A'
    assert parse(str(item), schema) == item
    assert parse("exclude A B", schema) == Exclude(names=("A B",))
    assert parse('exclude "A" A', schema) == Exclude(names=("A", "A"))
