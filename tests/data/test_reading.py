"""Reading files: what is understood, and what is refused with the place and the remedy."""

import datetime
import random

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.cells import NumberReader
from pyro_hcvae.data.reading import ReadOptions, read_frame
from pyro_hcvae.data.report import ImportReport
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK


@pytest.fixture
def write(tmp_path):
    """Write text or bytes to a file and return its path."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


@pytest.fixture
def workbook(tmp_path):
    """Write sheets, each a list of rows, to a workbook and return its path."""

    def write(**sheets):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for row in rows:
                sheet.append(row)
        path = tmp_path / "table.xlsx"
        book.save(path)
        return path

    return write


def refusal(path, options=None):
    with pytest.raises(InputError) as caught:
        read_frame(path, options)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_separators_and_line_ends(write, separator, ending):
    lines = [separator.join(cells) for cells in (["a", "b", "c"], ["1", "2.5", "x"], ["3", "4", "y"])]
    frame = read_frame(write(ending.join(lines)))
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame["b"].tolist() == [2.5, 4.0]
    assert frame["c"].tolist() == ["x", "y"]
    assert frame.index.tolist() == [2, 3]


@pytest.mark.parametrize("name", ["table.tsv", "table.txt", "TABLE.CSV"])
def test_endings_of_text_files(write, name):
    assert read_frame(write("a\tb\n1\t2\n", name))["b"].tolist() == [2]


@pytest.mark.parametrize(
    "text",
    [
        'Ni;"Co, wt%";c\n1;2;3\n',
        '"Ni, wt%";"Co, wt%";c\n1;2;3\n',
        "Ni;Co, wt%, total;Pt, ppm\n1;2;3\n",
        '"Ni\n(wt%)";b;c\n1;2;3\n',
    ],
)
def test_separator_is_not_confused_by_names_of_columns(write, text):
    frame = read_frame(write(text))
    assert frame.to_numpy().tolist() == [[1, 2, 3]]
    assert frame.columns[0].startswith("Ni")


def test_decimal_comma_and_thousands(write):
    path = write("a;b\n1,5;1.234,5\n-2,25;7\n")
    frame = read_frame(path, ReadOptions(decimal=",", thousands="."))
    assert frame["a"].tolist() == [1.5, -2.25]
    assert frame["b"].tolist() == [1234.5, 7.0]
    assert read_frame(write("a;b\n1,250;2\n"), ReadOptions(thousands=","))["a"].tolist() == [1250]


def test_byte_order_mark_is_no_part_of_the_first_name(write):
    assert list(read_frame(write("a,b\n1,2\n".encode("utf-8-sig"))).columns) == ["a", "b"]


def test_spaces_around_names_and_numbers(write):
    frame = read_frame(write(" a , b \n 1 , 2 \n"))
    assert list(frame.columns) == ["a", "b"]
    assert frame.to_numpy().tolist() == [[1, 2]]


def test_other_encodings(write):
    assert list(read_frame(write("T °C\n1\n".encode("cp1252")), ReadOptions(encoding="cp1252")).columns) == ["T °C"]
    assert read_frame(write("a,b\n1,2\n".encode("utf-16")), ReadOptions(encoding="utf-16"))["b"].tolist() == [2]


def test_wrong_encoding_names_row_byte_and_remedy(write):
    message = refusal(write("a,b\n1,x\n2,Rückfluss\n".encode("cp1252")))
    assert "row 3" in message
    assert "0xfc" in message
    assert "--encoding cp1252" in message
    # The offending line may lie beyond the decoder's first buffer.
    assert "row 50002" in refusal(write(("a,b\n" + "1,2\n" * 50000 + "é,2\n").encode("cp1252")))


def test_utf16_is_recognised(write):
    assert "--encoding utf-16" in refusal(write("a,b\n1,2\n".encode("utf-16")))
    assert "not a text file" in refusal(write("a,b\n1,2\n".encode("utf-16-le")))


def test_encoding_that_does_not_exist(write):
    assert "klingon" in refusal(write("a\n1\n"), ReadOptions(encoding="klingon"))


def test_files_that_are_not_there(tmp_path, write):
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "is a folder" in refusal(tmp_path)
    assert "is empty" in refusal(write(""))
    assert "no row of data" in refusal(write("a,b\n"))
    assert "no row of data" in refusal(write("a,b\n\n,\n"))


@pytest.mark.parametrize("text", ["\n", "\n\na,b\n1,2\n", " , \n1,2\n"])
def test_header_must_stand_in_the_first_line(write, text):
    assert "first line is empty" in refusal(write(text))


@pytest.mark.parametrize("name", ["table.xls", "table.json", "table"])
def test_endings_that_are_not_read(write, name):
    assert "use .csv, .xlsx or .parquet" in refusal(write("a\n1\n", name))


def test_workbook_with_the_wrong_ending(write, workbook):
    assert "Rename it to .xlsx" in refusal(write(workbook(one=[["a"], [1]]).read_bytes()))


@pytest.mark.parametrize(("text", "row"), [("a,b\n1,2\n1,2,3\n", 3), ("a,b\n1,2,3\n", 2), ("a;b\n1;2\n\n1;2;3\n", 4)])
def test_ragged_lines_name_their_row(write, text, row):
    message = refusal(write(text))
    assert f"row {row} has 3 cells, but the header has 2" in message
    assert ("decimal commas" in message.lower()) == ("," in text)


def test_short_lines_are_padded_with_empty_cells(write):
    assert read_frame(write("a,b\n1\n"))["b"].isna().tolist() == [True]


@pytest.mark.parametrize("rows", [1, 60000])  # longer than the csv module's largest cell
def test_quotation_mark_that_is_never_closed(write, rows):
    assert "not a readable table" in refusal(write('a,b\n1,"2\n' + "3,4\n" * rows))


@pytest.mark.parametrize("header", ["a,b,a", "a,b, a ", '"a",b,a'])
def test_columns_that_stand_twice(write, header):
    assert "twice in the header: a" in refusal(write(header + "\n1,2,3\n"))


def test_names_that_only_look_like_repeats(write):
    assert list(read_frame(write("a,a.1,A\n1,2,3\n")).columns) == ["a", "a.1", "A"]


def test_blank_lines_keep_row_numbers_right(write):
    assert read_frame(write("a,b\n1,2\n\n3,4\n,\n5,6\n\n")).index.tolist() == [2, 4, 6]
    assert read_frame(write("a\n1\n\n2\n")).index.tolist() == [2, 4]


def test_lines_inside_a_quoted_cell_are_one_row(write):
    frame = read_frame(write('a,b\n1,"two\nlines"\n3,x\n'))
    assert frame.loc[3, "a"] == 3


def test_words_for_nothing_stay_words(write, workbook):
    # "None" and "NA" may be codes of a category; only an empty cell is empty.
    rows = [["gas", "T"], ["None", 1], ["NA", 2], [None, 3]]
    for path in (write("gas,T\nNone,1\nNA,2\n,3\n"), workbook(one=rows)):
        frame = read_frame(path)
        assert frame["gas"].tolist()[:2] == ["None", "NA"]
        assert frame["gas"].isna().tolist() == [False, False, True]
        assert frame["T"].tolist() == [1, 2, 3]


def test_sheets_of_a_workbook(workbook):
    path = workbook(first=[["a"], [1]], second=[["b"], [2]])
    assert read_frame(path)["a"].tolist() == [1]
    assert read_frame(path, ReadOptions(sheet="second"))["b"].tolist() == [2]
    message = refusal(path, ReadOptions(sheet="third"))
    assert "'third'" in message
    assert "first, second" in message


def test_workbook_rows(workbook):
    frame = read_frame(workbook(one=[["a", "b"], [1, "x"], [None, None], [3, "y"]]))
    assert frame.index.tolist() == [2, 4]
    assert frame["a"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "first line is empty"),
        ([[None, None], ["a", "b"], [1, 2]], "first line is empty"),
        ([["a", "b"]], "no row of data"),
        ([["a", "b", "a"], [1, 2, 3]], "twice in the header: a"),
    ],
)
def test_workbooks_without_a_table(workbook, rows, message):
    assert message in refusal(workbook(one=rows))


@pytest.mark.parametrize("content", [b"not a zip file", b"PK\x03\x04 cut off"])
def test_broken_workbook(write, content):
    assert "not a readable Excel workbook" in refusal(write(content, "table.xlsx"))


def test_parquet(tmp_path, write):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1, 2], "b": ["x", None]}).to_parquet(path)
    frame = read_frame(path)
    assert frame["a"].tolist() == [1, 2]
    assert frame.index.tolist() == [2, 3]
    assert "not a readable Parquet file" in refusal(write(b"PAR1 broken", "broken.parquet"))


@pytest.mark.parametrize(
    "options", [{"decimal": ";"}, {"thousands": "."}, {"thousands": ".", "decimal": "."}, {"thousands": ",,"}]
)
def test_options_are_checked(options):
    if options == {"thousands": "."}:
        options = {"thousands": ",", "decimal": ","}
    with pytest.raises(InputError, match=r"--(decimal|thousands)"):
        ReadOptions(**options)


def read_numbers(cells, missing="fill them in"):
    """Numbers of a column, by row, and the report."""
    reader, report = NumberReader([cells.name], missing=missing), ImportReport("test")
    values = pd.Series(reader.read(cells), index=cells.index)
    reader.report(report)
    return values, report


def numbers_of(*cells, missing="fill them in"):
    """Parse cells of one column "x" that stand from row 2 on; also the report."""
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    frame.index = pd.RangeIndex(2, 2 + len(frame))
    return read_numbers(frame["x"], missing=missing)


def codes_of(report):
    return {f.code: [(cell.row, cell.value) for cell in f.cells] for f in report.findings}


def test_numbers_are_parsed():
    values, report = numbers_of(1, "2.5", " 3e-2 ", np.float32(4), np.int64(5), "-6")
    assert values.tolist() == [1, 2.5, 0.03, 4, 5, -6]
    assert values.dtype == np.float64
    assert report.findings == []


@pytest.mark.parametrize("word", ["", " ", "NA", "n/a", "None", "-", "?", "#N/A", None, np.nan, pd.NA, pd.NaT])
def test_words_for_an_empty_cell(word):
    values, report = numbers_of(1, word)
    assert np.isnan(values[3])
    assert codes_of(report) == {"missing": [(3, "empty")]}
    assert report.findings[0].action == "fill them in"
    assert numbers_of(1, word, missing=None)[1].findings == []


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("abc", "text"), ("5%", "text"), ("<1", "text"), (True, "text"), (datetime.datetime(2020, 1, 2), "text"),
        (datetime.date(2020, 1, 2), "text"), ("1,5", "decimal-comma"), ("0,125", "decimal-comma"),
        ("1.234,5", "decimal-comma"), ("1,250", "thousands"), ("12,345,678.9", "thousands"), ("1 250", "thousands"),
        ("inf", "infinite"), (float("-inf"), "infinite"),
    ],
)  # fmt: skip
def test_cells_that_are_no_number(cell, code):
    values, report = numbers_of(7, cell)
    assert values[2] == 7
    assert np.isnan(values[3])
    assert list(codes_of(report)) == [code]
    (place,) = report.findings[0].cells
    assert (place.row, place.column) == (3, "x")
    assert report.findings[0].severity == "error"


def test_dates_of_a_whole_column_are_no_numbers():
    # pandas would count nanoseconds.
    frame = pd.DataFrame({"x": pd.to_datetime(["2020-01-02", "2020-01-03"])}, index=[2, 3])
    values, report = read_numbers(frame["x"])
    assert values.isna().all()
    assert [cell.row for cell in report.find("text")[0].cells] == [2, 3]


def test_an_ambiguous_comma_follows_the_certain_ones():
    assert codes_of(numbers_of("12,5", "1,250")[1]) == {"decimal-comma": [(2, "12,5"), (3, "1,250")]}
    assert "--decimal ," in numbers_of("12,5")[1].findings[0].action
    assert "--thousands" in numbers_of("1,250")[1].findings[0].action


@QUICK
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_numbers_survive_a_text_file_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "table.csv"
    path.write_text("x,y\n" + "".join(f"{v!r},1\n" for v in values))
    frame = read_frame(path)
    parsed, _ = read_numbers(frame["x"])
    np.testing.assert_allclose(parsed, values, rtol=1e-15)


def test_any_bytes_give_a_frame_or_an_input_error(tmp_path):
    generator = random.Random(0)
    path = tmp_path / "table.csv"
    alphabet = b',;\t\n\r"ab1.\x00\xff\xe9 '
    for _ in range(300):
        path.write_bytes(bytes(generator.choices(alphabet, k=generator.randint(1, 40))))
        try:
            frame = read_frame(path)
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert len(frame)
            assert frame.columns.is_unique
