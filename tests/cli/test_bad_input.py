"""Wrong input: one clear message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Command


def refused(cli: Command, *arguments: object) -> str:
    result = cli(*arguments)
    assert result.code == 2, (result.code, result.out, result.err)
    assert "Traceback" not in result.err
    assert result.err.strip()
    return result.err


def spoiled(laboratory: Path, folder: Path, spoil) -> Path:  # type: ignore[no-untyped-def]
    """Path of the table after a change to its text."""
    path = folder / "spoiled.csv"
    path.write_text(spoil((laboratory / "table.csv").read_text()))
    return path


def in_cell(row: int, column: str, text: str):  # type: ignore[no-untyped-def]
    def change(table: str) -> str:
        lines = [line.split(",") for line in table.splitlines()]
        lines[row - 1][lines[0].index(column)] = text
        return "\n".join(map(",".join, lines)) + "\n"

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (in_cell(5, "A", ""), ["row 5", "'A'", "empty", "--skip-bad-rows"]),
        (in_cell(7, "T", "hot"), ["row 7", "'T'", "hot", "--skip-bad-rows"]),
        (in_cell(3, "B", "-2"), ["row 3", "'B'", "-2", "negative"]),
        (in_cell(4, "T", "inf"), ["row 4", "'T'", "infinite"]),
        (in_cell(6, "Method", "moist"), ["row 6", "'Method'", "moist", "wet, dry"]),
        (in_cell(8, "Yield", "140"), ["row 8", "'Yield'", "140", "0 to 100"]),
        (in_cell(9, "T", "1,200.5"), ["row 9", "header"]),
        (lambda t: t.replace("Yield", "Yeild", 1), ["'Yield'", "'Yeild'"]),
        (lambda t: t.replace("No.", "Number", 1), ["'Number'", "--drop-column"]),
        (lambda t: t.splitlines()[0] + "\n", ["no row of data"]),
        (lambda t: "", ["is empty"]),
        (lambda t: re.sub(r"(\d)\.(\d)", r"\1,\2", t.replace(",", ";")), ["decimal comma", "--decimal ,"]),
    ],
)
def test_tables(laboratory: Path, cli: Command, tmp_path: Path, spoil, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    path = spoiled(laboratory, tmp_path, spoil)
    message = refused(cli, "fit", path, "--schema", laboratory / "schema.toml", "--out", tmp_path / "run")
    for word in words:
        assert word in message
    assert not (tmp_path / "run").exists()


def test_thousands_separators_are_named_and_can_be_read(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    table = pd.read_csv(laboratory / "table.csv").astype({"T": str})
    table.loc[0, "T"] = "1,200.0"
    table.to_csv(tmp_path / "t.csv", index=False)
    arguments = ("schema", "check", tmp_path / "t.csv", "--schema", laboratory / "schema.toml")
    message = refused(cli, *arguments)
    assert "row 2" in message
    assert "--thousands" in message
    assert cli(*arguments, "--thousands", ",").code == 0


def test_other_encodings_are_named_and_can_be_read(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    text = (laboratory / "table.csv").read_text().replace("No.", "N\u00b0", 1)
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    arguments = ("schema", "check", tmp_path / "t.csv", "--schema", laboratory / "schema.toml")
    assert "--encoding" in refused(cli, *arguments)
    assert cli(*arguments, "--encoding", "cp1252", "--drop-column", "N\u00b0").code == 0


def test_bad_rows_can_be_left_out(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    path = spoiled(laboratory, tmp_path, in_cell(5, "A", "x"))
    result = cli("schema", "check", path, "--schema", laboratory / "schema.toml", "--skip-bad-rows")
    assert result.code == 0
    assert "120 rows read, 119 kept" in result.out


def test_missing_places(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    assert "no such file" in refused(cli, "fit", tmp_path / "none.csv", "--out", tmp_path / "run")
    assert "no such run folder" in refused(cli, "propose", tmp_path / "none", "--target", 50)
    assert "is not a run folder" in refused(cli, "propose", tmp_path, "--target", 50)
    assert "no schema 'dmr'" in refused(
        cli, "fit", laboratory / "table.csv", "--schema", "dmr", "--out", tmp_path / "run"
    )
    message = refused(
        cli, "sample", laboratory / "run", "--conditions", laboratory / "table.csv", "--out", tmp_path / "no" / "d.csv"
    )
    assert "there is no folder" in message


def test_a_run_is_never_overwritten(laboratory: Path, cli: Command) -> None:
    before = (laboratory / "run" / "weights.safetensors").read_bytes()
    message = refused(
        cli, "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--out", laboratory / "run"
    )
    assert "holds a run already" in message
    assert (laboratory / "run" / "weights.safetensors").read_bytes() == before


def test_a_damaged_run_is_named(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    tables, tensors = ("experiments.csv", "history.csv"), ("weights.safetensors", "stopped.safetensors")
    for name in (*tables, *tensors, "config.toml", "schema.toml", "codec.json"):
        run = tmp_path / name.replace(".", "_")
        run.mkdir()
        for file in (laboratory / "run").iterdir():
            (run / file.name).write_bytes(file.read_bytes())
        data = (run / name).read_bytes()
        (run / name).write_bytes(b"}broken{" + data[: len(data) // 2])
        assert name in refused(cli, "propose", run, "--target", 50)


@pytest.mark.parametrize("layout", [1, 2])
def test_weights_of_another_version_are_not_read_as_nonsense(
    layout: int, laboratory: Path, cli: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(laboratory / "run", run)
    tensors = load_file(run / "weights.safetensors")
    save_file(tensors, run / "weights.safetensors", {"format": f"pyro-hcvae {layout}"})
    message = refused(cli, "propose", run, "--target", 50)
    assert "another version" in message
    assert "fit again" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "Temp=700", "--target", "50"], ["unknown condition 'Temp'", "T"]),
        (["--set", "T", "--target", "50"], ["NAME=VALUE"]),
        (["--set", "T=hot", "--target", "50"], ["not a number"]),
        (["--set", "T=1", "--set", "T=2", "--target", "50"], ["given twice"]),
        (["--target", "150"], ["Yield = 150"]),
        (["--target", "nan"], ["Yield"]),
        (["--set", "Yield=50", "--target", "50"], ["--target"]),
    ],
)
def test_conditions(laboratory: Path, cli: Command, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    message = refused(cli, "propose", laboratory / "run", *arguments, "--out", tmp_path / "recipes.csv")
    for word in words:
        assert word in message
    assert not (tmp_path / "recipes.csv").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[train]\nstepps = 5", "stepps"),
        ("[train]\nsteps = 0", "steps"),
        ("[train]\ngamma = [1.0, -1.0, 1.0]", "gamma"),
        ("[train]\ngamma = [1.0]", "gamma"),
        ("[model\n", "TOML"),
        ('[model]\npresence = "sometimes"', "presence"),
    ],
)
def test_settings(laboratory: Path, cli: Command, tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    message = refused(
        cli, "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config",
        tmp_path / "config.toml", "--out", tmp_path / "run",
    )  # fmt: skip
    assert word in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--compile", "sometimes"], ["train.compile", "'auto'", "'always'", "'never'"]),
        (["--jobs", "0"], ["--jobs", "1"]),
        (["--jobs", "many"], ["--jobs", "integer"]),
    ],
)
def test_ways_of_training(
    laboratory: Path, cli: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    err = refused(
        cli,
        "fit",
        laboratory / "table.csv",
        "--schema",
        laboratory / "schema.toml",
        "--out",
        tmp_path / "run",
        *arguments,
    )
    assert all(word in err for word in words), err
    assert not (tmp_path / "run").exists()


def test_resume_takes_no_other_settings(laboratory: Path, cli: Command) -> None:
    assert "--steps" in refused(cli, "fit", "--resume", laboratory / "run", "--steps", 10)
    assert "TABLE" in refused(cli, "fit", "--out", "somewhere")


def test_cuda_without_a_device_is_refused(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a device")
    arguments = ("fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--out", tmp_path / "run")
    assert "no CUDA device" in refused(cli, *arguments, "--device", "cuda")
    assert "unknown device" in refused(cli, *arguments, "--device", "gpu0")
    assert not (tmp_path / "run").exists()


def test_a_table_of_one_recipe_is_refused(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    path = spoiled(laboratory, tmp_path, lambda t: "\n".join(t.splitlines()[:4]) + "\n")
    message = refused(cli, "fit", path, "--schema", laboratory / "schema.toml", "--out", tmp_path / "run")
    assert "two different recipes" in message


def test_inputs_and_runs_are_never_replaced(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes((laboratory / "table.csv").read_bytes())
    run, schema = laboratory / "run", laboratory / "schema.toml"
    assert "input itself" in refused(cli, "sample", run, "--conditions", table, "--out", table)
    assert "input itself" in refused(cli, "complete", run, table, "--out", table)
    assert "input itself" in refused(cli, "schema", "check", table, "--schema", schema, "--out", table)
    assert "belongs to a run" in refused(cli, "propose", run, "--target", 50, "--out", run / "experiments.csv")
    (tmp_path / "schema.toml").write_bytes(schema.read_bytes())
    assert "other files" in refused(cli, "fit", table, "--schema", tmp_path / "schema.toml", "--out", tmp_path)
    assert (tmp_path / "schema.toml").read_bytes() == schema.read_bytes()
    assert table.read_bytes() == (laboratory / "table.csv").read_bytes()


def test_folders_where_files_belong(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    assert "folder" in refused(cli, "schema", "init", tmp_path)
    assert "folder" in refused(cli, "complete", laboratory / "run", tmp_path)


def test_a_fit_that_diverges_says_so(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[train]\nlearning_rate = 1e30\nsteps = 60\nmembers = 1\n")
    message = refused(
        cli, "fit", laboratory / "table.csv", "--schema", laboratory / "schema.toml", "--config",
        tmp_path / "config.toml", "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert "diverged" in message
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_existing_files_are_kept(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    out = tmp_path / "recipes.csv"
    out.write_text("measured by hand")
    arguments = ("propose", laboratory / "run", "--target", 50, "-n", 2, "--out", out)
    assert "--force" in refused(cli, *arguments)
    assert out.read_text() == "measured by hand"
    assert cli(*arguments, "--force").code == 0
    assert "ends in .csv" in refused(cli, *arguments[:-1], tmp_path / "recipes.xlsx")
    beside = tmp_path / "mine_intervals.csv"
    beside.write_text("also by hand")
    assert "mine_intervals.csv exists already" in refused(cli, *arguments[:-1], tmp_path / "mine.csv")
    assert beside.read_text() == "also by hand"
    assert not (tmp_path / "mine.csv").exists()
    for name in ("recipes.csv", "recipes_2.csv"):
        assert cli("propose", laboratory / "run", "--target", 50, "-n", 2).code == 0
        assert (laboratory / "run" / name).exists()


def test_a_table_with_decimal_commas_is_read_cell_by_cell(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    german = re.sub(r"(\d)\.(\d)", r"\1,\2", (laboratory / "table.csv").read_text().replace(",", ";"))
    lines = [line.split(";") for line in german.splitlines()]
    column = lines[0].index("Yield")
    lines[4][column] = "n.b."
    path = tmp_path / "german.csv"
    path.write_text("\n".join(map(";".join, lines)) + "\n")
    arguments = ("schema", "check", path, "--schema", laboratory / "schema.toml", "--decimal", ",")
    message = refused(cli, *arguments)
    assert "1 cells of number columns hold text" in message
    assert "row 5, column 'Yield': n.b." in message
    assert "119 kept" in cli(*arguments, "--skip-bad-rows").out
    lines[4][column] = "50,5"
    lines[6][lines[0].index("T")] = "1.200"
    path.write_text("\n".join(map(";".join, lines)) + "\n")
    message = refused(cli, *arguments)
    assert "row 7, column 'T': 1.200" in message
    assert "--thousands ." in message
    assert cli(*arguments, "--thousands", ".").code == 0
    assert "--decimal ," in refused(cli, "schema", "init", path, "--out", tmp_path / "draft.toml")


def test_the_wrong_schema_is_named_in_one_sentence(laboratory: Path, cli: Command) -> None:
    message = refused(cli, "schema", "check", laboratory / "table.csv")
    assert "does not look like schema 'drm'" in message
    assert "--schema FILE" in message
    assert len(message) < 1500


def test_a_recipe_column_is_no_condition(laboratory: Path, cli: Command) -> None:
    assert "pyro-hcvae complete" in refused(cli, "propose", laboratory / "run", "--set", "A=5", "--target", 50)
    assert "pyro-hcvae complete" in refused(cli, "propose", laboratory / "run", "--set", "Method=wet", "--target", 50)


def test_a_wrong_kind_of_block_is_one_problem(laboratory: Path, cli: Command, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text((laboratory / "schema.toml").read_text().replace('"amounts"', '"amount"'))
    message = refused(cli, "schema", "show", tmp_path / "s.toml")
    assert "kind = 'amount'" in message
    assert "Tuple" not in message
