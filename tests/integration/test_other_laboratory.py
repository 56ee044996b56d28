"""Another laboratory: two stages, no support, kelvin, mol %, its own preparation words; no line of code is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pyro_hcvae import RecipeSchema
from pyro_hcvae.data.validity import is_valid
from tests.cli.conftest import CONFIG, Command, cli

__all__ = ["cli"]

METALS = ["V (mol%)", "Mo (mol%)", "Nb (mol%)", "Te (mol%)", "W (mol%)"]


def acrolein_table(recipes: int = 50, *, seed: int = 0) -> pd.DataFrame:
    """Mixed oxides for acrolein: composition in mol %, activation in kelvin."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(recipes):
        amounts = dict.fromkeys(METALS, 0.0)
        chosen = rng.choice(METALS, size=rng.integers(1, 4), replace=False)
        for name in chosen:
            amounts[name] = float(np.round(rng.uniform(2, 30), 1))
        recipe: dict[str, object] = {
            "Sample": f"S{number:03d}",
            **amounts,
            "Route": rng.choice(["hydrothermal", "slurry", "spray"]),
            "Calcination T / K": float(rng.choice([673, 723, 773, 873])),
            "Calcination time (h)": float(rng.choice([2, 4, 6])),
        }
        for _ in range(3):
            kelvin = float(rng.choice([573, 623, 673]))
            score = 20 + 0.1 * (kelvin - 573) + amounts["V (mol%)"] + rng.normal(0, 2)
            records.append(
                {
                    **recipe,
                    "Reaction T / K": kelvin,
                    "Pressure (bar)": float(rng.choice([1.0, 2.0, 5.0])),
                    "Acrolein yield / %": round(float(np.clip(score, 0, 100)), 1),
                }
            )
    return pd.DataFrame(records)


def test_init_edit_check_fit_propose(tmp_path: Path, cli: Command) -> None:
    table, schema_file = tmp_path / "acrolein.xlsx", tmp_path / "acrolein.toml"
    acrolein_table().to_excel(table, index=False)
    (tmp_path / "config.toml").write_text(CONFIG)
    result = cli("schema", "init", table, "--out", schema_file)
    assert result.code == 0, result.err
    text = schema_file.read_text()
    assert "guess" in text

    # What a person would edit after reading the draft: a cap, and what is changed from one setting to the next.
    drafted = RecipeSchema.load(schema_file)
    (amounts,) = [b for b in drafted.blocks if b.kind == "amounts"]
    assert list(amounts.columns) == METALS
    assert amounts.unit == "mol%"
    edited = text.replace('kind = "amounts"', 'kind = "amounts"\nmax_total = 100.0', 1)
    schema_file.write_text(edited)
    schema = RecipeSchema.load(schema_file)
    assert len(schema.stages) == 2
    assert schema.performance.name == "Acrolein yield / %"
    assert schema.units()["Calcination T / K"] == "K"
    assert not [b for b in schema.blocks if b.kind == "fractions"]

    result = cli("schema", "check", table, "--schema", schema_file)
    assert result.code == 0, result.err
    assert "50 recipes" in result.out
    run = tmp_path / "run"
    result = cli("fit", table, "--schema", schema_file, "--config", tmp_path / "config.toml", "--out", run, "--quiet")
    assert result.code == 0, result.err
    result = cli("propose", run, "--set", "Reaction T / K=623", "--set", "Pressure (bar)=2", "--target", 45, "-n", 8)
    assert result.code == 0, result.err
    frame = pd.read_csv(run / "recipes.csv")
    assert len(frame) == 8
    assert list(frame.columns[:12]) == list(acrolein_table(2).columns)
    assert is_valid(frame, schema).all()
    assert (frame["Reaction T / K"] == 623).all()
    assert set(frame["Route"]) <= {"hydrothermal", "slurry", "spray"}
    # Of 50 recipes little is learned, and the search looks at the rim of it; but the numbers are kelvin, around the 673 to 873
    # of the table.
    assert frame["Calcination T / K"].between(400, 1300).all()
    assert 600 < frame["Calcination T / K"].median() < 950
