"""`build_report`: the report of a run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from pyro_hcvae.analysis.plots.style import style
from pyro_hcvae.analysis.report.calibration import calibration_section
from pyro_hcvae.analysis.report.data import data_section
from pyro_hcvae.analysis.report.evaluation import evaluation_section
from pyro_hcvae.analysis.report.page import Section, render
from pyro_hcvae.analysis.report.proposals import ProposedRecipes, proposals_section
from pyro_hcvae.analysis.report.provenance import provenance_section
from pyro_hcvae.analysis.report.quality import performance_section, quality_section
from pyro_hcvae.analysis.report.training import training_section
from pyro_hcvae.analysis.set_aside import set_aside
from pyro_hcvae.designer import RecipeDesigner

PARTS = (
    "data", "training", "set-aside draws", "quality", "performance", "calibration", "evaluation", "proposals", "provenance",
)  # fmt: skip
"""What is worked out, in this order."""


def build_report(
    run: str | Path,
    proposed: ProposedRecipes | None = None,
    *,
    scores: Sequence[Path] = (),
    curve: Path | None = None,
    draws: int = 50,
    seed: int = 0,
    on_part: Callable[[str], None] = lambda part: None,
) -> str:
    """Everything that a run can say of itself, as one HTML page without references to anything outside.

    Args:
        run: Finished run folder.
        proposed: Proposals to show; None: the page says how to make some.
        scores: Files of `pyro-hcvae evaluate --out`, of one split.
        curve: File of ``scripts/rate_distortion.py --out``.
        draws: Recipes drawn for each set-aside recipe, at least 2.
        seed: Fixes the draws.
        on_part: Called with the name of each of `PARTS` when it is done.

    Raises:
        InputError: If the folder holds no finished run, or is damaged, or if a file of scores is not what it should be.
    """
    folder = Path(run)
    designer = RecipeDesigner.load(folder)
    sections: list[Section] = []

    def add(section: Section | None, part: str) -> None:
        if section is not None:
            sections.append(section)
        on_part(part)

    with style():
        evaluation = evaluation_section(scores, curve)  # first: what may be wrong with the arguments is said at once
        report = folder / "import_report.txt"
        text = report.read_text(encoding="utf-8") if report.is_file() else "The run folder has no report of its import."
        add(data_section(designer.table, text), "data")
        add(training_section(designer), "training")
        aside = set_aside(designer, draws, seed=seed)
        on_part("set-aside draws")
        add(quality_section(designer, aside, seed=seed), "quality")
        shown = None if proposed is None else proposed.predicted(designer.schema)
        add(performance_section(designer, aside, shown), "performance")
        add(calibration_section(designer, aside, seed=seed), "calibration")
        add(evaluation, "evaluation")
        add(proposals_section(designer, proposed, seed=seed), "proposals")
        add(provenance_section(folder, draws=draws, seed=seed), "provenance")
    # What a reader came for stands first.
    sections.sort(key=lambda section: section.anchor != "proposals")
    return render(f"Run {folder.resolve().name}", _glance(designer, proposed), sections)


def _glance(designer: RecipeDesigner, proposed: ProposedRecipes | None) -> list[tuple[str, str]]:
    best: pd.Series = designer.history.groupby("member")["validation_loss"].min()
    unit = f" {designer.schema.performance.unit}".rstrip()
    return [
        (str(len(designer.table)), "rows"),
        (str(len(pd.unique(designer.table.recipe_ids()))), "recipes"),
        (str(designer.config.train.members), "members"),
        (f"{best.mean():.2f}", "validation loss [nats per recipe]"),
        (f"{designer.predictor.mae:.1f}{unit}", "predictor: mean error on unseen recipes"),
        (str(0 if proposed is None else len(proposed.frame)), "proposals"),
    ]
