"""`pyro-hcvae weigh`: what it writes, and what it says of wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae import RecipeSchema
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refused

RECIPES = """No.,Ni,La,Al2O3_Gamma,CeO2,Calcination T,Calcination time,CH4 Conversion,proposal: rank
1,10,0,1,0,500,4,,1
2,5,2.5,0.8,0.2,,,,2
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    path = tmp_path / "recipes.csv"
    path.write_text(RECIPES)
    return path


def test_the_terminal_gets_a_sheet_with_hand_calculated_masses(recipes: Path, cli: Command) -> None:
    result = cli("weigh", recipes, "--support-mass", 5)
    assert result.code == 0, result.err
    assert re.search(
        r"\| Ni: nickel\(II\) nitrate hexahydrate.*\| +0\.5556 \| 100 % +\| +290\.79 \| +2\.7525 \|", result.out
    )
    assert "wt% of the catalyst (--basis catalyst, the default)" in result.out
    assert "prices of 2024-12" in result.out
    assert "Calcination T 500 degC" in result.out
    other = cli("weigh", recipes, "--basis", "support").out
    assert "2.4772" in other
    assert "wt% of the support (--basis support)" in other


@pytest.mark.parametrize("ending", ["md", "html", "csv"])
def test_files_by_their_ending(recipes: Path, cli: Command, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"sheet.{ending}"
    result = cli("weigh", recipes, "--pore-volume", 0.5, "--out", out)
    assert result.code == 0, result.err
    assert f"2 weighing sheets: {out}" in result.out
    text = out.read_text(encoding="utf-8")
    assert text.startswith({"md": "# Weighing", "html": "<!DOCTYPE html>", "csv": "recipe,row,"}[ending])
    if ending == "csv":
        frame = pd.read_csv(out)
        assert frame["component"].tolist() == ["Al2O3_Gamma", "Ni", "Al2O3_Gamma", "CeO2", "La", "Ni"]
        assert frame["mass_g"].iloc[1] == pytest.approx(2.7525, abs=5e-5)
        assert frame["row"].tolist() == [2, 2, 3, 3, 3, 3]
    assert "--force" in refused(cli, "weigh", recipes, "--out", out)
    assert out.read_text(encoding="utf-8") == text


def test_json(recipes: Path, cli: Command) -> None:
    result = cli("weigh", recipes, "--json", "--assay", "Ni=98", "--pore-volume", 1)
    data = json.loads(result.out)
    assert data["settings"] == {"support_mass_g": 5.0, "basis": "catalyst", "pore_volume_ml_per_g": 1.0, "bulk": "skip"}
    (nickel,) = data["recipes"][0]["charges"]
    assert nickel["mass_g"] == pytest.approx(2.7525 / 0.98, abs=5e-5)
    assert nickel["price_date"] == "2024-12"
    assert data["recipes"][0]["impregnation"]["steps"] == 1
    assert data["recipes"][0]["metal_cost_usd_per_kg_catalyst"] == pytest.approx(1.39)


def test_own_chemicals_prices_and_schema(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    (tmp_path / "bottles.csv").write_text(
        "component,element,name,formula\nA,Ni,nickel oxide,NiO\nB,Co,cobalt oxide,CoO\nC,Ru,ruthenium oxide,RuO2\n"
    )
    (tmp_path / "prices.csv").write_text("component,price_usd_per_kg,date,source\nA,100,2026-10-01,quote\n")
    (tmp_path / "ours.csv").write_text("A,X\n20,1\n")
    arguments = (
        "weigh",
        tmp_path / "ours.csv",
        "--precursors",
        tmp_path / "bottles.csv",
        "--prices",
        tmp_path / "prices.csv",
    )
    for schema in (("--schema", laboratory / "schema.toml"), ("--run", laboratory / "run")):
        result = cli(*arguments, *schema, "--support-mass", 8, "--json")
        assert result.code == 0, result.err
        (recipe,) = json.loads(result.out)["recipes"]
        assert recipe["charges"][0]["mass_g"] == pytest.approx(2 * 74.693 / 58.693, rel=1e-4)
        assert recipe["metal_cost_usd_per_kg_catalyst"] == pytest.approx(20)
        assert recipe["programme"] == ["method: not given", "reduction: not given"]


def test_proposals_in_a_run_folder_are_read_with_its_schema(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    schema = RecipeSchema.load("drm").without("Ag")
    (run / "schema.toml").write_text(schema.to_toml())
    (run / "config.toml").touch()
    # What a fit with --drop-column Ag proposes: the table's column is there, and empty.
    (run / "recipes.csv").write_text("Ni,Ag,MgO\n10,,1\n")
    assert "2.7525" in cli("weigh", run / "recipes.csv").out
    message = refused(cli, "weigh", run / "recipes.csv", "--schema", "drm")
    assert "row 2, column 'Ag': empty" in message
    assert "--schema and --run" in refused(cli, "weigh", run / "recipes.csv", "--schema", "drm", "--run", run)
    assert "no run in this folder" in refused(cli, "weigh", run / "recipes.csv", "--run", tmp_path)


def test_repeated_recipes_are_one_sheet(recipes: Path, cli: Command) -> None:
    recipes.write_text(RECIPES + "3,10,0,1,0,500,4,,3\n")
    result = cli("weigh", recipes)
    assert "# Weighing sheet: 2 recipes" in result.out
    assert "1 rows repeat a recipe" in result.err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1,10,", "1,,", ["row 2, column 'Ni': empty", "0 where a component is absent"]),
        ("1,10,", "1,ten,", ["row 2, column 'Ni': ten", "Write a number"]),
        ("1,10,", "1,-3,", ["row 2, column 'Ni': -3", "negative"]),
        ("1,10,0,", "1,60,45,", ["row 2, column 'Ni': 60", "sum to 105", "--basis support"]),
        ("No.,Ni", "No.,Nl", ["'Nl'", "--drop-column", "did you mean"]),
        (",Ni,La,Al2O3_Gamma,CeO2,", ",N1,L1,A1,C1,", ["does not look like schema 'drm'", "--schema FILE"]),
        ("500", "5000", ["row 2", "'Calcination T'", "5000"]),
    ],
)
def test_wrong_tables(recipes: Path, cli: Command, old: str, new: str, words: list[str]) -> None:
    recipes.write_text(RECIPES.replace(old, new, 1))
    message = refused(cli, "weigh", recipes)
    for word in [str(recipes), *words]:
        assert word in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "sheet.pdf"), [".md, .html or .csv"]),
        (("--support-mass", "0"), ["--support-mass 0", "above 0"]),
        (("--pore-volume", "-1"), ["--pore-volume -1", "above 0"]),
        (("--basis", "metal"), ["--basis"]),
        (("--assay", "Ru"), ["METAL=PERCENT"]),
        (("--assay", "Ru=much"), ["'much' is not a number"]),
        (("--assay", "Ru=38", "--assay", "Ru=39"), ["given twice"]),
        (("--assay", "Xx=38"), ["no precursor for 'Xx'"]),
        (("--precursors", "none.csv"), ["none.csv: no such file"]),
        (("--prices", "none.csv"), ["none.csv: no such file"]),
        (("--schema", "none"), ["no schema 'none'"]),
    ],
)
def test_wrong_options(recipes: Path, cli: Command, arguments: tuple[str, ...], words: list[str]) -> None:
    message = refused(cli, "weigh", recipes, *arguments)
    for word in words:
        assert word in message


def test_the_input_is_never_overwritten(recipes: Path, cli: Command) -> None:
    assert "the input itself" in refused(cli, "weigh", recipes, "--out", recipes, "--force")
    assert recipes.read_text() == RECIPES


def test_help_shows_examples(cli: Command) -> None:
    assert "Examples" in cli("weigh", "--help").out
