"""`propose --screen`: what it writes, that it goes on, and which options it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.study import screening
from pyro_hcvae.study.screening import Counts
from tests.cli.conftest import Command

pytest.importorskip("pyarrow")


def test_a_screening_keeps_what_may_be_proposed(laboratory: Path, tmp_path: Path, cli: Command) -> None:
    out = tmp_path / "screened.parquet"
    asked = ("propose", laboratory / "run", "--set", "T=700", "--target", 60, "--screen", "-n", "1_000", "--out", out)
    constraints = ("--constraint", "exclude B", "--least-probability", 0.05)
    result = cli(*asked, *constraints)
    assert result.code == 0, result.err
    assert "1000 draws, " in result.out
    assert "1 of 1: 1000 draws, " in result.err
    frame, schema = pd.read_parquet(out), RecipeSchema.load(str(laboratory / "schema.toml"))
    assert len(frame)
    assert is_valid(frame, schema).all()
    assert frame["B"].eq(0).all()
    assert frame["proposal: probability to reach the target"].min() >= 0.05
    before = out.read_bytes()
    refused = cli(*asked)
    assert refused.code == 2
    assert "--force" in refused.err
    data = json.loads(cli(*asked, *constraints, "--force", "--json").out)
    assert (data["drawn"], data["kept"]) == (1000, len(frame))
    assert out.read_bytes() == before
    pending = cli("propose", laboratory / "run", "--target", 60, "-n", 2, "--pending", out, "--out", tmp_path / "r.csv")
    assert pending.code == 0, pending.err  # the file is a table of recipes like any other


def test_ctrl_c_says_how_to_go_on(
    laboratory: Path, tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> Counts:
        raise KeyboardInterrupt

    out = tmp_path / "screened.parquet"
    asked = ("propose", laboratory / "run", "--target", 60, "--screen", "-n", 500, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(screening, "_put_together", stop)
        result = cli(*asked)
    assert result.code == 130
    assert "the same command goes on" in result.err
    assert not out.exists()
    result = cli(*asked)
    assert result.code == 0
    assert "1 of 1: 500 draws" in result.err.splitlines()[0]  # nothing is drawn again
    assert [path.name for path in tmp_path.iterdir()] == ["screened.parquet"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--screen", "--out", "x.parquet"), "say with -n how many"),
        (("--screen", "-n", 10), "name a Parquet file with --out"),
        (("--screen", "-n", 10, "--out", "x.csv"), "ends in .parquet"),
        (("--screen", "-n", 10, "--out", "x.parquet", "--moves", 3), "--moves belongs to a search"),
        (("--screen", "-n", 10, "--out", "x.parquet", "--variety", 1), "--variety belongs to a search"),
        (("--screen", "-n", 10, "--out", "x.parquet", "--engine", "dusk"), "unknown engine 'dusk'"),
        (("--screen", "-n", 10, "--out", "x.parquet", "--address", "tcp://h:1"), "choose --engine dask or ray"),
        (("--screen", "-n", 10, "--out", "x.parquet", "--constraint", "same Red T"), "fix a value instead"),
        (("--jobs", 2), "--jobs belongs to a screening"),
        (("--engine", "dask"), "--engine belongs to a screening"),
        (("--least-probability", 0.1), "--least-probability belongs to a screening"),
    ],
)
def test_options_that_do_not_go_together(
    laboratory: Path, tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch, more: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("propose", laboratory / "run", "--target", 60, *more)
    assert result.code == 2
    assert said in result.err
    assert not list(tmp_path.iterdir())
