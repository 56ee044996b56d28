"""Dependencies point one way, and importing stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_hcvae

PACKAGE = Path(pyro_hcvae.__file__).parent
ALLOWED = {
    "errors": set(),
    "data": {"errors"},
    "chemistry": {"errors", "data.schema", "data.rule_base", "data.tabled_rules", "data.validity"},
    "constraints": {"errors", "data"},
    "model": {"errors", "data"},
    "inference": {"errors", "data", "model"},
    "posterior": {"errors", "data", "model", "chemistry", "constraints"},
    # What the designer offers as a method of its own stands below it, and knows nothing of it.
    "analysis.rows": {"errors", "data"},
    "analysis.inference_data": {"errors", "data", "model", "posterior", "analysis.rows"},
    "designer": {
        "errors",
        "data",
        "model",
        "inference",
        "posterior",
        "chemistry",
        "constraints",
        "analysis.inference_data",
    },
    "evaluation": {"errors", "data", "model", "inference", "posterior", "designer", "chemistry"},
    "analysis": {"errors", "data", "model", "inference", "posterior", "designer", "chemistry", "evaluation"},
    "study": {
        "errors",
        "data",
        "model",
        "inference",
        "posterior",
        "designer",
        "chemistry",
        "constraints",
        "evaluation",
        "analysis",
    },
}
"""Room, or a module stricter than its room -> what it may import from. The command line and the page may use everything."""


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    room = own.split(".")[0]
    if room in ("cli", "app"):
        return
    allowed = ALLOWED.get(own, ALLOWED[room] | {room})
    for name in imported(path):
        if not name.startswith("pyro_hcvae."):
            continue
        inner = name.removeprefix("pyro_hcvae.")
        fits = any(inner == a or inner.startswith(f"{a}.") for a in allowed)
        assert fits, f"{path.relative_to(PACKAGE)} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.relative_to(PACKAGE).parts[0] == "model"], ids=lambda p: p.name
)
def test_the_model_knows_nothing_of_tables(path: Path) -> None:
    assert not imported(path) & {"pandas", "pyro_hcvae.data.table", "pyro_hcvae.data.codec"}


def test_figures_are_drawn_in_the_analysis_and_in_one_file_of_the_study() -> None:
    drawing = [path for path in modules() if any(name.split(".")[0] == "matplotlib" for name in imported(path))]
    names = [path.relative_to(PACKAGE).as_posix() for path in drawing]
    assert [name for name in names if not name.startswith("analysis/")] == ["study/figure.py"]
    assert all(name.startswith("analysis/plots/") or name == "analysis/report/page.py" for name in names[:-1])


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in out.split()}


def test_importing_the_package_and_its_command_line_is_light() -> None:
    assert not loaded_by("import pyro_hcvae") & {"torch", "pandas", "pyro", "matplotlib", "arviz"}
    assert not loaded_by("import pyro_hcvae.cli.main") & {"torch", "pandas", "pyro", "matplotlib", "arviz", "sklearn"}
    assert not loaded_by("from pyro_hcvae import RecipeDesigner") & {"matplotlib", "arviz"}


def test_every_public_name_is_there() -> None:
    for name in pyro_hcvae.__all__:
        assert getattr(pyro_hcvae, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pyro_hcvae.no_such_name
    assert set(pyro_hcvae.__all__) <= set(dir(pyro_hcvae))
