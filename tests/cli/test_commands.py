"""The commands on a real run: what they write, and that seeds and files keep their word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.data.features import indicators
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.posterior.search import SearchConfig
from tests.cli.conftest import Command, Result


def test_fit_leaves_a_whole_run_folder(laboratory: Path) -> None:
    run = laboratory / "run"
    expected = {
        "config.toml", "schema.toml", "codec.json", "experiments.csv", "environment.json", "history.csv",
        "import_report.txt", "stopped.safetensors", "weights.safetensors",
    }  # fmt: skip
    assert expected <= {p.name for p in run.iterdir()}
    assert not (run / "checkpoint.safetensors").exists()
    environment = json.loads((run / "environment.json").read_text())
    assert {"torch", "pyro-ppl", "pyro-hcvae"} <= set(environment["versions"])
    assert len(environment["data_sha256"]) == 64


def test_a_reloaded_run_has_the_very_table_and_weights(laboratory: Path) -> None:
    designer = RecipeDesigner.load(laboratory / "run")
    table = RecipeTable.read(laboratory / "table.csv", RecipeSchema.load(laboratory / "schema.toml"))
    pd.testing.assert_frame_equal(designer.table.frame, table.frame, check_exact=True, check_names=False)
    assert designer.table.header == table.header


def test_members_as_they_stopped_are_kept_beside_those_of_all_rows(laboratory: Path, tmp_path: Path) -> None:
    designer = RecipeDesigner.load(laboratory / "run")
    designer.save(tmp_path / "copy")
    again = RecipeDesigner.load(tmp_path / "copy")
    for ours, theirs in ((again, designer), (again.before_refit(), designer.before_refit())):
        for one, other in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
            assert torch.equal(one, other)
    score = designer.score(designer.table, draws=16)
    assert score > designer.before_refit().score(designer.table, draws=16)  # of rows that they had set aside, too
    assert designer.score(designer.table, draws=16) == score
    # Without the file nobody is left who has not seen what was set aside.
    (tmp_path / "copy" / "stopped.safetensors").unlink()
    with pytest.raises(InputError, match="stopped.safetensors is missing"):
        RecipeDesigner.load(tmp_path / "copy")
    # Runs of earlier versions, and those with refit = false, have but one kind.
    weights = tmp_path / "copy" / "weights.safetensors"
    save_file(load_file(weights), weights, {"format": "pyro-hcvae 3"})
    alone = RecipeDesigner.load(tmp_path / "copy")
    assert alone.before_refit().network is alone.network


def test_fit_can_be_repeated_to_the_same_bits(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    result = cli(
        "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config", laboratory / "config.toml",
        "--out", tmp_path / "again", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert json.loads(result.out)["recipes"] == 40
    for name in ("stopped.safetensors", "weights.safetensors"):
        first, second = ((folder / name).read_bytes() for folder in (laboratory / "run", tmp_path / "again"))
        assert first == second


def test_fit_for_unseen_laboratories_takes_their_settings(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    result = cli(
        "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config", laboratory / "config.toml",
        "--unseen", "laboratory", "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "left so: steps\n" in result.err
    settings, usual = (
        tomllib.loads((at / "config.toml").read_text())["train"] for at in (tmp_path / "run", laboratory / "run")
    )
    assert settings["validation_group"] == "laboratory"
    assert settings["condition_jitter"] > usual["condition_jitter"]
    assert settings["steps"] == usual["steps"]  # config.toml says so


def test_fit_shows_progress_and_the_import_report(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    result = cli(
        "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--members", 1, "--steps", 60,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.code == 0
    assert "40 recipes" in result.err
    assert "step 60 of 60" in result.err
    assert f"Run folder: {tmp_path / 'run'}" in result.out


def test_propose_writes_distinct_new_valid_recipes_on_the_grid(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    out = tmp_path / "recipes.csv"
    result = cli("propose", laboratory / "run", "--set", "T=700", "--target", 80, "-n", 12, "--out", out)
    assert result.code == 0, result.err
    frame = pd.read_csv(out)
    schema = RecipeSchema.load(laboratory / "schema.toml")
    assert len(frame) == 12
    own = pd.read_csv(laboratory / "table.csv")
    assert list(frame.columns[: len(own.columns)]) == list(own.columns)
    assert frame["Yield"].isna().all()
    assert (frame["T"] == 700).all()
    recipes = frame[list(schema.recipe_columns)]
    assert not recipes.duplicated().any()
    assert is_valid(recipes, schema).all()
    known = own[list(schema.recipe_columns)].round(6).astype(str).agg("|".join, axis=1)
    assert not recipes.round(6).astype(str).agg("|".join, axis=1).isin(known).any()
    assert np.allclose(recipes[["A", "B", "C"]] * 2, (recipes[["A", "B", "C"]] * 2).round())
    intervals = pd.read_csv(tmp_path / "recipes_intervals.csv")
    assert set(intervals["rank"]) == set(range(1, 13))
    assert intervals["probability"].between(0, 1).all()
    spread = intervals.dropna(subset=["low"])
    assert (spread["low"] <= spread["median"]).all()
    assert (spread["median"] <= spread["high"]).all()
    reach = frame["proposal: probability to reach the target"]
    assert reach.between(0, 1).all()


def test_proposals_can_be_appended_to_the_table_and_learned_from(
    laboratory: Path, cli: Command, tmp_path: Path
) -> None:
    out = tmp_path / "recipes.csv"
    assert cli("propose", laboratory / "run", "--target", 80, "-n", 4, "--out", out).code == 0
    measured = pd.read_csv(out).assign(Yield=[71.0, 64.5, 80.2, 55.0])
    both = pd.concat([pd.read_csv(laboratory / "table.csv"), measured])
    both.to_csv(tmp_path / "both.csv", index=False)
    result = cli("schema", "check", tmp_path / "both.csv", "--schema", laboratory / "schema.toml", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["facts"]["recipes"] == 44


def test_propose_is_fixed_by_its_seed(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    texts = []
    for i, seed in enumerate((3, 3, 4)):
        out = tmp_path / f"{i}.csv"
        assert cli("propose", laboratory / "run", "--target", 60, "-n", 5, "--seed", seed, "--out", out).code == 0
        texts.append(out.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_the_help_tells_the_usual_length_of_a_search(
    cli: Command, quick_proposals: dict[tuple[object, str], tuple[int, ...]]
) -> None:
    usual = SearchConfig(*quick_proposals[SearchConfig.__init__, "__defaults__"])
    words = " ".join(re.sub("[│|]", " ", cli("propose", "--help").out).split())
    assert f"(default: {usual.moves})" in words


def test_propose_speaks_json(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    result = cli("propose", laboratory / "run", "--target", 60, "-n", 3, "--out", tmp_path / "r.csv", "--json")
    data = json.loads(result.out)
    assert len(data["recipes"]) == 3
    assert data["assumed"] == {"T": data["conditions"]["T"]}
    assert data["drawn"] >= data["valid"] >= data["novel"] > 0


def test_sample_writes_unfiltered_draws_in_the_tables_columns(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    table = pd.read_csv(laboratory / "table.csv")
    table.head(6).to_csv(tmp_path / "conditions.csv", index=False)
    outs = []
    for name in ("a.csv", "b.csv"):
        result = cli(
            "sample", laboratory / "run", "--conditions", tmp_path / "conditions.csv", "--draws-per-row", 5, "--seed", 2,
            "--out", tmp_path / name,
        )  # fmt: skip
        assert result.code == 0, result.err
        outs.append(pd.read_csv(tmp_path / name))
    pd.testing.assert_frame_equal(*outs)
    draws = outs[0]
    assert list(draws.columns) == list(table.columns)
    assert len(draws) == 30
    assert (draws["T"].to_numpy() == table["T"].head(6).repeat(5).to_numpy()).all()
    assert (draws["Yield"].to_numpy() == table["Yield"].head(6).repeat(5).to_numpy()).all()
    assert draws["A"].round(1).ne(draws["A"]).any()  # no grid: what is near to no value of the table stays as drawn


def test_sample_writes_values_of_the_table_unless_told_to_leave_them(
    laboratory: Path, cli: Command, tmp_path: Path
) -> None:
    designer = RecipeDesigner.load(laboratory / "run")
    usual, drawn = tmp_path / "usual.csv", tmp_path / "drawn.csv"
    options = ["--conditions", laboratory / "table.csv", "--draws-per-row", 3, "--out"]
    assert cli("sample", laboratory / "run", *options, usual).code == 0
    assert cli("sample", laboratory / "run", *options, drawn, "--as-drawn").code == 0
    columns = list(designer.schema.recipe_columns)
    made, raw = pd.read_csv(usual)[columns], pd.read_csv(drawn)[columns]
    assert not made.equals(raw)
    pd.testing.assert_frame_equal(made, designer.known.written(raw), check_dtype=False)
    recurring = designer.known.written.recurring["metals"].values
    assert np.isin(made["A"], recurring).sum() > np.isin(raw["A"], recurring).sum() == 0


def test_draws_can_borrow_their_structure(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    designer, out = RecipeDesigner.load(laboratory / "run"), tmp_path / "draws.csv"
    known = {tuple(row) for row in indicators(designer.schema, designer.table.frame)}
    options = ["sample", laboratory / "run", "--conditions", laboratory / "table.csv", "--out", out, "--force"]
    shares = []
    for share in ("0", "1"):
        assert cli(*options, "--borrow", share).code == 0
        shares.append(np.mean([tuple(row) in known for row in indicators(designer.schema, pd.read_csv(out))]))
    assert shares[0] < 0.95
    assert shares[1] == 1
    assert cli(*options, "--borrow", "1.5").code == 2


def test_sample_says_why_nothing_is_compiled(
    laboratory: Path, cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr("pyro_hcvae.designer.worth_compiling", lambda draws: draws == 4096)
    (tmp_path / "one.csv").write_text("".join((laboratory / "table.csv").read_text().splitlines(keepends=True)[:2]))
    options = ["--conditions", tmp_path / "one.csv", "--draws-per-row", 4096, "--out", tmp_path / "draws.csv"]
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        refused = cli("sample", laboratory / "run", *options, "--compile", "always")
        assert refused.code == 2
        assert "set compilation (--compile) to auto" in " ".join(refused.err.split())
        assert not (tmp_path / "draws.csv").exists()
        result = cli("sample", laboratory / "run", *options)
    assert result.code == 0
    assert "draws are not compiled" in result.err
    assert len(pd.read_csv(tmp_path / "draws.csv")) == 4096


def test_draws_after_a_reload_are_the_same_bits(laboratory: Path) -> None:
    asked = RecipeDesigner.load(laboratory / "run").table.frame.head(20)
    first, second = (pd.concat(RecipeDesigner.load(laboratory / "run").sample(asked, 7, seed=1)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_complete_fills_open_cells_and_keeps_given_ones(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    partial = pd.DataFrame(
        [
            {"A": 4.2, "B": 0.0, "C": 0.0, "T": 650.0, "Yield": 60.0},
            {"X": 1.0, "Y": 0.0, "Z": 0.0, "T": 700.0, "Yield": np.nan, "Method": "dry"},
        ]
    )
    partial.to_csv(tmp_path / "partial.csv", index=False)
    result = cli("complete", laboratory / "run", tmp_path / "partial.csv", "-n", 6, "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert [r["row"] for r in rows] == [2, 3]
    assert all(1 <= r["effective_sample_size"] <= 2000 for r in rows)
    done = pd.read_csv(tmp_path / "partial_completed.csv")
    assert len(done) == 12
    assert (done["A"].head(6) == 4.2).all()
    assert (done["X"].tail(6) == 1.0).all()
    assert (done["Method"].tail(6) == "dry").all()
    schema = RecipeSchema.load(laboratory / "schema.toml")
    assert is_valid(done, schema).all()
    assert (done["proposal: completes row"].head(6) == 2).all()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_complete_carries_over_what_names_a_row(laboratory: Path, cli: Command, tmp_path: Path, kind: str) -> None:
    cells = [{"No.": "007", "Book": "12/3", "A": 4.2, "T": 650.0}, {"No.": "8b", "Book": None, "X": 1.0, "T": 700.0}]
    frame, path = pd.DataFrame(cells), tmp_path / f"partial.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_excel(path, index=False)
    arguments = ("complete", laboratory / "run", path, "-n", 2, "--out", tmp_path / "done.csv")
    result = cli(*arguments)
    assert result.code == 2
    assert "'Book' is not in schema" in result.err
    result = cli(*arguments, "--drop-column", "Book")
    assert result.code == 0, result.err
    done = pd.read_csv(tmp_path / "done.csv", dtype=str)
    own = list(pd.read_csv(laboratory / "table.csv").columns)
    assert list(done.columns[: len(own) + 1]) == [*own, "Book"]  # the table's own columns, then what else the rows hold
    assert done["No."].tolist() == ["007", "007", "8b", "8b"]
    assert done["Book"].tolist()[:2] == ["12/3"] * 2
    assert done["Book"].isna().tolist() == [False, False, True, True]


def test_schema_show_and_init(cli: Command, laboratory: Path, tmp_path: Path) -> None:
    assert "contact time" in cli("schema", "show", "drm").out
    toml = cli("schema", "show", laboratory / "schema.toml", "--toml").out
    assert RecipeSchema.from_toml(toml) == RecipeSchema.load(laboratory / "schema.toml")
    out = tmp_path / "draft.toml"
    assert cli("schema", "init", laboratory / "table.csv", "--out", out).code == 0
    assert RecipeSchema.load(out).performance.name == "Yield"
    assert cli("schema", "init", laboratory / "table.csv", "--out", out).code == 2


def evaluate(laboratory: Path, cli: Command, *arguments: object) -> Result:
    return cli(
        "evaluate", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config",
        laboratory / "config.toml", "--folds", 2, "--steps", 40, "--draws", 2, *arguments,
    )  # fmt: skip


@pytest.mark.usefixtures("small_forests")
def test_evaluate_reports_every_fold_of_every_generator(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    generators = ("--generator", "hcvae", "--generator", "marginal")
    result = evaluate(laboratory, cli, *generators, "--first-seed", 3, "--out", tmp_path / "scores.csv", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert list(data["summary"]) == ["hcvae", "marginal", "real recipes"]
    summary = data["summary"]["hcvae"]
    stages = [f"log p {s} [nats]" for s in ("metal", "support", "treatment")]
    assert summary["log p recipe [nats]"]["mean"] == pytest.approx(sum(summary[s]["mean"] for s in stages), abs=1e-4)
    for name, scores in data["summary"].items():
        assert 0 <= scores["valid"]["mean"] <= 1
        assert ("log p recipe [nats]" in scores) == (name == "hcvae")
    assert data["summary"]["marginal"]["novel"]["mean"] == 0
    # Every fold is one row, and the file holds what was printed.
    names = ["real recipes", "hcvae", "marginal"]
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert rows["generator"].tolist() == names * 2
    assert rows["fold"].tolist() == [0] * 3 + [1] * 3
    assert set(rows["seed"]) == {3}
    assert [row["valid"] for row in data["scores"]] == pytest.approx(rows["valid"].tolist())


@pytest.mark.usefixtures("small_forests")
def test_evaluate_says_what_it_scored(laboratory: Path, cli: Command) -> None:
    result = evaluate(laboratory, cli, "--generator", "nearest", "--part", "reserve", "--by", "leaking-rows")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert (
        "split by leaking-rows (LEAKING: rows of one recipe on both sides), part reserve, 2 folds x 1 seeds" in lines[0]
    )
    assert [line for line in lines[1:] if not line.startswith("  ")] == ["real recipes", "nearest"]
    assert any(line.startswith("  novel, valid and unique ") for line in lines)
    assert "seed 0, fold 1, nearest: valid " in result.err


def test_evaluate_can_ask_for_densities_alone(laboratory: Path, cli: Command) -> None:
    result = evaluate(laboratory, cli, "--densities", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert [row["generator"] for row in data["scores"]] == ["hcvae"] * 2
    assert "log p recipe [nats]" in data["summary"]["hcvae"]
    assert "valid" not in data["summary"]["hcvae"]


def test_evaluate_names_the_generators_that_there_are(laboratory: Path, cli: Command) -> None:
    result = evaluate(laboratory, cli, "--generator", "markov")
    assert result.code == 2
    assert "unknown generator 'markov'" in result.err
    assert "hcvae, hcvae-guided, hcvae-borrowing, hcvae-both, marginal" in result.err


def test_help_and_version(cli: Command) -> None:
    for command in ("demo", "fit", "sample", "propose", "complete", "evaluate", "study loop", "study sweep"):
        result = cli(*command.split(), "--help")
        assert result.code == 0
        assert "Examples" in result.out
    assert "pyro-hcvae 0" in cli("--version").out


def test_what_a_partial_table_gives_wrongly_is_said(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    pd.DataFrame([{"X": 0.5, "Y": 0.4, "Z": 0.0, "T": 650.0, "Yield": 60.0}]).to_csv(tmp_path / "p.csv", index=False)
    result = cli("complete", laboratory / "run", tmp_path / "p.csv", "-n", 2)
    assert result.code == 0
    assert "divided by their sum" in result.err


def test_a_check_writes_the_whole_report_also_when_there_are_errors(
    laboratory: Path, cli: Command, tmp_path: Path
) -> None:
    table = pd.read_csv(laboratory / "table.csv")
    table.loc[[3, 5, 7, 9, 11, 13], "A"] = -1.0
    table.to_csv(tmp_path / "t.csv", index=False)
    arguments = (
        "schema",
        "check",
        tmp_path / "t.csv",
        "--schema",
        laboratory / "schema.toml",
        "--out",
        tmp_path / "f.csv",
    )
    assert cli(*arguments).code == 2
    findings = pd.read_csv(tmp_path / "f.csv")
    assert findings.loc[findings["code"] == "negative", "row"].tolist() == [5, 7, 9, 11, 13, 15]
    result = cli(*arguments, "--force", "--json")
    assert result.code == 2
    assert json.loads(result.out)["usable"] is False


def test_columns_left_out_of_a_fit_stay_left_out(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    table = pd.read_csv(laboratory / "table.csv").assign(Notes="as usual")
    table.to_csv(tmp_path / "t.csv", index=False)
    run = tmp_path / "run"
    arguments = ("--schema", laboratory / "schema.toml", "--config", laboratory / "config.toml", "--steps", 20)
    assert cli("fit", tmp_path / "t.csv", *arguments, "--drop-column", "Notes", "--out", run, "--quiet").code == 0
    table.head(2).to_csv(tmp_path / "partial.csv", index=False)
    assert cli("complete", run, tmp_path / "partial.csv", "-n", 1).code == 0


def test_refitting_forgets_the_first_table() -> None:
    from tests.laboratories import SMALL, tiny_table

    train = TrainConfig(members=1, steps=5, batch_size=8)
    designer = RecipeDesigner(tiny_table().schema, model=SMALL, train=train).fit(tiny_table())
    first = designer.predictor
    assert designer.fit(tiny_table(seed=1)).predictor is not first


def test_a_designer_that_was_not_fitted_says_so() -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        RecipeDesigner("drm").propose({}, 80)


def test_what_a_library_prints_does_not_get_among_what_a_command_says() -> None:
    program = """
import os
from pyro_hcvae.cli import main

@main.app.command("noisy")
def noisy() -> None:
    os.write(1, b"from a library\\n")
    print("from the command")

main.run()
"""
    done = subprocess.run([sys.executable, "-c", program, "noisy"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["from the command"]
    assert "from a library" in done.stderr
