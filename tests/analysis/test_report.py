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
    assert [in_text(x) for x in (0.123456, float("nan"), None, True, 12, "a")] == ["0.1235", "", "", "yes", "12", "a"]


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
