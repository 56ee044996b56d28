"""The readings of the published study that were tried all run, and change what they say they change."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from pyro_hcvae.data.virtual_lab import VirtualLab

SCRIPT = Path(__file__).parents[2] / "scripts" / "study_readings.py"


def test_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    VirtualLab().experiments(recipes=40, rows_per_recipe=3, seed=0).to_csv(table, index=False)
    script = runpy.run_path(str(SCRIPT))
    script["main"]([str(table), "--repeats", "2", "--epochs", "2", "--json"])
    results = json.loads(capsys.readouterr().out)["results"]
    single = {entry["reading"]: entry["mean"] for entry in results if entry["model"] == "single"}
    assert set(single) == {"baseline", "rate-multiplied", "bounded", "clipped", "posterior-mean"}
    assert len(set(single.values())) == 5  # none of them is another one under a second name
    assert single["clipped"] > single["baseline"]
    gates = [(entry["reading"], entry["gate"]) for entry in results if entry["model"] != "single"]
    others = ("shared-both", "shared-trunk", "shared-mean-bce", "shared-prior-gate", "joint-through-gate")
    assert gates == [(reading, gate) for reading in others for gate in script["GATES"]]
    assert len({tuple(entry["scores"]) for entry in results}) == len(results)
    assert all(len(entry["scores"]) == 2 for entry in results)
