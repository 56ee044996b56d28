"""The report of a run, as text."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeDesigner
from pyro_hcvae.analysis.report.build import PARTS, build_report
from pyro_hcvae.analysis.report.evaluation import evaluation_section
from pyro_hcvae.analysis.report.page import Listing, Section, in_text, render
from pyro_hcvae.analysis.report.proposals import ProposedRecipes
from pyro_hcvae.cli.propose import intervals_beside, write


@pytest.fixture(scope="module")
def run(designer: RecipeDesigner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with proposals."""
    folder = tmp_path_factory.mktemp("report") / "run"
    designer.save(folder)
    write(designer, designer.propose({"T": 500}, 60, 3), folder / "recipes.csv")
    return folder


@pytest.fixture(scope="module")
def proposed(run: Path, designer: RecipeDesigner) -> ProposedRecipes:
    path = run / "recipes.csv"
    return ProposedRecipes.read(path, intervals_beside(path), designer.schema)


@pytest.fixture(scope="module")
def page(run: Path, proposed: ProposedRecipes) -> str:
    return build_report(run, proposed, draws=10)


def test_the_page_holds_everything_and_refers_to_nothing_outside(page: str, run: Path) -> None:
    assert re.findall(r'<section id="(\w+)"', page) == [
        "proposals", "data", "training", "quality", "performance", "calibration", "provenance",
    ]  # fmt: skip
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "<script" not in page
    assert all(re.findall(r'<img [^>]*alt="([^"]*)"', page))
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors == set(re.findall(r'<section id="(\w+)"', page))
    digest = re.search(r'"data_sha256": "(\w+)"', (run / "environment.json").read_text())
    assert digest is not None
    assert digest[1] in page


def test_proposals_carry_their_reasons(page: str, proposed: ProposedRecipes) -> None:
    assert page.count("<article>") == len(proposed.frame)
    first = proposed.reasons.iloc[0]
    assert first["nearest known recipe"] in page
    shown = proposed.predicted(proposed_schema := RecipeDesigner.load(Path(proposed.source).parent).schema).iloc[0]
    assert f"{shown['mean']:.0f} % {proposed_schema.performance.name}; 90 % interval {shown['low']:.0f} to" in page


def test_the_same_run_and_seed_give_the_same_page(run: Path, proposed: ProposedRecipes, page: str) -> None:
    parts: list[str] = []
    assert build_report(run, proposed, draws=10, on_part=parts.append) == page
    assert parts == list(PARTS)


def test_without_proposals_the_page_says_how_to_make_some(run: Path) -> None:
    assert "pyro-hcvae propose RUN --target" in build_report(run, draws=2)


def test_text_is_escaped_and_cells_are_short() -> None:
    evil = Section("data", "Data", ["<script>alert(1)</script>"], listings=[Listing("x", ["<b>"], [["<i>"]])])
    page = render("a & b", [("1", "row")], [evil])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<title>a &amp; b</title>" in page
    cells = [in_text(x) for x in (0.123456, 12345.0, float("nan"), None, True, 12, "a")]
    assert cells == ["0.1235", "12345", "", "", "yes", "12", "a"]


def test_other_files_than_proposals_are_named(run: Path, designer: RecipeDesigner, tmp_path: Path) -> None:
    frame = pd.read_csv(run / "recipes.csv")
    plain = tmp_path / "plain.csv"
    frame[list(designer.schema.recipe_columns)].to_csv(plain, index=False)
    with pytest.raises(InputError, match=r"plain\.csv: no column 'proposal: rank'"):
        ProposedRecipes.read(plain, plain, designer.schema)
    frame.loc[1, "Method"] = None
    holed = tmp_path / "holed.csv"
    frame.to_csv(holed, index=False)
    with pytest.raises(InputError, match=r"holed\.csv: row 3, column 'Method' is empty"):
        ProposedRecipes.read(holed, holed, designer.schema)


def test_a_list_that_went_through_a_spreadsheet_is_read(run: Path, designer: RecipeDesigner, tmp_path: Path) -> None:
    first, nothing = run / "recipes.csv", tmp_path / "none.csv"
    known = ProposedRecipes.read(first, intervals_beside(first), designer.schema)
    book = tmp_path / "list.xlsx"
    pd.read_csv(first).to_excel(book, index=False)
    assert ProposedRecipes.read(book, nothing, designer.schema).reasons["rank"].tolist() == [1, 2, 3]
    trailing = tmp_path / "trailing.csv"
    text = first.read_text()
    trailing.write_text(text + "," * text.splitlines()[0].count(",") + "\n")
    read = ProposedRecipes.read(trailing, intervals_beside(first), designer.schema)
    pd.testing.assert_frame_equal(read.reasons, known.reasons, check_dtype=False)
    pd.testing.assert_frame_equal(read.predicted(designer.schema), known.predicted(designer.schema))


@pytest.mark.parametrize(
    ("text", "said"), [("", "empty"), ("a,b\n1,2\n", "no column 'rank'")], ids=["empty", "another table"]
)
def test_damaged_intervals_are_named(run: Path, designer: RecipeDesigner, tmp_path: Path, text: str, said: str) -> None:
    beside = tmp_path / "list_intervals.csv"
    beside.write_text(text)
    with pytest.raises(InputError, match=said):
        ProposedRecipes.read(run / "recipes.csv", beside, designer.schema)


def test_a_rank_that_is_no_number_is_named(run: Path, designer: RecipeDesigner, tmp_path: Path) -> None:
    frame = pd.read_csv(run / "recipes.csv").astype({"proposal: rank": object})
    frame.loc[2, "proposal: rank"] = "third"
    path = tmp_path / "list.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match="row 4, column 'proposal: rank': 'third' is not a number"):
        ProposedRecipes.read(path, tmp_path / "none.csv", designer.schema)


def test_real_recipes_that_stand_in_two_files_count_once(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "generator": ["real recipes"] * 2 + ["hcvae"] * 2,
            "seed": 0,
            "fold": [0, 1] * 2,
            "valid": [0.9, 1.0, 0.8, 0.9],
        }
    )
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    rows.to_csv(files[0], index=False)
    rows.assign(generator=["real recipes"] * 2 + ["cart"] * 2).to_csv(files[1], index=False)
    section = evaluation_section(files, None)
    assert section is not None
    table = {row[0]: row for row in section.listings[0].rows}
    assert set(table) == {"real recipes", "hcvae", "cart"}
    assert table["real recipes"][section.listings[0].header.index("valid, sd")] == f"{rows['valid'][:2].std():.4g}"


def test_scores_and_curve_are_shown_or_refused(tmp_path: Path) -> None:
    assert evaluation_section([], None) is None
    curve, other = tmp_path / "curve.csv", tmp_path / "other.csv"
    pd.DataFrame(
        {"beta": [1.0, 0.1], "rate": [2.0, 9.0], "distortion": [1.0, 0.5], "log p recipe": [-3.0, -9.0]}
    ).to_csv(curve)
    pd.DataFrame({"a": [1]}).to_csv(other)
    section = evaluation_section([], curve)
    assert section is not None
    assert len(section.pictures) == 1
    with pytest.raises(InputError, match=r"other\.csv: no column 'generator'"):
        evaluation_section([other], None)
    with pytest.raises(InputError, match=r"none\.csv: No such file"):
        evaluation_section([tmp_path / "none.csv"], None)
