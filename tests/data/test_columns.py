"""`Columns` hold a table once; hashes tell rows apart."""

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data import columns
from pyro_hcvae.data.columns import Columns, row_chunks, row_hashes


@pytest.fixture
def filled():
    """Two chunks with a column of codes between two of numbers, in a store with room to spare."""
    store = Columns(["a", "code", "b"], ["code"], capacity=9)
    store.append(np.array([2, 3]), {"a": np.array([1, 2]), "code": np.array(["x", 7], dtype=object)})
    store.append(np.array([5]), {"a": np.array([3.5]), "code": np.array([np.nan], dtype=object), "b": np.array([0.25])})
    return store


def test_frame_has_the_order_the_rows_and_the_memory_of_the_columns(filled):
    frame = filled.frame()
    expected = pd.DataFrame(
        {"a": [1.0, 2.0, 3.5], "code": pd.Series(["x", 7, np.nan], dtype=object), "b": [np.nan, np.nan, 0.25]}
    ).set_axis([2, 3, 5])
    pd.testing.assert_frame_equal(frame, expected)
    for name in ("a", "b"):
        assert np.shares_memory(frame[name].to_numpy(), filled[name])
    filled["a"][:] = -1.0
    assert filled.frame()["a"].tolist() == [-1, -1, -1]


def test_rows_can_be_dropped_in_place(filled):
    before = filled["a"]
    filled.keep(np.array([True, False, True]))
    assert (len(filled), filled.rows.tolist(), filled["a"].tolist()) == (2, [2, 5], [1, 3.5])
    assert filled["code"][0] == "x"
    assert np.shares_memory(before, filled["a"])


def test_no_more_rows_than_there_is_room_for(filled):
    with pytest.raises(ValueError, match="broadcast"):
        filled.append(np.arange(7), {})


def test_chunks_cover_all_rows_once(monkeypatch):
    monkeypatch.setattr(columns, "CHUNK_ROWS", 3)
    for rows in range(8):
        assert [i for chunk in row_chunks(rows) for i in range(rows)[chunk]] == list(range(rows))
    assert list(row_chunks(4)) == [slice(0, 3), slice(3, 4)]


def test_hashes_tell_rows_and_columns_apart(monkeypatch):
    frame = pd.DataFrame({"x": [0.0, 1.0, -0.0, 1.0, 1 + 1e-12], "y": [1, 0, 1, 0, 0], "c": ["u", "v", "u", "w", "v"]})
    hashes = row_hashes(frame, ["x", "y"])
    assert hashes[0] == hashes[2] != hashes[1] == hashes[3] == hashes[4]
    hashes = row_hashes(frame, ["x", "y", "c"])
    assert hashes[1] == hashes[4] != hashes[3]
    assert len(row_hashes(frame, [])) == 5
    monkeypatch.setattr(columns, "CHUNK_ROWS", 2)
    np.testing.assert_array_equal(row_hashes(frame, ["x", "y", "c"]), hashes)
