"""The study on the command line: from a table to its table and figure, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.study import paper
from pyro_hcvae.study.models import OURS, Model
from tests.cli.conftest import Command

QUICK = ("--repeats", 2, "--epochs", 2, "--steps", 3)
FEW = [
    ("row", Model("single", ("amounts",))),
    ("row", Model("shared", ("shared",), "soft")),
    ("composition", Model(OURS, (OURS,))),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    VirtualLab().experiments(recipes=15, rows_per_recipe=4, seed=0).to_csv(path, index=False)
    return path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "plan", lambda splits: [(by, model) for by, model in FEW if by in splits])


def test_from_a_table_to_a_page(table: Path, tmp_path: Path, few: None, cli: Command) -> None:
    out = tmp_path / "study"
    result = cli("study", "paper", table, *QUICK, "--out", out)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "Split by row: mean of the repeats +- sd"
    assert "0.8294 +- 0.0285" in next(line for line in lines if "single" in line)
    assert "composition-ours-0.1: 3 of 3" in result.err
    assert "split by row: shared, gate soft, KL 0.1: R2 metals" in result.err
    frame = pd.read_csv(out / "study.csv")
    assert list(frame["model"]) == ["single", "shared", "ours"]
    assert (out / "study.svg").read_text().startswith("<?xml")
    again = cli("study", "paper", table, *QUICK, "--out", out, "--json")
    data = json.loads(again.out)
    assert again.err == ""
    assert data["settings"]["repeats"] == 2
    assert data["summary"][0]["R2 metals"] == pytest.approx(frame["R2 metals"][0], abs=1e-4)
    one = cli("study", "paper", table, *QUICK, "--split", "composition", "--out", tmp_path / "one")
    assert "Split by row" not in one.out
    assert "Split by composition" in one.out


def test_without_matplotlib_the_table_is_there_all_the_same(
    table: Path, tmp_path: Path, few: None, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = cli("study", "paper", table, *QUICK, "--split", "row", "--out", tmp_path / "study")
    assert result.code == 0, result.err
    assert 'pip install "pyro-hcvae[plots]"' in result.out
    assert not (tmp_path / "study" / "study.svg").exists()


def test_what_makes_no_study_is_refused_before_any_work(
    table: Path, tmp_path: Path, laboratory: Path, cli: Command
) -> None:
    out = tmp_path / "study"
    result = cli("study", "paper", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--out", out)
    assert result.code == 2
    assert "schema 'tiny': the published study needs a [reaction]" in result.err
    result = cli("study", "paper", table, "--split", "laboratory", "--out", out)
    assert result.code == 2
    assert "--split 'laboratory': choose from row, recipe, composition" in result.err
    few = tmp_path / "few.csv"
    pd.read_csv(table).head(4).to_csv(few, index=False)
    result = cli("study", "paper", few, "--out", out)
    assert result.code == 2
    assert "are too few to train, validate and test on" in result.err
    result = cli("study", "paper", tmp_path / "none.csv", "--out", out)
    assert result.code == 2
    assert not out.exists()
    out.write_text("mine")
    result = cli("study", "paper", table, "--out", out)
    assert result.code == 2
    assert "is a file" in result.err
