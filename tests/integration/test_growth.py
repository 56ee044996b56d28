"""The benchmark of growth runs, and what it prints is what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_growth.py"


@pytest.mark.slow
@pytest.mark.thorough
def test_growth_of_small_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    command = [sys.executable, str(SCRIPT), "--rows", "600", "1200", "--kinds", "csv", "--folder", str(tmp_path)]
    done = subprocess.run([*command, "--without-steps", "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [(row["kind"], row["table_rows"]) for row in found["rows"]] == [("csv", 600), ("csv", 1200)]
    for row in found["rows"]:
        assert row["float32_mib"] == row["table_rows"] * row["columns"] * 4 / 2**20
        assert row["import_peak_ratio"] == pytest.approx(row["import_peak_mib"] / row["float32_mib"])
        assert min(row["import_cpu_s"], row["fit_cpu_s"], row["encode_cpu_s"]) > 0
        assert row["step_ms"] is None
    assert found["slope"].keys() == {"csv"}
    assert not list(tmp_path.iterdir())
