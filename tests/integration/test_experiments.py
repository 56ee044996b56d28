"""`experiments.csv` of a run folder is written and read piece by piece, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data import columns
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference import checkpoints
from pyro_hcvae.inference.checkpoints import RunFolder
from pyro_hcvae.inference.config import RunConfig
from tests.laboratories import tiny_frame, tiny_schema


@pytest.fixture(params=[1, 7, 10_000])
def chunk_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(columns, "CHUNK_ROWS", request.param)
    monkeypatch.setattr(checkpoints, "CHUNK_ROWS", request.param)
    return int(request.param)


@pytest.fixture
def table() -> RecipeTable:
    """Numbers with all their digits, a gap in the rows, and columns with names that take quotes."""
    frame = tiny_frame()
    frame["T"] += np.random.default_rng(0).random(len(frame)) / 3
    frame.index = pd.Index([*range(2, 12), *range(15, 5 + len(frame))])
    frame.insert(1, 'remark, "quoted"', "not modelled")
    return RecipeTable.from_frame(frame, tiny_schema(), drop_columns=['remark, "quoted"'])


def begin(table: RecipeTable, path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.begin(table, RecipeCodec.fit(table.schema, table.frame), RunConfig())
    return folder


def test_every_row_comes_back_as_it_was(table: RecipeTable, tmp_path: Path, chunk_rows: int) -> None:
    again, _, _ = begin(table, tmp_path / "run").read()
    pd.testing.assert_frame_equal(again.frame, table.frame, check_exact=True)
    assert again.header == table.header
    assert again.frame.columns.tolist() == list(table.schema.columns)


def test_pieces_do_not_show_in_the_file(table: RecipeTable, tmp_path: Path, chunk_rows: int) -> None:
    begin(table, tmp_path / "run")
    written = (tmp_path / "run" / "experiments.csv").read_bytes()
    whole = table.frame.reindex(columns=table.header).to_csv(index_label="file row", lineterminator="\n")
    assert written == whole.encode()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["data_sha256"] == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize("damage", ["header", "number", "row", "all"])
def test_damage_is_named(table: RecipeTable, tmp_path: Path, damage: str) -> None:
    folder = begin(table, tmp_path / "run")
    path = folder.path / "experiments.csv"
    lines = path.read_text().splitlines()
    cells = lines[9].split(",")
    match damage:
        case "header":
            lines = lines[1:]
        case "number":
            lines[9] = ",".join(["9", "", *("x" for _ in cells[2:])])
        case "row":
            lines[9] = ",".join(["nine", *cells[1:]])
        case "all":
            lines = []
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"experiments\.csv is damaged"):
        folder.read()
    path.unlink()
    with pytest.raises(InputError, match=r"experiments\.csv is missing"):
        folder.read()
