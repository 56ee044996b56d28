"""`Columns` hold a table once; hashes tell rows apart."""

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data import columns
from pyro_hcvae.data.columns import Columns, row_chunks, row_hashes, with_columns


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


def test_other_columns_are_put_in_place_at_once():
    frame = pd.DataFrame({f"x{i}": np.arange(3.0) + i for i in range(150)}, index=[4, 4, 7])
    frame.insert(2, "code", ["a", "b", "a"])
    frame["count"] = np.arange(3)
    before = frame.copy()
    out = with_columns(frame, {"x1": np.array([9.0, 8.0, 7.0]), "code": np.array(["c", "c", "d"])})
    assert list(out.columns) == list(frame.columns)
    expected = frame.assign(x1=[9.0, 8.0, 7.0], code=["c", "c", "d"])
    pd.testing.assert_frame_equal(out, expected, check_dtype=False)
    assert out.dtypes.drop("code").equals(frame.dtypes.drop("code"))
    assert len(out._mgr.blocks) <= 3  # numbers lie together
    out.loc[7, "x0"] = -1.0
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(with_columns(frame, {}), frame)


@pytest.mark.parametrize("columns", [{"code": ["a", "b"]}, {"x": [1.0, 2.0]}, {"x": [1.0, 2.0], "code": ["a", "b"]}])
@pytest.mark.parametrize("rows", [0, 2])
def test_frames_without_rows_numbers_or_codes_have_other_columns_too(columns, rows):
    frame = pd.DataFrame(columns).iloc[:rows]
    name = next(iter(columns))
    out = with_columns(frame, {name: frame[name].to_numpy()[::-1]})
    pd.testing.assert_frame_equal(out, frame.assign(**{name: frame[name].to_numpy()[::-1]}), check_dtype=False)
