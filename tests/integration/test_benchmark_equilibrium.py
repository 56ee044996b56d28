"""The benchmark of equilibria runs, and compares the same states."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_equilibrium.py"


def test_benchmark_of_equilibria(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cantera", reason="Cantera comes with the extra 'dev'")
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    main = runpy.run_path(str(SCRIPT))["main"]
    main(["--states", "10", "200", "--rounds", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["carbon"], row["states"]) for row in rows] == [(False, 10), (False, 200), (True, 10), (True, 200)]
    for row in rows:
        assert row["largest_difference"] < 1e-6
        assert row["cantera_failed"] < 10
        assert row["ratio"] == pytest.approx(row["states_per_second"] / row["cantera_per_second"])
