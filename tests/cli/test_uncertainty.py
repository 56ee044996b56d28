"""`pyro-hcvae uncertainty`: a folder of tables and draws, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.analysis.inference_data import read_netcdf
from pyro_hcvae.cli.uncertainty import FILES, NUMBERS, PERFORMANCE, STRUCTURES
from tests.cli.conftest import Command
from tests.laboratories import tiny_frame

QUICK = ("--draws", "4", "--repeats", "2", "--refits", "2")


def whole_recipes(tmp_path: Path) -> Path:
    path = tmp_path / "recipes.csv"
    tiny_frame(recipes=3, rows_per_recipe=1).drop(columns="Yield").to_csv(path, index=False)
    return path


def test_around_the_recipes_of_a_table(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "uncertain"
    result = cli(
        "uncertainty", laboratory / "run", "--recipes", whole_recipes(tmp_path), "--target", 70, "--out", out, *QUICK
    )
    assert result.code == 0, result.err
    assert "epistemic %" in result.out
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    numbers, structures, performance = (pd.read_csv(out / name) for name in (NUMBERS, STRUCTURES, PERFORMANCE))
    np.testing.assert_allclose(numbers[["aleatoric", "latent", "epistemic"]].sum(axis=1), numbers["variance"])
    assert len(performance) == structures["recipe"].nunique() == 3
    assert (performance["value"] == 70).all()
    assert (performance["latent"] == 0).all()
    draws = read_netcdf(out / "draws.nc")
    assert dict(draws["posterior"].sizes)["draw"] == 4
    assert list(draws["observed_data"]["recipe"].values) == list(performance["recipe"])


def test_for_conditions_alone_and_around_proposals(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    asked = ("uncertainty", laboratory / "run", "--set", "T=600", "--target", 60)
    result = cli(*asked, "--out", tmp_path / "alone", *QUICK, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["recipes"] == 1
    assert said["performance"][0]["latent"] > 0  # which recipe is drawn
    assert all(row["value"] is None for row in said["numbers"])
    assert (
        said["structures"] == json.loads(cli(*asked, "--out", tmp_path / "again", *QUICK, "--json").out)["structures"]
    )

    result = cli(*asked, "--propose", 2, "--out", tmp_path / "proposed", *QUICK)
    assert result.code == 0, result.err
    numbers = pd.read_csv(tmp_path / "proposed" / NUMBERS)
    assert set(numbers["recipe"]) == {1, 2}
    assert (numbers["value"] > 0).all()


def test_a_new_laboratory_is_reckoned_with(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    asked = ("uncertainty", laboratory / "run", "--set", "T=600", "--target", 60, *QUICK)
    for unseen in ("recipe", "laboratory"):
        assert cli(*asked, "--unseen", unseen, "--out", tmp_path / unseen).code == 0
    one, other = (pd.read_csv(tmp_path / x / PERFORMANCE)["variance"] for x in ("recipe", "laboratory"))
    assert (one != other).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --recipes TABLE, or --target"),
        (("--recipes", "recipes.csv", "--set", "T=600"), "leave out --set and --propose"),
        (("--recipes", "recipes.csv", "--propose", "2"), "leave out --set and --propose"),
        (("--set", "Temp=600", "--target", "70"), "unknown condition 'Temp'"),
        (("--set", "T", "--target", "70"), "write NAME=VALUE"),
        (("--target", "170"), "must lie within 0 to 100"),
        (("--recipes", "nowhere.csv"), "nowhere.csv"),
        (("--recipes", "open.csv"), "row 3 leaves 'metals' open"),
        (("--recipes", "empty.csv"), "no recipe: ask with --set and --target"),
    ],
)
def test_wrong_input_leaves_nothing_behind(
    cli: Command,
    laboratory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tiny_frame(recipes=3, rows_per_recipe=1)
    whole_recipes(tmp_path)
    rows.assign(A=[rows["A"].iloc[0], np.nan, rows["A"].iloc[2]]).to_csv("open.csv", index=False)
    rows[["T"]].to_csv("empty.csv", index=False)
    result = cli("uncertainty", laboratory / "run", *arguments, "--out", "out", *QUICK)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("out").exists()


def test_what_is_there_is_not_overwritten(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    asked = ("uncertainty", laboratory / "run", "--target", 60, *QUICK)
    (tmp_path / "file").write_text("mine")
    for out, message in ((tmp_path / "file", "is a file: name a folder"), (laboratory / "run", "is a run")):
        result = cli(*asked, "--out", out)
        assert result.code == 2
        assert message in result.err
    (tmp_path / STRUCTURES).write_text("mine")
    result = cli(*asked, "--out", tmp_path)
    assert result.code == 2
    assert "exists already" in result.err
    assert (tmp_path / STRUCTURES).read_text() == "mine"
    assert cli(*asked, "--out", tmp_path, "--force").code == 0
    assert "entropy" in (tmp_path / STRUCTURES).read_text()
