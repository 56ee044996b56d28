"""`pyro-hcvae report`, and its page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyro_hcvae.cli import main
from tests.cli.conftest import Command

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000",
    "--dump-dom",
)  # fmt: skip
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const found = {
    images: images.length,
    broken: images.filter((image) => !image.complete || image.naturalWidth === 0).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length,
  };
  document.body.dataset.found = JSON.stringify(found);
});
</script>"""


@pytest.fixture(scope="module")
def run(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(laboratory / "run", copy)
    for stray in copy.glob("recipes*"):
        stray.unlink()
    return copy


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    """What the command writes beside a run without proposals."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("sys.argv", ["pyro-hcvae", "report", str(run), "--draws", "4", "--out", str(run / "report.html")])
        main.run()
    assert not stop.value.code
    return (run / "report.html").read_text(encoding="utf-8")


def test_report_is_written_beside_the_run_and_made_anew(run: Path, page: str, cli: Command, tmp_path: Path) -> None:
    recipes = tmp_path / "next.csv"
    assert cli("propose", run, "--target", 60, "-n", 2, "--moves", 0, "--out", recipes).code == 0
    result = cli("report", run, "--recipes", recipes, "--draws", 4, "--json")
    assert result.code == 0, result.err
    assert (run / "report.html").read_text(encoding="utf-8") != page
    said = json.loads(result.out)
    assert Path(said["report"]) == run / "report.html"
    assert said["proposals"] == 2
    assert said["bytes"] == (run / "report.html").stat().st_size < 10_000_000


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_opens_without_an_error(page: str, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(page.replace("</head>", f"{PROBE}</head>"), encoding="utf-8")
    command = [
        str(CHROMIUM),
        *OPTIONS,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        path.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', result.stdout)
    assert found is not None, result.stderr
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["images"] == page.count("<img ") > 5
    assert seen["broken"] == 0
    assert seen["requests"] == 0
    assert seen["overflow"] <= 0
    assert "CONSOLE" not in result.stderr


def test_mistakes_are_named_and_nothing_is_lost(run: Path, cli: Command, tmp_path: Path) -> None:
    kept = tmp_path / "kept.html"
    kept.write_text("mine")
    for arguments, said in (
        ((tmp_path / "none",), "no such run folder"),
        ((run, "--recipes", tmp_path / "none.csv"), "none.csv"),
        ((run, "--scores", tmp_path / "none.csv"), "none.csv"),
        ((run, "--out", kept), "exists already"),
        ((run, "--out", tmp_path / "report.txt"), ".html"),
    ):
        result = cli("report", *arguments)
        assert result.code == 2, arguments
        assert said in result.err
        assert "Traceback" not in result.err
    assert kept.read_text() == "mine"
