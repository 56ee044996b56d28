"""The benchmark of sampling runs, and what it prints is what it says."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_sampling.py"


def test_benchmark_of_sampling(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    main(["--quick", "--json"])
    out = json.loads(capsys.readouterr().out)
    assert set(out) == {"rows", "memory"}
    assert [(row["members"], row["draws_per_row"], row["variant"]) for row in out["rows"]] == [
        (members, draws_per_row, variant)
        for members in (1, 2)
        for draws_per_row in (1, 10)
        for variant in ("floor", "draw", "decode", "sample", "as drawn")
    ]
    for row in out["rows"]:
        assert row["recipes_per_second"] > 0
        assert row["floor_ratio"] > 0
        assert row["floor_ratio"] == 1 or row["variant"] != "floor"
    if sys.platform == "linux":
        assert [entry["draws"] for entry in out["memory"]] == [50, 100]
        assert all(entry["median_growth_mb"] <= entry["peak_growth_mb"] < 500 for entry in out["memory"])

    main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(out["rows"]) + len(out["memory"])
    assert lines[0].split() == ["variant", "members", "draws", "a", "row", "recipes/s", "x", "floor"]
