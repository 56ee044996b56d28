"""Import in chunks: where one ends never matters, and memory stays near the size of the table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data import columns, report
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.reading import ReadOptions, open_table
from pyro_hcvae.data.report import TableError
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK, schemas_with_frames

SIZES = (1, 2, 3, 5)
SCHEMA = RecipeSchema.from_toml("""
name = "small"
identifiers = ["Remark"]
performance = { name = "Y", maximum = 100.0 }
conditions = [ { name = "T" } ]
stages = [ { name = "metal", blocks = [
  { kind = "amounts", name = "metals", columns = ["Ni", "Co"] },
  { kind = "category", name = "method", column = "Method", codes = [1, 2, 10] } ] } ]
""")
HEADER = "Remark,Ni,Co,Method,T,Y\n"
DIRT = (
    "abc",
    "",
    "NA",
    "1,5",
    "1,500",
    "1 250",
    "inf",
    "-1",
    " 3 ",
    "7.0",
    "01",
    "1e2",
    "5%",
    "nan",
    "12,5",
    "TRUE",
    "1e400",
    "12345678901234567890",
)


def import_with(size, read):
    """What an import with chunks of a size comes to: table, rows and numbers of the groups, or the errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "CHUNK_ROWS", size)
        try:
            table = read()
        except TableError as error:
            return None, str(error), error.report.to_frame()
        ids = [table.recipe_ids(), table.laboratory_ids(), table.composition_ids()]
        return table.frame, table.report.to_text(examples=9), table.report.to_frame(), table.report.to_dict(), *ids


def assert_same(found, expected):
    assert found[1] == expected[1]
    pd.testing.assert_frame_equal(found[2], expected[2])
    if expected[0] is None:
        assert found[0] is None
        return
    pd.testing.assert_frame_equal(found[0], expected[0], check_exact=True)
    assert found[3] == expected[3]
    for ours, theirs in zip(found[4:], expected[4:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def dirty(frame, places):
    frame = frame.astype(object).reset_index(drop=True)
    for row, column, text in places:
        frame.iloc[row % len(frame), column % frame.shape[1]] = text
    return frame


PLACES = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(DIRT)), max_size=6)


@QUICK
@given(schemas_with_frames(), PLACES, st.booleans(), st.sampled_from(["training", "partial"]))
def test_chunks_of_a_text_file_do_not_matter(tmp_path_factory, case, places, skip, purpose):
    schema, frame = case
    path = tmp_path_factory.mktemp("chunks") / "table.csv"
    dirty(pd.concat([frame, frame.iloc[:2]]), places).to_csv(path, index=False)
    results = []
    for size in (1000, *SIZES):
        try:
            results.append(
                import_with(size, lambda: RecipeTable.read(path, schema, purpose=purpose, skip_bad_rows=skip))
            )
        except InputError as error:
            results.append((None, str(error), pd.DataFrame()))
    for result in results[1:]:
        assert_same(result, results[0])


@QUICK
@given(schemas_with_frames(), st.booleans())
def test_chunks_of_parquet_and_of_frames_do_not_matter(tmp_path_factory, case, holes):
    pytest.importorskip("pyarrow")
    schema, frame = case
    frame = frame.reset_index(drop=True)
    if holes:
        frame.iloc[len(frame) // 2, 0] = None
    path = tmp_path_factory.mktemp("chunks") / "table.parquet"
    for block in schema.blocks:  # Parquet has one type a column
        if block.kind == "category":
            frame[block.column] = frame[block.column].astype(str)
    frame.to_parquet(path, row_group_size=3)
    for read in (
        lambda: RecipeTable.read(path, schema, purpose="partial"),
        lambda: RecipeTable.from_frame(frame, schema, purpose="partial"),
    ):
        whole = import_with(1000, read)
        for size in SIZES:
            assert_same(import_with(size, read), whole)


@pytest.fixture(params=[*SIZES, 1000])
def size(request, monkeypatch):
    monkeypatch.setattr(columns, "CHUNK_ROWS", request.param)
    return request.param


@pytest.fixture
def written(tmp_path):
    def write(*lines, header=HEADER, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes((header + "\n".join(lines) + "\n").encode(encoding))
        return path

    return write


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        RecipeTable.read(path, SCHEMA, **options)
    return str(caught.value)


@pytest.mark.usefixtures("size")
def test_whole_numbers_decimals_and_text_in_one_column(written):
    path = written("a,1,0,1,500,1", "b,2.5,0,2,500,2", ",3,0,10.0,500,3", "7, 4 ,0,01,500,4", "x,1e1,0, 2,500,5")
    table = RecipeTable.read(path, SCHEMA)
    assert table.frame["Ni"].tolist() == [1, 2.5, 3, 4, 10]
    assert table.frame["Method"].tolist() == [1, 2, 10, 1, 2]
    assert all(type(code) is int for code in table.frame["Method"])
    assert table.frame.dtypes.drop("Method").eq(np.float64).all()


@pytest.mark.usefixtures("size")
def test_bad_cells_are_told_down_each_column_with_their_rows(written):
    rows = [f"x,{i},1,1,500,{i}" for i in range(1, 9)]
    rows[5], rows[6] = "x,bad,1,3,500,6", "x,worse,,1,500,7"
    rows[1] = "x,2,gone,1,500,2"
    message = refusal(written(*rows))
    assert "3 cells of number columns hold text (row 7, column 'Ni': bad; row 8, column 'Ni': worse; " in message
    assert "row 3, column 'Co': gone)" in message
    assert "1 cells are empty (row 8, column 'Co': empty)" in message
    assert "(row 7, column 'Method': 3)" in message
    table = RecipeTable.read(written(*rows), SCHEMA, skip_bad_rows=True)
    assert table.frame.index.tolist() == [2, 4, 5, 6, 9]
    assert (table.report.rows_read, table.report.rows_kept) == (8, 5)


@pytest.mark.usefixtures("size")
def test_an_ambiguous_comma_is_settled_by_a_later_chunk(written):
    def message(*cells):
        rows = [f"x;{cell};0;1;500;{i}" for i, cell in enumerate(cells)]
        return refusal(written(*rows, header=HEADER.replace(",", ";")))

    assert "2 cells are written with a decimal comma (row 4, column 'Ni': 2,5; row 2, column 'Ni': 1,250)" in message(
        "1,250", "3", "2,5"
    )
    told = message("1,250", "1,250,000", "2,250")
    assert "3 cells are written with thousands separators (row 2, column 'Ni': 1,250; row 3" in told
    assert "--thousands ," in told


@pytest.mark.usefixtures("size")
def test_decimal_commas(written):
    rows = ["x;1,5;0;1;500;1", "y;2;0;10,0;1.500;2", "z;0,25;0;2;500;n/a"]
    path = written(*rows[:2], header=HEADER.replace(",", ";"))
    table = RecipeTable.read(path, SCHEMA, options=ReadOptions(decimal=",", thousands="."))
    assert table.frame["Ni"].tolist() == [1.5, 2]
    assert table.frame["Method"].tolist() == [1, 10]
    assert table.frame["T"].tolist() == [500, 1500]
    path = written(*rows, header=HEADER.replace(",", ";"))
    assert "row 4, column 'Y': empty" in refusal(path, options=ReadOptions(decimal=",", thousands="."))


@pytest.mark.usefixtures("size")
def test_line_ends_inside_cells_and_empty_lines_keep_row_numbers_right(written):
    rows = ['"two\nlines",1,0,1,500,1', "", ",,,,,", 'a,2,0,1,500,2\r\n"\n\n\n",3,0,1,500,3', "b,4,0,1,500,4", ""]
    table = RecipeTable.read(written(*rows), SCHEMA)
    assert table.frame["Ni"].tolist() == [1, 2, 3, 4]
    assert table.frame.index.tolist() == [2, 5, 6, 7]
    assert table.report.rows_read == 4


@pytest.mark.usefixtures("size")
def test_a_row_with_a_remark_alone_is_no_empty_line(written):
    assert "row 4, column 'Ni': empty" in refusal(written("a,1,0,1,5,1", "b,1,0,1,5,2", "see below,,,,,"))


@pytest.mark.usefixtures("size")
def test_damage_far_down_a_file_is_named(written, tmp_path):
    rows = [f"x,{i},1,1,500,{i}" for i in range(1, 9)]
    assert "row 10 has 7 cells, but the header has 6" in refusal(written(*rows, "x,9,1,1,500,9,1"))
    message = refusal(written(*rows, "Rückfluss,9,1,1,500,9", encoding="cp1252"))
    assert "row 10 is not written in UTF-8 (byte 0xfc)" in message
    assert len(RecipeTable.read(written(*rows, encoding="utf-16"), SCHEMA, options=ReadOptions(encoding="utf-16"))) == 8
    path = tmp_path / "table.parquet"
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"Remark": "x", "Ni": np.arange(2000.0), "Co": 1.0, "Method": 1, "T": 5.0, "Y": 1.0})
    frame.to_parquet(path, row_group_size=1000)
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    path.write_bytes(data)
    assert "not a readable Parquet file" in refusal(path)


@pytest.mark.usefixtures("size")
def test_any_frame_is_read_in_chunks(written):
    opened = open_table(written("a,1,2,1,3,4", "b,1,2,1,3,4", "c,1,2,1,3,4"))
    assert opened.header == ("Remark", "Ni", "Co", "Method", "T", "Y")
    assert opened.capacity >= 3
    chunks = list(opened.chunks)
    assert max(len(chunk) for chunk in chunks) <= columns.CHUNK_ROWS
    assert [row for chunk in chunks for row in chunk.index] == [2, 3, 4]


def test_a_file_that_grows_while_it_is_read(written, monkeypatch):
    monkeypatch.setattr(columns, "CHUNK_ROWS", 3)
    path = written(*["x,1,1,1,500,1"] * 4)
    opened = open_table(path)
    with path.open("a") as file:
        file.write("x,1,1,1,500,1\n" * 100_000)
    with pytest.raises(InputError, match="grew while it was read"):
        list(opened.chunks)


def test_of_many_cells_the_first_are_named_and_all_are_counted(written, monkeypatch):
    monkeypatch.setattr(report, "KEPT_CELLS", 4)
    monkeypatch.setattr(columns, "CHUNK_ROWS", 3)
    rows = [f"x,{'bad' if i % 2 else i},1,1,500,{101 if i % 5 == 0 else i}" for i in range(40)]
    with pytest.raises(TableError) as caught:
        RecipeTable.read(written(*rows), SCHEMA)
    (text,) = caught.value.report.find("text")
    assert [cell.row for cell in text.cells] == [3, 5, 7, 9]
    assert (text.cell_count, len(text.rows)) == (20, 20)
    assert "20 cells of number columns hold text" in str(caught.value)
    assert "and 15 more cells" in str(caught.value)
    (finding,) = [f for f in caught.value.report.to_dict()["findings"] if f["code"] == "text"]
    assert (finding["row_count"], len(finding["cells"])) == (20, 4)
    # Rows that are not named are left out all the same.
    table = RecipeTable.read(written(*rows), SCHEMA, skip_bad_rows=True)
    assert table.frame.index.tolist() == [i + 2 for i in range(40) if i % 2 == 0 and i % 5]


def test_encoding_in_chunks_gives_the_same_bits(monkeypatch):
    schema = RecipeSchema.load("drm")
    table = RecipeTable.from_frame(VirtualLab().experiments(60, 3, seed=1), schema)
    weights = np.linspace(0.5, 1.5, len(table))
    codec = RecipeCodec.fit(schema, table.frame, weights)
    packed = codec.encode(table.frame).numpy()
    for chunk_rows in (1, 7, 64):
        monkeypatch.setattr(columns, "CHUNK_ROWS", chunk_rows)
        np.testing.assert_array_equal(codec.encode(table.frame).numpy(), packed)
        again = RecipeCodec.fit(schema, table.frame, weights)
        for name, scaler in codec.scalers.items():
            assert again.scalers[name].transform == scaler.transform
            np.testing.assert_allclose(again.scalers[name].loc, scaler.loc, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(again.scalers[name].scale, scaler.scale, rtol=1e-12)


MEASURE = """
import json, sys
from pathlib import Path
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

schema = RecipeSchema.load("drm")
RecipeTable.read(sys.argv[1], schema)
before = peak()
table = RecipeTable.read(sys.argv[2], schema)
print(json.dumps([len(table), (peak() - before) / (len(table) * len(schema.columns) * 4)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory of a process from /proc")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_import_needs_little_more_memory_than_the_table(tmp_path, kind):
    times = 20
    piece = VirtualLab().experiments(1000, 10, seed=0)
    piece.attrs = {}
    small, large = tmp_path / f"small.{kind}", tmp_path / f"large.{kind}"
    if kind == "csv":
        text = piece.to_csv(index=False)
        small.write_text(text[: text.index("\n", 2000) + 1])
        large.write_text(text + text[text.index("\n") + 1 :] * (times - 1))
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        arrow = pa.Table.from_pandas(piece, preserve_index=False)
        parquet.write_table(arrow.slice(0, 3), small)
        parquet.write_table(pa.concat_tables([arrow] * times), large)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, ratio = json.loads(done.stdout)
    assert rows == times * len(piece)
    assert ratio < 3
