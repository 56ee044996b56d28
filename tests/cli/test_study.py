"""The study commands: what they write, that they go on where they stopped, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae.study import simulated, strategies
from tests.cli.conftest import Command

QUICK = ("study", "loop", "--rounds", 2, "--batch", 3, "--seeds", 2)


@pytest.fixture(autouse=True)
def no_long_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "simulated_optimum", lambda: 57.5)


def test_a_study_writes_every_round_and_says_that_it_is_simulated(tmp_path: Path, cli: Command) -> None:
    out = tmp_path / "loop"
    result = cli(*QUICK, "--strategy", "random", "--strategy", "nearest", "--out", out)
    assert result.code == 0, result.err
    assert "SIMULATED" in result.out
    assert "random, seed 1, round 2" in result.err
    frame = pd.read_csv(out / "rounds.csv")
    assert len(frame) == 2 * 2 * 3
    assert frame.groupby(["strategy", "seed"])["best true"].apply(lambda x: x.is_monotonic_increasing).all()
    assert (frame["regret"] - (57.5 - frame["best true"])).abs().max() < 1e-3
    start = frame[frame["round"] == 0]
    assert len(start[["seed", "best true"]].drop_duplicates()) == 2  # both strategies start from the same table


def test_a_study_goes_on_with_what_is_missing(tmp_path: Path, cli: Command) -> None:
    out, whole = tmp_path / "loop", tmp_path / "whole"
    assert cli(*QUICK, "--strategy", "random", "--out", whole).code == 0
    assert (
        cli("study", "loop", "--rounds", 2, "--batch", 3, "--seeds", 1, "--strategy", "random", "--out", out).code == 0
    )
    done = pd.read_csv(out / "rounds.csv")
    broken = pd.concat([done, done.iloc[:2].assign(seed=1)])  # seed 1 was interrupted after its first round
    broken.to_csv(out / "rounds.csv", index=False)
    result = cli(*QUICK, "--strategy", "random", "--out", out)
    assert "seed 0" not in result.err
    assert "seed 1, round 2" in result.err
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "rounds.csv").drop(columns="cpu_s"), pd.read_csv(whole / "rounds.csv").drop(columns="cpu_s")
    )
    assert cli(*QUICK, "--strategy", "random", "--out", out).err == ""


def test_json_holds_settings_records_and_summary(tmp_path: Path, cli: Command) -> None:
    result = cli(*QUICK, "--strategy", "random", "--out", tmp_path / "loop", "--json")
    data = json.loads(result.out)
    assert data["settings"]["optimum_estimate"] == 57.5
    assert data["settings"]["conditions"]["Reaction T"] == 650
    assert len(data["records"]) == 6
    last = [row["regret"] for row in data["records"] if row["round"] == 2]
    assert data["summary"]["random"]["regret"] == pytest.approx(sum(last) / 2, abs=1e-3)


def test_other_settings_other_folders_and_damage_are_refused(tmp_path: Path, cli: Command) -> None:
    out = tmp_path / "loop"
    assert cli(*QUICK, "--strategy", "random", "--out", out).code == 0
    result = cli("study", "loop", "--rounds", 3, "--batch", 3, "--strategy", "random", "--out", out)
    assert result.code == 2
    assert "holds a study with rounds = 2, not 3" in result.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "holds no study" in cli(*QUICK, "--strategy", "random", "--out", tmp_path / "full").err
    assert "is a file" in cli(*QUICK, "--strategy", "random", "--out", tmp_path / "full" / "thesis.txt").err
    (out / "rounds.csv").write_text("a,b\n1,2\n")
    assert "damaged" in cli(*QUICK, "--strategy", "random", "--out", out).err
    (out / "settings.json").write_text("{")
    result = cli(*QUICK, "--strategy", "random", "--out", out)
    assert result.code == 2
    assert "damaged" in result.err


def test_a_missing_library_is_named_before_any_work(
    tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "find_spec", lambda name: None)
    result = cli(*QUICK, "--strategy", "random", "--strategy", "botorch", "--out", tmp_path / "loop")
    assert result.code == 2
    assert 'pip install "pyro-hcvae[study]"' in result.err
    assert not (tmp_path / "loop").exists()
    monkeypatch.setattr(strategies, "STRATEGIES", dict.fromkeys(strategies.STRATEGIES, strategies.Marginal))
    once = ("study", "loop", "--rounds", 1, "--batch", 3, "--seeds", 1, "--members", 1, "--steps", 1)
    own = cli(*once, "--out", tmp_path / "loop")
    assert "Left out: hcvae-botorch, botorch" in own.err
    assert set(pd.read_csv(tmp_path / "loop" / "rounds.csv")["strategy"]) == {"hcvae", "nearest", "random"}


def test_an_unknown_strategy_lists_the_known_ones(tmp_path: Path, cli: Command) -> None:
    result = cli(*QUICK, "--strategy", "luck", "--out", tmp_path / "loop")
    assert result.code == 2
    assert "unknown strategy 'luck': choose from hcvae" in result.err


def sweep(laboratory: Path, *more: object) -> tuple[object, ...]:
    files = ("--schema", laboratory / "schema.toml", "--config", laboratory / "config.toml")
    return "study", "sweep", laboratory / "table.csv", *files, "--steps", 40, *more


def test_a_sweep_ends_in_settings_that_fit_takes(laboratory: Path, tmp_path: Path, cli: Command) -> None:
    pytest.importorskip("optuna")
    out = tmp_path / "sweep"
    (tmp_path / "space.toml").write_text('learning_rate = "1e-3..2e-2:log"\n')
    varied = ("--space", tmp_path / "space.toml", "--vary", "hidden=8|16")
    result = cli(*sweep(laboratory, *varied, "--trials", 2, "--out", out))
    assert result.code == 0, result.err
    assert "2 complete" in result.out
    assert f"fit TABLE --config {out / 'config.toml'}" in result.out
    assert "2 of 2: best -" in result.err
    again = cli(*sweep(laboratory, *varied, "--trials", 3, "--out", out, "--json"))
    data = json.loads(again.out)
    assert data["states"] == {"complete": 3}
    assert data["best"]["log p recipe [nats]"] == max(row["log p recipe [nats]"] for row in data["trials"])
    assert data["cpu_s"] == pytest.approx(pd.read_csv(out / "trials.csv")["cpu_s"].sum(), abs=0.01)
    files = (laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config", out / "config.toml")
    assert cli("fit", *files, "--out", tmp_path / "run", "--quiet").code == 0
    other = cli(*sweep(laboratory, "--vary", "steps=10..20", "--out", out))
    assert other.code == 2
    assert "holds a sweep with vary" in other.err


def test_wrong_settings_of_a_sweep_are_refused_before_anything_is_written(
    laboratory: Path, tmp_path: Path, cli: Command
) -> None:
    pytest.importorskip("optuna")
    for text, said in (
        ("learning_rat=1..2", "did you mean 'learning_rate'"),
        ("steps=0..9", "greater than or equal to 1"),
    ):
        result = cli(*sweep(laboratory, "--vary", text, "--out", tmp_path / "sweep"))
        assert result.code == 2
        assert said in result.err
    assert cli(*sweep(laboratory, "--engine", "dsk", "--out", tmp_path / "sweep")).code == 2
    assert not (tmp_path / "sweep").exists()
