"""The section `[reaction]`: what it may say, and what is refused with the place and the remedy."""

from __future__ import annotations

import pytest

from pyro_hcvae.data.draft import draft_schema
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError
from tests.chemistry.test_verdicts import STEAM
from tests.laboratories import tiny_frame


def test_it_survives_round_trips():
    schema = RecipeSchema.from_toml(STEAM)
    assert schema.reaction is not None
    assert schema.reaction.names() == ("T", "methane", "steam", "N2", "p")
    assert RecipeSchema.from_toml(schema.to_toml()) == schema
    assert RecipeSchema.model_validate(schema.model_dump(mode="json")) == schema
    drm = RecipeSchema.load("drm")
    assert drm.without("Ag").reaction == drm.reaction is not None
    assert RecipeSchema.from_toml(drm.without("Ag").to_toml()).reaction == drm.reaction


def test_it_is_shown():
    text = RecipeSchema.from_toml(STEAM).describe()
    assert "equilibrium\n  conversion of CH4 at T, p; CH4 = methane, H2O = steam, inert = N2" in text
    assert "conversion of CH4 at Reaction T, 1 atm" in RecipeSchema.load("drm").describe()


def test_it_is_optional_and_never_guessed():
    without = STEAM[: STEAM.index("[reaction]")]
    schema = RecipeSchema.from_toml(without)
    assert schema.reaction is None
    assert "reaction" not in schema.to_toml()
    assert "equilibrium" not in schema.describe()
    assert RecipeSchema.from_toml(draft_schema(tiny_frame(), name="tiny")).reaction is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('temperature = "T"', 'temperature = "Temp"', ["no condition column 'Temp'", "known are T, p"]),
        ('temperature = "T"', 'temperature = "Ni"', ["no condition column 'Ni'"]),
        ('unit = "°C"', 'unit = "K"', ["'T' must be in degC", "'K'"]),
        ('unit = "bar"', 'unit = "MPa"', ["'p' must be in atm or bar", "'MPa'"]),
        ('CH4 = "methane"', 'CH4 = "p"', ["must share one unit"]),
        ('inert = ["N2"]', "", ["say what 'N2' of the feed is"]),
        ('inert = ["N2"]', 'inert = ["steam"]', ["stands for two gases"]),
        ('CH4 = "methane"', 'O2 = "methane"', ["reaction.species", "O2"]),
        ("{ CH4", '{ CO = "N2", CH4', ["stands for two gases"]),
        ('CH4 = "methane", ', "", ["conversion of CH4", "not in 'species'"]),
        ('pressure = "p"', "pressure = 0.0", ["pressure 0 atm"]),
        ('pressure = "p"', 'pressure = "q"', ["no condition column 'q'"]),
        ('pressure = "p"', 'presure = "p"', ["unknown key 'presure'"]),
        ('name = "X"\nunit = "%"', 'name = "X"\nunit = "mol"', ["a conversion in %", "'mol'"]),
    ],
)
def test_a_mistake_names_its_place(old, new, words):
    assert STEAM.count(old) == 1
    with pytest.raises(InputError) as caught:
        RecipeSchema.from_toml(STEAM.replace(old, new), source="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert all(word in str(caught.value) for word in words), str(caught.value)
