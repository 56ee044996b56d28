"""The demo runs the whole job; its training is cut short here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae.cli import demo
from tests.cli.conftest import Command


def test_demo_ends_with_recipes_and_says_that_it_is_simulated(
    tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_STEPS", 100)
    monkeypatch.setattr(demo, "_MEMBERS", 1)
    monkeypatch.setattr(demo, "_RECIPES", 60)
    result = cli("demo", "--out", tmp_path / "demo")
    assert result.code == 0, result.err
    assert "SIMULATED" in result.out
    recipes = tmp_path / "demo" / "run" / "recipes.csv"
    assert str(recipes) in result.out
    assert len(pd.read_csv(recipes)) == 10
    assert cli("demo", "--out", tmp_path / "demo").code == 2
