"""Masses against hand calculation, and what the sheet says where a number would be a guess."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae import InputError, RecipeSchema, RecipeTable
from pyro_hcvae.chemistry.precursors import PrecursorTable, load_precursors
from pyro_hcvae.chemistry.prices import PriceTable, load_prices, metal_cost
from pyro_hcvae.chemistry.sheets import to_frame, to_html, to_markdown
from pyro_hcvae.chemistry.weighing import OF_SATURATION, Settings, Sheet, weigh
from tests.laboratories import tiny_schema

DRM = RecipeSchema.load("drm")
CHEMICALS, PRICES = load_precursors(), load_prices()
NI_ON_ALUMINA = {"Ni": 10.0, "Al2O3_Gamma": 1.0}


def table(*rows: dict[str, object]) -> pd.DataFrame:
    raw = pd.DataFrame(list(rows))
    parts = [c for c in raw.columns if c in DRM.component_columns]
    raw[parts] = raw[parts].fillna(0.0)
    raw.index += 2
    return RecipeTable.from_frame(raw, DRM, purpose="recipes").frame


def sheet(
    recipe: dict[str, object],
    settings: Settings | None = None,
    *,
    precursors: PrecursorTable = CHEMICALS,
    prices: PriceTable = PRICES,
) -> Sheet:
    chosen = settings or Settings(5)
    (made,) = weigh(table(recipe), DRM, chosen, precursors=precursors, prices=prices, source="r.csv")
    return made


def test_ten_percent_nickel_on_five_grams_of_catalyst_basis() -> None:
    made = sheet(NI_ON_ALUMINA)
    (nickel,) = made.charges
    assert nickel.metal_mass_g == pytest.approx(0.5556, abs=5e-5)
    assert nickel.mass_g == pytest.approx(2.7525, abs=5e-5)
    assert made.catalyst_mass_g == pytest.approx(5.5556, abs=5e-5)
    assert made.cost_usd == pytest.approx(0.5556 * 13.9 / 1000, rel=1e-4)


def test_ten_percent_nickel_on_five_grams_of_support_basis() -> None:
    (nickel,) = sheet(NI_ON_ALUMINA, Settings(5, "support")).charges
    assert nickel.metal_mass_g == pytest.approx(0.5)
    assert nickel.mass_g == pytest.approx(2.4772, abs=5e-5)


@given(
    st.lists(st.floats(0.01, 20), min_size=1, max_size=4),
    st.floats(0.05, 0.95),
    st.floats(0.1, 100),
)
def test_what_is_weighed_has_the_asked_composition(amounts: list[float], share: float, mass: float) -> None:
    metals = dict(zip(("Ni", "La", "K", "Rh"), amounts, strict=False))
    recipe = {**metals, "SiO2": share, "CeO2": 1 - share}
    made = sheet(recipe, Settings(mass))
    assert sum(s.mass_g for s in made.supports) == pytest.approx(mass)
    assert {s.component: s.share for s in made.supports} == pytest.approx({"CeO2": 1 - share, "SiO2": share})
    total = mass + sum(c.metal_mass_g for c in made.charges)
    assert made.catalyst_mass_g == pytest.approx(total)
    for charge in made.charges:
        assert 100 * charge.metal_mass_g / total == pytest.approx(metals[charge.component])
        assert charge.mass_g > charge.metal_mass_g
    # On this basis the sheet and the linear cost agree.
    assert made.cost_usd_per_kg == pytest.approx(metal_cost(table(recipe), DRM, PRICES)[0])


def test_assay_divides_the_mass() -> None:
    recipe = {**NI_ON_ALUMINA, "Ru": 1.0}
    pure = {c.component: c.mass_g for c in sheet(recipe).charges}
    bottles = CHEMICALS.with_assays({"Ni": 98, "Ru": 38})
    weighed = {c.component: c.mass_g for c in sheet(recipe, precursors=bottles).charges}
    assert weighed["Ni"] == pytest.approx(pure["Ni"] / 0.98)
    assert weighed["Ru"] == pytest.approx(pure["Ru"] * 40 / 38)


def test_shares_of_any_total_split_the_support() -> None:
    toml = DRM.to_toml().replace("may_be_empty = true", "may_be_empty = true\ntotal = 100.0", 1)
    schema = RecipeSchema.from_toml(toml)
    frame = RecipeTable.from_frame(
        pd.DataFrame([{"Ni": 5.0, "MgO": 25.0, "CaO": 75.0}]), schema, purpose="recipes"
    ).frame
    (made,) = weigh(frame, schema, Settings(8), precursors=CHEMICALS, prices=PRICES)
    assert {s.component: s.mass_g for s in made.supports} == pytest.approx({"CaO": 6.0, "MgO": 2.0})


def test_impregnations_follow_the_solubilities() -> None:
    # 5 g x 0.2 mL/g = 1 mL of pores; 0.5556 g Ni is 1.7293 g Ni(NO3)2, of which 1 mL of water takes 0.942 g.
    wet = sheet(NI_ON_ALUMINA, Settings(5, pore_volume_ml_per_g=0.2)).impregnation
    assert wet is not None
    assert wet.volume_ml == pytest.approx(1.0)
    assert wet.steps == math.ceil(1.7293 / 0.942 / OF_SATURATION) == 3
    assert wet.stock_ml == pytest.approx(3.0)
    assert wet.unknown == ()


def test_several_precursors_share_the_water() -> None:
    def steps(recipe: dict[str, object]) -> int:
        wet = sheet(recipe, Settings(5, pore_volume_ml_per_g=0.6)).impregnation
        assert wet is not None
        return wet.steps

    support = {"MgO": 1.0}
    assert steps({"Ni": 8.0, **support}) == 1
    assert steps({"K": 3.0, **support}) == 1
    assert steps({"Ni": 8.0, "K": 3.0, **support}) == 2


def test_an_unknown_solubility_is_said_and_not_counted() -> None:
    settings = Settings(5, pore_volume_ml_per_g=0.5)
    made = sheet({"Ru": 2.0, "MgO": 1.0}, settings)
    assert made.impregnation is not None
    assert made.impregnation.unknown == ("Ru",)
    assert "left out, as it is not known: Ru" in to_markdown([made], settings, PRICES)


def test_no_volumes_without_a_pore_volume_or_without_a_metal() -> None:
    assert sheet(NI_ON_ALUMINA).impregnation is None
    assert sheet({"Ni": 0.0, "LaNiO3": 1.0}, Settings(5, pore_volume_ml_per_g=0.5)).impregnation is None


def test_a_recipe_without_support_is_not_weighed_unasked() -> None:
    bulk = {"La": 1.0, "Ni": 0.4, "Co": 0.6, "MgO": 0.0}
    made = sheet(bulk)
    assert made.charges == ()
    assert "--bulk atoms" in made.notes[0]

    atoms = sheet(bulk, Settings(2, bulk="atoms"))
    moles = {c.component: c.metal_mol for c in atoms.charges}
    assert sum(c.metal_mass_g for c in atoms.charges) == pytest.approx(2)
    assert moles["Ni"] / moles["La"] == pytest.approx(0.4)
    assert moles["Co"] / moles["La"] == pytest.approx(0.6)
    assert atoms.cost_usd_per_kg is None
    assert atoms.cost_usd is not None

    weight = sheet(bulk, Settings(2, bulk="weight"))
    assert {c.component: c.metal_mass_g for c in weight.charges} == pytest.approx(
        {"La": 0.02, "Ni": 0.008, "Co": 0.012}
    )
    assert weight.catalyst_mass_g == 2
    for made in (atoms, weight):
        assert made.notes[0].startswith("No support")

    nothing = sheet({"Ni": 0.0, "MgO": 0.0})
    assert "nothing to weigh" in nothing.notes[0]


def test_metals_that_leave_no_room_are_refused() -> None:
    loaded = {"Ni": 60.0, "La": 45.0, "MgO": 1.0}
    with pytest.raises(InputError, match=re.escape("r.csv: row 2, column 'Ni': 60: the metals sum to 105")) as error:
        sheet(loaded)
    assert "--basis support" in str(error.value)
    assert sheet(loaded, Settings(5, "support")).catalyst_mass_g == pytest.approx(5 * 2.05)
    with pytest.raises(InputError, match="--bulk atoms"):
        sheet({**loaded, "MgO": 0.0}, Settings(5, bulk="weight"))


def test_a_metal_without_precursor_is_refused_where_it_is_present() -> None:
    schema = tiny_schema()
    frame = pd.DataFrame(
        {"A": [0.0, 2.0], "B": 0.0, "C": 0.0, "X": 1.0, "Y": 0.0, "Z": 0.0, "Method": "wet"}, index=[2, 3]
    )
    frame[["Red T", "Red H2"]] = 0.0
    with pytest.raises(InputError, match=re.escape("r.csv: row 3, column 'A': 2:")) as error:
        weigh(frame, schema, Settings(5), precursors=CHEMICALS, prices=PRICES, source="r.csv")
    assert "--precursors" in str(error.value)
    (made,) = weigh(frame.head(1), schema, Settings(5), precursors=CHEMICALS, prices=PRICES)
    assert made.charges == ()
    assert made.cost_usd == 0


def test_amounts_in_another_unit_are_not_weighed() -> None:
    schema = RecipeSchema.from_toml(DRM.to_toml().replace('"metals"', '"metals"\nunit = "mol%"', 1))
    with pytest.raises(InputError, match="no amounts in wt%"):
        weigh(table(NI_ON_ALUMINA), schema, Settings(5), precursors=CHEMICALS, prices=PRICES)


def test_a_missing_price_is_said() -> None:
    made = sheet(NI_ON_ALUMINA, prices=PriceTable({}))
    assert made.cost_usd is None
    assert made.cost_usd_per_kg is None
    assert any("No price for Ni" in note for note in made.notes)
    assert "Metal cost: not known" in to_markdown([made], Settings(5), PriceTable({}))


@pytest.mark.parametrize("settings", [{"support_mass_g": 0.0}, {"support_mass_g": 5, "pore_volume_ml_per_g": -1.0}])
def test_batches_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="above 0"):
        Settings(**settings)  # type: ignore[arg-type]


def test_the_programme_speaks_in_the_columns_of_any_schema() -> None:
    done = {**NI_ON_ALUMINA, "Preparation": 2, "Calcination T": 500.0, "Calcination time": 4.0}
    reduced = {"Reduction T": 700.0, "Reduction time": 1.0, "Reduction H2": 0.0}
    assert sheet({**done, **reduced}).programme == (
        "Preparation: 2",
        "calcination: Calcination T 500 degC, Calcination time 4 h",
        "reduction: Reduction T 700 degC, Reduction time 1 h, Reduction H2 0: inert gas",
    )
    assert sheet({**done, **dict.fromkeys(reduced, 0.0)}).programme[-1] == "reduction: none"
    assert sheet(NI_ON_ALUMINA).programme == (
        "preparation: not given",
        "calcination: not given",
        "reduction: not given",
    )
    named = RecipeSchema.from_toml(
        DRM.to_toml().replace('column = "Preparation"', 'column = "Preparation"\nlabels = { "2" = "sol-gel" }', 1)
    )
    (made,) = weigh(table(done), named, Settings(5), precursors=CHEMICALS, prices=PRICES)
    assert made.programme[0] == "preparation: sol-gel"


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file() -> None:
    settings = Settings(5, pore_volume_ml_per_g=0.5)
    made = [sheet(NI_ON_ALUMINA, settings), sheet({"Ru": 1.0, "CeO2": 0.5, "ZrO2": 0.5}, settings)]
    page = to_html(made, settings, PRICES)
    outline = _Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.tags.count("section") == 2
    assert not {"script", "link", "img"} & set(outline.tags)
    assert "http" not in page
    assert "2.7525" in page


def test_texts_of_a_table_cannot_break_the_page() -> None:
    made = sheet(NI_ON_ALUMINA, prices=PRICES)
    odd = Sheet(2, "5 wt% <b>Ni</b> | x", made.supports, made.charges, 5.5, None, ("a | b",), ("<script>",))
    assert "<script>" not in to_html([odd], Settings(5), PRICES)
    rows = [line for line in to_markdown([odd], Settings(5), PRICES).splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6, 9}


def test_the_table_has_a_line_a_recipe_and_chemical() -> None:
    settings = Settings(5, pore_volume_ml_per_g=0.2)
    made = weigh(
        table({**NI_ON_ALUMINA, "La": 2.0}, {"Ni": 0.0, "La": 1.0}),
        DRM, settings, precursors=CHEMICALS, prices=PRICES,
    )  # fmt: skip
    frame = to_frame(made, settings, PRICES)
    assert frame["kind"].tolist() == ["support", "precursor", "precursor", "nothing to weigh"]
    assert frame["row"].tolist() == [2, 2, 2, 3]
    assert frame["basis"].eq("catalyst").all()
    nickel = frame.set_index("component").loc["Ni"]
    assert nickel["stock_g_per_ml"] * nickel["portion_ml"] * nickel["impregnations"] == pytest.approx(
        nickel["mass_g"], 1e-4
    )
    stock_ml = nickel["portion_ml"] * nickel["impregnations"]
    assert nickel["stock_mol_per_l"] == pytest.approx(1000 * nickel["metal_mass_g"] / 58.693 / stock_ml, rel=1e-4)
    assert nickel["price_date"] == "2024-12"
