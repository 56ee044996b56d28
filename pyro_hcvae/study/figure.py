"""Figure of the study: reconstruction beside the published figures, and what the same models generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import style
from pyro_hcvae.study.protocol import SPLITS
from pyro_hcvae.study.scoring import GENERATED, R2

MARKS: dict[str, dict[str, Any]] = {
    "row": {"marker": "o", "color": "black", "mfc": "black"},
    "recipe": {"marker": "s", "color": "#0072b2", "mfc": "white"},
    "composition": {"marker": "^", "color": "#d55e00", "mfc": "white"},
}
_LEAST = 0.0
"""R2 below which a mark is put at the edge: what is worse than the mean is not compared further."""


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Draw the table of `summarise`: a line a model, a mark a split.

    Left, R2 of reconstructed metals, with the published mean as a vertical tick; middle, R2 of generated metals; right, the
    share of generated recipes that are structurally valid. Marks at the left edge stand for anything below 0.
    """
    names = summary["model"] + ", " + summary["gate"] + ", " + summary["kl_weights"]
    order = list(dict.fromkeys(names))
    with style():
        figure = Figure(figsize=(10, 1.1 + 0.24 * len(order)), layout="constrained")
        panels = {
            R2: "R2 of reconstructed metals",
            GENERATED + R2: "R2 of generated metals",
            GENERATED + "valid": "valid share of generated recipes",
        }
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (column, label) in zip(axes, panels.items(), strict=True):
            for by in (s for s in SPLITS if s in set(summary["split"])):
                part = summary[summary["split"] == by]
                heights = [order.index(name) for name in names[part.index]]
                axis.errorbar(
                    np.clip(part[column], _LEAST, None), heights, xerr=part[f"{column}, sd"].where(part[column] > _LEAST),
                    ls="", ms=4, label=f"split by {by}", **MARKS[by],
                )  # fmt: skip
            if column == R2:
                known = summary[summary["published"].notna()]
                axis.plot(
                    known["published"], [order.index(name) for name in names[known.index]],
                    ls="", marker="|", ms=12, mew=2, color="#009e73", label="published (split by row)",
                )  # fmt: skip
            axis.set_xlabel(label)
            axis.set_xlim(-0.02, 1.02)
            axis.grid(axis="x", color="0.9")
        axes[0].set_yticks(range(len(order)), order)
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS) + 1)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
