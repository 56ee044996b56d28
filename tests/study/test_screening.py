"""Screenings to Parquet: the same rows whatever the engine, the jobs and what was killed on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.posterior.screening import Screen, Screened
from pyro_hcvae.study import screening
from pyro_hcvae.study.engines import Engine
from pyro_hcvae.study.folder import working_alone
from pyro_hcvae.study.screening import Counts, screen_to_parquet

parquet = pytest.importorskip("pyarrow.parquet")
PIECES, PIECE = 5, 100


@dataclass(frozen=True)
class DeadlyScreen(Screen):
    """A screening one piece of which kills its process the first time."""

    deadly: tuple[int, str] = (-1, "")

    def piece(self, number: int) -> Screened:
        piece, marker = self.deadly
        if number == piece and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().piece(number)


def small(designer: RecipeDesigner, **more: Any) -> Screen:
    return replace(designer.screen({"T": 700}, 80, PIECES * PIECE - 30, **more), piece_draws=PIECE)


def deadly(screen: Screen, number: int, marker: Path) -> DeadlyScreen:
    values = {field.name: getattr(screen, field.name) for field in fields(Screen)}
    return DeadlyScreen(**values, deadly=(number, str(marker)))


@pytest.fixture(scope="module")
def whole(tiny_designer: RecipeDesigner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed screening writes."""
    out = tmp_path_factory.mktemp("whole") / "screened.parquet"
    screen_to_parquet(small(tiny_designer), out)
    return out


def test_the_file_holds_the_distinct_rows_of_all_pieces_in_order(tiny_designer: RecipeDesigner, whole: Path) -> None:
    screen = small(tiny_designer)
    rows = pd.concat([screen.piece(number).frame for number in range(PIECES)], ignore_index=True)
    wanted = rows[~rows.duplicated(list(tiny_designer.schema.recipe_columns))].reset_index(drop=True)
    assert 0 < len(wanted) < len(rows)  # some recipe does come in two pieces
    pd.testing.assert_frame_equal(pd.read_parquet(whole), wanted, check_dtype=False)
    file = parquet.ParquetFile(whole)
    assert file.num_row_groups == PIECES
    said = json.loads(file.metadata.metadata[screening.METADATA])
    assert (said["drawn"], said["kept"], said["conditions"]["T"]) == (470, len(wanted), 700.0)
    assert not whole.with_name("screened.parquet.parts").exists()


@pytest.mark.thorough
def test_two_processes_write_the_same_file(tiny_designer: RecipeDesigner, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "screened.parquet"
    screen_to_parquet(small(tiny_designer), out, Engine(jobs=2))
    assert out.read_bytes() == whole.read_bytes()


def test_a_killed_screening_goes_on(tiny_designer: RecipeDesigner, whole: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "screened.parquet", []
    screen = deadly(small(tiny_designer), 3, tmp_path / "killed")
    process = multiprocessing.get_context("spawn").Process(target=screen_to_parquet, args=(screen, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    assert len(list((tmp_path / "screened.parquet.parts").glob("*.parquet"))) == 3
    screen_to_parquet(
        small(tiny_designer), out, on_piece=lambda counts, done, of: seen.append((counts.drawn, done, of))
    )
    assert seen == [(300, 3, 5), (400, 4, 5), (470, 5, 5)]  # the finished pieces were not done again
    assert out.read_bytes() == whole.read_bytes()


def test_a_kill_while_the_file_is_put_together_leaves_no_half_file(
    tiny_designer: RecipeDesigner, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "screened.parquet"
    asked = []

    def stop(hashes: Any, seen: Any) -> Any:
        asked.append(len(hashes))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return unseen(hashes, seen)

    unseen = screening._unseen
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(screening, "_unseen", stop)
        screen_to_parquet(small(tiny_designer), out)
    assert [path.name for path in tmp_path.iterdir()] == ["screened.parquet.parts"]
    monkeypatch.setattr(Screen, "piece", None)  # nothing is left to draw
    screen_to_parquet(small(tiny_designer), out)
    assert out.read_bytes() == whole.read_bytes()


def test_pieces_of_another_screening_are_not_mixed_in(tiny_designer: RecipeDesigner, tmp_path: Path) -> None:
    out = tmp_path / "screened.parquet"

    def stop(counts: Counts, done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        screen_to_parquet(small(tiny_designer), out, on_piece=stop)
    other = small(tiny_designer, seed=1)
    with pytest.raises(InputError, match=r"an unfinished screening with seed = 0, not 1.*--force"):
        screen_to_parquet(other, out)
    screen_to_parquet(other, out, fresh=True)
    clean = tmp_path / "clean.parquet"
    screen_to_parquet(other, clean)
    assert out.read_bytes() == clean.read_bytes()


def test_two_processes_do_not_work_on_one_file(tiny_designer: RecipeDesigner, tmp_path: Path) -> None:
    folder = tmp_path / "screened.parquet.parts"
    folder.mkdir()
    with working_alone(folder), pytest.raises(InputError, match="another process is at work there"):
        screen_to_parquet(small(tiny_designer), tmp_path / "screened.parquet")


def test_nothing_kept_is_an_empty_file_with_all_columns(tiny_designer: RecipeDesigner, tmp_path: Path) -> None:
    out = tmp_path / "screened.parquet"
    counts = screen_to_parquet(small(tiny_designer, least_probability=0.999), out)
    frame = pd.read_parquet(out)
    assert (counts.drawn, counts.kept, len(frame)) == (470, 0, 0)
    assert set(tiny_designer.schema.columns) <= set(frame.columns)


def test_parquet_needs_pyarrow(tiny_designer: RecipeDesigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "pyro-hcvae\[parquet\]"'):
        screen_to_parquet(small(tiny_designer), tmp_path / "screened.parquet")
    assert not list(tmp_path.iterdir())


def test_hashes_that_were_seen() -> None:
    rng = np.random.default_rng(0)
    seen, known = np.empty(0, dtype=np.uint64), set()
    for _ in range(20):
        hashes = np.unique(rng.integers(300, size=40)).astype(np.uint64)
        rng.shuffle(hashes)
        new, seen = screening._unseen(hashes, seen)
        assert new.tolist() == [int(value) not in known for value in hashes]
        known |= set(hashes.tolist())
        assert seen.tolist() == sorted(known)
