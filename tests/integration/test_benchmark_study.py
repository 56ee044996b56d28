"""The benchmark of the study runs, and its reference, which knows nothing of the package, trains to the same R2."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_study.py"


@pytest.fixture(scope="module")
def script() -> dict[str, object]:
    return runpy.run_path(str(SCRIPT))


def test_cost(script: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    main = script["main"]
    main(["--repeats", "2", "--rounds", "1", "--epochs", "1", "--compile", "never", "--json"])  # type: ignore[operator]
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert cost["ratio"] == pytest.approx(cost["published_s"] / cost["ours_s"])
    assert cost["engine"].startswith("eager")


def test_both_ways_come_to_the_same_r2(script: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    main = script["main"]
    main(["--check", "--repeats", "2", "--check-epochs", "8", "--json"])  # type: ignore[operator]
    check = json.loads(capsys.readouterr().out)["check"]
    assert check["published_r2"] > 0.2
    assert check["ours_r2"] == pytest.approx(check["published_r2"], abs=0.06)
    assert check["published_epochs"] == check["ours_epochs"] == 8
