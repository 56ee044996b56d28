"""The benchmark of screening runs, and what it prints is what was done."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from pyro_hcvae import RecipeDesigner, TrainConfig
from tests.laboratories import SMALL, tiny_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_screening.py"


@pytest.mark.thorough
def test_benchmark_of_a_small_screening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    train = TrainConfig(members=2, steps=20, batch_size=16, compile="never")
    RecipeDesigner("drm", model=SMALL, train=train).fit(tiny_table(), out=tmp_path / "run", device="cpu")
    capsys.readouterr()
    main = runpy.run_path(str(SCRIPT))["main"]
    main([str(tmp_path / "run"), "--target", "60", "--draws", "500", "--set", "T=700", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["draws"], row["jobs"]) == (500, 1)
    assert row["draws"] >= row["valid"] >= row["novel"] >= row["allowed"] >= row["kept"] > 0
    assert row["draws_per_s"] == pytest.approx(500 / row["screening_s"])
    assert row["cpu_s"] > 0.5
    assert 100 < row["peak_mib"] < 4000
